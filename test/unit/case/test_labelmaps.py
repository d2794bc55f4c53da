"""Regions, boxes, masks and central points of the lesions of a labelmap."""

from __future__ import annotations

import cc3d
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.geometry import AxisMap, Box, Index, Vector
from model.case.labelmaps import bounding_box, label_boxes, label_regions, lesion_masks, point_on_lesion
from test.helpers.orientations import ORIENTATIONS

Labels = npt.NDArray[np.integer]
SHAPE = (20, 40, 40)
SPACING_ZYX = (2.0, 1.0, 1.0)


def _labelmap(seed: int, shape: Index, filled: float, kind: type = np.uint16) -> Labels:
    generator = np.random.default_rng(seed)
    top = min(65_535, np.iinfo(kind).max)
    return (generator.choice([1, 2, 100, top], shape) * (generator.random(shape) < filled)).astype(kind)


# --- regions ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(1, 6)] * 3),
    st.floats(0, 1),
    st.sampled_from([np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64]),
    st.sampled_from(ORIENTATIONS),
)
@settings(deadline=None)
def test_regions_of_any_number_type_and_memory_order(
    seed: int, shape: Index, filled: float, kind: type, axes: AxisMap
) -> None:
    labelmap = axes.array(_labelmap(seed, shape, filled, kind))
    regions = label_regions(labelmap)
    assert list(regions) == [value for value in np.unique(labelmap).tolist() if value]
    for lesion_id, region in regions.items():
        voxels = np.argwhere(labelmap == lesion_id)
        assert region.voxels == len(voxels)
        assert region.centre_zyx == tuple(voxels.sum(axis=0) / len(voxels))
        assert region.box == Box(tuple(voxels.min(axis=0)), tuple(voxels.max(axis=0) + 1))
    assert label_boxes(labelmap) == {lesion_id: region.box for lesion_id, region in regions.items()}


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(7, 12)] * 3), st.floats(0, 1))
@settings(deadline=None)
def test_regions_agree_with_cc3d(seed: int, shape: Index, filled: float) -> None:
    # cc3d refuses labels above the number of voxels.
    labelmap = _labelmap(seed, shape, filled, np.uint8)
    statistics = cc3d.statistics(labelmap, no_slice_conversion=False)
    for lesion_id, region in label_regions(labelmap).items():
        assert region.voxels == statistics["voxel_counts"][lesion_id]
        assert region.centre_zyx == pytest.approx(statistics["centroids"][lesion_id], rel=1e-6)
        assert region.box.slices == statistics["bounding_boxes"][lesion_id]


@pytest.mark.parametrize("labelmap", [None, np.zeros((0, 5, 6), np.uint8), np.zeros((4, 5, 6), np.uint16)])
def test_a_labelmap_without_lesions_has_no_regions(labelmap: Labels | None) -> None:
    assert label_regions(labelmap) == {} == label_boxes(labelmap)


def test_masks_of_a_labelmap() -> None:
    labelmap = np.zeros((4, 5, 6), np.uint16)
    labelmap[1:3, 2, 2:4] = 65_535
    labelmap[0, 0, 0] = labelmap[3, 4, 5] = 7
    masks = dict(lesion_masks(labelmap))
    assert list(masks) == [7, 65_535]
    assert masks[7].box == Box.of_shape((4, 5, 6)) and masks[7].voxels.sum() == 2
    assert masks[65_535].box == Box((1, 2, 2), (3, 3, 4)) and masks[65_535].voxels.all()


# --- points on lesions -----------------------------------------------------------------------------------


def _point(labelmap: Labels) -> Vector:
    return point_on_lesion(labelmap, 1, label_regions(labelmap)[1], SPACING_ZYX)


def test_the_point_of_a_compact_lesion_is_its_centre_of_gravity() -> None:
    labelmap = np.zeros(SHAPE, np.uint16)
    labelmap[9:12, 19:22, 29:32] = 1
    labelmap[12, 20, 30] = 1
    assert _point(labelmap) == pytest.approx((10 + 2 / 28, 20, 30))


@pytest.mark.parametrize("shape", ["ring", "sickle", "two parts"])
def test_the_point_of_a_hollow_lesion_is_its_voxel_nearest_to_the_centre_of_gravity(shape: str) -> None:
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    radius = np.hypot(y - 20, x - 20)
    labelmap = np.zeros(SHAPE, np.uint16)
    labelmap[10] = (radius > 6) & (radius < 9)
    if shape == "sickle":
        labelmap[10, :, 21:] = 0
    elif shape == "two parts":
        labelmap[10, :, 14:27] = 0
    point = _point(labelmap)
    assert labelmap[tuple(int(value) for value in point)] == 1
    voxels = np.argwhere(labelmap == 1)
    distances = np.linalg.norm((voxels - voxels.mean(axis=0)) * SPACING_ZYX, axis=1)
    distance = np.linalg.norm((np.array(point) - voxels.mean(axis=0)) * SPACING_ZYX)
    assert distance == pytest.approx(distances.min())


def test_the_nearest_voxel_is_nearest_in_mm() -> None:
    labelmap = np.zeros(SHAPE, np.uint16)
    labelmap[9, 20, 20] = labelmap[11, 20, 20] = 1  # 2 mm from the centre
    labelmap[10, 20, 18:23] = [0, 1, 0, 1, 0]  # 1 mm
    assert _point(labelmap)[0] == 10


def test_another_lesion_at_the_centre_of_gravity() -> None:
    labelmap = np.zeros(SHAPE, np.uint16)
    labelmap[10, 20, 17:24] = [1, 1, 1, 2, 1, 1, 1]
    assert _point(labelmap) in ((10, 20, 19), (10, 20, 21))


# --- bounding boxes --------------------------------------------------------------------------------------


def test_bounding_box() -> None:
    mask = np.zeros((4, 5, 6), bool)
    assert bounding_box(mask) is None
    mask[1, 2, 3] = mask[2, 4, 3] = True
    assert bounding_box(mask) == Box((1, 2, 3), (3, 5, 4))
    assert bounding_box(np.zeros((0, 5, 6), bool)) is None


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 6)] * 3), st.floats(0, 0.3))
@settings(deadline=None)
def test_bounding_box_of_any_mask(seed: int, shape: Index, filled: float) -> None:
    mask = np.random.default_rng(seed).random(shape) < filled
    voxels = np.argwhere(mask)
    expected = Box(tuple(voxels.min(axis=0)), tuple(voxels.max(axis=0) + 1)) if len(voxels) else None
    assert bounding_box(mask) == expected
