"""Box files, and boxes on grids of any orientation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.case.boxes import (
    Corners,
    box_to_corners,
    boxes_from_scan_grid,
    boxes_to_scan_grid,
    corners_to_box,
    read_boxes,
    write_boxes,
)
from model.case.case import Scan, Slot
from model.case.geometry import AxisMap, Box, Geometry
from model.case.scans import ClickUnits
from model.errors import InputError, OutputError
from test.helpers.orientations import ORIENTATIONS

same_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
GRID = Geometry((9, 8, 7), (0.7, 0.9, 2.5), (-100.3, 42.1, -800.7))
OBLIQUE = Geometry((9, 8, 7), (0.7, 0.9, 2.5), (-3.0, 4.0, 5.0), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    start = draw(st.tuples(*[st.integers(-20, 600)] * 3))
    extent = draw(st.tuples(*[st.integers(1, 99)] * 3))
    return Box.of_shape(extent, start)


def _scan(grid: Geometry) -> Scan:
    axes = grid.axial_map()
    ct = axes.array(np.zeros(grid.shape_zyx, np.int16))
    return Scan("t0", Slot.PRIMARY, Path("ct.mha"), grid, axes, ct)


@pytest.mark.slow
@given(st.dictionaries(st.integers(1, 65_535), boxes(), max_size=5), st.sampled_from(["voxel", "world"]))
@same_file
def test_boxes_round_trip_through_files_and_grids(
    tmp_path: Path, given_boxes: dict[int, Box], units: ClickUnits
) -> None:
    path = tmp_path / "boxes.json"
    for axes in ORIENTATIONS[::11]:
        scan = _scan(GRID.reoriented(axes))
        write_boxes(path, boxes_from_scan_grid(given_boxes, scan, units))
        assert boxes_to_scan_grid(read_boxes(path), scan, units) == given_boxes


@pytest.mark.parametrize("axes", ORIENTATIONS, ids=str)
def test_a_world_box_holds_the_same_voxels_in_every_orientation(axes: AxisMap) -> None:
    world = box_to_corners(Box((1, 2, 3), (4, 4, 8)), GRID, "world")
    assert world[0] == pytest.approx(GRID.voxel_to_world((2.5, 1.5, 0.5)))
    assert world[1] == pytest.approx(GRID.voxel_to_world((7.5, 3.5, 3.5)))
    marked = np.zeros(GRID.shape_zyx, bool)
    marked[1:4, 2:4, 3:8] = True
    turned = np.zeros(GRID.reoriented(axes).shape_zyx, bool)
    turned[corners_to_box(world, GRID.reoriented(axes), "world").slices] = True
    assert np.array_equal(turned, axes.array(marked))


def test_voxel_boxes_are_on_the_grid_of_the_file(tmp_path: Path) -> None:
    """A file that stores x as its slowest axis: its box moves with the array's axes."""
    scan = _scan(GRID.reoriented(AxisMap((2, 1, 0))))
    assert not scan.axes.is_identity
    box = boxes_to_scan_grid({1: ((0, 1, 2), (1, 3, 6))}, scan, "voxel")[1]
    assert box == Box((0, 1, 2), (1, 3, 6))  # file (x, y, z) is the axial (z, y, x) here


def test_on_an_oblique_grid_the_box_encloses_the_rotated_one() -> None:
    box = Box((2, 3, 4), (3, 5, 6))
    back = corners_to_box(box_to_corners(box, OBLIQUE, "world"), OBLIQUE, "world")
    assert back.intersection(box) == box and back.shape_zyx[0] == 1


def test_a_box_with_fractional_corners_holds_all_voxels_that_it_touches() -> None:
    assert corners_to_box(((0.5, 1, 2.9), (1.1, 2, 3.0)), GRID, "voxel") == Box((2, 1, 0), (3, 2, 2))


def test_a_world_box_thinner_than_a_voxel_is_one_voxel() -> None:
    middle = GRID.voxel_to_world((4, 4, 4))
    corners = (tuple(middle - 1e-6), tuple(middle + 1e-6))
    assert corners_to_box(corners, GRID, "world") == Box((4, 4, 4), (5, 5, 5))


def test_the_written_file(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    write_boxes(path, {7: ((1, 2, 3), (2, 3, 4.00001))}, {7: {"confidence_mm": float("nan")}})
    assert json.loads(path.read_text()) == {
        "name": "Lesion boxes",
        "type": "Multiple 3D boxes",
        "version": {"major": 1, "minor": 0},
        "boxes": [{"name": "7", "start": [1, 2, 3], "stop": [2, 3, 4], "confidence_mm": None}],
    }
    assert read_boxes(path) == {7: ((1, 2, 3), (2, 3, 4))}


@pytest.mark.parametrize(
    ("lesion_id", "corners"),
    [
        (0, ((1, 2, 3), (2, 3, 4))),
        (65_536, ((1, 2, 3), (2, 3, 4))),
        (1, ((1, 2, 3), (1, 3, 4))),
        (1, ((1, 2, float("nan")), (2, 3, 4))),
        (1, ((1, 2, 3), (2, float("inf"), 4))),
    ],
)
def test_unreadable_boxes_are_not_written(tmp_path: Path, lesion_id: int, corners: Corners) -> None:
    with pytest.raises(OutputError, match="expected"):
        write_boxes(tmp_path / "boxes.json", {lesion_id: corners})
    assert not list(tmp_path.iterdir())


def _line(path: Path, document: object) -> str:
    """The error for a document, one line that names the file and what was expected."""
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(InputError) as raised:
        read_boxes(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ") and "expected" in message and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": [1, 2]}, "boxes.1.start is not three finite numbers"),
        ({"stop": [1, 2, "3"]}, "boxes.1.stop is not three finite numbers"),
        ({"stop": [9, 9, float("nan")]}, "boxes.1.stop is not three finite numbers"),
        ({"start": None}, "boxes.1.start is not three finite numbers"),
        ({"start": [1, 9, 1]}, "start below its stop"),
        ({"start": [1, 10, 1]}, "start below its stop"),
        ({"stop": [9, 9, 1e7]}, "at most a million"),
        ({"name": "box"}, "box name 'box' holds no lesion id"),
        ({"name": "65536"}, "lesion id 65536 of box '65536' is out of range"),
        ({"name": 4}, "boxes.1.name"),
    ],
    ids=str,
)
def test_invalid_boxes(tmp_path: Path, change: dict[str, object], message: str) -> None:
    good = {"name": "Lesion 1", "start": [1, 2, 3], "stop": [9, 9, 9]}
    line = _line(tmp_path / "boxes.json", {"boxes": [good, good | {"name": "2"} | change]})
    assert message in line


@pytest.mark.parametrize(
    "document",
    [[], None, "", "{", {}, {"boxes": {}}, {"boxes": [{"name": "1", "start": [1, 2, 3]}]}],
    ids=str,
)
def test_malformed_box_files(tmp_path: Path, document: object) -> None:
    _line(tmp_path / "boxes.json", document)


def test_two_boxes_of_one_lesion_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    first = {"name": "7", "start": [1, 2, 3], "stop": [9, 9, 9]}
    assert "lesion 7 has two different boxes" in _line(path, {"boxes": [first, first | {"stop": [8, 9, 9]}]})
    path.write_text(json.dumps({"boxes": [first, first | {"name": "Lesion 7"}]}))
    assert read_boxes(path) == {7: ((1, 2, 3), (9, 9, 9))}


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read .*; expected a box JSON"):
        read_boxes(tmp_path / "gone.json")
