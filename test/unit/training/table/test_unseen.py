"""Test patients must not be known, by name or by file."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import InputError
from model.training.cohort import RawScan
from model.training.heldout.cases import AskedPair
from model.training.stamps import stamp_of
from model.training.store import SCAN_FILE, ScanDocument, scan_folder
from model.training.table.unseen import check_unseen


def _scan(folder: Path, patient: str, content: bytes) -> RawScan:
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"{patient}_{len(list(folder.iterdir()))}.nii.gz"
    image.write_bytes(content)
    return RawScan(image.stem, patient, 0, image)


def _prepare(folder: Path, scan: RawScan) -> None:
    document = ScanDocument(
        stamp=stamp_of(scan, ""), scan_id=scan.scan_id, patient_id=scan.patient_id, shape_zyx=(1, 1, 1),
        spacing_zyx=(1, 1, 1), source_shape=(1, 1, 1), source_spacing_mm=(1, 1, 1), axis_order=(0, 1, 2),
        axis_flipped=(False, False, False), lesions=(),
    )  # fmt: skip
    target = scan_folder(folder, scan.scan_id)
    target.mkdir(parents=True)
    (target / SCAN_FILE).write_text(document.model_dump_json())


def _pair(baseline: RawScan, followup: RawScan) -> AskedPair:
    return AskedPair(baseline.patient_id, f"{baseline.scan_id}-to-{followup.scan_id}", baseline, followup, ())


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    _prepare(tmp_path / "prepared", _scan(tmp_path / "raw", "anna", b"one"))
    return tmp_path / "prepared"


def _new(tmp_path: Path, content: bytes = b"two", patient: str = "ben") -> RawScan:
    return _scan(tmp_path / "test", patient, content)


def test_others_pass(tmp_path: Path, prepared: Path) -> None:
    check_unseen([_pair(_new(tmp_path), _new(tmp_path, b"three and more"))], [prepared])


def test_a_known_name_is_refused(tmp_path: Path, prepared: Path) -> None:
    pair = _pair(_new(tmp_path, patient="anna"), _new(tmp_path, patient="anna"))
    with pytest.raises(
        InputError, match="--test: .*: patient anna is a patient of .*prepared; expected patie"
    ):
        check_unseen([pair], [prepared])


def test_a_known_file_is_refused_by_any_path(tmp_path: Path, prepared: Path) -> None:
    link = tmp_path / "link.nii.gz"
    link.symlink_to(tmp_path / "raw/anna_0.nii.gz")
    pair = _pair(RawScan("x", "ben", 0, link), _new(tmp_path))
    with pytest.raises(InputError, match=r"link.nii.gz is a scan of .*prepared"):
        check_unseen([pair], [prepared])


def test_a_copy_is_refused(tmp_path: Path, prepared: Path) -> None:
    pair = _pair(_new(tmp_path), _new(tmp_path, b"one"))
    with pytest.raises(InputError, match=r"ben_1.nii.gz has the content of a scan of .*prepared"):
        check_unseen([pair], [prepared])


def test_scans_of_the_pretraining_count_too(tmp_path: Path, prepared: Path) -> None:
    other = tmp_path / "other"
    _prepare(other, _scan(tmp_path / "raw2", "carl", b"1234"))
    with pytest.raises(InputError, match=r"of .*other; expected"):
        check_unseen([_pair(_new(tmp_path, patient="carl"), _new(tmp_path))], [prepared, other])
