"""Scans of a tilted gantry: their lesions lie where those of the orthogonal scan lie, on their own grid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

import model as ll
from model.case.boxes import boxes_from_scan_grid, boxes_to_scan_grid
from model.case.geometry import Array, Geometry
from model.case.scans import ClickUnits
from test.helpers.sheared_grids import ball_on, centroid_mm, tilted, world_of

CENTRE, RADIUS = (2.0, 3.0, 30.0), 8.0
STRAIGHT = Geometry((60, 60, 26), (1.5, 1.5, 2.5), (-44.0, -44.0, 0.0))


def _grid(degrees: float) -> Geometry:
    """A grid over the same body; its slices are shifted by up to 26 mm, about the middle of the scan."""
    if not degrees:
        return STRAIGHT
    middle = 31.0 * np.tan(np.radians(degrees))
    return tilted((60, 72, 26), (1.5, 1.5, 2.5), degrees, (-44.0, -53.0 - float(middle), 0.0))


def _hu(grid: Geometry, centre_mm: tuple[float, float, float]) -> Array:
    x, y, _ = np.moveaxis(world_of(grid), -1, 0)
    body = np.where((x / 38) ** 2 + (y / 32) ** 2 < 1, 30, -1000)
    return np.where(ball_on(grid, centre_mm, RADIUS), 150, body).astype(np.int16)


def _scan(
    grid: Geometry, centre_mm: tuple[float, float, float] = CENTRE, mask: bool = False, click: bool = False
) -> ll.Scan:
    return ll.Scan.from_array(
        _hu(grid, centre_mm),
        grid.spacing_zyx,
        origin_xyz=grid.origin_xyz,
        direction=grid.direction,
        mask=ball_on(grid, centre_mm, RADIUS) * np.uint8(7) if mask else None,
        clicks={7: grid.world_to_zyx(centre_mm)} if click else None,
    )


def _bright(request: ll.SegmentRequest) -> npt.NDArray[np.bool_]:
    return request.image > 90


MOVED = (4.0, 1.0, 33.0)


@pytest.mark.parametrize("degrees", [15.0, 25.0, -20.0])
def test_the_answer_in_the_world_is_that_of_the_orthogonal_scan(degrees: float) -> None:
    grid = _grid(degrees)
    straight = ll.segment(_bright, _scan(STRAIGHT, mask=True), _scan(STRAIGHT, MOVED, click=True))
    result = ll.segment(_bright, _scan(grid, mask=True), _scan(grid, MOVED, click=True))
    assert result.labelmap.shape == grid.shape_zyx
    found, expected = result.lesions[7], straight.lesions[7]
    assert found.point_zyx == pytest.approx(grid.world_to_zyx(MOVED), abs=1e-4)
    assert (found.status, found.point_source) == ("segmented", "given")
    offset_mm = centroid_mm(result.mask(7), grid) - centroid_mm(straight.mask(7), STRAIGHT)
    assert np.linalg.norm(offset_mm) < 0.5
    assert found.volume_ml == pytest.approx(expected.volume_ml, rel=0.05)
    assert found.baseline_volume_ml == pytest.approx(
        np.count_nonzero(ball_on(grid, CENTRE, RADIUS)) * 1.5 * 1.5 * 2.5 * np.cos(np.radians(degrees)) / 1e3
    )
    truth = ball_on(grid, MOVED, RADIUS)
    assert 2 * np.count_nonzero(truth & result.mask(7)) / (truth.sum() + result.mask(7).sum()) > 0.93
    sheared = [warning for warning in result.warnings if "sheared by" in warning]
    assert [warning.split(":")[0] for warning in sheared] == ["baseline", "followup"]
    image = result.to_image()
    assert image.GetDirection() == pytest.approx(grid.direction) and image.GetSize() == grid.size_xyz


def test_only_one_of_the_scans_is_tilted_and_nothing_is_clicked() -> None:
    grid = _grid(25.0)
    result = ll.segment(_bright, _scan(STRAIGHT, mask=True), _scan(grid, MOVED), backend="identity")
    assert np.linalg.norm(centroid_mm(result.mask(7), grid) - MOVED) < 0.5
    assert result.lesions[7].point_zyx == pytest.approx(grid.world_to_zyx(CENTRE), abs=0.5)
    tracked = ll.track(_bright, [_scan(grid, mask=True), _scan(STRAIGHT, MOVED)], backend="identity")
    assert tracked[0].labelmap.shape == grid.shape_zyx
    assert np.array_equal(tracked[0].mask(7), ball_on(grid, CENTRE, RADIUS))  # as it was given
    assert tracked[0].lesions[7].volume_ml == pytest.approx(tracked[0].mask(7).sum() * grid.voxel_volume_ml)
    assert np.linalg.norm(centroid_mm(tracked[1].mask(7), STRAIGHT) - MOVED) < 0.5


@pytest.mark.parametrize("topology", ["chain", "recentre-mask"])
def test_results_on_tilted_scans_are_passed_on(topology: str) -> None:
    grid = _grid(15.0)
    scans = [_scan(STRAIGHT, mask=True), _scan(grid, MOVED), _scan(_grid(-20.0), MOVED)]
    tracked = ll.track(_bright, scans, topology=topology, backend="identity")
    assert [one.lesions[7].status for one in tracked] == ["source", "persistent", "persistent"]
    for one, of in zip(tracked[1:], (grid, _grid(-20.0)), strict=True):
        assert np.linalg.norm(centroid_mm(one.mask(7), of) - MOVED) < 0.5


def test_propagated_points_and_masks_return_to_the_tilted_grid() -> None:
    grid = _grid(25.0)
    pair = ll.register(_scan(grid, MOVED), _scan(STRAIGHT, mask=True), backend="identity")
    (point,) = pair.points([STRAIGHT.world_to_zyx(CENTRE)])
    assert point.point_zyx == pytest.approx(grid.world_to_zyx(CENTRE), abs=1e-4) and point.in_view
    labels = pair.labelmap()
    assert labels.shape == grid.shape_zyx
    assert np.linalg.norm(centroid_mm(labels == 7, grid) - CENTRE) < 0.5
    (back,) = pair.points([point.point_zyx], to="moving")
    assert back.point_zyx == pytest.approx(STRAIGHT.world_to_zyx(CENTRE), abs=1e-3)


def test_what_the_tilted_scan_does_not_show_is_out_of_view() -> None:
    """The orthogonal grid covers more than was scanned; a lesion there has not vanished."""
    grid = tilted((60, 50, 26), (1.5, 1.5, 2.5), 25.0, (-44.0, -28.0, 0.0))
    far = (2.0, -22.0, 55.0)  # within the bounding box, before the first row of its slice
    assert grid.depth_mm(grid.world_to_zyx(far)) < -15
    result = ll.segment(_bright, _scan(STRAIGHT, far, mask=True), _scan(grid, far), backend="identity")
    assert result.lesions[7].status == "out-of-view"


def _units() -> Iterator[tuple[ClickUnits, tuple[float, ...], tuple[float, ...]]]:
    yield "voxel", (20, 30, 10), (28, 40, 14)
    yield "world", (-10.0, -5.0, 20.0), (8.0, 12.0, 40.0)


@pytest.mark.parametrize(("units", "start", "stop"), list(_units()))
def test_boxes_of_tilted_scans_hold_what_they_held(
    units: ClickUnits, start: tuple[float, float, float], stop: tuple[float, float, float]
) -> None:
    scan = _scan(_grid(20.0))
    box = boxes_to_scan_grid({7: (start, stop)}, scan, units)[7]
    (low, high) = boxes_from_scan_grid({7: box}, scan, units)[7]
    assert all(a <= b + 1e-6 for a, b in zip(low, start, strict=True))
    assert all(a >= b - 1e-6 for a, b in zip(high, stop, strict=True))
