"""What a folder of answers holds, so that nothing is asked twice and nothing old passes for an answer.

::

    asked.json            the question, whom it was put to, and the pairs that are answered
    <pair>.mha            the answer: labelmap on the follow-up's grid, ids of the baseline
    records/<pair>.csv    what was measured of it
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ...case.documents import write_json
from .cases import AskedPair
from .question import Points, Question

ASKED_FILE = "asked.json"
_VERSION = 1


class Asked(BaseModel):
    """``weights``: SHA-256 by file. ``failed``: lesions without an answer, by pair, in those answered."""

    model_config = ConfigDict(frozen=True)

    version: int = _VERSION
    points: Points
    noise_voxels: int
    seed: int
    folds: tuple[str, ...]
    weights: dict[str, str]
    answered: dict[str, str] = {}
    failed: dict[str, dict[int, str]] = {}

    def is_same(self, other: Asked) -> bool:
        """Whether question, network and version are the same."""
        return self._identity == other._identity

    @property
    def _identity(self) -> tuple[object, ...]:
        return (self.version, self.points, self.noise_voxels, self.seed, self.folds, self.weights)

    def has(self, pair: AskedPair, folder: Path) -> bool:
        """Whether the pair is answered, as it is now, for all of its lesions."""
        is_known = self.answered.get(pair.name) == pair_digest(pair) and pair.name not in self.failed
        return is_known and labelmap_path(folder, pair).is_file() and records_path(folder, pair).is_file()

    def with_answer(self, pair: AskedPair, failed: Mapping[int, str]) -> Asked:
        others = {name: reasons for name, reasons in self.failed.items() if name != pair.name}
        own = {pair.name: dict(failed)} if failed else {}
        answered = self.answered | {pair.name: pair_digest(pair)}
        return self.model_copy(update={"answered": answered, "failed": others | own})


def new_asked(question: Question, folds: tuple[str, ...], weights: Mapping[str, str]) -> Asked:
    """Nothing is answered yet."""
    return Asked(
        points=question.points, noise_voxels=question.noise_voxels, seed=question.seed, folds=folds,
        weights=dict(weights),
    )  # fmt: skip


def labelmap_path(folder: Path, pair: AskedPair) -> Path:
    return folder / f"{pair.name}.mha"


def records_path(folder: Path, pair: AskedPair) -> Path:
    return folder / "records" / f"{pair.name}.csv"


def read_asked(folder: Path) -> Asked | None:
    """What was asked into a folder; None where nothing was, or nobody can tell."""
    try:
        return Asked.model_validate(json.loads((folder / ASKED_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def write_asked(folder: Path, asked: Asked) -> None:
    """OutputError where it cannot be written."""
    write_json(folder / ASKED_FILE, asked.model_dump(mode="json"), decimals=None)


def pair_digest(pair: AskedPair) -> str:
    """A fingerprint of the lesions that are asked about and of their points, not of the files.

    Files may be gone when all is answered; whoever changes them prepares and trains anew.
    """
    lesions = [tuple(asdict(lesion).values()) for lesion in pair.lesions]
    scans = (pair.baseline.scan_id, pair.followup.scan_id)
    return hashlib.sha256(repr((pair.patient_id, scans, lesions)).encode()).hexdigest()
