"""The floors: masks pasted at the point or warped, and regions grown, with hand-computed voxels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.case import LesionPrompt, MaskPrompt, PointSource, PromptPoint, Scan
from model.case.geometry import Box, Vector
from model.floor.floor_masks import grown_mask, growth_limit_mm
from model.floor.floor_segmenter import floor_labelmaps
from model.floor.floors import ALL_FLOORS, Floor
from model.propagation.pair_registrations import RegistrationCache
from model.propagation.register import Registration, RegistrationImage
from model.propagation.register.linear import LinearTransform


class Shifted:
    """A back end that moves the baseline by a fixed offset (x, y, z) in mm, and counts its calls."""

    def __init__(self, offset_mm: Vector) -> None:
        self.offset_mm, self.calls = offset_mm, 0

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        self.calls += 1
        return Registration(LinearTransform.translation(np.negative(self.offset_mm)), similarity=1.0)


class Failing:
    """A back end that always fails."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        raise ValueError("no overlap")


def _prompt(baseline: Scan, followup: Scan, lesion_id: int, points: tuple[Vector, Vector]) -> LesionPrompt:
    before, after = (PromptPoint(point, PointSource.GIVEN) for point in points)
    assert baseline.mask is not None
    return LesionPrompt(
        lesion_id, baseline, before, followup, after, bool((baseline.mask == lesion_id).any())
    )


def _pair(direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)) -> tuple[Scan, Scan]:
    """A box of 5 x 5 x 5 mm around (8, 8, 8) mm as lesion 3, and a follow-up of 2 x 1 x 1 mm (z y x)."""
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[6:11, 6:11, 6:11] = 3
    baseline = Scan.from_array(np.zeros((20, 20, 20), np.int16), (1, 1, 1), mask=mask)
    followup = Scan.from_array(np.zeros((15, 30, 30), np.int16), (2, 1, 1), direction=direction)
    return baseline, followup


def _drawn(prompt: LesionPrompt, floor: Floor, backend: object = None) -> np.ndarray:
    registrations = RegistrationCache(backend) if backend is not None else None  # type: ignore[arg-type]
    return floor_labelmaps(prompt.followup, [prompt], registrations, [floor])[floor].labels


def test_the_mask_is_pasted_at_the_point_in_millimetres() -> None:
    baseline, followup = _pair()
    labels = _drawn(_prompt(baseline, followup, 3, ((8, 8, 8), (6, 20, 16))), Floor.PASTED)
    # 5 mm are two and a half slices of 2 mm: the middle one whole, its neighbours by three quarters.
    assert np.array_equal(np.unique(np.nonzero(labels)[0]), [5, 6, 7])
    assert (labels[6, 18:23, 14:19] == 3).all() and (labels[6] == 3).sum() == 25
    assert (labels == 3).sum() == pytest.approx(125 / 2, abs=1)  # the volume is kept


def test_the_mask_is_pasted_in_world_axes() -> None:
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[4, 4, 4:8] = 1  # a rod towards higher x from its point
    baseline = Scan.from_array(np.zeros((12, 12, 12), np.int16), (1, 1, 1), mask=mask)
    mirrored = Scan.from_array(
        np.zeros((12, 12, 12), np.int16), (1, 1, 1), direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1)
    )
    labels = _drawn(_prompt(baseline, mirrored, 1, ((4, 4, 4), (5, 5, 9))), Floor.PASTED)
    assert sorted(zip(*np.nonzero(labels), strict=True)) == [(5, 5, x) for x in (6, 7, 8, 9)]


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(4, 10)] * 3))
def test_a_mask_pasted_by_whole_voxels_is_an_exact_copy(point: tuple[int, int, int]) -> None:
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[4:8, 5:8, 6] = 2
    mask[5, 6, 6] = 0
    scan = Scan.from_array(np.zeros((16, 16, 16), np.int16), (2.5, 0.7, 0.7), mask=np.pad(mask, (0, 4)))
    labels = _drawn(_prompt(scan, scan, 2, ((6, 6, 6), point)), Floor.PASTED)
    expected = np.roll(np.pad(mask, (0, 4)), np.subtract(point, 6).tolist(), axis=(0, 1, 2))
    assert np.array_equal(labels, expected)


def test_a_warped_mask_follows_the_registration_not_the_point() -> None:
    baseline, _ = _pair()
    followup = Scan.from_array(np.zeros((20, 20, 20), np.int16), (1, 1, 1))
    backend = Shifted((2.0, 3.0, 4.0))  # x, y, z
    for point in ((8, 8, 8), (1, 2, 3)):
        labels = _drawn(_prompt(baseline, followup, 3, ((8, 8, 8), point)), Floor.WARPED, backend)
        assert np.array_equal(labels, np.roll(np.asarray(baseline.mask), (4, 3, 2), (0, 1, 2)))


def test_both_scans_are_registered_once_for_all_lesions_and_calls() -> None:
    baseline, followup = _pair()
    backend = Shifted((0.0, 0.0, 0.0))
    registrations = RegistrationCache(backend)
    prompts = [_prompt(baseline, followup, 3, ((8, 8, 8), (4, 8, 8)))] * 2
    floor_labelmaps(followup, prompts, registrations)
    floor_labelmaps(followup, prompts, registrations)
    assert backend.calls == 1


def test_a_registration_that_fails_loses_its_lesions_and_no_other_floor() -> None:
    baseline, followup = _pair()
    prompt = _prompt(baseline, followup, 3, ((8, 8, 8), (6, 20, 16)))
    drawn = floor_labelmaps(followup, [prompt], RegistrationCache(Failing()))
    assert not drawn[Floor.WARPED].labels.any() and "no overlap" in drawn[Floor.WARPED].failed[3]
    assert drawn[Floor.PASTED].labels.any() and not drawn[Floor.PASTED].failed


def test_a_lesion_without_a_mask_is_neither_pasted_nor_warped() -> None:
    baseline, followup = _pair()
    prompt = _prompt(baseline, followup, 4, ((8, 8, 8), (6, 20, 16)))
    for floor in (Floor.PASTED, Floor.WARPED):
        drawn = floor_labelmaps(followup, [prompt], RegistrationCache(Shifted((0, 0, 0))), [floor])[floor]
        assert not drawn.labels.any() and not drawn.failed


def test_a_scan_without_lesions_gets_empty_labelmaps() -> None:
    drawn = floor_labelmaps(_pair()[1], [])
    assert drawn.keys() == {*ALL_FLOORS}
    assert all(one.labels.shape == (15, 30, 30) and not one.labels.any() for one in drawn.values())


def _ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    place = np.indices((40, 40, 40)).transpose(1, 2, 3, 0)
    return np.asarray(np.linalg.norm(place - np.asarray(centre), axis=-1) <= radius)


def _noisy(lesion: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 10, lesion.shape)
    return (np.where(lesion, 40, -800) + noise).astype(np.int16)


def test_a_region_grows_to_the_border_of_its_lesion() -> None:
    lesion = _ball((20, 20, 20), 8)
    followup = Scan.from_array(_noisy(lesion), (1, 1, 1))
    prompt = replace(_prompt(*_pair(), 4, ((8, 8, 8), (18, 21, 20))), followup=followup)
    labels = _drawn(prompt, Floor.GROWN) == 4
    assert np.count_nonzero(labels & lesion) / lesion.sum() > 0.95 and not (labels & ~lesion).any()


def test_the_limit_follows_the_size_in_the_baseline() -> None:
    """The corner of the box of 5 x 5 x 5 mm lies 2 x sqrt(3) mm from its middle."""
    baseline, followup = _pair()
    prompt = _prompt(baseline, followup, 3, ((8, 8, 8), (6, 20, 16)))
    box = Box((6, 6, 6), (11, 11, 11))
    mask = MaskPrompt(box, np.ones(box.shape_zyx, bool))
    assert growth_limit_mm(mask, prompt) == pytest.approx(1.5 * 2 * 3**0.5)
    assert growth_limit_mm(None, prompt) == 30.0
    small = MaskPrompt(Box((8, 8, 8), (9, 9, 9)), np.ones((1, 1, 1), bool))
    assert growth_limit_mm(small, prompt) == 5.0


def test_a_region_that_leaks_ends_at_its_limit() -> None:
    hu = np.random.default_rng(0).normal(40, 10, (30, 90, 90)).astype(np.int16)
    grown = grown_mask(Scan.from_array(hu, (3, 1, 1)), (15, 45, 45), 30.0)
    z, y, x = (np.argwhere(grown.voxels) + np.asarray(grown.box.start_zyx)).T
    distance = np.linalg.norm([(z - 15) * 3, y - 45, x - 45], axis=0)
    assert 29.0 < distance.max() <= 30.0


def test_the_limit_holds_in_thick_slices() -> None:
    """Most of the 3 x 3 x 3 voxels around the point lie beyond the limit; their HU count as they are."""
    hu = np.random.default_rng(0).normal(-850, 20, (5, 30, 30))
    hu[2, 12:19, 12:19] = 40
    scan = Scan.from_array(hu.astype(np.int16), (5, 0.8, 0.8))
    grown = grown_mask(scan, (2, 15, 15), 5.0)
    offsets = (np.argwhere(grown.voxels) + np.asarray(grown.box.start_zyx) - (2, 15, 15)) * (5, 0.8, 0.8)
    assert np.linalg.norm(offsets, axis=1).max() <= 5.0
    thin = Scan.from_array(np.full((5, 30, 30), 40, np.int16), (5, 0.8, 0.8))
    assert grown_mask(thin, (2, 15, 15), 5.0).voxels.sum() == 123  # all voxels within 5 mm


def test_a_region_grows_at_the_border_and_from_unmeasured_voxels() -> None:
    hu = np.full((9, 9, 9), 40, np.float32)
    hu[0, 0, 0] = np.nan
    scan = Scan.from_array(hu, (1, 1, 1))
    grown = grown_mask(scan, (8.4, 8.4, 8.4), 30.0)
    assert grown.voxels.sum() == 9**3 - 1
