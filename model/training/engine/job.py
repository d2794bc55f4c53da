"""What a fold's run is asked for and what it answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...network.plan import Plan
from .config import TrainingConfig
from .source import Patients

HEALTH_FILE, CONFIG_FILE, DATASET_FILE = "health.json", "config.json", "dataset.json"
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class FoldJob:
    """What to train, on what, and where it goes.

    ``plan_file`` is copied into ``output``, which becomes a model folder with the fold as ``fold_NAME``.
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


def data_digest(training: Patients, validation: Patients) -> str:
    """A fingerprint of what samples are drawn from: patients, scans, lesions."""
    digest = hashlib.sha256()
    for patients in (training, validation):
        for name, pairs in zip(patients.names, patients.pairs, strict=True):
            for pair in pairs:
                ids = [(lesion.lesion_id, lesion.followup_ids) for lesion in pair.lesions]
                digest.update(repr((name, pair.baseline.scan_id, pair.followup.scan_id, ids)).encode())
        digest.update(b"|")
    return digest.hexdigest()
