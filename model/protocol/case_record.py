"""The record of a case on disk, step by step, so that an interrupted run can resume.

::

    protocol.json                 settings of the run
    records/CASE.json             marks of the case's files, and what was counted at each step
    predictions/CASE/step_NN.*    the mask of a step, and the clicks that the network got, on the CT's file
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ..case.lesion_json import write_json
from ..case.text_files import read_json
from ..data.provenance import Stamp
from ..errors import InputError
from .step_scores import StepRecord

SETTINGS_FILE = "protocol.json"


class CaseRecord(BaseModel):
    """Steps of a case that are done.

    Attributes:
        case: its name.
        stamp: marks of its files.
        warnings: from reading it.
        steps: in order.
    """

    model_config = ConfigDict(frozen=True)

    case: str
    stamp: Stamp
    warnings: tuple[str, ...] = ()
    steps: tuple[StepRecord, ...] = ()

    def with_step(self, step: StepRecord) -> CaseRecord:
        """Return the record with one more step."""
        return self.model_copy(update={"steps": (*self.steps, step)})


def record_path(output: Path, case: str) -> Path:
    """The file of a case's record."""
    return output / "records" / f"{case}.json"


def mask_path(output: Path, case: str, step: int) -> Path:
    """The file of a step's mask."""
    return output / "predictions" / case / f"step_{step:02d}.nii.gz"


def clicks_path(output: Path, case: str, step: int) -> Path:
    """The file of a step's clicks."""
    return output / "predictions" / case / f"step_{step:02d}.json"


def read_case_record(output: Path, case: str, stamp: Stamp) -> CaseRecord:
    """Read the record of a case.

    Args:
        output: folder of the run.
        case: its name.
        stamp: marks of its files as they are now.

    Returns:
        The steps that are done from these files and whose masks are there; none if there is no such record.
    """
    try:
        record = CaseRecord.model_validate(read_json(record_path(output, case), "the record of a case"))
    except (InputError, ValidationError):
        return CaseRecord(case=case, stamp=stamp)
    if record.stamp != stamp:
        return CaseRecord(case=case, stamp=stamp)
    done = list[StepRecord]()
    for step in record.steps:
        paths = (mask_path(output, case, step.step), clicks_path(output, case, step.step))
        if not all(path.is_file() for path in paths):
            break
        done.append(step)
    return record.model_copy(update={"steps": tuple(done)})


def write_case_record(output: Path, record: CaseRecord) -> None:
    """Write the record of a case.

    Raises:
        OutputError: it cannot be written.
    """
    write_json(record_path(output, record.case), record.model_dump(mode="json"), decimals=None)


def claim_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run to its folder, or compare them with those that are there.

    Args:
        output: folder of the run.
        settings: as JSON holds them.

    Raises:
        InputError: the folder holds a run with other settings.
        OutputError: they cannot be written.
    """
    path = output / SETTINGS_FILE
    if path.exists():
        earlier = read_json(path, "settings of an earlier run")
        for name in {**settings, **(earlier if isinstance(earlier, dict) else {})}:
            before = earlier.get(name) if isinstance(earlier, dict) else None
            if before != settings.get(name):
                raise InputError(
                    f"{output}: holds a run with {name} {_shown(before)}, not {_shown(settings.get(name))}; "
                    "expected the same settings, or another folder"
                )
        return
    write_json(path, settings, decimals=None)


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value
    return str(text)[:200]
