"""Single-time-point networks in their published layout, compared end to end with a reference implementation.

The reference resamples whole volumes, draws the prompts itself, and runs the published networks' own library.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch.nn.functional import interpolate

from model.case.case import (
    LesionPrompt,
    LesionResult,
    MaskPrompt,
    PointSource,
    PromptPoint,
    Scan,
    Slot,
    TimePointName,
)
from model.case.geometry import AxisMap, Box, Geometry, Index, Vector, flip_order
from model.case.labelmaps import bounding_box
from model.errors import WeightsError
from model.inference.load import load_single_time_point
from model.inference.options import ModelOptions
from model.inference.segmenter import LesionFailure
from model.inference.single_timepoint import SingleTimePointSegmenter, prompt_tiles
from model.network.encoding import PromptMap, ball_prompt, box_prompt, mask_prompt
from model.network.input_variants import PromptNetwork
from model.network.patches import network_grid
from model.network.weights import find_prompt_network

POINT, BOX, TRACK = PromptNetwork.POINT, PromptNetwork.BOX, PromptNetwork.TRACK
PATCH = (16, 16, 16)
SPACING = (1.0, 0.8, 0.8)
LOW, HIGH, MEAN, STD = -918.0, 723.0, -63.0, 282.4
FOLDS = (0, 1)
ARCHITECTURE = {
    "n_stages": 3,
    "features_per_stage": [4, 6, 8],
    "kernel_sizes": [[3, 3, 3]] * 3,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    "n_blocks_per_stage": [1, 1, 1],
    "n_conv_per_stage_decoder": [1, 1],
    "conv_bias": True,
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
PLANS = {
    "transpose_forward": [0, 1, 2],
    "configurations": {
        "3d_fullres": {
            "spacing": SPACING,
            "patch_size": PATCH,
            "normalization_schemes": ["CTNormalization"],
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
                "arch_kwargs": ARCHITECTURE,
            },
        }
    },
    "foreground_intensity_properties_per_channel": {
        "0": {"percentile_00_5": LOW, "percentile_99_5": HIGH, "mean": MEAN, "std": STD}
    },
}
TRAINERS = {
    POINT: "LesionLocatorTrainerSegment",
    BOX: "LesionLocatorTrainerSegment",
    TRACK: "LesionLocatorTrainerTrack",
}


def _oracle(seed: int) -> ResidualEncoderUNet:
    torch.manual_seed(seed)
    network = ResidualEncoderUNet(
        2,
        3,
        ARCHITECTURE["features_per_stage"],
        torch.nn.Conv3d,
        3,
        ARCHITECTURE["strides"],
        1,
        2,
        1,
        True,
        torch.nn.InstanceNorm3d,
        {"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=False,
    ).eval()
    for name, tensor in network.state_dict().items():
        if ".seg_layers." in name:
            tensor.mul_(4)  # margins of both signs, some of them large
    return network


NETWORKS = {network: [_oracle(10 * n + fold) for fold in FOLDS] for n, network in enumerate(PromptNetwork)}


def _write(root: Path, *networks: PromptNetwork, mirror_axes: tuple[int, ...] = (0, 1, 2)) -> Path:
    """Checkpoints in LesionLocator's layout; the tracking one contains another network beside its U-Net."""
    for network in networks:
        folder = root / network.value
        folder.mkdir(parents=True)
        (folder / "plans.json").write_text(json.dumps(PLANS))
        (folder / "dataset.json").write_text("{}")
        for fold in FOLDS:
            state = NETWORKS[network][fold].state_dict()
            if network is TRACK:
                state = {f"unet.{key}": value for key, value in state.items()}
                state["registration.encoder.stem.convs.0.conv.weight"] = torch.full(
                    (3, 6, 3, 3, 3), torch.nan
                )
                state["registration.phi.weight"] = torch.zeros(7)
            checkpoint = {
                "network_weights": state,
                "trainer_name": TRAINERS[network],
                "init_args": {"configuration": "3d_fullres"},
                "inference_allowed_mirroring_axes": mirror_axes,
                "optimizer_state": {"state": {}},
            }
            (folder / f"fold_{fold}").mkdir()
            torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return root


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("weights") / "LesionLocatorCheckpoint", *PromptNetwork)


def _segmenter(
    root: Path, networks: tuple[PromptNetwork, ...] | None = None, tta: bool = False
) -> SingleTimePointSegmenter:
    options = ModelOptions(device="cpu", tta=tta, folds=FOLDS)
    models = load_single_time_point(root, options, networks=networks)
    return SingleTimePointSegmenter(models, keep_support=True)


@pytest.fixture(scope="module")
def segmenter(published: Path) -> SingleTimePointSegmenter:
    return _segmenter(published)


def _scan(
    shape: Index = (22, 40, 36),
    spacing: Vector = (1.3, 1.0, 1.0),
    flipped: tuple[bool, bool, bool] = (False,) * 3,
) -> Scan:
    ct = np.random.default_rng(5).normal(-100, 300, shape).astype(np.int16)
    geometry = Geometry(flip_order(shape), flip_order(spacing), (0.0, 0.0, 0.0))
    axes = AxisMap(flipped=flipped)
    return Scan(
        TimePointName.FOLLOWUP, Slot.PRIMARY, Path("ct.mha"), geometry.reoriented(axes), AxisMap(), ct
    )


def _slim_scan() -> Scan:
    """Longer than a patch along one axis, so that a lesion can be too without many tiles."""
    return _scan((12, 36, 13))


def _prompt(
    point: Vector = (10.0, 20.0, 18.0),
    box: Box | None = None,
    mask: MaskPrompt | None = None,
    scan: Scan | None = None,
) -> LesionPrompt:
    scan = scan or _scan()
    given = PromptPoint(point, PointSource.GIVEN)
    return LesionPrompt(4, scan, given, scan, given, followup_box=box, followup_mask=mask)


# --- reference implementation ----------------------------------------------------------------------------


def _resampled(volume: npt.NDArray[Any], shape: Index) -> npt.NDArray[np.float32]:
    tensor = torch.from_numpy(volume.astype(np.float32))[None, None]
    return interpolate(tensor, size=shape, mode="trilinear", align_corners=False)[0, 0].numpy()


def _network_shape(scan: Scan) -> Index:
    a, b, c = (
        round(s / t * n)
        for s, t, n in zip(scan.geometry.spacing_zyx, SPACING, scan.geometry.shape_zyx, strict=True)
    )
    return (a, b, c)


def _plain_ball(point: Vector, scan: Scan) -> npt.NDArray[np.bool_]:
    shape = _network_shape(scan)
    centre = [int((p + 0.5) * n / m) for p, n, m in zip(point, shape, scan.geometry.shape_zyx, strict=True)]
    distance = np.sqrt(sum(np.square(i - c) for i, c in zip(np.indices(shape), centre, strict=True)))
    return np.asarray(distance <= 5.5)


def _plain_box(box: Box, scan: Scan) -> npt.NDArray[np.bool_]:
    shape = _network_shape(scan)
    volume = np.zeros(shape, bool)
    slices = []
    for start, stop, n, m in zip(box.start_zyx, box.stop_zyx, shape, scan.geometry.shape_zyx, strict=True):
        low, high = math.floor(start * n / m) - 1, math.ceil(stop * n / m) + 1
        slices.append(slice(max(low, 0), min(high, n)))
    volume[tuple(slices)] = True
    return volume


def _soft_mask(mask: MaskPrompt, scan: Scan) -> npt.NDArray[np.float32]:
    volume = np.zeros(scan.geometry.shape_zyx, np.float32)
    volume[mask.box.slices] = mask.voxels
    return _resampled(volume, _network_shape(scan))


def _plain_mask(mask: MaskPrompt, scan: Scan) -> npt.NDArray[np.bool_]:
    return _soft_mask(mask, scan) > 0.5


def _windows(prompt: npt.NDArray[np.bool_]) -> Iterator[tuple[int, ...]]:
    """Start of each patch, voxels (z, y, x) of the network grid."""
    found = np.argwhere(prompt)
    low, high = found.min(0), found.max(0) + 1
    if (high - low <= PATCH).all():
        # As published for boxes: half of (first + last voxel - patch), rounded down.
        centre = np.ceil(found.mean(0) - 0.5).astype(int)
        yield tuple(
            -((p - n) // 2) if n < p else int(np.clip(c - p // 2, 0, n - p))
            for c, n, p in zip(centre, prompt.shape, PATCH, strict=True)
        )
        return
    choices = []
    for a, b, n, p in zip(low, high, prompt.shape, PATCH, strict=True):
        count = math.ceil((n - p) / (p / 2)) + 1
        starts = [round(i * (n - p) / (count - 1)) for i in range(count)] if n > p else [-((p - n) // 2)]
        choices.append([s for s in starts if s < b and s + p > a])
    yield from product(*choices)


def _plain(
    network: PromptNetwork, scan: Scan, prompt: npt.NDArray[np.bool_], tta: bool = False
) -> npt.NDArray[np.float32]:
    """Probabilities (z, y, x) on the scan."""
    ct = (np.clip(scan.ct.astype(np.float32), LOW, HIGH) - MEAN) / STD
    ct = _resampled(ct, prompt.shape)
    pad = max(PATCH)
    volumes = np.pad(np.stack([ct, prompt.astype(np.float32)]), [(0, 0), *[(pad, pad)] * 3])
    total, weights = np.zeros((2, *volumes.shape[1:])), np.zeros(volumes.shape[1:])
    offset = np.moveaxis(np.indices(PATCH), 0, -1) - np.array(PATCH) // 2
    weight = np.exp(-0.5 * np.square(offset / (np.array(PATCH) / 8)).sum(-1))
    axes = (2, 3, 4) if tta else ()
    views = [view for count in range(len(axes) + 1) for view in combinations(axes, count)]
    for start in _windows(prompt):
        window = tuple(slice(s + pad, s + pad + p) for s, p in zip(start, PATCH, strict=True))
        channels = torch.from_numpy(volumes[(slice(None), *window)])[None]
        with torch.inference_mode():
            logits = sum(
                net(channels.flip(view)).flip(view) for net in NETWORKS[network] for view in views
            ) / (len(FOLDS) * len(views))
        total[(slice(None), *window)] += weight * logits[0].numpy()
        weights[window] += weight
    inner = (slice(pad, -pad),) * 3
    margin = (total[1] - total[0])[inner]
    probability = np.zeros(prompt.shape)
    seen = weights[inner] > 0
    probability[seen] = 1 / (1 + np.exp(-margin[seen] / weights[inner][seen]))
    return _resampled(probability, scan.geometry.shape_zyx)


def _whole(result: LesionResult | LesionFailure) -> npt.NDArray[np.float32]:
    assert isinstance(result, LesionResult), result
    assert result.support is not None and result.support_probability is not None
    volume = np.zeros(result.prompt.followup.geometry.shape_zyx, np.float32)
    volume[result.support.slices] = result.support_probability
    mask = np.zeros(volume.shape, bool)
    mask[result.box.slices] = result.mask
    assert np.array_equal(mask, volume > 0.5)
    return volume


def _segment(segmenter: SingleTimePointSegmenter, prompt: LesionPrompt) -> npt.NDArray[np.float32]:
    (result,) = segmenter.segment([prompt])
    return _whole(result)


def _close(got: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> bool:
    assert 0.05 < (expected > 0.5).sum() / (expected > 0).sum() < 0.95  # a non-trivial segmentation
    return bool(np.abs(got - expected).max() <= 2e-5)


def _sphere(shape: Index, radius: float) -> npt.NDArray[np.bool_]:
    offsets = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    return np.asarray(np.linalg.norm(offsets, axis=-1) <= radius)


# --- kinds of prompts ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("point", [(10.0, 20.0, 18.0), (0.0, 39.4, 2.0)])
def test_point_prompt(segmenter: SingleTimePointSegmenter, point: Vector) -> None:
    prompt = _prompt(point)
    assert _close(_segment(segmenter, prompt), _plain(POINT, prompt.followup, _plain_ball(point, _scan())))


def test_ball_has_the_published_size() -> None:
    grid = network_grid(_scan().geometry, next(iter(_models_plan())))
    ball = ball_prompt((10.0, 20.0, 18.0), grid)
    assert ball is not None
    assert ball.box.shape_zyx == (11, 11, 11) and ball.voxels.sum() == 739


@pytest.mark.parametrize(
    "box",
    [
        Box((8, 15, 14), (13, 24, 22)),
        Box((0, 0, 0), (3, 4, 5)),
        Box((10, 15, 14), (11, 24, 22)),  # one slice
        Box((-9, 30, 30), (4, 60, 60)),  # beyond the scan
    ],
)
def test_box_prompt(segmenter: SingleTimePointSegmenter, box: Box) -> None:
    prompt = _prompt(box=box)
    assert _close(_segment(segmenter, prompt), _plain(BOX, prompt.followup, _plain_box(box, _scan())))


def test_box_larger_than_a_patch(segmenter: SingleTimePointSegmenter) -> None:
    scan, box = _slim_scan(), Box((2, 5, 3), (9, 31, 9))
    expected = _plain(BOX, scan, _plain_box(box, scan))
    assert _close(_segment(segmenter, _prompt(box=box, scan=scan)), expected)


def test_mask_prompt(segmenter: SingleTimePointSegmenter) -> None:
    mask = MaskPrompt(Box.of_shape((7, 9, 9), (4, 5, 6)), _sphere((7, 9, 9), 4.5))
    prompt = _prompt(mask=mask)
    drawn = _plain_mask(mask, prompt.followup)
    assert _close(_segment(segmenter, prompt), _plain(TRACK, prompt.followup, drawn))


def test_mask_larger_than_a_patch(segmenter: SingleTimePointSegmenter) -> None:
    scan = _slim_scan()
    mask = MaskPrompt(Box.of_shape((7, 27, 9), (2, 4, 3)), _sphere((7, 27, 9), 12.5))
    expected = _plain(TRACK, scan, _plain_mask(mask, scan))
    assert _close(_segment(segmenter, _prompt(mask=mask, scan=scan)), expected)


def test_patch_is_centred_on_the_centre_of_mass_of_an_asymmetric_mask(
    segmenter: SingleTimePointSegmenter,
) -> None:
    voxels = np.zeros((8, 9, 9), bool)
    voxels[:3] = True
    voxels[3:, :3, :3] = True
    mask, scan = MaskPrompt(Box.of_shape(voxels.shape, (6, 15, 14)), voxels), _scan()
    expected = _plain(TRACK, scan, _plain_mask(mask, scan))
    assert _close(_segment(segmenter, _prompt(mask=mask, scan=scan)), expected)


def test_mask_has_precedence_over_box_and_point(segmenter: SingleTimePointSegmenter) -> None:
    box, scan = Box((8, 15, 14), (13, 24, 22)), _scan()
    mask = MaskPrompt(Box((9, 16, 15), (13, 23, 21)), np.ones((4, 7, 6), bool))
    expected = _plain(TRACK, scan, _plain_mask(mask, scan))
    assert _close(_segment(segmenter, _prompt(box=box, mask=mask)), expected)


def test_tracking_network_is_mirrored_along_all_axes(tmp_path: Path) -> None:
    _write(tmp_path, TRACK, POINT, mirror_axes=(0,))
    models = load_single_time_point(tmp_path, ModelOptions(device="cpu", tta=True, folds=FOLDS))
    assert {name: model.ensemble.folds[0].mirror_axes for name, model in models.items()} == {
        POINT: (0,),
        TRACK: (0, 1, 2),
    }


@pytest.mark.slow
def test_mirrored_views_are_averaged(published: Path) -> None:
    prompt = _prompt()
    got = _segment(_segmenter(published, (POINT,), tta=True), prompt)
    expected = _plain(POINT, prompt.followup, _plain_ball((10.0, 20.0, 18.0), prompt.followup), tta=True)
    assert np.abs(got - expected).max() <= 2e-5
    assert np.abs(got - _segment(_segmenter(published, (POINT,)), prompt)).max() > 1e-3


def test_scan_smaller_than_the_patch(segmenter: SingleTimePointSegmenter) -> None:
    scan = _scan((9, 40, 10))
    prompt = _prompt((4.0, 20.0, 5.0), scan=scan)
    assert _close(_segment(segmenter, prompt), _plain(POINT, scan, _plain_ball((4.0, 20.0, 5.0), scan)))
    wide = Box((0, 2, 2), (9, 38, 8))
    assert _close(
        _segment(segmenter, _prompt(box=wide, scan=scan)), _plain(BOX, scan, _plain_box(wide, scan))
    )


def test_scan_with_the_networks_spacing(segmenter: SingleTimePointSegmenter) -> None:
    scan = _scan((20, 30, 30), SPACING)
    mask = MaskPrompt(Box((9, 10, 11), (14, 16, 17)), _sphere((5, 6, 6), 3.2))
    expected = _plain(TRACK, scan, _plain_mask(mask, scan))
    assert _close(_segment(segmenter, _prompt(mask=mask, scan=scan)), expected)


def test_several_lesions_with_different_prompts(segmenter: SingleTimePointSegmenter) -> None:
    scan, box = _slim_scan(), Box((2, 5, 3), (9, 31, 9))
    mask = MaskPrompt(Box((4, 16, 3), (8, 23, 9)), np.ones((4, 7, 6), bool))
    prompts = [
        replace(_prompt((6.0, 20.0, 7.0), scan=scan), lesion_id=1),
        replace(_prompt(box=box, scan=scan), lesion_id=2),
        replace(_prompt((99.0, 0.0, 0.0), scan=scan), lesion_id=3),
        replace(_prompt(mask=mask, scan=scan), lesion_id=4),
        replace(_prompt((5.0, 5.0, 5.0), scan=scan), lesion_id=5),
    ]
    results = {result.prompt.lesion_id: result for result in segmenter.segment(prompts)}
    assert sorted(results) == [1, 2, 3, 4, 5]
    assert isinstance(results[3], LesionFailure) and "lies on the scan" in str(results[3].error)
    for prompt in prompts:
        if prompt.lesion_id != 3:
            alone = _segment(segmenter, prompt)
            np.testing.assert_allclose(_whole(results[prompt.lesion_id]), alone, atol=1e-5)


def test_axis_signs_of_the_file_are_kept(segmenter: SingleTimePointSegmenter) -> None:
    """As published: voxels are used in the order of the file."""
    plain, turned = _prompt(), _prompt(scan=_scan(flipped=(True, False, True)))
    assert np.array_equal(_segment(segmenter, plain), _segment(segmenter, turned))


# --- prompts that cannot be used -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask",
    [
        MaskPrompt(Box((3, 3, 3), (6, 6, 6)), np.zeros((3, 3, 3), bool)),
        MaskPrompt(Box((3, 3, 3), (3, 3, 3)), np.zeros((0, 0, 0), bool)),
        MaskPrompt(Box((30, 3, 3), (33, 6, 6)), np.ones((3, 3, 3), bool)),
        MaskPrompt(Box((-4, 3, 3), (-1, 6, 6)), np.ones((3, 3, 3), bool)),
    ],
    ids=["empty", "nothing", "above the scan", "below the scan"],
)
def test_empty_or_outside_mask_falls_back_to_box_or_point(
    segmenter: SingleTimePointSegmenter, mask: MaskPrompt, caplog: pytest.LogCaptureFixture
) -> None:
    expected = _segment(segmenter, _prompt())
    assert np.array_equal(_segment(segmenter, _prompt(mask=mask)), expected)
    assert "its mask cannot be used" in caplog.text
    box = Box((8, 15, 14), (13, 24, 22))
    assert np.array_equal(
        _segment(segmenter, _prompt(mask=mask, box=box)), _segment(segmenter, _prompt(box=box))
    )


def test_box_outside_the_scan_falls_back_to_the_point(segmenter: SingleTimePointSegmenter) -> None:
    away = Box((60, 0, 0), (70, 9, 9))
    assert np.array_equal(_segment(segmenter, _prompt(box=away)), _segment(segmenter, _prompt()))


@pytest.mark.parametrize("point", [(22.0, 5.0, 5.0), (-0.6, 5.0, 5.0), (math.nan, 5.0, 5.0), (5.0, 1e9, 5.0)])
def test_point_outside_the_scan_is_a_failure(segmenter: SingleTimePointSegmenter, point: Vector) -> None:
    (result,) = segmenter.segment([_prompt(point)])
    assert isinstance(result, LesionFailure)
    assert "lesion 4" in str(result.error) and "expected" in str(result.error)


def test_mask_partly_outside_the_scan_is_cropped(segmenter: SingleTimePointSegmenter) -> None:
    mask = MaskPrompt(Box((-2, -3, 30), (3, 5, 40)), np.ones((5, 8, 10), bool))
    on_scan = MaskPrompt(Box((0, 0, 30), (3, 5, 36)), np.ones((3, 5, 6), bool))
    scan = _scan()
    expected = _plain(TRACK, scan, _plain_mask(on_scan, scan))
    assert _close(_segment(segmenter, _prompt(mask=mask, scan=scan)), expected)


@dataclass
class _NetworkGridVolume:
    """Pastes prompts into volumes on the network grid of a scan."""

    scan: Scan

    def whole(self, drawn: PromptMap | None) -> npt.NDArray[np.bool_]:
        assert drawn is not None
        volume = np.zeros(network_grid(self.scan.geometry, _models_plan()[0]).shape, bool)
        volume[drawn.box.slices] = drawn.voxels
        return volume


def _models_plan() -> list[Any]:
    from model.network.plan import Architecture, CtNormalization, Plan

    architecture = Architecture((4,), ((3, 3, 3),), ((1, 1, 1),), (1,), (), True, 1e-5, True, 0.01)
    return [Plan("", SPACING, PATCH, (0, 1, 2), CtNormalization(LOW, HIGH, MEAN, STD), architecture)]


def test_mask_thinner_than_the_network_grid_is_kept() -> None:
    scan = _scan((60, 40, 36), (0.3, 0.4, 0.4))
    grid = network_grid(scan.geometry, _models_plan()[0])
    mask = MaskPrompt(Box((31, 21, 11), (32, 22, 12)), np.ones((1, 1, 1), bool))
    whole = _NetworkGridVolume(scan).whole(mask_prompt(mask, grid))
    assert np.argwhere(whole).tolist() == [[int(31.5 * 0.3), int(21.5 * 0.5), int(11.5 * 0.5)]]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
@pytest.mark.parametrize("spacing", [(1.3, 1.0, 1.0), (3.0, 0.7, 0.9)])
def test_prompts_are_drawn_in_the_plans_axis_order(order: Index, spacing: Vector) -> None:
    scan = _scan((22, 40, 36), spacing)
    shape = _network_shape(scan)
    plan = replace(_models_plan()[0], transpose_forward=order, spacing_zyx=AxisMap(order).triple(SPACING))
    grid = network_grid(scan.geometry, plan)
    rng = np.random.default_rng(2)
    mask = MaskPrompt(Box((3, 8, 9), (12, 20, 30)), rng.random((9, 12, 21)) > 0.3)
    point, box = (3.0, 39.0, 20.0), Box((2, 30, 3), (5, 40, 9))
    half = np.abs(_soft_mask(mask, scan) - 0.5) < 1e-6
    for drawn, expected, on_edge in (
        (mask_prompt(mask, grid), _plain_mask(mask, scan), half),
        (ball_prompt(point, grid), _plain_ball(point, scan), np.zeros(shape, bool)),
        (box_prompt(box, grid), _plain_box(box, scan), np.zeros(shape, bool)),
    ):
        assert drawn is not None
        volume = np.zeros(AxisMap(order).triple(shape), bool)
        volume[drawn.box.slices] = drawn.voxels
        differing = volume != expected.transpose(order)
        # Values of one half may round either way if the axes are interpolated in another order.
        assert np.array_equal(differing, differing & on_edge.transpose(order))
        assert bounding_box(drawn.voxels) == Box.of_shape(drawn.voxels.shape)


def _drawn(box: Box) -> PromptMap:
    return PromptMap(box, np.ones(box.shape_zyx, bool))


def test_prompt_tiles() -> None:
    shape, patch = (30, 30, 30), (8, 16, 16)
    # First axis: half of (10 + 14 - 8); other axes: moved into the image.
    assert prompt_tiles(_drawn(Box((10, 0, 20), (15, 5, 30))), shape, patch) == [
        Box((8, 0, 14), (16, 16, 30))
    ]
    # Even length: the lower middle voxel, half of (10 + 13 - 8), rounded down.
    (one,) = prompt_tiles(_drawn(Box((10, 4, 4), (14, 9, 9))), shape, patch)
    assert one.start_zyx[0] == 7
    # Image thinner than the patch: the padding before it is the smaller one.
    assert prompt_tiles(_drawn(Box((1, 4, 4), (4, 9, 9))), (5, 30, 30), patch)[0].start_zyx[0] == -1
    several = prompt_tiles(_drawn(Box((4, 4, 4), (15, 15, 15))), shape, patch)
    assert [tile.start_zyx for tile in several] == list(product((0, 4, 7, 11), (0, 7, 14), (0, 7, 14)))


def test_patch_contains_the_whole_asymmetric_mask() -> None:
    voxels = np.zeros((16, 4, 4), bool)
    voxels[0] = voxels[15, 0, 0] = True
    (one,) = prompt_tiles(PromptMap(Box.of_shape(voxels.shape, (20, 9, 9)), voxels), (60, 30, 30), PATCH)
    assert (one.start_zyx[0], one.stop_zyx[0]) == (20, 36)


# --- weights ---------------------------------------------------------------------------------------------


def test_mask_is_replaced_by_its_box_without_the_tracking_network(published: Path) -> None:
    voxels = _sphere((7, 9, 9), 3.5)
    prompt = _prompt(mask=MaskPrompt(Box((8, 15, 14), (15, 24, 23)), voxels))
    expected = _plain(BOX, prompt.followup, _plain_box(Box((8, 16, 15), (15, 23, 22)), prompt.followup))
    assert _close(_segment(_segmenter(published, (BOX, POINT)), prompt), expected)


def test_tracking_network_alone_takes_all_prompts(published: Path) -> None:
    alone, scan, box = _segmenter(published, (TRACK,)), _scan(), Box((8, 15, 14), (13, 24, 22))
    assert _close(_segment(alone, _prompt()), _plain(TRACK, scan, _plain_ball((10.0, 20.0, 18.0), scan)))
    assert _close(_segment(alone, _prompt(box=box)), _plain(TRACK, scan, _plain_box(box, scan)))


def test_box_network_alone_does_not_take_points(published: Path) -> None:
    (result,) = _segmenter(published, (BOX,)).segment([_prompt()])
    assert isinstance(result, LesionFailure) and "bbox_optimized" in str(result.error)


@pytest.mark.slow
def test_only_requested_networks_are_loaded(published: Path, tmp_path: Path) -> None:
    assert list(load_single_time_point(published, ModelOptions(folds=FOLDS))) == [POINT, BOX, TRACK]
    assert list(load_single_time_point(published, ModelOptions(folds=(1,)), networks=[TRACK])) == [TRACK]
    _write(tmp_path, BOX)
    (tmp_path / BOX.value / "fold_1" / "checkpoint_final.pth").write_bytes(b"spoilt")
    assert list(load_single_time_point(tmp_path, ModelOptions(folds=(0,)))) == [BOX]


@pytest.mark.parametrize("where", ["", "..", "LesionLocatorSeg"])
def test_archive_is_found_from_its_parent_and_subfolders(published: Path, where: str) -> None:
    folder = find_prompt_network(published / where, POINT)
    assert folder is not None and folder.samefile(published / POINT.value)
    assert find_prompt_network(published / BOX.value, BOX) == published / BOX.value
    assert find_prompt_network(published / TRACK.value, TRACK) == published / TRACK.value
    assert find_prompt_network(published / BOX.value, POINT) is None


def _refused(*parts: str, root: Path, networks: tuple[PromptNetwork, ...] | None = None) -> None:
    with pytest.raises(WeightsError) as raised:
        load_single_time_point(root, ModelOptions(device="cpu", folds=FOLDS), networks=networks)
    message = str(raised.value)
    assert "expected" in message and "\n" not in message
    for part in parts:
        assert part in message, message


def test_missing_weights(tmp_path: Path) -> None:
    _refused(str(tmp_path), "point_optimized", root=tmp_path)
    _refused("gone", root=tmp_path / "gone")
    _write(tmp_path, POINT)
    _refused("LesionLocatorTrack", root=tmp_path, networks=(POINT, TRACK))
    (tmp_path / POINT.value / "fold_1" / "checkpoint_final.pth").unlink()
    _refused("fold_1", "missing", root=tmp_path)


def test_ambiguous_weights(tmp_path: Path) -> None:
    _write(tmp_path / "a", POINT)
    _write(tmp_path / "b", POINT)
    _refused("several times", "a/", "b/", root=tmp_path)


def test_plan_that_does_not_fit_the_checkpoint(tmp_path: Path) -> None:
    _write(tmp_path, TRACK)
    document = json.loads(json.dumps(PLANS))
    arguments = document["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [4, 6, 10]
    (tmp_path / TRACK.value / "plans.json").write_text(json.dumps(document))
    _refused("does not fit its plan", root=tmp_path)
