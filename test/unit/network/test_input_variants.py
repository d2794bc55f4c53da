"""Variants of networks in checkpoints, and those that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from model.network.input_variants import Family, InputVariant, stem_meaning
from model.network.pack import pack_weights
from model.network.plan import read_plan
from model.network.weights import build_network, inspect_weights, load_fold, load_folds
from test.helpers.paths import GOLDEN_DIFFERENCE

from ...helpers.checkpoints import FOLD, MODEL, Change, Checkpoint, refusal, save_checkpoint, with_channels


@pytest.mark.parametrize(
    ("count", "trainer", "variant"),
    [
        (5, "AutoPETTrainer", InputVariant.LONGITUDINAL),
        (5, "AutoPETTrainerPretrained1e3", InputVariant.LONGITUDINAL),
        (4, "LongiSegTrainerTracking", InputVariant.EARLY_FUSION),
        (4, "LongiSegTrainerTrackingFinetuning", InputVariant.EARLY_FUSION),
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
    assert InputVariant.EARLY_FUSION.channels == (0, 1, 3, 4)
    assert InputVariant.DIFFERENCE_WEIGHTING.channels == (0, 3, 1, 4)
    assert {variant: variant.stem_channels for variant in InputVariant} == {
        InputVariant.LONGITUDINAL: 5,
        InputVariant.POINT_MASK: 3,
        InputVariant.POINT: 2,
        InputVariant.EARLY_FUSION: 4,
        InputVariant.DIFFERENCE_WEIGHTING: 2,
        InputVariant.PROMPT: 2,
        InputVariant.PET_CT_CLICKS: 4,
        InputVariant.PET_CT: 2,
    }


@pytest.mark.parametrize(
    ("trainer", "count", "channels"),
    [
        ("AutoPETTrainer", 5, (0, 1, 2, 3, 4)),
        ("", 3, (0, 2, 3)),
        ("LesionLocatorTrainerSegment", 2, (0, 3)),
        ("LongiSegTrainerTrackingPretrain", 4, (0, 1, 3, 4)),
        ("LongiSegTrainerTrackingDiffWeighting", 2, (0, 3)),
        ("SomebodysOwnTrainer", 4, (0,)),
        ("nnInteractiveTrainer", 8, (0,)),
        ("LongiSegTrainer", 2, (0,)),  # two CTs
        ("LongiSegTrainerPrimed", 3, (0,)),
        ("LongiSegTrainerTracking", 5, (0,)),
        ("autopetTrainerInteractive_EDT2", 4, (0, 5, 6, 7)),
        ("autoPET3_Trainer", 2, (0, 5)),
    ],
)
def test_the_meaning_of_a_stem_is_known_by_trainer_and_count(
    trainer: str, count: int, channels: tuple[int, ...]
) -> None:
    assert stem_meaning(trainer, count) == channels


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
        (4, "SomebodysTrackingTrainer"),
        (2, "LongiSegTrainerTracking"),
        (5, "LongiSegTrainerTrackingFinetuning"),
        (2, "LongiSegTrainer"),
        (2, "LongiSegTrainerRP"),
        (3, "LongiSegTrainerPrimed"),
        (5, "LongiSegTrainerPrimed"),
        (1, "nnUNetTrainerNoLongi"),
        (5, "LongiSegTrainerTrackingDiffWeighting"),
    ],
)
def test_contradictions_and_other_families_are_refused(tmp_path: Path, count: int, trainer: str) -> None:
    refusal(lambda: load_fold(save_checkpoint(tmp_path / "x.pth", with_channels(count, trainer))), trainer)


# --- difference weighting ---


def _network(
    folder: Path, name: str = "dw_iso4", trainer: str | None = None, change: Change | None = None
) -> Path:
    """Save a golden network's checkpoint with another trainer's name, or changed."""
    checkpoint = torch.load(GOLDEN_DIFFERENCE / "networks" / name / "fold_0" / FOLD.name, weights_only=True)
    if trainer is not None:
        checkpoint["trainer_name"] = trainer
    if change is not None:
        change(checkpoint)
    torch.save(checkpoint, folder / FOLD.name)
    return folder / FOLD.name


@pytest.mark.parametrize(
    ("trainer", "wrapper"),
    [
        ("LongiSegTrainerTrackingDiffWeighting", ""),
        ("LongiSegTrainerTrackingDiffWeightingPretrain", "module."),
        ("LongiSegTrainerTrackingDiffWeightingFinetuning", "module._orig_mod."),
        ("SomebodysTrackingTrainerDiffWeighting", ""),
    ],
)
def test_difference_weighting_is_recognised(tmp_path: Path, trainer: str, wrapper: str) -> None:
    def wrap(checkpoint: Checkpoint) -> None:
        state = checkpoint["network_weights"]
        checkpoint["network_weights"] = {wrapper + key: tensor for key, tensor in state.items()}

    fold = load_fold(_network(tmp_path, trainer=trainer, change=wrap))
    assert fold.variant is InputVariant.DIFFERENCE_WEIGHTING


@pytest.mark.parametrize(
    ("trainer", "parts"),
    [
        # Two input channels and a block that another variant would leave out.
        ("AutoPETTrainerCrossSecPoint", ("skip_diff_weighting", "without difference weighting")),
        ("LongiSegTrainerTracking", ("skip_diff_weighting", "without difference weighting")),
        ("LongiSegTrainerDiffWeighting", ("without prompts",)),
        ("LongiSegTrainerDiffWeightingRP", ("without prompts",)),
        ("AutoPETTrainer", ("skip_diff_weighting",)),
        ("", ("skip_diff_weighting", "(unnamed)")),
    ],
)
def test_a_block_under_another_name(tmp_path: Path, trainer: str, parts: tuple[str, ...]) -> None:
    refusal(lambda: load_fold(_network(tmp_path, trainer=trainer)), trainer, *parts)


def test_a_name_without_the_block(tmp_path: Path) -> None:
    def leave_out(checkpoint: Checkpoint) -> None:
        state = checkpoint["network_weights"]
        for key in [key for key in state if key.startswith("skip_diff_weighting.")]:
            del state[key]

    path = _network(tmp_path, change=leave_out)
    refusal(lambda: load_fold(path), "LongiSegTrainerTrackingDiffWeighting", "has no skip_diff_weighting")


@pytest.mark.parametrize("name", ["unprompted_dw4", "primed4"])
def test_networks_without_prompts(tmp_path: Path, name: str) -> None:
    trainer = {"unprompted_dw4": "LongiSegTrainerDiffWeighting", "primed4": "LongiSegTrainerPrimed"}[name]
    refusal(lambda: load_fold(_network(tmp_path, name)), trainer, "without prompts, for whole scans")


@pytest.mark.parametrize(("count", "words"), [(1, "without prompts"), (3, "3 channels per time point")])
def test_other_channels_per_time_point(tmp_path: Path, count: int, words: str) -> None:
    trainer = "LongiSegTrainerTrackingDiffWeighting"
    refusal(lambda: load_fold(_network(tmp_path, change=with_channels(count, trainer))), trainer, words)


def _without_an_offset(state: dict[str, torch.Tensor]) -> None:
    del state["skip_diff_weighting.norm_2.bias"]


def _of_another_length(state: dict[str, torch.Tensor]) -> None:
    state["skip_diff_weighting.norm_3.weight"] = torch.ones(9)


def _with_one_more(state: dict[str, torch.Tensor]) -> None:
    state["skip_diff_weighting.norm_4.weight"] = torch.ones(8)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (_without_an_offset, ("norm_2.bias is nothing", "[8]")),
        (_of_another_length, ("norm_3.weight is [9]", "[8]")),
        (_with_one_more, ("norm_4.weight is [8]", "nothing")),
    ],
)
def test_norms_that_do_not_fit_the_plan(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], parts: tuple[str, ...]
) -> None:
    path = _network(tmp_path, change=lambda checkpoint: change(checkpoint["network_weights"]))
    plan = read_plan(GOLDEN_DIFFERENCE / "networks" / "dw_iso4" / "plans.json")
    refusal(lambda: build_network(plan, load_fold(path)), str(path), "skip_diff_weighting", *parts)


def test_a_plan_with_more_stages(tmp_path: Path) -> None:
    plan = read_plan(GOLDEN_DIFFERENCE / "networks" / "dw_resencl6" / "plans.json")
    refusal(lambda: build_network(plan, load_fold(_network(tmp_path))), "does not fit its plan")


def test_folds_of_two_variants_with_as_many_channels(tmp_path: Path) -> None:
    for fold, name in enumerate(("dw_iso4", "fusion4_iso4")):
        (tmp_path / f"fold_{fold}").mkdir()
        _network(tmp_path / f"fold_{fold}", name)
    refusal(
        lambda: list(load_folds(inspect_weights(tmp_path, (0, 1)))),
        "fold_1",
        "early fusion",
        "expected difference weighting",
    )


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["dw_iso4", "fusion4_iso4"])
def test_packed_networks_of_both_kinds(tmp_path: Path, name: str, dtype: Literal["fp32", "fp16"]) -> None:
    source = GOLDEN_DIFFERENCE / "networks" / name
    (packed,) = pack_weights(source, tmp_path, dtype)
    fold, original = load_fold(packed), load_fold(source / "fold_0" / FOLD.name)
    assert (fold.variant, fold.trainer_name) == (original.variant, original.trainer_name)
    assert fold.state.keys() == original.state.keys()
    values = {key: tensor.to(fold.state[key].dtype) for key, tensor in original.state.items()}
    assert all(torch.equal(fold.state[key], tensor) for key, tensor in values.items())
    build_network(read_plan(tmp_path / "plans.json"), fold)


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
        (2, "LongiSegTrainer"),
        (2, "autoPET3_Trainer"),
    ],
)
def test_other_networks_are_refused_as_single_time_point_ones(
    tmp_path: Path, count: int, trainer: str
) -> None:
    refusal(_single(save_checkpoint(tmp_path / "x.pth", with_channels(count, trainer))), trainer)


def test_difference_weighting_is_refused_as_a_single_time_point_network(tmp_path: Path) -> None:
    refusal(_single(_network(tmp_path, trainer="SomebodysOwnTrainer")), "SomebodysOwnTrainer")


def test_ambiguous_networks_are_refused(tmp_path: Path) -> None:
    def change(checkpoint: Checkpoint) -> None:
        with_channels(2, "LesionLocatorTrainerTrack")(checkpoint)
        state = checkpoint["network_weights"]
        state |= {key.replace("backbone.", "another.", 1): tensor for key, tensor in state.items()}

    refusal(_single(save_checkpoint(tmp_path / "x.pth", change)), "several U-Nets")
