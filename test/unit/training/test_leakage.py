"""Patients shared by pretraining data and data set, scans by name, file and voxels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import blosc2
import numpy as np
import pytest

from model.data.provenance import stamp_of
from model.data.store import CT_FILE, SCAN_FILE, PreparedScan, ScanDocument, scan_folder
from model.training.leakage import PatientScan, excluded_patients, overlap_line, scans_of, shared_patients

from ...helpers.training_phantoms import MemoryScan, pair, scan


def _patient_scan(patient: str, one: MemoryScan) -> PatientScan:
    return PatientScan(patient, one)


def _stored(folder: Path, patient: str, one: MemoryScan, image: Path) -> PreparedScan:
    """A scan as `train prepare` stores it, prepared from an image file."""
    stored_folder = scan_folder(folder, one.scan_id)
    stored_folder.mkdir(parents=True)
    blosc2.asarray(np.ascontiguousarray(one.ct), urlpath=str(stored_folder / CT_FILE), mode="w")
    unit = (1.0, 1.0, 1.0)
    document = ScanDocument(
        stamp=stamp_of([image], ""),
        scan_id=one.scan_id,
        patient_id=patient,
        shape_zyx=one.shape_zyx,
        spacing_zyx=unit,
        source_shape=one.shape_zyx,
        source_spacing_mm=unit,
        axis_order=(0, 1, 2),
        axis_flipped=(False, False, False),
        lesions=(),
    )
    (stored_folder / SCAN_FILE).write_text(document.model_dump_json())
    return PreparedScan(stored_folder)


def test_shared_patients_are_found_by_name() -> None:
    data = [_patient_scan("A", scan("a", {}, seed=1)), _patient_scan("B", scan("b", {}, seed=2))]
    assert shared_patients(
        data, [_patient_scan("A", scan("x", {}, seed=3)), _patient_scan("S", scan("y", {}, seed=4))]
    ) == {"A": {"A"}}


def test_shared_patients_are_found_by_the_voxels_of_a_scan() -> None:
    """Under another name, among other scans; one different voxel far from the centre makes another scan."""
    same, other = scan("x", {}, shape=(70, 80, 90), seed=1), scan("y", {}, shape=(70, 80, 90), seed=1)
    other.ct[0, 0, 0] += 1
    data = [
        _patient_scan("A", scan("a", {}, shape=(70, 80, 90), seed=1)),
        _patient_scan("B", scan("b", {}, seed=2)),
    ]
    others = [_patient_scan("S", scan("s", {}, seed=5)), _patient_scan("S", same), _patient_scan("T", other)]
    assert shared_patients(data, others) == {"S": {"A"}}


def test_scans_with_equal_central_air_are_not_the_same() -> None:
    one, other = scan("a", {}, shape=(80, 70, 70)), scan("b", {}, shape=(80, 70, 70))
    one.ct[...], other.ct[...] = 0, 0
    other.ct[79, 0, 0] = 1
    assert not shared_patients([_patient_scan("A", one)], [_patient_scan("S", other)])


@pytest.mark.parametrize("is_linked", [False, True])
def test_shared_patients_are_found_by_a_file_that_has_changed_since(tmp_path: Path, is_linked: bool) -> None:
    image = tmp_path / "ct.mha"
    image.write_bytes(b"ct")
    named = image
    if is_linked:
        named = tmp_path / "link.mha"
        named.symlink_to(image)
    real = _stored(tmp_path / "real", "A", scan("a", {}, seed=1), image)
    copied = _stored(tmp_path / "made", "ct", scan("ct_baseline", {}, seed=2), named)
    other = _stored(tmp_path / "made", "T", scan("t", {}, seed=3), tmp_path / "t.mha")
    others = [PatientScan(one.patient_id, one) for one in (copied, other)]
    assert shared_patients([PatientScan("A", real)], others) == {"ct": {"A"}}


def test_scans_without_a_pair_are_compared_too(tmp_path: Path) -> None:
    one = pair("A")
    _stored(tmp_path, "A", replace(scan("a-0", {}, seed=9), scan_id=one.baseline.scan_id), tmp_path / "x")
    _stored(tmp_path, "A", scan("alone", {}, seed=8), tmp_path / "y")
    _stored(tmp_path, "B", scan("without-pair", {}, seed=7), tmp_path / "z")
    scans = scans_of(tmp_path, (one,))
    assert [(scan.patient_id, scan.scan.scan_id) for scan in scans] == [
        ("A", one.baseline.scan_id),
        ("A", one.followup.scan_id),
        ("A", "alone"),
    ]
    assert shared_patients(scans, [_patient_scan("S", scan("made", {}, seed=8))]) == {"S": {"A"}}


def test_the_overlap_line_names_excluded_patients() -> None:
    shared = {"A": frozenset({"A"}), "ct_7": frozenset({"B", "C"})}
    assert overlap_line({}, {}) == "pretraining shares no patient with the data"
    assert excluded_patients(shared, ("D",)) == {}
    assert "excludes no patient: the fold is validated on none of the 2" in overlap_line(shared, {})
    out = excluded_patients(shared, ("A", "C"))
    assert out == {"A": {"A"}, "ct_7": {"C"}}
    assert overlap_line(shared, out) == (
        "pretraining excludes A, ct_7 (a scan of C), on whom the fold is validated"
    )
