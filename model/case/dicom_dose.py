"""What turns a PET in Bq/ml into SUV, from the headers of its DICOM series (docs/interactive.md)."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, LongilesionError, one_line
from .input_files import open_input
from .suv_checks import MOST_HALF_LIVES, InjectedDose

if TYPE_CHECKING:  # an optional package
    from pydicom.dataset import Dataset

log = logging.getLogger(__name__)

_EXPECTED = "the DICOM headers of a PET series in Bq/ml, or --dose with a JSON"
_PREAMBLE_BYTES, _MAGIC = 128, b"DICM"
_ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.130"
_PET_MODALITY = "PT"
_GE_GROUP, _GE_CREATOR, _GE_SCAN_DATETIME = 0x0009, "GEMS_PETD_01", 0x0D
# Weights and doses of people; beyond them a unit is another one than the standard's kg and Bq.
_WEIGHTS_KG = (0.3, 400.0)
_DOSES_BQ = (1e5, 1e11)
_MOST_DIFFERENCE = timedelta(minutes=1)


@dataclass(frozen=True)
class _PetHeader:
    """Header of one image, or an item of a sequence in it."""

    path: Path
    dataset: Dataset

    def value(self, keyword: str) -> Any:
        """The value of an attribute, None without one."""
        try:
            value = self.dataset.get(keyword)
        except Exception as error:  # pydicom decodes values when they are read
            raise self.fault(f"{keyword} cannot be read ({one_line(error)})") from error
        return None if value is None or value == "" else value

    def needed(self, keyword: str) -> Any:
        value = self.value(keyword)
        if value is None:
            raise self.fault(f"has no {keyword}")
        return value

    def number(self, keyword: str) -> float:
        value = self.needed(keyword)
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise self.fault(f"{keyword} is {str(value)[:40]!r}") from error
        if not (math.isfinite(number) and number >= 0):
            raise self.fault(f"{keyword} is {number:g}")
        return number

    def moment(self, which: str) -> datetime:
        """Date and time of an event, such as ``Series``."""
        from pydicom.valuerep import DA, TM

        texts = self.needed(f"{which}Date"), self.needed(f"{which}Time")
        try:
            day, clock = DA(texts[0]), TM(texts[1])
        except (TypeError, ValueError) as error:
            raise self.fault(f"{which}Date and {which}Time are {texts[0]!r} and {texts[1]!r}") from error
        assert day is not None and clock is not None
        return datetime.combine(day, clock)

    def fault(self, seen: str) -> InputError:
        return InputError(f"{self.path}: {seen}; expected {_EXPECTED}")


def is_dicom(path: Path) -> bool:
    """True for a folder, and for a file that begins as DICOM files do."""
    if path.is_dir():
        return True
    with open_input(path, f"a dose JSON, or {_EXPECTED}") as file:
        return file.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC


def read_dicom_dose(path: Path) -> InjectedDose:
    """Read weight, dose, half-life and times of a PET series, for SUV by body weight ([Kinahan2010]).

    Args:
        path: one image of the series, or its folder, which may hold other series than PET.

    Raises:
        InputError: no PET, several series, another unit than Bq/ml, no correction for decay or attenuation,
            an attribute that is missing or not plausible, or a scan before the injection.
        LongilesionError: the package pydicom is not installed.
    """
    headers = _pet_headers(path)
    first = headers[0]
    _check_corrections(first)
    tracers = first.needed("RadiopharmaceuticalInformationSequence")
    if len(tracers) != 1:
        raise first.fault(f"has {len(tracers)} radiopharmaceuticals")
    tracer = _PetHeader(first.path, tracers[0])
    weight_kg = _within(first, "PatientWeight", _WEIGHTS_KG, "kg")
    dose_bq = _within(tracer, "RadionuclideTotalDose", _DOSES_BQ, "Bq")
    half_life = tracer.number("RadionuclideHalfLife") / 60
    if half_life == 0:
        raise tracer.fault("RadionuclideHalfLife is 0")
    correction = first.needed("DecayCorrection")
    if correction == "ADMIN":  # to the time of the injection
        return InjectedDose(weight_kg, dose_bq / 1e6, 0.0, half_life)
    if correction != "START":
        raise first.fault(f"DecayCorrection is {correction!r}, neither START nor ADMIN")
    scanned = _scan_start(headers, half_life)
    injected = _injection(tracer, first, scanned)
    minutes = (scanned - injected).total_seconds() / 60
    if not 0 <= minutes <= MOST_HALF_LIVES * half_life:
        raise tracer.fault(
            f"the scan begins at {scanned}, {minutes:g} minutes after the injection at {injected}, with a "
            f"half-life of {half_life:g} minutes"
        )
    log.info("%s: injected at %s, decay-corrected to %s", path, injected, scanned)
    return InjectedDose(weight_kg, dose_bq / 1e6, minutes, half_life)


def _pet_headers(path: Path) -> list[_PetHeader]:
    """The headers of the one PET series of a file or a folder, the earliest acquisition first."""
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    headers = [_header(file) for file in files if is_dicom(file)]
    found = [header for header in headers if header.value("Modality") == _PET_MODALITY]
    if not found:
        raise InputError(f"{path}: holds no DICOM image of a PET; expected {_EXPECTED}")
    for keyword in ("SeriesInstanceUID", "PatientWeight", "Units", "DecayCorrection"):
        if len({str(header.value(keyword)) for header in found}) > 1:
            raise InputError(f"{path}: its PET images differ in {keyword}; expected those of one series")
    if found[0].value("SOPClassUID") == _ENHANCED_PET:
        raise found[0].fault("is an Enhanced PET, which is not read")
    if len(found) > 1:
        found.sort(key=lambda header: header.moment("Acquisition"))
    return found


def _header(path: Path) -> _PetHeader:
    try:
        from pydicom import dcmread
    except ModuleNotFoundError as error:
        raise LongilesionError(
            "pydicom: is not installed, but DICOM headers need it; expected the extra 'dicom' "
            "(pip install 'longilesion[dicom]', in a checkout: pip install pydicom)"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _PetHeader(path, dcmread(path, stop_before_pixels=True))
    except Exception as error:  # of a damaged file
        raise InputError(f"{path}: cannot be read ({one_line(error)}); expected {_EXPECTED}") from error


def _check_corrections(header: _PetHeader) -> None:
    units = header.needed("Units")
    if units == "GML":
        raise InputError(f"{header.path}: Units are GML, SUV already; expected no --dose with such a PET")
    if units != "BQML":
        raise header.fault(f"Units are {units!r}")
    done = header.value("CorrectedImage") or []
    if missing := {"ATTN", "DECY"} - set([done] if isinstance(done, str) else done):
        raise header.fault(f"CorrectedImage lacks {' and '.join(sorted(missing))}")


def _within(header: _PetHeader, keyword: str, limits: tuple[float, float], unit: str) -> float:
    value = header.number(keyword)
    if not limits[0] <= value <= limits[1]:
        raise header.fault(f"{keyword} is {value:g}, which is not plausible in {unit}")
    return value


def _scan_start(headers: Sequence[_PetHeader], half_life: float) -> datetime:
    """The time to which the images are decay-corrected with ``START``.

    Args:
        headers: of the series, the earliest acquisition first.
        half_life: in minutes.

    Returns:
        Series date and time, unless an image was acquired before it: a series that was made later has its own
        time. Then a private attribute of the vendor, or what follows from the frame's reference time.
    """
    first = headers[0]
    series, acquired = first.moment("Series"), first.moment("Acquisition")
    if series <= acquired:
        return series
    if (private := _vendor_scan_start(first)) is not None:
        return private
    # The reference time is where the decaying count rate has its mean over the frame, from the scan's start.
    decay = math.log(2) / (half_life * 60) * first.number("ActualFrameDuration") / 1000
    if decay == 0:
        raise first.fault("ActualFrameDuration is 0")
    mean = first.number("ActualFrameDuration") / 1000 / decay * math.log(decay / -math.expm1(-decay))
    return acquired + timedelta(seconds=mean - first.number("FrameReferenceTime") / 1000)


def _vendor_scan_start(header: _PetHeader) -> datetime | None:
    try:
        value = header.dataset.private_block(_GE_GROUP, _GE_CREATOR)[_GE_SCAN_DATETIME].value
    except KeyError:
        return None
    return _local(header, header, value.decode("ascii", "replace") if isinstance(value, bytes) else value)


def _injection(tracer: _PetHeader, header: _PetHeader, scanned: datetime) -> datetime:
    """Date and time of the injection; a time without a date is of the day of the scan."""
    from pydicom.valuerep import TM

    stamp, clock_text = (tracer.value(f"RadiopharmaceuticalStart{part}") for part in ("DateTime", "Time"))
    clock = None
    if clock_text is not None:
        try:
            clock = TM(clock_text)
        except (TypeError, ValueError) as error:
            raise tracer.fault(f"RadiopharmaceuticalStartTime is {clock_text!r}") from error
    if stamp is None:
        if clock is None:
            raise tracer.fault("has no RadiopharmaceuticalStartDateTime or RadiopharmaceuticalStartTime")
        return datetime.combine(scanned.date(), clock)
    injected = _local(tracer, header, stamp)
    if clock is not None:
        apart = abs(injected - datetime.combine(injected.date(), clock))
        if min(apart, timedelta(days=1) - apart) > _MOST_DIFFERENCE:
            raise tracer.fault(f"RadiopharmaceuticalStartDateTime {stamp} and -Time {clock_text} differ")
    return injected


def _local(owner: _PetHeader, header: _PetHeader, stamp: Any) -> datetime:
    """A date with time by the clock of the scan's other times, without a time zone."""
    from pydicom.valuerep import DT

    text = str(stamp).strip("\0 ")
    try:
        if len(text.split("+")[0].split("-")[0]) < len("YYYYMMDDHHMM"):
            raise ValueError("no date with time")
        moment = DT(text)
        assert moment is not None
        offset = header.value("TimezoneOffsetFromUTC")
        if moment.tzinfo is not None and offset is not None:
            zone = DT(f"20000101000000{offset}")
            assert zone is not None
            return moment.astimezone(zone.tzinfo).replace(tzinfo=None)
    except (TypeError, ValueError) as error:
        raise owner.fault(f"{text[:40]!r} is no date with time") from error
    return datetime.combine(moment.date(), moment.time())
