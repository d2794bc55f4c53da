"""The input and the result of training one fold, and the records that a fold's folder keeps of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..case.text_files import read_json
from ..data.provenance import digest
from ..errors import ExitCode, InputError, LongilesionError
from ..network.plan import CtNormalization, Plan
from .config import TrainingConfig, from_plain
from .data_source import LesionPair, Patients

HEALTH_FILE, CONFIG_FILE, DATASET_FILE = "health.json", "config.json", "dataset.json"


class BudgetSpentError(LongilesionError):
    """The time budget is spent; finished work is kept, and the same call resumes from it."""

    exit_code = ExitCode.BUDGET_SPENT


@dataclass(frozen=True, eq=False)
class FoldJob:
    """One stage of one fold to train.

    Attributes:
        plan: of the network.
        plan_file: its file, which is copied into ``output``.
        training: patients to train on.
        validation: patients to validate on.
        output: the model folder; the fold goes into its sub-folder ``fold_NAME``.
        fold: name of the fold.
        config: settings.
        initial: checkpoint of the initial weights; None begins with random ones.
        device: auto, cpu, cuda or cuda:N.
        restart: begin anew even if there is a checkpoint to resume from.
        until: time of `time.monotonic` after which no further epoch begins; None: no limit.
        pet: normalisation of SUV, for the interactive network alone.
    """

    plan: Plan
    plan_file: Path
    training: Patients
    validation: Patients
    output: Path
    fold: str
    config: TrainingConfig
    initial: Path | None = None
    device: str = "auto"
    restart: bool = False
    until: float | None = None
    pet: CtNormalization | None = None

    @property
    def folder(self) -> Path:
        """The fold's own folder."""
        return self.output / f"fold_{self.fold}"


@dataclass(frozen=True, slots=True)
class FoldResult:
    """The result of training a fold.

    Attributes:
        fold: name of the fold.
        epochs: epochs of this call; 0 if the fold was finished before.
        best_ema: best moving average of the validation Dice; None if unknown.
        final: checkpoint of the trained network.
    """

    fold: str
    epochs: int
    best_ema: float | None
    final: Path


def data_digest(
    plan: Plan, training: Patients, validation: Patients, pet: CtNormalization | None = None
) -> str:
    """Hash what samples are drawn from: plan, patients, scans, lesions and their points.

    The voxels of the scans are not included, see `fold_provenance`.
    """
    values: list[object] = [plan] if pet is None else [plan, pet]
    for patients in (training, validation):
        for name, pairs in zip(patients.names, patients.pairs, strict=True):
            for pair in pairs:
                lesions = [_lesion_values(lesion) for lesion in pair.lesions]
                values.append((name, pair.baseline.scan_id, pair.followup.scan_id, lesions))
        values.append(b"|")
    return digest(values)


def trained_data_digest(folder: Path) -> str | None:
    """Read the `data_digest` that a fold was trained on from its folder; None if it is not recorded."""
    recorded = _health(folder).get("data")
    return None if recorded is None else str(recorded)


def collapse_reason(folder: Path) -> str | None:
    """Read from a fold's folder why it collapsed; None if it did not."""
    health = _health(folder)
    return (
        str(health.get("reason") or "no reason was recorded") if health.get("state") == "collapsed" else None
    )


def _health(folder: Path) -> dict[str, Any]:
    """The record of a fold's health; empty if it is missing or unreadable."""
    try:
        document = read_json(folder / HEALTH_FILE, "the record of a fold")
    except InputError:
        return {}
    return document if isinstance(document, dict) else {}


def saved_config(folder: Path) -> TrainingConfig | None:
    """Read the settings that a fold was started with from its folder; None if they are not recorded."""
    try:
        return from_plain(read_json(folder / CONFIG_FILE, "the settings of a fold"))
    except (ValueError, TypeError, InputError):
        return None


def _lesion_values(lesion: LesionPair) -> tuple[object, ...]:
    points = (lesion.baseline_point_zyx, lesion.followup_point_zyx, lesion.propagated_point_zyx)
    plain = [None if point is None else tuple(float(value) for value in point) for point in points]
    return (lesion.lesion_id, lesion.followup_ids, *plain)
