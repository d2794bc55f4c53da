"""Files with weight, dose and times: what they give, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.case.dose_files import read_dose
from model.case.suv_checks import InjectedDose
from model.errors import InputError

PATIENT = {"weight_kg": 70, "dose_mbq": 350.0, "half_life_minutes": 110}
DAY = "2024-05-01T"


def _file(folder: Path, **entries: Any) -> Path:
    path = folder / "dose.json"
    path.write_text(json.dumps(PATIENT | entries))
    return path


@pytest.mark.parametrize(
    ("times", "minutes"),
    [
        ({"minutes": 62.5}, 62.5),
        ({"injected": "09:12:00", "scanned": "10:14:30"}, 62.5),
        ({"injected": f"{DAY}23:30:00", "scanned": "2024-05-02T00:15:00"}, 45),
        ({"injected": f"{DAY}09:00:00+02:00", "scanned": f"{DAY}08:00:00+00:00"}, 60),
        ({"minutes": 0}, 0),
    ],
)
def test_minutes_are_given_or_follow_from_the_times(
    tmp_path: Path, times: dict[str, Any], minutes: float
) -> None:
    assert read_dose(_file(tmp_path, **times)) == InjectedDose(70, 350, minutes, 110)


@pytest.mark.parametrize(
    ("entries", "part"),
    [
        ({}, 'either "minutes" or both'),
        ({"minutes": 60, "injected": "09:00"}, 'either "minutes" or both'),
        ({"injected": "09:00"}, 'either "minutes" or both'),
        ({"injected": "23:30", "scanned": "00:15"}, "before the injection"),
        ({"injected": "09:00", "scanned": f"{DAY}10:00"}, "both of one form"),
        ({"injected": f"{DAY}09:00Z", "scanned": f"{DAY}10:00"}, "both of one form"),
        ({"injected": "9 o'clock", "scanned": "10:00"}, "cannot be read"),
        ({"injected": "2024-05-01", "scanned": "2024-05-02"}, "no time in it"),
        ({"minutes": -1}, "minutes: "),
        ({"minutes": 9999}, "more than 20 half-lives"),
        ({"minutes": 60, "weight_kg": 0}, "weight_kg: "),
        ({"minutes": 60, "weight_kg": "70"}, "weight_kg: "),
        ({"minutes": 60, "dose_bq": 3.5e8}, "dose_bq: "),
    ],
)
def test_others_are_refused_in_one_line(tmp_path: Path, entries: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as raised:
        read_dose(_file(tmp_path, **entries))
    message = str(raised.value)
    assert "dose.json" in message and part in message and "expected" in message and "\n" not in message
