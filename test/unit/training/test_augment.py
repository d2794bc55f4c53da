"""Augmentation: points stay on their lesions, heat maps stay round, both scans are transformed alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from model.case.geometry import Array, AxisMap, Box, Index, Vector
from model.network.encoding import HeatMap, heat_map
from model.network.patches import NetworkGrid
from model.training import augment
from model.training.augment import make_sample, prompt_map
from model.training.augment_intensity import _transforms
from model.training.augment_spatial import SpatialTransform, draw_spatial, identity_transform, is_flat
from model.training.config import TrainingConfig
from model.training.data_source import patients_of
from model.training.sampler import Sampler

from ...helpers.training_phantoms import PATCH, SHAPE, config, only, pair, patients, scan

_ALWAYS: dict[str, Any] = {"rotation_probability": 1.0, "scaling_probability": 1.0, "intensity": False}


def _transformed_ball(transform: SpatialTransform, centre: Array, radius: float) -> Array:
    """The mask of a ball after the transform."""
    box = transform.source_box()
    offset = np.indices(box.shape_zyx).transpose(1, 2, 3, 0) + box.start_zyx - centre
    ball = (np.linalg.norm(offset, axis=-1) <= radius).astype(np.float32)
    return np.asarray(transform.transform_volumes(ball[None])[0] > 0.5)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    centre=st.tuples(*[st.integers(9, 14)] * 3),
    pivot=st.tuples(*[st.integers(6, 17)] * 3),
    radius=st.floats(2.0, 5.0),
    inside=st.tuples(*[st.floats(-1, 1)] * 3),
)
def test_a_transformed_point_lies_on_its_transformed_lesion(
    seed: int, centre: Index, pivot: Index, radius: float, inside: Vector
) -> None:
    transform = draw_spatial(TrainingConfig(**_ALWAYS), PATCH, pivot, np.random.default_rng(seed))
    offset = np.asarray(inside)
    offset *= radius / max(float(np.linalg.norm(offset)), 1.0)
    point = np.asarray(centre) + offset
    transformed = transform.transform_points(point[None])[0]
    voxel = np.rint(transformed).astype(int)
    if (voxel < 0).any() or (voxel >= PATCH).any():
        return  # only points off the pivot can leave the patch
    mask = _transformed_ball(transform, np.asarray(centre), radius)
    reach = distance_transform_edt(~mask)[tuple(voxel)]
    assert reach <= 1.8  # one voxel along each axis


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_prompt_of_a_sample_stays_on_its_lesion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    settings_ = config(**_ALWAYS, shift_voxels=0, propagated_fraction=0.0)
    draw = Sampler(only([pair("P0")], 1), PATCH, settings_).draw(rng)
    sample = make_sample(draw, settings_, rng, augmented=True)
    peak = np.unravel_index(int(sample.channels[3].argmax()), PATCH)
    assert sample.channels[3].max() == sample.channels[4].max() == 1
    assert sample.target[peak] == 1
    assert sample.channels[2][np.unravel_index(int(sample.channels[4].argmax()), PATCH)] == 1


def test_images_and_points_are_transformed_alike() -> None:
    """Single bright voxels end up at the transformed points, under a transform without symmetry."""
    transform = draw_spatial(TrainingConfig(**_ALWAYS), PATCH, (9, 12, 15), np.random.default_rng(8))
    box = transform.source_box()
    for point in ((10, 12, 14), (7, 10, 16), (12, 15, 11)):
        image = np.zeros(box.shape_zyx, np.float32)
        image[tuple(np.array(point) - box.start_zyx)] = 1
        transformed = transform.transform_volumes(image[None])[0]
        centre = np.array([(index * transformed).sum() / transformed.sum() for index in np.indices(PATCH)])
        assert np.abs(centre - transform.transform_points(np.array([point], float))[0]).max() < 0.5


@pytest.mark.parametrize("kind", HeatMap)
def test_an_unaugmented_sample_equals_the_input_of_inference(kind: HeatMap) -> None:
    settings_ = config(heat_map=str(kind))
    draw = Sampler(patients(), PATCH, settings_).draw(np.random.default_rng(3))
    sample = make_sample(draw, settings_, np.random.default_rng(3), augmented=False)
    unit = (1.0, 1.0, 1.0)
    grid = NetworkGrid(AxisMap(), SHAPE, SHAPE, unit, unit, SHAPE)
    assert np.array_equal(sample.channels[0], draw.pair.followup.read_ct(draw.followup_patch))
    assert np.array_equal(sample.channels[1], draw.pair.baseline.read_ct(draw.baseline_patch))
    assert np.array_equal(sample.channels[3], heat_map(draw.followup_point, draw.followup_patch, grid, kind))
    assert np.array_equal(sample.channels[4], heat_map(draw.baseline_point, draw.baseline_patch, grid, kind))


@pytest.mark.slow
def test_mirroring_augmentation_mirrors_all_channels_and_the_target() -> None:
    """Also at the border of the scan, where heat maps are reflected."""
    settings_ = config(rotation_probability=0.0, scaling_probability=0.0, intensity=False)
    near = replace(pair("P0").lesions[0], propagated_point_zyx=(1.0, 42.0, 1.0), followup_point_zyx=None)
    sampler = Sampler(patients_of([replace(pair("P0"), lesions=(near,))]), PATCH, settings_)
    draw = sampler.draw(np.random.default_rng(0))
    plain = make_sample(draw, settings_, np.random.default_rng(0), augmented=False)
    axes_seen = set()
    for seed in range(80):
        mirrored = make_sample(draw, settings_, np.random.default_rng(seed), augmented=True)
        axes = next(
            axes
            for axes in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
            if np.array_equal(np.flip(plain.target, axes), mirrored.target)
            and np.array_equal(np.flip(plain.channels[0], axes), mirrored.channels[0])
        )
        flipped = np.flip(plain.channels, tuple(axis + 1 for axis in axes)) if axes else plain.channels
        assert np.allclose(flipped, mirrored.channels, atol=1e-6)
        axes_seen.add(axes)
    assert len(axes_seen) == 8


def test_a_rotated_patch_has_no_empty_border() -> None:
    image = scan("s", {}, shape=(80, 80, 80))
    image.ct[...] = 7
    transform = SpatialTransform(np.eye(3), (12.0, 12.0, 12.0), (False, False, False), PATCH)
    transform = draw_spatial(TrainingConfig(**_ALWAYS), PATCH, (12, 12, 12), np.random.default_rng(5))
    values = transform.transform_volumes(image.read_ct(transform.source_box().shifted((28, 28, 28)))[None])
    assert np.allclose(values, 7)


def test_flat_patches_are_rotated_only_in_their_plane() -> None:
    for seed in range(10):
        transform = draw_spatial(
            TrainingConfig(**_ALWAYS), (8, 64, 64), (4, 30, 30), np.random.default_rng(seed)
        )
        assert np.allclose(transform.matrix[0], (1, 0, 0)) and np.allclose(transform.matrix[:, 0], (1, 0, 0))


_DRAWS = 6000


def _drawn(shape: Index) -> list[SpatialTransform]:
    rng, pivot = np.random.default_rng(11), (shape[0] // 2, shape[1] // 2, shape[2] // 2)
    return [draw_spatial(TrainingConfig(), shape, pivot, rng) for _ in range(_DRAWS)]


@pytest.mark.slow
def test_spatial_augmentation_has_the_published_parameters() -> None:
    """Rotation: p 0.2, up to 30 degrees about each axis; scaling: p 0.2, 0.7 to 1.4; mirroring: each axis."""
    drawn = _drawn((24, 24, 24))
    matrices = np.stack([one.matrix for one in drawn])
    factors = np.cbrt(np.linalg.det(matrices))
    turns = matrices / factors[:, None, None]
    assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3))  # one factor for all axes
    scaled = ~np.isclose(factors, 1)
    assert scaled.mean() == pytest.approx(0.2, abs=0.03)
    assert 0.7 <= factors.min() < 0.71 and 1.39 < factors.max() <= 1.4
    assert factors[scaled].mean() == pytest.approx(1.05, abs=0.03)
    turned = np.abs(turns - np.eye(3)).max((1, 2)) > 1e-9
    assert turned.mean() == pytest.approx(0.2, abs=0.03)
    assert (turned & scaled).mean() == pytest.approx(0.04, abs=0.015)  # one does not depend on the other
    r = turns[turned]
    angles = np.degrees(
        [np.arctan2(-r[:, 1, 2], r[:, 2, 2]), np.arcsin(-r[:, 0, 2]), np.arctan2(-r[:, 0, 1], r[:, 0, 0])]
    )
    assert (np.abs(angles) <= 30 + 1e-6).all() and (angles.min(1) < -29).all() and (angles.max(1) > 29).all()
    assert np.abs(angles).mean(1) == pytest.approx([15] * 3, abs=1)
    mirrored = np.array([one.mirrored for one in drawn])
    assert mirrored.mean(0) == pytest.approx([0.5] * 3, abs=0.03)


@pytest.mark.slow
def test_spatial_augmentation_of_flat_patches_has_the_published_parameters() -> None:
    """Rotated by any angle in the plane, and scaled only there."""
    assert not is_flat((20, 60, 60)) and is_flat((19, 60, 60))  # more than three times as wide as deep
    matrices = np.stack([one.matrix for one in _drawn((8, 64, 64))])
    planes, rest = matrices[:, 1:, 1:], matrices.copy()
    rest[:, 1:, 1:] = np.eye(2)
    assert np.allclose(rest, np.eye(3))
    factors = np.sqrt(np.linalg.det(planes))
    turns = planes / factors[:, None, None]
    assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(2))
    assert (~np.isclose(factors, 1)).mean() == pytest.approx(0.2, abs=0.03)
    assert 0.7 <= factors.min() < 0.71 and 1.39 < factors.max() <= 1.4
    angles = np.degrees(np.arctan2(turns[:, 1, 0], turns[:, 0, 0]))
    turned = np.abs(angles) > 1e-6
    assert turned.mean() == pytest.approx(0.2, abs=0.03)
    assert angles.min() < -175 and angles.max() > 175
    assert np.abs(angles[turned]).mean() == pytest.approx(90, abs=5)


def _parameters(transform: object) -> dict[str, object]:
    """The parameters of a transform of the library, by its own names; ranges as (low, high)."""
    ranges = {name: getattr(value, "contrast_range", value) for name, value in vars(transform).items()}
    return {name: tuple(map(float, v)) if isinstance(v, tuple) else v for name, v in ranges.items()}


@pytest.mark.parametrize(("flat", "planes"), [(False, None), (True, (0.0,))])
def test_intensity_augmentation_has_the_published_parameters(
    flat: bool, planes: tuple[float, ...] | None
) -> None:
    """nnU-Net's set in its order: probability, transform, parameters."""
    each: dict[str, object] = {"synchronize_channels": False, "p_per_channel": 1}
    some: dict[str, object] = {"synchronize_channels": False, "p_per_channel": 0.5}
    gamma: dict[str, object] = {"gamma": (0.7, 1.5), "p_retain_stats": 1}
    expected: list[tuple[float, str, dict[str, object]]] = [
        (
            0.1,
            "GaussianNoiseTransform",
            {"noise_variance": (0, 0.1), "synchronize_channels": True, "p_per_channel": 1},
        ),
        (0.2, "GaussianBlurTransform", {"blur_sigma": (0.5, 1), "synchronize_axes": False} | some),
        (0.15, "MultiplicativeBrightnessTransform", {"multiplier_range": (0.75, 1.25)} | each),
        (0.15, "ContrastTransform", {"contrast_range": (0.75, 1.25), "preserve_range": True} | each),
        (
            0.25,
            "SimulateLowResolutionTransform",
            {"scale": (0.5, 1), "synchronize_axes": True, "ignore_axes": planes} | some,
        ),
        (0.1, "GammaTransform", gamma | {"p_invert_image": 1} | each),
        (0.3, "GammaTransform", gamma | {"p_invert_image": 0} | each),
    ]
    steps = _transforms(flat).transforms
    assert [(step.apply_probability, type(step.transform).__name__) for step in steps] == [
        (probability, name) for probability, name, _ in expected
    ]
    for step, (_, name, parameters) in zip(steps, expected, strict=True):
        actual = _parameters(step.transform)
        assert {key: actual[key] for key in parameters} == parameters, name


@pytest.mark.parametrize(("shape", "flat"), [(PATCH, False), ((7, 24, 24), True)])
def test_low_resolution_of_flat_patches_is_simulated_in_their_plane(
    shape: Index, flat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, bool]] = []

    def record(images: np.ndarray, is_flat_: bool, rng: np.random.Generator) -> np.ndarray:
        calls.append((len(images), is_flat_))
        return images

    monkeypatch.setattr(augment, "augment_intensity", record)
    draw = Sampler(patients(), shape, config()).draw(np.random.default_rng(3))
    make_sample(draw, config(), np.random.default_rng(0), augmented=True)
    assert calls == [(2, flat)]  # both scans


def test_a_heat_map_of_unit_volume_sums_to_one() -> None:
    for point in ((12, 12, 12), (0, 12, 23)):
        blob = prompt_map(point, Box.of_shape(PATCH), identity_transform(PATCH), HeatMap.UNIT_VOLUME)
        assert float(blob.sum()) == pytest.approx(1, abs=1e-5)
    blob = prompt_map((12, 12, 12), Box.of_shape(PATCH), identity_transform(PATCH), HeatMap.UNIT_VOLUME)
    assert blob.max() == pytest.approx(0.063, abs=1e-3)


def test_intensity_augmentation_differs_between_scans_and_depends_on_the_seed_only() -> None:
    settings_ = config(rotation_probability=0.0, scaling_probability=0.0, mirror=False)
    draw = Sampler(patients(), PATCH, settings_).draw(np.random.default_rng(3))
    plain = make_sample(draw, settings_, np.random.default_rng(0), augmented=False)
    state = np.random.get_state()[1].copy()  # type: ignore[index]
    samples = [make_sample(draw, settings_, np.random.default_rng(seed), True) for seed in range(30)]
    again = make_sample(draw, settings_, np.random.default_rng(7), True)
    assert np.array_equal(samples[7].channels, again.channels)
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[index]
    changed = [[not np.array_equal(s.channels[c], plain.channels[c]) for c in range(5)] for s in samples]
    assert sum(row[0] for row in changed) > 10 and sum(row[1] for row in changed) > 10
    assert any(row[0] != row[1] for row in changed)
    assert not any(any(row[2:]) for row in changed)
    assert all(np.isfinite(sample.channels).all() for sample in samples)


@pytest.mark.parametrize(
    ("variant", "rows"),
    [
        ("mask-and-point", (0, 2, 3)),
        ("point", (0, 3)),
        ("early-fusion", (0, 1, 3, 4)),
        ("difference-weighting", (0, 3, 1, 4)),
    ],
)
def test_samples_have_the_channels_of_their_variant(variant: str, rows: tuple[int, ...]) -> None:
    whole, part = config(intensity=False), config(intensity=False, variant=variant)
    draw = Sampler(patients(), PATCH, whole).draw(np.random.default_rng(3))
    full = make_sample(draw, whole, np.random.default_rng(0), augmented=True)
    less = make_sample(draw, part, np.random.default_rng(0), augmented=True)
    assert np.array_equal(full.channels[list(rows)], less.channels)
    assert np.array_equal(full.target, less.target)
