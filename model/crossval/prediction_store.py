"""The cache of predictions in a folder: nothing is predicted twice, and no outdated prediction is used.

::

    asked.json            the manifest: points, network by its files, and the predicted pairs by their files
    <pair>.mha            prediction: labelmap on the follow-up's grid, ids of the baseline
    records/<pair>.csv    its measurements
    lesions.csv           the measurements of all pairs, once scored; removed when a pair is predicted again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ..case.lesion_json import write_json
from ..case.text_files import read_json
from ..data.provenance import FileMark, digest, file_digest, mark_of
from ..errors import InputError
from ..floor.floors import Floor
from ..network.weights import find_weights, inspect_weights
from .pairs import EvaluationPair
from .point_setting import Points, PointSetting
from .predict_pair import CASE_OPTIONS

PREDICTIONS_FILE = "asked.json"
_VERSION = 2  # version 1 did not record the files


class CachedPrediction(BaseModel):
    """A pair as it was when it was predicted.

    Attributes:
        lesions: digest of its lesions and points.
        files: marks of its files.
    """

    model_config = ConfigDict(frozen=True)

    lesions: str
    files: tuple[FileMark, ...]

    def matches(self, pair: EvaluationPair) -> bool:
        """Return True if the pair is still the same. Missing files count as unchanged."""
        if self.lesions != pair_digest(pair) or len(self.files) != len(pair.files):
            return False
        return all(mark.matches(path) for mark, path in zip(self.files, pair.files, strict=True))


class PredictionManifest(BaseModel):
    """The contents of a folder of predictions.

    Attributes:
        version: of the format.
        points: follow-up points that lesions were prompted with.
        noise_voxels: noise added to them, see `PointSetting`.
        seed: of the noise.
        folds: names of the network's folds.
        weights: file -> SHA-256; of a floor its version.
        boosting: boosting method of propagated points; None in files of earlier versions, which predicted
            without it.
        predictions: the predicted pairs by name; "answered" in the file.
        failed: name of a predicted pair -> lesion without a prediction -> reason.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    points: Points
    noise_voxels: int
    seed: int
    folds: tuple[str, ...]
    weights: dict[str, str]
    boosting: str | None = None
    predictions: dict[str, CachedPrediction] = Field(default={}, alias="answered")
    failed: dict[str, dict[int, str]] = {}

    def matches(self, other: PredictionManifest) -> bool:
        """Return True if points, network, boosting and version are the same."""
        return self._identity == other._identity

    @property
    def _identity(self) -> tuple[object, ...]:
        points = (self.points, self.noise_voxels, self.seed)
        return (self.version, *points, self.folds, self.weights, self.boosting)

    def covers(self, pair: EvaluationPair) -> bool:
        """Return True if the pair was predicted from its present lesions and files."""
        cached = self.predictions.get(pair.name)
        return cached is not None and cached.matches(pair)

    def is_predicted(self, pair: EvaluationPair, folder: Path) -> bool:
        """Return True if the pair's prediction is up to date and exists, even if some lesions failed."""
        files = (labelmap_path(folder, pair), records_path(folder, pair))
        return self.covers(pair) and all(path.is_file() for path in files)

    def is_complete(self, pair: EvaluationPair, folder: Path) -> bool:
        """Return True if the pair's prediction is up to date and exists for all of its lesions."""
        return pair.name not in self.failed and self.is_predicted(pair, folder)

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for each lesion without a prediction."""
        return tuple(
            f"{pair}: lesion {lesion_id}: {reason}"
            for pair, reasons in self.failed.items()
            for lesion_id, reason in reasons.items()
        )

    def with_prediction(
        self, pair: EvaluationPair, entry: CachedPrediction, failed: Mapping[int, str]
    ) -> PredictionManifest:
        """Return the manifest with the prediction of a pair.

        Args:
            pair: the predicted pair.
            entry: from `cache_entry`, made before the pair's files were read.
            failed: lesion without a prediction -> reason.
        """
        other_failed = {name: reasons for name, reasons in self.failed.items() if name != pair.name}
        pair_failed = {pair.name: dict(failed)} if failed else {}
        predictions = self.predictions | {pair.name: entry}
        return self.model_copy(update={"predictions": predictions, "failed": other_failed | pair_failed})


def new_manifest(setting: PointSetting, weights: Path, folds: Sequence[str | int]) -> PredictionManifest:
    """Return the manifest of a network's predictions at a point setting, without any prediction yet.

    Args:
        setting: the follow-up points.
        weights: a model folder.
        folds: its folds, one or an ensemble.

    Raises:
        WeightsError: a fold is missing.
    """
    files = inspect_weights(find_weights(weights), fold_numbers(folds))
    return PredictionManifest(
        version=_VERSION,
        points=setting.points,
        noise_voxels=setting.noise_voxels,
        seed=setting.seed,
        folds=tuple(map(str, folds)),
        weights=files.hashes(file_digest),
        boosting=CASE_OPTIONS.boost,
    )


def floor_manifest(setting: PointSetting, floor: Floor) -> PredictionManifest:
    """Return the manifest of a floor at a point setting, without any pair yet."""
    return PredictionManifest(
        version=_VERSION,
        points=setting.points,
        noise_voxels=setting.noise_voxels,
        seed=setting.seed,
        folds=(),
        weights={floor.value: floor.version},
    )


def fold_numbers(folds: Sequence[str | int]) -> tuple[int | str, ...]:
    """Convert names of folds to numbers as inference takes them; the fold "all" keeps its name."""
    return tuple(int(fold) if str(fold).isdecimal() else fold for fold in folds)


def cache_entry(pair: EvaluationPair) -> CachedPrediction:
    """Return the entry of a pair with its present files.

    Raises:
        OSError: a file cannot be read.
    """
    return CachedPrediction(lesions=pair_digest(pair), files=tuple(map(mark_of, pair.files)))


def labelmap_path(folder: Path, pair: EvaluationPair) -> Path:
    """Return the file of a pair's prediction."""
    return folder / f"{pair.name}.mha"


def records_path(folder: Path, pair: EvaluationPair) -> Path:
    """Return the file of the measurements of a pair's prediction."""
    return folder / "records" / f"{pair.name}.csv"


def read_prediction_manifest(folder: Path) -> PredictionManifest | None:
    """Read the manifest of a folder; None if it is missing or invalid."""
    try:
        return PredictionManifest.model_validate(
            read_json(folder / PREDICTIONS_FILE, "the manifest of predictions")
        )
    except (InputError, ValueError):
        return None


def write_prediction_manifest(folder: Path, manifest: PredictionManifest) -> None:
    """Write the manifest of a folder.

    Raises:
        OutputError: it cannot be written.
    """
    document = manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
    write_json(folder / PREDICTIONS_FILE, document, decimals=None)


def pair_digest(pair: EvaluationPair) -> str:
    """Hash a pair's lesions and their points."""
    lesions = [(lesion.lesion_id, lesion.followup_ids, *lesion.points_xyz) for lesion in pair.lesions]
    scans = (pair.baseline.scan_id, pair.followup.scan_id)
    return digest([(pair.patient_id, scans, lesions)])
