"""Lesions larger than one patch, against a plain reimplementation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from model.case.case import LesionPrompt, LesionResult, PointSource, PromptPoint, Scan, Slot, TimePointName
from model.case.geometry import AxisMap, Box, Geometry, Index, flip_order
from model.inference.ensemble import Ensemble
from model.inference.options import ModelOptions
from model.inference.segmenter import LesionFailure, Segmenter
from model.network.encoding import HeatMap
from model.network.input_variants import InputVariant
from model.network.normalize import normalize_ct
from model.network.plan import Architecture, CtNormalization, Plan
from model.network.resenc_unet import ResEncUNet
from model.network.weights import FoldWeights, build_network

PATCH = (12, 16, 16)
ARCHITECTURE = Architecture(
    features_per_stage=(4, 6, 8),
    kernel_sizes=((3, 3, 3),) * 3,
    strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
    blocks_per_stage=(1, 1, 1),
    decoder_convs_per_stage=(1, 1),
    conv_bias=True,
    norm_eps=1e-5,
    norm_affine=True,
    negative_slope=0.01,
)
PLAN = Plan(
    "3d_fullres", (1.0, 1.0, 1.0), PATCH, (0, 1, 2), CtNormalization(-800.0, 400.0, 20.0, 150.0), ARCHITECTURE
)
SHAPE = (14, 40, 30)
POINT = (6, 20, 15)
# Support of one patch: one voxel wider where the next voxel is interpolated from it with weight zero.
ONE_PATCH = Box((0, 11, 6), (13, 29, 24))
LONG = Box((4, 6, 13), (8, 34, 17))  # longer than a patch along y
SHORT = Box((4, 17, 13), (8, 23, 17))


def _fold(variant: InputVariant, seed: int = 0) -> FoldWeights:
    torch.manual_seed(seed)
    network = ResEncUNet(len(variant.channels), 2, ARCHITECTURE)
    network.initialize()
    return FoldWeights(Path(f"fold_{seed}"), network.state_dict(), "Trainer", "3d_fullres", (), variant)


FOLDS = [_fold(InputVariant.LONGITUDINAL, seed) for seed in (0, 1)]


def _scan(time_point: str, mask: npt.NDArray[np.uint16] | None = None) -> Scan:
    rng = np.random.default_rng(len(time_point))
    ct = rng.normal(0, 200, SHAPE).astype(np.int16)
    geometry = Geometry(flip_order(SHAPE), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    return Scan(time_point, Slot.PRIMARY, Path("ct.mha"), geometry, AxisMap(), ct, mask)


def _mask(boxes: dict[int, Box]) -> npt.NDArray[np.uint16]:
    mask = np.zeros(SHAPE, np.uint16)
    for lesion_id, box in boxes.items():
        mask[box.slices] = lesion_id
    return mask


def _prompts(boxes: dict[int, Box], shift: Index = (0, 0, 0)) -> list[LesionPrompt]:
    baseline, followup = _scan(TimePointName.BASELINE, _mask(boxes)), _scan(TimePointName.FOLLOWUP)
    shifted = tuple(float(a + b) for a, b in zip(POINT, shift, strict=True))
    return [
        LesionPrompt(
            lesion_id,
            baseline,
            PromptPoint(POINT, PointSource.GIVEN),
            followup,
            PromptPoint(shifted, PointSource.GIVEN),  # type: ignore[arg-type]
        )
        for lesion_id in boxes
    ]


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return Ensemble(PLAN, FOLDS, ModelOptions(device="cpu"))


def _segmented(
    ensemble: Ensemble, prompts: list[LesionPrompt], tiles: bool = True
) -> dict[int, LesionResult | LesionFailure]:
    results = list(Segmenter(PLAN, ensemble, keep_support=True, tiles=tiles).segment(prompts))
    assert len(results) == len(prompts)
    return {result.prompt.lesion_id: result for result in results}


def _as_volume(result: LesionResult | LesionFailure) -> npt.NDArray[np.float32]:
    assert isinstance(result, LesionResult) and result.support is not None
    volume = np.zeros(SHAPE, np.float32)
    assert result.support_probability is not None
    volume[result.support.slices] = result.support_probability
    return volume


def _plain(prompt: LesionPrompt, starts: list[Index], shift: Index) -> npt.NDArray[np.float64]:
    """Predict tiles cut from padded whole volumes; shares only the network with the package."""
    pad, around = 40, [(40, 40)] * 3
    volumes = [np.zeros(SHAPE, np.float32) for _ in range(5)]
    assert prompt.baseline.mask is not None
    volumes[0] = normalize_ct(prompt.followup.ct, PLAN.normalization)
    volumes[1] = normalize_ct(prompt.baseline.ct, PLAN.normalization)
    volumes[2] = (prompt.baseline.mask == prompt.lesion_id).astype(np.float32)
    points = [tuple(np.add(POINT, shift)), POINT]
    for number, point in enumerate(points):
        offsets = np.moveaxis(np.indices(SHAPE), 0, -1) - np.asarray(point)
        blob = np.exp(-0.5 * np.square(offsets).sum(-1))
        blob[np.abs(offsets).max(-1) > 4] = 0  # truncation of the filter
        volumes[3 + number] = blob.astype(np.float32)
    padded = [np.pad(volume, around) for volume in volumes]
    networks = [build_network(PLAN, fold) for fold in FOLDS]
    total, weights = np.zeros(SHAPE), np.zeros(SHAPE)
    offset = np.moveaxis(np.indices(PATCH), 0, -1) - np.array(PATCH) // 2
    weight = np.exp(-0.5 * np.square(offset / (np.array(PATCH) / 8)).sum(-1))
    for start in starts:
        window = tuple(slice(s, s + p) for s, p in zip(start, PATCH, strict=True))
        baseline_start = np.subtract(start, shift)
        cuts = []
        for number, volume in enumerate(padded):
            corner = np.add(start if number in (0, 3) else baseline_start, pad)
            cuts.append(volume[tuple(slice(c, c + p) for c, p in zip(corner, PATCH, strict=True))])
        holds = all(s <= p < s + n for s, p, n in zip(start, points[0], PATCH, strict=True))
        cuts[3:] = cuts[3:] if holds else [np.zeros(PATCH, np.float32)] * 2
        with torch.inference_mode():
            logits = sum(network(torch.from_numpy(np.stack(cuts))[None])[0] for network in networks)
        assert isinstance(logits, torch.Tensor)
        total[window] += weight * (logits[1] - logits[0]).numpy()
        weights[window] += weight
    probability = np.zeros(SHAPE)
    probability[weights > 0] = 1 / (1 + np.exp(-total[weights > 0] / weights[weights > 0]))
    return probability


@pytest.mark.parametrize("box", [SHORT, LONG])
def test_points_are_drawn_as_the_heat_maps_of_the_folds(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """In all tiles of a lesion; the other channels are the same."""
    seen: dict[HeatMap, list[npt.NDArray[np.float32]]] = {}
    for kind in HeatMap:
        one = Ensemble(PLAN, [replace(fold, heat_map=kind) for fold in FOLDS], ModelOptions(device="cpu"))
        inputs = seen.setdefault(kind, [])
        to_device = one._to_device
        monkeypatch.setattr(
            one, "_to_device", lambda values, i=inputs, f=to_device: (i.extend(values), f(values))[1]
        )
        assert isinstance(_segmented(one, _prompts({7: box}))[7], LesionResult)
    peaks, volumes = seen[HeatMap.UNIT_PEAK], seen[HeatMap.UNIT_VOLUME]
    assert len(peaks) == len(volumes) == (1 if box is SHORT else len(peaks)) and peaks[0][3].max() == 1
    for peak, volume in zip(peaks, volumes, strict=True):
        np.testing.assert_array_equal(volume[:3], peak[:3])
        for channel in (3, 4):
            total = peak[channel].sum() or np.float32(1)
            np.testing.assert_array_equal(volume[channel], peak[channel] / total)


@pytest.mark.parametrize("shift", [(0, 0, 0), (2, -2, 3)])
def test_a_large_lesion_equals_a_plain_sliding_window(ensemble: Ensemble, shift: Index) -> None:
    (prompt,) = _prompts({7: LONG}, shift)
    forwards = ensemble.forwards
    segmented = _as_volume(_segmented(ensemble, [prompt])[7])
    first = [p + s - n // 2 for p, s, n in zip(POINT, shift, PATCH, strict=True)]
    first[0] = min(max(first[0], 0), SHAPE[0] - PATCH[0])
    # Along y from 6 - 4 to 34 + 4 voxels (shifted): 36 take four tiles of 16.
    along_y = [2 + shift[1] + offset for offset in (0, 7, 13, 20)]
    starts = [tuple(first)] + [(first[0], y, first[2]) for y in along_y]
    assert (ensemble.forwards - forwards) <= len(starts) * len(FOLDS)
    expected = _plain(prompt, starts, shift)  # type: ignore[arg-type]
    assert np.abs(segmented - expected).max() <= 2e-5
    assert (segmented[:, : LONG.start_zyx[1] + 2] > 0).any() and (
        segmented[:, LONG.stop_zyx[1] - 2 :] > 0
    ).any()


def test_a_lesion_that_fits_into_one_patch_is_not_affected_by_tiling(ensemble: Ensemble) -> None:
    prompts = _prompts({3: SHORT})
    with_tiles, without = (_segmented(ensemble, prompts, tiles=tiles)[3] for tiles in (True, False))
    assert isinstance(with_tiles, LesionResult) and isinstance(without, LesionResult)
    assert with_tiles.support == without.support and with_tiles.box == without.box
    assert np.array_equal(_as_volume(with_tiles), _as_volume(without))


def test_without_tiling_a_large_lesion_has_one_patch(ensemble: Ensemble) -> None:
    (prompt,) = _prompts({7: LONG})
    result = _segmented(ensemble, [prompt], tiles=False)[7]
    assert isinstance(result, LesionResult) and result.support is not None
    assert result.support.intersection(ONE_PATCH) == result.support
    # A lesion without a mask has one patch as well, as its extent is unknown.
    unmarked = replace(prompt, has_mask=False)
    assert np.array_equal(_as_volume(_segmented(ensemble, [unmarked])[7]), _as_volume(result))


def test_small_and_large_lesions_together(ensemble: Ensemble) -> None:
    both = _prompts({3: SHORT, 7: Box((8, 6, 13), (10, 34, 17))})
    together = _segmented(ensemble, both)
    for prompt in both:
        alone = _segmented(ensemble, [prompt])[prompt.lesion_id]
        np.testing.assert_allclose(_as_volume(together[prompt.lesion_id]), _as_volume(alone), atol=1e-5)


@pytest.mark.parametrize("resident", [True, False])
def test_a_failed_tile_is_a_failure_of_its_lesion_only(
    monkeypatch: pytest.MonkeyPatch, resident: bool
) -> None:
    ensemble = Ensemble(PLAN, FOLDS, ModelOptions(device="cpu"))
    ensemble.rung = replace(ensemble.rung, resident=resident)
    forward = Ensemble._forward

    def jinxed(self: Ensemble, network: ResEncUNet, channels: torch.Tensor) -> torch.Tensor:
        if any(not channel[3].any() for channel in channels):  # a tile that does not hold the point
            raise ValueError("jinxed")
        return forward(self, network, channels)

    monkeypatch.setattr(Ensemble, "_forward", jinxed)
    results = _segmented(ensemble, _prompts({7: Box((8, 6, 13), (10, 34, 17)), 3: SHORT}))
    assert isinstance(results[3], LesionResult)
    assert isinstance(results[7], LesionFailure) and "jinxed" in str(results[7].error)


def test_a_lesion_that_cannot_be_placed_does_not_affect_others(ensemble: Ensemble) -> None:
    good, bad = _prompts({3: SHORT, 4: Box((1, 1, 1), (3, 3, 3))})
    bad = replace(bad, followup_point=PromptPoint((np.nan, 1.0, 1.0), PointSource.GIVEN))
    results = _segmented(ensemble, [bad, good])
    assert isinstance(results[3], LesionResult) and isinstance(results[4], LesionFailure)


def test_a_network_without_a_mask_channel_always_has_one_patch() -> None:
    fold = _fold(InputVariant.POINT)
    ensemble = Ensemble(PLAN, [fold], ModelOptions(device="cpu"))
    result = _segmented(ensemble, _prompts({7: LONG}))[7]
    assert isinstance(result, LesionResult) and result.support is not None
    assert result.support.intersection(ONE_PATCH) == result.support
