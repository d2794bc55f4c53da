"""Transfer of lesions between scans: groups by pair, failures of pairs and of single points."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from model.case.case import Scan
from model.case.geometry import Box, FloatArray, Geometry, Vector
from model.propagation.pair_registrations import PairRegistrations, RegistrationCache
from model.propagation.register import Registration, RegistrationImage
from model.propagation.transfer import (
    TransferredShapes,
    TransferRequest,
    transfer_points,
    transfer_shapes,
    transfer_to_deepest,
)

from ...helpers.registration_scans import empty_scan

GRID = Geometry((40, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
OTHER = Geometry((40, 40, 40), (1.0, 1.0, 1.0), (-10.0, 0.0, 0.0))
EARLY, LATE, SHIFTED = empty_scan("t0", GRID), empty_scan("t1", GRID), empty_scan("t2", OTHER)
TIMES = {"t0": 0, "t1": 1, "t2": 2}


def _position(scan: Scan) -> int:
    return TIMES[scan.time_point]


@dataclass
class Picky:
    """Identity that raises for points of x above 20 mm and maps those above 15 mm to NaN."""

    fails_for: str = ""
    registered: list[str] = field(default_factory=list)

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        self.registered.append(fixed.name)
        if fixed.name == self.fails_for:
            raise ValueError("no overlap")
        return Registration(self, 1.0)

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        points = np.array(points_mm, np.float64).reshape(-1, 3)
        if (points[:, 0] > 28).any():
            raise RuntimeError("no such point")
        points[points[:, 0] > 20] = np.nan
        return points

    moving_to_fixed = fixed_to_moving


def _pairs(backend: Picky) -> PairRegistrations:
    return PairRegistrations(RegistrationCache(backend), _position)


def _request(lesion_id: int, x: float, target: str = "t1", error_mm: float = 0.0) -> TransferRequest:
    scan = {"t1": LATE, "t2": SHIFTED}[target]
    return TransferRequest(lesion_id, EARLY, (10.0, 10.0, x), scan, error_mm)


def test_requests_are_grouped_by_pair_and_returned_by_lesion() -> None:
    backend = Picky()
    requests = [_request(7, 5.0), _request(7, 5.0, "t2"), _request(3, 8.0)]
    results = transfer_points(requests, _pairs(backend))
    assert list(results) == [7, 3] and len(backend.registered) == 2
    assert [result.request for result in results[7]] == requests[:2]
    points = [result.point for result in (*results[7], *results[3])]
    assert [point.point_zyx[2] for point in points if point] == pytest.approx([5.0, 15.0, 8.0])
    assert results[7][1].depth_mm == pytest.approx(10.5)


@pytest.mark.parametrize("retry_singly", [False, True])
def test_points_that_cannot_be_propagated_together(retry_singly: bool) -> None:
    requests = [_request(1, 5.0), _request(2, 35.0)]
    results = transfer_points(requests, _pairs(Picky()), retry_singly)
    assert (results[1][0].point is not None) == retry_singly
    assert results[2][0].point is None and results[2][0].error == "no such point"
    assert np.isnan(results[2][0].depth_mm)


def test_lost_points_and_failed_pairs_are_errors_of_their_lesions() -> None:
    requests = [_request(1, 5.0), _request(2, 22.0), _request(3, 5.0, "t2")]
    results = transfer_points(requests, _pairs(Picky(fails_for="primary-t2")))
    assert results[1][0].point is not None and not results[1][0].error
    assert results[2][0].error == "the registration of primary-t1 and primary-t0 loses its point"
    assert results[3][0].error == "primary-t2 could not be registered with primary-t0: no overlap"


def test_errors_of_consecutive_steps_add_up_as_squares() -> None:
    results = transfer_points([_request(1, 5.0, error_mm=12.0)], _pairs(Picky()))
    (result,) = results[1]
    assert result.point is not None and not result.point.is_flagged and result.is_flagged
    assert result.confidence_mm == pytest.approx(np.hypot(12.0, result.point.confidence_mm))


def test_shapes_are_clipped_and_points_outside_are_dropped() -> None:
    box, others = Box((5, 5, 0), (9, 9, 6)), [(8.0, 8.0, 1.0), (8.0, 8.0, 5.0)]
    shapes = transfer_shapes(SHIFTED, EARLY, _pairs(Picky()), box=box, others=others)
    assert shapes.box is None and not shapes.others and not shapes.warnings
    shapes = transfer_shapes(EARLY, SHIFTED, _pairs(Picky()), box=box, others=[*others, (8.0, 8.0, -12.0)])
    assert shapes.box == Box((5, 5, 10), (9, 9, 16)) and not shapes.warnings
    assert shapes.others == ((8.0, 8.0, 11.0), (8.0, 8.0, 15.0))


def test_a_failed_pair_drops_the_shapes_with_a_warning() -> None:
    pairs = _pairs(Picky(fails_for="primary-t1"))
    shapes = transfer_shapes(EARLY, LATE, pairs, box=Box((5, 5, 5), (9, 9, 9)))
    assert shapes.box is None and "could not be registered" in shapes.warnings[0]


@pytest.mark.parametrize(("point", "is_kept"), [((7.0, 7.0, 16.0), True), ((7.0, 7.0, 25.0), False)])
def test_shapes_beside_a_given_point_are_dropped(point: Vector, is_kept: bool) -> None:
    shapes = TransferredShapes(Box((5, 5, 5), (9, 9, 9))).near(point, (1.0, 1.0, 1.0))
    assert (shapes.box is not None) == is_kept and bool(shapes.warnings) != is_kept


@pytest.mark.parametrize(
    ("fails_for", "chosen"), [("", SHIFTED), ("primary-t2", LATE)], ids=["deepest", "registered"]
)
def test_transfer_to_the_deepest_scan(fails_for: str, chosen: object) -> None:
    result = transfer_to_deepest((10.0, 10.0, 3.0), EARLY, [LATE, SHIFTED], _pairs(Picky(fails_for)))
    assert result is not None and result[0] is chosen and result[2]
