"""What a folder of answers holds, so that nothing is asked twice and nothing old passes for an answer.

::

    asked.json            the question, the network by its files, and the pairs that are answered by theirs
    <pair>.mha            the answer: labelmap on the follow-up's grid, ids of the baseline
    records/<pair>.csv    what was measured of it
    lesions.csv           the same of all pairs, once they are scored; gone while they are asked anew
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from pydantic import BaseModel, ConfigDict

from ..case.lesion_json import write_json
from ..data.provenance import FileMark, digest, file_digest, mark_of
from ..network.weights import find_weights, inspect_weights
from .pairs import EvaluationPair
from .point_setting import Points, PointSetting

PREDICTIONS_FILE = "asked.json"
_VERSION = 2  # 1 did not know the files


class CachedPrediction(BaseModel):
    """A pair as it was asked about: a digest of its lesions and points, and its files."""

    model_config = ConfigDict(frozen=True)

    lesions: str
    files: tuple[FileMark, ...]

    def matches(self, pair: EvaluationPair) -> bool:
        """Whether the pair is the same now. Files that are gone say nothing, and pass."""
        if self.lesions != pair_digest(pair) or len(self.files) != len(pair.files):
            return False
        return all(mark.matches(path) for mark, path in zip(self.files, pair.files, strict=True))


class PredictionManifest(BaseModel):
    """``weights``: SHA-256 by file. ``failed``: lesions without an answer, by pair, in those answered."""

    model_config = ConfigDict(frozen=True)

    version: int
    points: Points
    noise_voxels: int
    seed: int
    folds: tuple[str, ...]
    weights: dict[str, str]
    answered: dict[str, CachedPrediction] = {}
    failed: dict[str, dict[int, str]] = {}

    def matches(self, other: PredictionManifest) -> bool:
        """Whether question, network and version are the same."""
        return self._identity == other._identity

    @property
    def _identity(self) -> tuple[object, ...]:
        return (self.version, self.points, self.noise_voxels, self.seed, self.folds, self.weights)

    def covers(self, pair: EvaluationPair) -> bool:
        """Whether the pair was asked about as it is now."""
        known = self.answered.get(pair.name)
        return known is not None and known.matches(pair)

    def is_predicted(self, pair: EvaluationPair, folder: Path) -> bool:
        """Whether the answer is there, also where lesions have failed."""
        files = (labelmap_path(folder, pair), records_path(folder, pair))
        return self.covers(pair) and all(path.is_file() for path in files)

    def is_complete(self, pair: EvaluationPair, folder: Path) -> bool:
        """Whether the pair is answered, as it is now, for all of its lesions."""
        return pair.name not in self.failed and self.is_predicted(pair, folder)

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for each lesion without an answer."""
        return tuple(
            f"{pair}: lesion {lesion_id}: {reason}"
            for pair, reasons in self.failed.items()
            for lesion_id, reason in reasons.items()
        )

    def with_prediction(
        self, pair: EvaluationPair, asked: CachedPrediction, failed: Mapping[int, str]
    ) -> PredictionManifest:
        """With the answer for a pair; ``asked`` is the pair before its files were read."""
        others = {name: reasons for name, reasons in self.failed.items() if name != pair.name}
        own = {pair.name: dict(failed)} if failed else {}
        answered = self.answered | {pair.name: asked}
        return self.model_copy(update={"answered": answered, "failed": others | own})


def new_manifest(question: PointSetting, weights: Path, folds: Sequence[str | int]) -> PredictionManifest:
    """What is to be asked of a network as it is now; nothing is answered yet.

    Args:
        weights: a model folder.
        folds: its folds, one or an ensemble.

    Raises:
        WeightsError: a fold is missing.
    """
    found = inspect_weights(find_weights(weights), fold_numbers(folds))
    return PredictionManifest(
        version=_VERSION,
        points=question.points,
        noise_voxels=question.noise_voxels,
        seed=question.seed,
        folds=tuple(map(str, folds)),
        weights=found.hashes(file_digest),
    )


def fold_numbers(folds: Sequence[str | int]) -> tuple[int, ...]:
    """Folds as inference names them; that of all patients has a name for a number, which it takes as well."""
    found = [int(fold) if str(fold).isdecimal() else fold for fold in folds]
    return cast(tuple[int, ...], tuple(found))


def cache_entry(pair: EvaluationPair) -> CachedPrediction:
    """A pair as it is now. OSError where a file cannot be read."""
    return CachedPrediction(lesions=pair_digest(pair), files=tuple(map(mark_of, pair.files)))


def labelmap_path(folder: Path, pair: EvaluationPair) -> Path:
    return folder / f"{pair.name}.mha"


def records_path(folder: Path, pair: EvaluationPair) -> Path:
    return folder / "records" / f"{pair.name}.csv"


def read_prediction_manifest(folder: Path) -> PredictionManifest | None:
    """What was asked into a folder; None where nothing was, or nobody can tell."""
    try:
        return PredictionManifest.model_validate(
            json.loads((folder / PREDICTIONS_FILE).read_text(encoding="utf-8"))
        )
    except (OSError, ValueError):
        return None


def write_prediction_manifest(folder: Path, asked: PredictionManifest) -> None:
    """OutputError where it cannot be written."""
    write_json(folder / PREDICTIONS_FILE, asked.model_dump(mode="json"), decimals=None)


def pair_digest(pair: EvaluationPair) -> str:
    """A fingerprint of the lesions that are asked about and of their points."""
    lesions = [(lesion.lesion_id, lesion.followup_ids, *lesion.points_xyz) for lesion in pair.lesions]
    scans = (pair.baseline.scan_id, pair.followup.scan_id)
    return digest([(pair.patient_id, scans, lesions)])
