"""Weight, dose and times from DICOM headers: SUV by the standard formula, and what is refused in one line."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedPETImageStorage, ExplicitVRLittleEndian
from pydicom.uid import PositronEmissionTomographyImageStorage as PetStorage

from model.case.dose_files import read_dose
from model.case.suv_checks import InjectedDose
from model.errors import InputError, LongilesionError

HALF_LIFE_S = 6586.2
_TRACER = {"RadionuclideTotalDose": "350000000", "RadionuclideHalfLife": "6586.2"}
_IMAGE = {
    "SOPClassUID": PetStorage,
    "Modality": "PT",
    "SeriesInstanceUID": "1.2.3",
    "Units": "BQML",
    "CorrectedImage": ["ATTN", "SCAT", "DECY"],
    "DecayCorrection": "START",
    "PatientWeight": "70",
    "SeriesDate": "20240501",
    "SeriesTime": "101430.5",
    "AcquisitionDate": "20240501",
    "AcquisitionTime": "101430.5",
}


def _image(
    path: Path, tracer: dict[str, Any] | None = None, vendor: str | None = None, **changes: Any
) -> Path:
    """Write the header of a PET image; a change to None leaves an attribute out."""
    item, image = Dataset(), Dataset()
    for keyword, value in (_TRACER | {"RadiopharmaceuticalStartTime": "091200"} | (tracer or {})).items():
        if value is not None:
            setattr(item, keyword, value)
    for keyword, value in ({"RadiopharmaceuticalInformationSequence": [item]} | _IMAGE | changes).items():
        if value is not None:
            setattr(image, keyword, value)
    if vendor is not None:
        image.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", vendor)
    image.SOPInstanceUID = "1.2.3.4"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.save_as(path, enforce_file_format=True)
    return path


def _minutes(dose: InjectedDose) -> float:
    assert (dose.weight_kg, dose.dose_mbq) == (70, 350)
    assert dose.half_life_minutes == pytest.approx(HALF_LIFE_S / 60)
    return dose.minutes


def test_a_series_corrected_to_its_start(tmp_path: Path) -> None:
    dose = read_dose(_image(tmp_path / "pet"))
    assert _minutes(dose) == pytest.approx(62.5 + 0.5 / 60)
    left_bq = 350e6 * math.exp(-math.log(2) * 3750.5 / HALF_LIFE_S)
    assert dose.suv_per_bq_ml == pytest.approx(70_000 / left_bq)


def test_one_corrected_to_the_injection_needs_no_times(tmp_path: Path) -> None:
    path = _image(tmp_path / "pet", {"RadiopharmaceuticalStartTime": None}, DecayCorrection="ADMIN")
    assert _minutes(read_dose(path)) == 0
    assert read_dose(path).suv_per_bq_ml == pytest.approx(70_000 / 350e6)


@pytest.mark.parametrize(
    ("tracer", "changes", "minutes"),
    [
        ({"RadiopharmaceuticalStartDateTime": "20240501091200.00"}, {}, 62.508333),
        (
            {"RadiopharmaceuticalStartDateTime": "20240430235900", "RadiopharmaceuticalStartTime": "235900"},
            {"SeriesTime": "001400", "AcquisitionTime": "001500"},
            15,
        ),
        (
            {"RadiopharmaceuticalStartDateTime": "20240501071200+0000", "RadiopharmaceuticalStartTime": None},
            {"TimezoneOffsetFromUTC": "+0200"},
            62.508333,
        ),
    ],
)
def test_the_injection_may_have_a_date(
    tmp_path: Path, tracer: dict[str, Any], changes: dict[str, Any], minutes: float
) -> None:
    assert _minutes(read_dose(_image(tmp_path / "pet", tracer, **changes))) == pytest.approx(minutes)


def test_of_a_series_made_later_the_scan_begins_where_the_frame_says(tmp_path: Path) -> None:
    """A frame of 20 minutes that began 5 minutes after the scan, in a series stored an hour later."""
    length, decay = 1200.0, math.log(2) / HALF_LIFE_S
    weights = [math.exp(-decay * (second + 0.5)) for second in range(int(length))]
    mean_s = -math.log(sum(weights) / len(weights)) / decay  # where the rate has its mean over the frame
    path = _image(
        tmp_path / "pet",
        SeriesTime="120000",
        AcquisitionTime="101930.5",
        FrameReferenceTime=str(round(1000 * (300 + mean_s), 3)),
        ActualFrameDuration="1200000",
    )
    assert _minutes(read_dose(path)) == pytest.approx(62.508333, abs=1e-4)


def test_of_a_series_made_later_the_vendors_own_time_counts(tmp_path: Path) -> None:
    path = _image(tmp_path / "pet", vendor="20240501101200", SeriesTime="120000")
    assert _minutes(read_dose(path)) == 60


def test_a_folder_counts_by_its_first_acquisition(tmp_path: Path) -> None:
    _image(tmp_path / "1.dcm", AcquisitionTime="102000")
    _image(tmp_path / "2.dcm", AcquisitionTime="101430.5")
    _image(tmp_path / "ct.dcm", SOPClassUID=CTImageStorage, Modality="CT", SeriesInstanceUID="1.9")
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert _minutes(read_dose(tmp_path)) == pytest.approx(62.508333)
    _image(tmp_path / "3.dcm", SeriesInstanceUID="1.2.4")
    with pytest.raises(InputError, match="differ in SeriesInstanceUID"):
        read_dose(tmp_path)


@pytest.mark.parametrize(
    ("tracer", "changes", "part"),
    [
        ({}, {"Modality": "CT"}, "no DICOM image of a PET"),
        ({}, {"SOPClassUID": EnhancedPETImageStorage}, "Enhanced PET"),
        ({}, {"Units": "GML"}, "SUV already"),
        ({}, {"Units": "CNTS"}, "Units are 'CNTS'"),
        ({}, {"CorrectedImage": ["ATTN"]}, "lacks DECY"),
        ({}, {"CorrectedImage": None}, "lacks ATTN and DECY"),
        ({}, {"DecayCorrection": "NONE"}, "neither START nor ADMIN"),
        ({}, {"DecayCorrection": None}, "has no DecayCorrection"),
        ({}, {"PatientWeight": None}, "has no PatientWeight"),
        ({}, {"PatientWeight": "0"}, "PatientWeight is 0"),
        ({}, {"PatientWeight": "70000"}, "not plausible in kg"),
        ({}, {"RadiopharmaceuticalInformationSequence": None}, "has no Radiopharm"),
        ({}, {"RadiopharmaceuticalInformationSequence": [Dataset(), Dataset()]}, "2 radiopharmaceuticals"),
        ({"RadionuclideTotalDose": "350"}, {}, "not plausible in Bq"),
        ({"RadionuclideTotalDose": None}, {}, "has no RadionuclideTotalDose"),
        ({"RadionuclideHalfLife": "0"}, {}, "RadionuclideHalfLife is 0"),
        ({"RadionuclideHalfLife": "109.8"}, {}, "half-life of 1.83 minutes"),  # minutes, not seconds
        ({"RadiopharmaceuticalStartTime": None}, {}, "has no RadiopharmaceuticalStartDateTime"),
        ({"RadiopharmaceuticalStartTime": "101500"}, {}, "minutes after the injection"),
        ({"RadiopharmaceuticalStartDateTime": "20240501071200"}, {}, "differ"),
        ({"RadiopharmaceuticalStartDateTime": "20230501091200"}, {}, "minutes after the injection"),
        ({"RadiopharmaceuticalStartDateTime": "20240501"}, {}, "is no date with time"),
        ({}, {"SeriesTime": None}, "has no SeriesTime"),
        ({}, {"SeriesTime": "120000"}, "has no ActualFrameDuration"),
    ],
)
def test_others_are_refused_in_one_line(
    tmp_path: Path, tracer: dict[str, Any], changes: dict[str, Any], part: str
) -> None:
    path = _image(tmp_path / "pet.dcm", tracer, **changes)
    with pytest.raises(InputError) as raised:
        read_dose(path)
    message = str(raised.value)
    assert "pet.dcm" in message and part in message and "expected" in message and "\n" not in message


def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "pet.dcm"
    path.write_bytes(_image(path).read_bytes()[:150])
    with pytest.raises(InputError, match=r"pet\.dcm: .*; expected"):
        read_dose(path)


def test_a_missing_pydicom_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _image(tmp_path / "pet.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(LongilesionError, match="the extra 'dicom'"):
        read_dose(path)
