"""The outside of a patient on a coarse grid."""

from __future__ import annotations

import numpy as np
import pytest

from model.case.body_map import BodyMap, sampled_voxels
from test.helpers.cases_on_disk import SHAPE, body

SPACING_ZYX = (2.5, 2.0, 2.0)
LUNG, HEART, CORNER = (25, 28, 18), (20, 28, 30), (17, 2, 3)


def test_lung_and_bowel_gas_are_inside_and_corners_are_not() -> None:
    hu = body()
    hu[8:12, 26:31, 27:32] = -1000  # gas, 10 mm
    found = BodyMap.of(hu, SPACING_ZYX).is_outside([LUNG, HEART, CORNER, (10, 28, 29)])
    assert found.tolist() == [False, False, True, False]


def test_lung_that_is_cut_by_the_edge_is_not_outside() -> None:
    hu = body()[:, :, 14:24]  # through one lung, open on both sides
    found = BodyMap.of(hu[9:, 18:38], SPACING_ZYX)
    assert not found.outside.any() and found.body_share == 1.0


def test_padding_is_outside_and_so_is_what_was_not_measured() -> None:
    hu = body().astype(np.float32)
    hu[:, :12] = -3024
    hu[:, -12:] = np.nan
    found = BodyMap.of(hu, SPACING_ZYX)
    assert found.is_outside([(17, 2, 30), (17, 54, 30), (17, 2, 3)]).all()
    assert not found.is_outside([HEART])[0]


def test_places_at_the_skin_are_not_outside() -> None:
    hu = body()
    z, y = 17, 28
    skin = int(np.flatnonzero(hu[z, y] > -500)[0])
    assert not BodyMap.of(hu, SPACING_ZYX).is_outside([(z, y, skin), (z, y, skin - 1)]).any()


def test_the_share_of_the_body() -> None:
    ellipse = np.pi * 0.42 * 0.46
    assert BodyMap.of(body(), SPACING_ZYX).body_share == pytest.approx(ellipse, abs=0.15)  # of 4 mm cells


@pytest.mark.parametrize("spacing", [(2.5, 2.0, 2.0), (1e-3, 1e-3, 1e-3), (700.0, 700.0, 700.0)])
def test_samples_are_views_and_never_too_few(spacing: tuple[float, float, float]) -> None:
    hu = body()
    samples, steps = sampled_voxels(hu, spacing)
    assert np.shares_memory(samples, hu)
    assert min(samples.shape) >= 8
    assert all(1 <= step <= size // 8 for step, size in zip(steps, SHAPE, strict=True))
