"""Files with the values that convert Bq/ml to SUV: weight, injected dose, and times."""

from __future__ import annotations

from datetime import date, datetime, time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from ..errors import InputError, one_line
from .dicom_dose import is_dicom, read_dicom_dose
from .suv_checks import MOST_HALF_LIVES, InjectedDose
from .text_files import read_json

_EXAMPLE = (
    '{"weight_kg": 71, "dose_mbq": 352, "half_life_minutes": 109.8, "injected": "2024-05-01T09:12:00", '
    '"scanned": "2024-05-01T10:14:30"}, or "minutes" instead of both times'
)


class _DoseDocument(BaseModel):
    # Strict: a number in quotes may be one with another decimal sign.
    model_config = ConfigDict(strict=True, extra="forbid")

    weight_kg: FiniteFloat = Field(gt=0)
    dose_mbq: FiniteFloat = Field(gt=0)
    half_life_minutes: FiniteFloat = Field(gt=0)
    minutes: FiniteFloat | None = Field(None, ge=0)
    injected: str | None = None
    scanned: str | None = None


def read_dose(path: Path) -> InjectedDose:
    """Read the patient's weight, dose and times from a JSON file or from DICOM (docs/interactive.md).

    Args:
        path: JSON, an image of the PET's DICOM series, or the folder of the series.

    Raises:
        InputError: malformed, a value is missing, unknown or impossible, or the scan begins before the
            injection.
        LongilesionError: DICOM, and the package pydicom is not installed.
    """
    if is_dicom(path):
        return read_dicom_dose(path)
    document = read_json(path, f"a dose JSON, {_EXAMPLE}")
    try:
        dose = _DoseDocument.model_validate(document)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the document"
        raise InputError(f"{path}: {place}: {fault['msg']}; expected {_EXAMPLE}") from error
    minutes = _minutes(path, dose)
    if minutes > MOST_HALF_LIVES * dose.half_life_minutes:
        raise InputError(
            f"{path}: {minutes:g} minutes until the scan are more than {MOST_HALF_LIVES} half-lives; "
            "expected minutes and a half-life in minutes"
        )
    return InjectedDose(dose.weight_kg, dose.dose_mbq, minutes, dose.half_life_minutes)


def _minutes(path: Path, dose: _DoseDocument) -> float:
    """Minutes from the injection to the time to which the PET is decay-corrected."""
    if dose.minutes is not None and dose.injected is None and dose.scanned is None:
        return dose.minutes
    if dose.minutes is not None or dose.injected is None or dose.scanned is None:
        raise InputError(f'{path}: expected either "minutes" or both "injected" and "scanned"')
    injected, scanned = (_moment(path, text) for text in (dose.injected, dose.scanned))
    if (injected.tzinfo is None) != (scanned.tzinfo is None) or (injected.year == 1) != (scanned.year == 1):
        raise InputError(
            f"{path}: only one of {dose.injected!r} and {dose.scanned!r} has a date or a time zone; expected "
            "both of one form"
        )
    minutes = (scanned - injected).total_seconds() / 60
    if minutes < 0:
        raise InputError(
            f"{path}: scanned at {dose.scanned}, before the injection at {dose.injected}; expected dates "
            "with the times if midnight lies between"
        )
    return minutes


def _moment(path: Path, text: str) -> datetime:
    """A date and time in ISO 8601; a time alone is taken on the first day of year 1."""
    try:
        if ":" in text[:3]:
            return datetime.combine(date.min, time.fromisoformat(text))
        if "T" not in text and " " not in text:
            raise ValueError("there is no time in it")
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{path}: {text[:40]!r} cannot be read ({one_line(error)}); expected a time as "
            "2024-05-01T09:12:00 or 09:12:00"
        ) from error
