"""Variants of networks in checkpoints, and those that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.network.input_variants import Family, InputVariant
from model.network.plan import read_plan
from model.network.weights import build_network, load_fold

from ...helpers.checkpoints import MODEL, Checkpoint, refusal, save_checkpoint, with_channels


@pytest.mark.parametrize(
    ("count", "trainer", "variant"),
    [
        (5, "AutoPETTrainer", InputVariant.LONGITUDINAL),
        (5, "AutoPETTrainerPretrained1e3", InputVariant.LONGITUDINAL),
        (5, "LongiSegTrainerTrackingFinetuning", InputVariant.LONGITUDINAL),
        (5, "SomebodysOwnTrainer", InputVariant.LONGITUDINAL),
        (3, "AutoPETTrainerCrossSecMask", InputVariant.POINT_MASK),
        (3, "AutoPETTrainerCrossSecMaskPretrained1e3", InputVariant.POINT_MASK),
        (2, "AutoPETTrainerCrossSecPoint", InputVariant.POINT),
    ],
)
def test_the_variant_of_a_checkpoint(tmp_path: Path, count: int, trainer: str, variant: InputVariant) -> None:
    fold = load_fold(save_checkpoint(tmp_path / "x.pth", with_channels(count, trainer)))
    assert fold.variant is variant
    assert len(variant.channels) == count
    network = build_network(read_plan(MODEL / "plans.json"), fold)
    with torch.inference_mode():
        assert network(torch.zeros(1, count, 8, 16, 16)).shape == (1, 2, 8, 16, 16)


def test_channels_of_the_variants() -> None:
    assert InputVariant.LONGITUDINAL.channels == (0, 1, 2, 3, 4)
    assert InputVariant.POINT_MASK.channels == (0, 2, 3)
    assert InputVariant.POINT.channels == (0, 3)


@pytest.mark.parametrize(
    ("count", "trainer"),
    [
        (5, "AutoPETTrainerCrossSecPoint"),
        (5, "AutoPETTrainerCrossSecMask"),
        (3, "AutoPETTrainerCrossSecPoint"),
        (2, "AutoPETTrainerCrossSecMask"),
        (2, "AutoPETTrainer"),
        (2, "LesionLocatorTrainer"),
        (2, "LesionLocatorTrainerSegment"),
        (2, "LesionLocatorTrainerTrack"),
        (3, "SomebodysOwnTrainer"),
        (4, "AutoPETTrainer"),
        (5, "LongiSegTrainerTrackingDiffWeighting"),
    ],
)
def test_contradictions_and_other_families_are_refused(tmp_path: Path, count: int, trainer: str) -> None:
    refusal(lambda: load_fold(save_checkpoint(tmp_path / "x.pth", with_channels(count, trainer))), trainer)


# --- single-time-point networks ---


def _single(path: Path) -> Callable[[], Any]:
    return lambda: load_fold(path, Family.SINGLE_TIME_POINT)


@pytest.mark.parametrize("prefix", ["", "unet.", "module.segmenter."])
@pytest.mark.parametrize(
    "trainer", ["LesionLocatorTrainerSegment", "LesionLocatorTrainerTrack", "SomebodysOwnTrainer"]
)
def test_a_single_time_point_network_is_found_under_any_prefix(
    tmp_path: Path, prefix: str, trainer: str
) -> None:
    def change(checkpoint: Checkpoint) -> None:
        with_channels(2, trainer)(checkpoint)
        state = checkpoint["network_weights"]
        unet = {prefix + key.removeprefix("backbone."): tensor for key, tensor in state.items()}
        # What registers scans lies beside it, and may hold anything.
        other = {"registration.encoder.stem.convs.0.conv.weight": torch.full((4, 6, 3, 3, 3), torch.nan)}
        checkpoint["network_weights"] = unet | other if prefix else unet

    fold = load_fold(save_checkpoint(tmp_path / "x.pth", change), Family.SINGLE_TIME_POINT)
    assert fold.variant is InputVariant.PROMPT and fold.variant.channels == (0, 1)
    network = build_network(read_plan(MODEL / "plans.json"), fold)
    with torch.inference_mode():
        assert network(torch.zeros(1, 2, 8, 16, 16)).shape == (1, 2, 8, 16, 16)


@pytest.mark.parametrize(
    ("count", "trainer"),
    [
        (5, "AutoPETTrainer"),
        (3, "LesionLocatorTrainerSegment"),
        (2, "AutoPETTrainerCrossSecPoint"),
        (2, "LongiSegTrainerTrackingDiffWeighting"),
    ],
)
def test_other_networks_are_refused_as_single_time_point_ones(
    tmp_path: Path, count: int, trainer: str
) -> None:
    refusal(_single(save_checkpoint(tmp_path / "x.pth", with_channels(count, trainer))), trainer)


def test_ambiguous_networks_are_refused(tmp_path: Path) -> None:
    def change(checkpoint: Checkpoint) -> None:
        with_channels(2, "LesionLocatorTrainerTrack")(checkpoint)
        state = checkpoint["network_weights"]
        state |= {key.replace("backbone.", "another.", 1): tensor for key, tensor in state.items()}

    refusal(_single(save_checkpoint(tmp_path / "x.pth", change)), "several U-Nets")
