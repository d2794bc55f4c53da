"""What a fold's run is asked for and what it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..data.provenance import digest
from ..errors import ExitCode, InputError, LongilesionError
from ..network.plan import Plan
from .config import TrainingConfig, from_plain
from .data_source import LesionPair, Patients

HEALTH_FILE, CONFIG_FILE, DATASET_FILE = "health.json", "config.json", "dataset.json"
Say = Callable[[str], None]


class BudgetSpentError(LongilesionError):
    """The time that was given is over; what was trained until then is kept, and the same call goes on."""

    exit_code = ExitCode.BUDGET_SPENT


@dataclass(frozen=True, eq=False)
class FoldJob:
    """What to train, on what, and where it goes.

    ``plan_file`` is copied into ``output``, which becomes a model folder with the fold as ``fold_NAME``.
    ``until`` is a time of `time.monotonic` after which no other epoch begins.
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

    @property
    def folder(self) -> Path:
        return self.output / f"fold_{self.fold}"


@dataclass(frozen=True, slots=True)
class FoldResult:
    """``epochs`` are those of this call: 0 for a fold that had been finished before."""

    fold: str
    epochs: int
    best_ema: float | None
    final: Path


def data_digest(plan: Plan, training: Patients, validation: Patients) -> str:
    """A fingerprint of what samples are drawn from: plan, patients, scans, lesions and their points.

    What the scans show is not in it: see `origin`.
    """
    values: list[object] = [plan]
    for patients in (training, validation):
        for name, pairs in zip(patients.names, patients.pairs, strict=True):
            for pair in pairs:
                lesions = [_lesion(lesion) for lesion in pair.lesions]
                values.append((name, pair.baseline.scan_id, pair.followup.scan_id, lesions))
        values.append(b"|")
    return digest(values)


def trained_data_digest(folder: Path) -> str | None:
    """The `data_digest` of what a fold was trained on, as its folder says; None where it does not."""
    try:
        known = json.loads((folder / HEALTH_FILE).read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(known)


def saved_config(folder: Path) -> TrainingConfig | None:
    """The settings that a fold was begun with, as its folder says; None where it does not."""
    try:
        return from_plain(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, InputError):
        return None


def _lesion(lesion: LesionPair) -> tuple[object, ...]:
    points = (lesion.baseline_point_zyx, lesion.followup_point_zyx, lesion.propagated_point_zyx)
    plain = [None if point is None else tuple(float(value) for value in point) for point in points]
    return (lesion.lesion_id, lesion.followup_ids, *plain)
