"""The ambiguity of a registration near points: small where the scans match at one place only."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from model.case.geometry import Geometry
from model.propagation.register import RegistrationImage
from model.propagation.register.linear import LinearTransform
from model.propagation.register.local_match import LocalMatch

GRID = Geometry((40, 40, 40), (4.0, 4.0, 4.0), (-78.0, -78.0, -78.0))


@pytest.fixture(scope="module")
def marbled() -> RegistrationImage:
    """Structures of one or two cm, except at x above 34 mm."""
    noise = gaussian_filter(np.random.default_rng(5).normal(0.0, 1.0, GRID.shape_zyx), 2.0)
    hu = 100.0 * noise / noise.std()
    hu[:, :, 28:] = 0.0
    return RegistrationImage(hu.astype(np.float32), GRID)


def ambiguity(fixed: RegistrationImage, moving: RegistrationImage, shift_mm: float, x_mm: float) -> float:
    transform = LinearTransform.translation((0.0, shift_mm, 0.0))
    (found,) = LocalMatch.of(fixed, moving).ambiguity_mm([(x_mm, 0.0, 0.0)], transform)
    return float(found)


def test_a_unique_match_is_not_ambiguous(marbled: RegistrationImage) -> None:
    assert ambiguity(marbled, marbled, 0.0, 0.0) < 3.0


def test_a_misalignment_is_found(marbled: RegistrationImage) -> None:
    assert ambiguity(marbled, marbled, 12.0, 0.0) > 6.0


def test_a_place_without_structure_is_ambiguous(marbled: RegistrationImage) -> None:
    assert ambiguity(marbled, marbled, 0.0, 60.0) > 10.0


def test_what_only_one_scan_shows_is_not_measured(marbled: RegistrationImage) -> None:
    hu = marbled.array.copy()
    hu[:, 20:] = -2048  # padding of the scanner
    half = RegistrationImage(hu, GRID)
    for fixed, moving in ((marbled, half), (half, marbled)):
        found = LocalMatch.of(fixed, moving).ambiguity_mm(
            [(0.0, 40.0, 0.0), (0.0, -40.0, 0.0)], LinearTransform.identity()
        )
        assert np.isnan(found[0]) and found[1] < 3.0


def test_no_points(marbled: RegistrationImage) -> None:
    match = LocalMatch.of(marbled, marbled)
    assert match.ambiguity_mm(np.zeros((0, 3)), LinearTransform.identity()).shape == (0,)
