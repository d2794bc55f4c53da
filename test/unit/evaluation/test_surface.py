"""Surface distances: hand-made masks, bounds and symmetries, and three libraries as oracles."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import surface_distance
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.geometry import Vector
from model.evaluation.surface import SurfaceElements, surface_distances, surface_elements

SPACINGS = [(1.0, 1.0, 1.0), (2.5, 0.8, 1.1), (5.0, 0.7, 0.7)]


def _compare(reference: np.ndarray, prediction: np.ndarray, spacing: Vector) -> tuple[float, float, float]:
    found = surface_distances(surface_elements(reference, spacing), surface_elements(prediction, spacing))
    return found.hd95_mm, found.assd_mm, found.nsd_2mm


def _blob(seed: int, shift: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """A ball with ragged sides and a stray voxel, at the array's border on one side."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((18, 20, 22))
    radius = np.sqrt((z - 8 - shift[0]) ** 2 + (y - 9 - shift[1]) ** 2 + (x - 6 - shift[2]) ** 2)
    mask: np.ndarray = radius < 6 + rng.uniform(-1.2, 1.2, radius.shape)
    mask[16, 18, 20] = seed % 2 == 0
    return mask


def _deepmind(reference: np.ndarray, prediction: np.ndarray, spacing: Vector) -> tuple[float, float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # namespaces that SciPy 2 has no more
        found = surface_distance.compute_surface_distances(reference, prediction, spacing)
    areas = np.concatenate([found["surfel_areas_gt"], found["surfel_areas_pred"]])
    distances = np.concatenate([found["distances_gt_to_pred"], found["distances_pred_to_gt"]])
    return (
        surface_distance.compute_robust_hausdorff(found, 95),
        float((areas * distances).sum() / areas.sum()),
        surface_distance.compute_surface_dice_at_tolerance(found, 2.0),
    )


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_surface_distances_equal_those_of_surface_distance(seed: int, spacing: Vector) -> None:
    reference, prediction = _blob(seed), _blob(seed + 10, (1, -2, 1))
    assert _compare(reference, prediction, spacing) == pytest.approx(
        _deepmind(reference, prediction, spacing), rel=1e-6
    )


def _tensor(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask)[None, None]


@pytest.mark.parametrize("spacing", SPACINGS)
def test_nsd_as_monai_with_subvoxels(spacing: Vector) -> None:
    from monai.metrics.surface_dice import compute_surface_dice  # takes seconds

    reference, prediction = _blob(1), _blob(12, (1, -2, 1))
    theirs = compute_surface_dice(
        _tensor(prediction),
        _tensor(reference),
        [2.0],
        spacing=spacing,
        use_subvoxels=True,
        include_background=True,
    )
    assert _compare(reference, prediction, spacing)[2] == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_distances_near_monai_which_counts_border_voxels(spacing: Vector) -> None:
    """Without areas and between voxels: the same within a voxel's diagonal."""
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_distance import compute_average_surface_distance

    reference, prediction = _blob(1), _blob(13, (2, -3, 1))
    given: dict[str, Any] = {"spacing": spacing, "include_background": True}
    hd95 = compute_hausdorff_distance(_tensor(prediction), _tensor(reference), percentile=95, **given)
    assd = compute_average_surface_distance(_tensor(prediction), _tensor(reference), symmetric=True, **given)
    ours = _compare(reference, prediction, spacing)
    assert ours[0] == pytest.approx(float(hd95), abs=float(np.linalg.norm(spacing)))
    assert ours[1] == pytest.approx(float(assd), abs=0.5 * float(np.linalg.norm(spacing)))


def test_two_single_voxels_apart() -> None:
    """Five mm apart along x: half of the elements of each are at 4 mm from the other's, half at 5 mm."""
    reference, prediction = np.zeros((2, 5, 5, 12), bool)
    reference[2, 2, 2] = prediction[2, 2, 7] = True
    hd95, assd, nsd = _compare(reference, prediction, (1.0, 1.0, 1.0))
    assert (hd95, assd, nsd) == pytest.approx((5.0, 4.5, 0.0))


def test_a_block_moved_by_one_voxel() -> None:
    """Moved by 2 mm, the tolerance: all is within it. By 3 mm: the sides that face the shift are not."""
    reference, moved = np.zeros((2, 12, 12, 12), bool)
    reference[3:9, 3:9, 3:9] = moved[4:10, 3:9, 3:9] = True
    assert _compare(reference, moved, (2.0, 2.0, 2.0))[2] == 1.0
    assert 0.5 < _compare(reference, moved, (3.0, 2.0, 2.0))[2] < 1.0


def test_the_area_of_a_flat_side_is_that_of_its_voxels() -> None:
    mask = np.ones((1, 40, 40), bool)
    spacing = (2.0, 1.5, 1.0)
    flat = 2 * 40 * 40 * 1.5
    assert surface_elements(mask, spacing).areas_mm2.sum() == pytest.approx(flat, rel=0.1)


def test_an_empty_mask_has_no_surface_and_no_distance() -> None:
    empty = surface_elements(np.zeros((3, 3, 3), bool), (1.0, 1.0, 1.0))
    assert isinstance(empty, SurfaceElements) and not len(empty.points_mm)
    with pytest.raises(ValueError, match="not empty"):
        surface_distances(empty, surface_elements(np.ones((1, 1, 1), bool), (1.0, 1.0, 1.0)))


MASKS = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).random((2, 4, 5, 6)) < np.random.default_rng(seed).uniform(0.1, 0.9)
    )
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(MASKS, st.sampled_from(SPACINGS))
def test_symmetric_bounded_and_zero_for_itself(masks: np.ndarray, spacing: Vector) -> None:
    reference, prediction = masks
    reference[0, 0, 0] = prediction[3, 4, 5] = True
    there = _compare(reference, prediction, spacing)
    assert there == pytest.approx(_compare(prediction, reference, spacing))
    assert there == pytest.approx(_deepmind(reference, prediction, spacing), rel=1e-6, abs=1e-6)
    flipped = _compare(reference[::-1, :, ::-1], prediction[::-1, :, ::-1], spacing)
    assert there == pytest.approx(flipped, abs=1e-6)
    hd95, assd, nsd = there
    assert 0 <= nsd <= 1 and 0 <= assd <= np.linalg.norm(np.multiply((5, 6, 7), spacing)) and hd95 >= 0
    assert _compare(reference, reference, spacing) == (0.0, 0.0, 1.0)
