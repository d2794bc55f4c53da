"""Diameters of masks against shapes of known size and against all pairs of points."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.case.axes import AxisMap
from model.measure.diameters import axial_diameters, longest_diameter

SPACING = (2.0, 0.8, 1.3)
MASKS = arrays(np.bool_, st.tuples(*[st.integers(1, 4)] * 3))


def _outline(mask: npt.NDArray[np.bool_], axes: tuple[int, ...]) -> list[tuple[float, ...]]:
    """All midpoints between a voxel and a neighbour along the axes that is not in the mask."""
    padded, points = np.pad(mask, 1), []
    for voxel in np.argwhere(padded):
        for axis, side in product(axes, (-1, 1)):
            neighbour = voxel.copy()
            neighbour[axis] += side
            if not padded[tuple(neighbour)]:
                points.append(tuple((voxel + neighbour) / 2 - 1.0))
    return points


def _longest(points: list[tuple[float, ...]]) -> float:
    places = np.asarray(points) * SPACING
    return float(np.linalg.norm(places[:, None] - places, axis=-1).max())


def _slice_regions(mask: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """Connected regions of all slices by growing from each pixel, the slow way."""
    regions, left = [], {tuple(map(int, voxel)) for voxel in np.argwhere(mask)}
    while left:
        region, waiting = set(), [left.pop()]
        while waiting:
            z, y, x = waiting.pop()
            region.add((z, y, x))
            near = {(z, y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            waiting += near
        part = np.zeros_like(mask)
        part[tuple(np.transpose(list(region)))] = True
        regions.append(part)
    return regions


@settings(max_examples=25, deadline=None)
@given(MASKS)
def test_diameters_equal_those_of_all_pairs(mask: npt.NDArray[np.bool_]) -> None:
    axial, longest = axial_diameters(mask, SPACING), longest_diameter(mask, SPACING)
    if not mask.any():
        assert axial is None and longest is None
        return
    assert axial is not None and longest is not None
    expected = max(_longest(_outline(region, (1, 2))) for region in _slice_regions(mask))
    assert axial.long.length_mm == pytest.approx(expected, abs=1e-9)
    assert longest.length_mm == pytest.approx(_longest(_outline(mask, (0, 1, 2))), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(MASKS.filter(np.any))
def test_the_perpendicular_is_the_longest_chord_across(mask: npt.NDArray[np.bool_]) -> None:
    axial = axial_diameters(mask, SPACING)
    assert axial is not None
    long, short = ((np.subtract(*line.ends_zyx) * SPACING) for line in (axial.long, axial.short))
    assert abs(long @ short) < 1e-6
    assert np.linalg.norm(long) == pytest.approx(axial.long.length_mm)
    assert np.linalg.norm(short) == pytest.approx(axial.short.length_mm)
    assert axial.short.length_mm <= axial.long.length_mm + 1e-9
    assert {end[0] for line in (axial.long, axial.short) for end in line.ends_zyx} == {axial.slice_index}
    # Chords of the hull of the region that holds the long diameter.
    ends = np.asarray(axial.long.ends_zyx)
    region = next(
        points
        for part in _slice_regions(mask)
        if set(map(tuple, np.round(ends, 6))) <= set(points := _outline(part, (1, 2)))
        and part[axial.slice_index].any()
    )
    hull = np.asarray(region)[:, 1:] * SPACING[1:]
    direction = long[1:] / np.linalg.norm(long)
    from_end = hull - ends[1, 1:] * SPACING[1:]
    widest = _widest(from_end @ direction, from_end @ [-direction[1], direction[0]])
    assert axial.short.length_mm == pytest.approx(widest, abs=1e-6)


def _widest(u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]) -> float:
    """Longest chord along v of the convex hull of points, from all segments between two of them."""
    low, high = (pair.ravel() for pair in np.meshgrid(np.arange(len(u)), np.arange(len(u))))
    widest = 0.0
    for place in u:
        crosses = (u[low] < place) & (place < u[high])
        a, b = low[crosses], high[crosses]
        crossing = [*v[np.abs(u - place) < 1e-9], *(v[a] + (v[b] - v[a]) * (place - u[a]) / (u[b] - u[a]))]
        widest = max(widest, max(crossing) - min(crossing))
    return widest


def test_a_single_voxel_is_one_spacing_long() -> None:
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    axial, longest = axial_diameters(mask, SPACING), longest_diameter(mask, SPACING)
    assert axial is not None and longest is not None
    lengths = (axial.long.length_mm, axial.short.length_mm, longest.length_mm)
    assert lengths == pytest.approx((1.3, 0.8, 2.0)) and axial.slice_index == 1
    assert sorted(longest.ends_zyx) == [(0.5, 1.0, 1.0), (1.5, 1.0, 1.0)]


def test_a_box() -> None:
    # The outline of 12 x 6 pixels ends half a pixel before the corners, on the longer or the shorter sides.
    mask = np.ones((4, 12, 6), bool)
    axial, longest = axial_diameters(mask, (5.0, 1.0, 1.0)), longest_diameter(mask, (5.0, 1.0, 1.0))
    assert axial is not None and longest is not None
    assert axial.long.length_mm == pytest.approx(np.hypot(12, 5))
    assert longest.length_mm == pytest.approx(np.linalg.norm([20, 11, 5]))
    assert axial.slice_index == 0  # of equal slices the lowest


def test_regions_of_a_slice_are_not_joined() -> None:
    mask = np.zeros((1, 5, 30), bool)
    mask[0, 2, 2:9] = mask[0, 1:4, 20] = True
    axial = axial_diameters(mask, (1.0, 1.0, 1.0))
    assert axial is not None
    assert (axial.long.length_mm, axial.short.length_mm) == pytest.approx((7, 1))
    assert sorted(axial.long.ends_zyx) == [(0.0, 2.0, 1.5), (0.0, 2.0, 8.5)]


@pytest.mark.parametrize("radii_mm", [(12.0, 12.0, 12.0), (6.0, 15.0, 9.0), (20.0, 8.0, 8.0)])
def test_ellipsoids_are_measured_to_a_voxel(radii_mm: tuple[float, float, float]) -> None:
    spacing = (2.0, 0.8, 0.8)
    shape = [2 * int(r / s) + 5 for r, s in zip(radii_mm, spacing, strict=True)]
    offsets = (np.indices(shape) - (np.reshape(shape, (3, 1, 1, 1)) - 1) / 2) * np.reshape(
        spacing, (3, 1, 1, 1)
    )
    mask = np.sum((offsets / np.reshape(radii_mm, (3, 1, 1, 1))) ** 2, axis=0) <= 1
    axial, longest = axial_diameters(mask, spacing), longest_diameter(mask, spacing)
    assert axial is not None and longest is not None
    assert axial.long.length_mm == pytest.approx(2 * max(radii_mm[1:]), abs=0.81)
    assert axial.short.length_mm == pytest.approx(2 * min(radii_mm[1:]), abs=0.81)
    assert longest.length_mm == pytest.approx(2 * max(radii_mm), abs=2.0)


@pytest.mark.parametrize("flipped", list(product((False, True), repeat=3)))
def test_flips_change_no_length(flipped: tuple[bool, bool, bool]) -> None:
    mask = np.random.default_rng(5).random((3, 12, 14)) < 0.55
    one, other = (
        axial_diameters(mask, SPACING),
        axial_diameters(AxisMap(flipped=flipped).array(mask), SPACING),
    )
    assert one is not None and other is not None
    assert other.long.length_mm == pytest.approx(one.long.length_mm)
    assert other.short.length_mm == pytest.approx(one.short.length_mm)
