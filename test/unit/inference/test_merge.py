"""Merging of overlapping lesions, against a plain voxel-by-voxel implementation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.case import LesionPrompt, LesionResult, PointSource, PromptPoint, Scan, Slot, TimePointName
from model.case.geometry import AxisMap, Box, Geometry, Vector
from model.inference.merge import label_dtype, merge
from model.inference.options import OverlapRule

SHAPE = (5, 6, 7)
# Spacing of powers of two: distances of whole voxels are exact, so that ties are ties.
GEOMETRY = Geometry((7, 6, 5), (1.0, 0.5, 2.0), (8.0, -4.0, 0.0))
SCAN = Scan(
    TimePointName.FOLLOWUP, Slot.PRIMARY, Path("ct.mha"), GEOMETRY, AxisMap(), np.zeros(SHAPE, np.int16)
)
# Few values, so that ties occur; exactly one half is no claim.
PROBABILITIES = np.array([0.0, 0.5, 0.6, 0.6, 0.75, 0.9], np.float32)


def _result(
    lesion_id: int, box: Box, probability: npt.NDArray[np.float32], point: Vector, scan: Scan = SCAN
) -> LesionResult:
    given = PromptPoint(point, PointSource.GIVEN)
    return LesionResult(LesionPrompt(lesion_id, scan, given, scan, given), box, probability)


@st.composite
def lesions(draw: st.DrawFn) -> list[LesionResult]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = st.integers(1, 12) | st.sampled_from([255, 256, 300, 65_535])
    results = []
    for lesion_id in draw(st.lists(numbers, unique=True, max_size=5)):
        low, high = np.sort(generator.integers(0, np.add(SHAPE, 1), (2, 3)), axis=0)
        box = Box.of_shape(high - low, low)
        point = tuple(float(value) for value in generator.integers(0, SHAPE))
        probability = generator.choice(PROBABILITIES, box.shape_zyx)
        results.append(_result(lesion_id, box, probability, (point[0], point[1], point[2])))
    return results


def _plain(results: list[LesionResult], rule: str) -> npt.NDArray[np.int64]:
    """The best claim of each voxel."""
    labelmap = np.zeros(SHAPE, np.int64)
    for index in np.ndindex(*SHAPE):
        claims = []
        for result in results:
            inside = [
                0 <= i - a < n
                for i, a, n in zip(index, result.box.start_zyx, result.box.shape_zyx, strict=True)
            ]
            if not all(inside):
                continue
            value = result.probability[tuple(np.subtract(index, result.box.start_zyx))]
            if value > 0.5:
                offset = np.subtract(index, result.prompt.followup_point.point_zyx) * (2.0, 0.5, 1.0)
                lesion_id = result.prompt.lesion_id
                by_rule = (float(value), -np.linalg.norm(offset)) if rule == "probability" else ()
                claims.append((*by_rule, -lesion_id if by_rule else lesion_id, lesion_id))
        if claims:
            labelmap[index] = max(claims)[-1]
    return labelmap


@pytest.mark.parametrize("rule", ["probability", "max-id"])
@given(lesions(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=120)
def test_each_voxel_is_assigned_to_the_best_claim_in_any_order(
    rule: OverlapRule, results: list[LesionResult], random: Random
) -> None:
    dtype = label_dtype([result.prompt.lesion_id for result in results])
    merged = merge(SCAN, results, rule, dtype)
    np.testing.assert_array_equal(merged, _plain(results, rule))
    assert merged.dtype == dtype
    random.shuffle(results)
    np.testing.assert_array_equal(merge(SCAN, results, rule, dtype), merged)


@pytest.mark.slow
@given(lesions())
@settings(deadline=None)
def test_max_id_is_the_maximum_of_all_masks(results: list[LesionResult]) -> None:
    expected = np.zeros(SHAPE, np.uint16)
    for result in results:
        part = expected[result.box.slices]
        np.maximum(part, result.mask * np.uint16(result.prompt.lesion_id), out=part)
    np.testing.assert_array_equal(merge(SCAN, results, "max-id", np.uint16), expected)


def _line_of(lesion_id: int, probability: float, x: float) -> LesionResult:
    """A claim on the whole first row."""
    box = Box.of_shape((1, 1, 7))
    return _result(lesion_id, box, np.full(box.shape_zyx, probability, np.float32), (0.0, 0.0, x))


def test_a_tie_goes_to_the_nearer_point_then_to_the_lower_id() -> None:
    row = merge(SCAN, [_line_of(9, 0.7, 0), _line_of(4, 0.7, 6)], "probability", np.uint8)[0, 0]
    assert row.tolist() == [9, 9, 9, 4, 4, 4, 4]


def test_distances_are_compared_in_mm() -> None:
    box = Box((0, 0, 0), (2, 3, 1))
    both = np.full(box.shape_zyx, 0.8, np.float32)
    # Two voxels of 0.5 mm along y are nearer than one slice of 2 mm.
    far, near = _result(1, box, both, (1.0, 0.0, 0.0)), _result(2, box, both, (0.0, 2.0, 0.0))
    assert merge(SCAN, [far, near], "probability", np.uint8)[0, 0, 0] == 2


def test_probability_beats_distance_and_id() -> None:
    results = [_line_of(9, 0.6, 0), _line_of(4, 0.95, 6), _line_of(300, 0.94, 3)]
    assert set(merge(SCAN, results, "probability", np.uint16)[0, 0]) == {4}
    assert set(merge(SCAN, results, "max-id", np.uint16)[0, 0]) == {300}


@pytest.mark.slow
@given(lesions(), st.permutations(range(3)), st.sampled_from(["probability", "max-id"]))
@settings(deadline=None)
def test_a_permuted_scan_gets_its_labelmap_in_its_own_axes(
    results: list[LesionResult], order: list[int], rule: str
) -> None:
    axes = AxisMap((order[0], order[1], order[2]))
    stored = replace(SCAN, file_geometry=GEOMETRY.reoriented(axes.inverse()), axes=axes)
    moved = [
        replace(result, prompt=replace(result.prompt, baseline=stored, followup=stored)) for result in results
    ]
    got = merge(stored, moved, rule, np.uint16)  # type: ignore[arg-type]
    assert got.shape == stored.file_geometry.shape_zyx and got.flags.c_contiguous
    axial = merge(SCAN, results, rule, np.uint16)  # type: ignore[arg-type]
    np.testing.assert_array_equal(axes.array(got), axial)


def test_an_empty_labelmap_without_lesions() -> None:
    empty = _result(3, Box.of_shape((0, 0, 0)), np.zeros((0, 0, 0), np.float32), (1.0, 1.0, 1.0))
    assert not merge(SCAN, [], "probability", np.uint8).any()
    assert not merge(SCAN, [empty], "probability", np.uint8).any()


@pytest.mark.parametrize(
    ("ids", "kind"), [((), np.uint8), ((1, 255), np.uint8), ((256,), np.uint16), ((3, 65_535), np.uint16)]
)
def test_number_type_of_the_labelmaps(ids: tuple[int, ...], kind: type) -> None:
    assert label_dtype(ids) is kind
