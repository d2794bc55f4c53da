"""Outputs of a tracked series: names, labelmaps, prompts, the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.case.boxes import read_boxes
from model.case.case import ScanFiles, Slot
from model.case.clicks import read_clicks
from model.case.geometry import Box, flip_order
from model.case.images import read_image
from model.errors import InputError, OutputError
from model.tracking.series import PromptKind, SeriesResult, Topology, TrackingOptions
from model.tracking.series_files import PatientFiles, TimePointFiles
from model.tracking.writer import SeriesWriter, remove_outputs, safe_names

from ...helpers.moving_lesions import NAMES, Ball, Patient, ShiftBackend, pair, point_of


def _written(
    folder: Path,
    patient: Patient,
    options: TrackingOptions | None = None,
    backend: ShiftBackend | None = None,
) -> tuple[SeriesResult, dict[str, Any]]:
    options = options or TrackingOptions()
    result = patient.track(options, backend)
    writer = SeriesWriter(folder, result.series, {"seed": 0}, options.prompt)
    for tracked in result.time_points:
        writer.add(tracked)
    record: dict[str, Any] = json.loads(writer.record_path.read_text())
    return result, record


# --- names -----------------------------------------------------------------------------------------------


def test_file_names_are_safe_and_unique() -> None:
    names = ["week 0", "week/0", "Week_0", "..", "Ä", "a.b-c", "tracking.json"]
    safe = safe_names(names)
    assert safe["week 0"] == "week_0" and safe["a.b-c"] == "a.b-c"
    assert len({name.lower() for name in safe.values()}) == len(names)
    assert all(
        name and not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        for name in map(str.lower, safe.values())
    )
    assert "tracking.json" not in safe.values() and ".." not in safe.values()


def test_hostile_names_stay_inside_of_the_folder() -> None:
    names = [
        "../../etc/passwd",
        "/etc/passwd",
        "a\0b",
        "con",
        "LPT1.x",
        "end.",
        5000 * "a",
        5000 * "a" + "b",
        "\ud800",
    ]
    safe = safe_names(names)
    assert len({name.casefold() for name in safe.values()}) == len(names)
    for name in safe.values():
        assert name == Path(name).name and name not in (".", "..") and len(name) <= 205
        assert name.split(".")[0].lower() not in ("con", "lpt1") and not name.endswith(".")


# --- files -----------------------------------------------------------------------------------------------


def test_labelmaps_have_the_grid_of_their_scan(tmp_path: Path) -> None:
    result, record = _written(tmp_path, Patient())
    for name, entry in zip(NAMES, record["time_points"], strict=True):
        image = read_image(tmp_path / entry["scans"]["primary"]["labelmap"])
        scan = result.at(name).time_point.scans[0]
        assert image.geometry.same_grid(scan.file_geometry)
        assert np.array_equal(image.array, result.at(name).labelmaps[Slot.PRIMARY])


def test_written_clicks_can_be_read(tmp_path: Path) -> None:
    result, record = _written(tmp_path, Patient())
    for name, entry in zip(NAMES, record["time_points"], strict=True):
        path = tmp_path / entry["scans"]["primary"]["clicks"]
        clicks = read_clicks(path)
        assert {i: flip_order(point) for i, point in clicks.items()} == {
            i: pytest.approx(point_of(result, name, i)) for i in (1, 2)
        }
        extras = {key for point in json.loads(path.read_text())["points"] for key in point}
        assert extras == {"name", "point", "source", "confidence_mm", "in_view", "is_flagged"}
        assert entry["scans"]["primary"]["boxes"] is None


def test_boxes_are_written_if_they_were_prompts(tmp_path: Path) -> None:
    box = Box((9, 7, 11), (16, 14, 18))
    patient = Patient(boxes={"t1": {1: box}})
    _, record = _written(tmp_path / "box", patient, TrackingOptions(prompt=PromptKind.BOX))
    assert set(read_boxes(tmp_path / "box" / record["time_points"][2]["scans"]["primary"]["boxes"])) == {1, 2}
    _, record = _written(tmp_path / "mask", patient)
    boxes = [entry["scans"]["primary"]["boxes"] for entry in record["time_points"]]
    assert [path is not None for path in boxes] == [False, True, False, False]
    start, stop = read_boxes(tmp_path / "mask" / boxes[1])[1]
    assert (flip_order(start), flip_order(stop)) == (box.start_zyx, box.stop_zyx)


# --- the record ------------------------------------------------------------------------------------------


def test_record_contains_the_fate_of_each_lesion(tmp_path: Path) -> None:
    patient = Patient({1: Ball((10, 11, 11), radii=(3.0, 2.0, 0.0, 2.5)), 2: Ball((14, 21, 20))})
    result, record = _written(tmp_path, patient, TrackingOptions(Topology.CHAIN))
    assert record["patient"] == "P" and record["source"] == "t0" and record["is_whole"]
    assert record["settings"] == {"seed": 0}
    lesions = [entry["lesions"][0] for entry in record["time_points"]]
    assert [lesion["fate"] for lesion in lesions] == ["source", "persistent", "vanished", "persistent"]
    assert [lesion["volume_ml"] for lesion in lesions] == [
        pytest.approx(patient.balls[1].voxels(index).sum() * 0.008, abs=1e-6) for index in range(4)
    ]
    assert lesions[0]["point_source"] == "mask" and lesions[0]["confidence_mm"] is None
    assert lesions[1]["point_source"] == "propagated" and lesions[1]["carried_from"] == "primary-t0"
    assert lesions[1]["confidence_mm"] == pytest.approx(result.at("t1").lesion(1).confidence_mm, abs=1e-6)
    x, y, z = lesions[1]["point"]["voxel_xyz"]
    assert (z, y, x) == pytest.approx(patient.balls[1].at(1))
    assert lesions[1]["point"]["world_mm"] == pytest.approx([2 * x, 2 * y, 2 * z])
    pairs = [(entry["fixed"], entry["moving"]) for entry in record["time_points"][1]["registrations"]]
    assert pairs == [("primary-t1", "primary-t0"), ("primary-t0", "primary-t1")]


def test_record_contains_the_doubts_about_its_scans(tmp_path: Path) -> None:
    result, record = _written(tmp_path, Patient())
    for entry in record["time_points"]:
        notes = result.at(entry["name"]).notes
        assert entry["plausibility"] == [note.document() for note in notes]
        assert {note.sentence for note in notes} <= set(entry["warnings"])
    assert any(entry["plausibility"] for entry in record["time_points"])  # phantoms without any air


def test_record_contains_lesions_that_were_not_segmented(tmp_path: Path) -> None:
    patient = Patient({1: Ball((6, 11, 11)), 2: Ball((16, 21, 20))}, slabs={"t1": {Slot.PRIMARY: (16, 24)}})
    _, record = _written(tmp_path, patient, backend=ShiftBackend(fails=(pair("t2", "t0"),)))
    away, there = record["time_points"][1]["lesions"]
    assert away["fate"] == "out-of-view" and away["scan"] is None and away["point"] is None
    assert away["is_flagged"] and away["confidence_mm"] > 0 and there["fate"] == "persistent"
    failed = record["time_points"][2]["lesions"][0]
    assert failed["fate"] == "failed" and "could not be registered" in failed["reason"]
    assert list(read_clicks(tmp_path / "t1" / "primary-lesion-clicks.json")) == [2]


def test_record_is_extended_with_each_time_point(tmp_path: Path) -> None:
    result = Patient().track()
    writer = SeriesWriter(tmp_path, result.series, {})
    writer.add(result.at("t2"))
    writer.add(result.at("t0"))
    record = json.loads(writer.record_path.read_text())
    assert not record["is_whole"] and [entry["name"] for entry in record["time_points"]] == ["t0", "t2"]


# --- outputs of an earlier run ---------------------------------------------------------------------------


def _files(ct: Path, mask: Path | None = None, clicks: Path | None = None) -> PatientFiles:
    scan = ScanFiles(Slot.PRIMARY, ct, mask, clicks)
    return PatientFiles("P", (TimePointFiles("t0", 0.0, "order 0", (scan,)),))


def test_only_old_outputs_are_removed(tmp_path: Path) -> None:
    _written(tmp_path, Patient())
    (tmp_path / "t0" / "notes.txt").touch()
    remove_outputs(tmp_path, _files(ct=tmp_path / "ct.mha"))
    assert {path.name for path in (tmp_path / "t0").iterdir()} == {"notes.txt"}
    assert not (tmp_path / "tracking.json").exists() and (tmp_path / "t1" / "primary.mha").exists()


@pytest.mark.parametrize(("kind", "name"), [("ct", "primary.mha"), ("clicks", "primary-lesion-clicks.json")])
def test_inputs_are_never_overwritten(kind: str, name: str, tmp_path: Path) -> None:
    given = tmp_path / "t0" / name
    given.parent.mkdir()
    given.touch()
    files = _files(**({"ct": tmp_path / "ct.mha"} | {kind: tmp_path / "t0" / ".." / "t0" / name}))
    with pytest.raises(InputError, match="belongs to the series; expected another folder"):
        remove_outputs(tmp_path, files)
    assert given.exists()


def test_output_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "P").touch()
    with pytest.raises(OutputError, match="expected a writable folder"):
        remove_outputs(tmp_path / "P", _files(ct=tmp_path / "ct.mha"))
