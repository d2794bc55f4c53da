"""Predict pairs of scans, or draw them by a floor: a labelmap for each, as `segment` writes it, and records.

Predictions are cached: a pair is predicted again only if its files, lesions, points or the network change.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..case.images import write_image
from ..errors import InputError
from ..evaluation.measure_scan import Labelmap
from ..evaluation.records import RECORDS_NAME, write_records
from ..floor.floor_segmenter import FloorSegmenter
from ..floor.floors import Floor
from ..inference.lazy_backend import LazyBackend
from ..inference.load import load_model
from ..inference.options import ModelOptions
from ..inference.robust import case_segmenter
from ..inference.segmenter import LesionSegmenter
from ..network.plan import Plan
from ..propagation.pair_registrations import RegistrationCache
from ..training.job import BudgetSpentError
from .loaded_scans import LoadedScan, ScanReader, check_files
from .measure_pair import measure_pair, reference_of
from .pairs import EvaluationPair
from .point_setting import PointSetting
from .predict_pair import CASE_OPTIONS, predict_pair
from .prediction_store import (
    PREDICTIONS_FILE,
    CachedPrediction,
    PredictionManifest,
    cache_entry,
    floor_manifest,
    fold_numbers,
    labelmap_path,
    new_manifest,
    read_prediction_manifest,
    records_path,
    write_prediction_manifest,
)

log = logging.getLogger(__name__)


def predict_pairs(
    pairs: Sequence[EvaluationPair],
    weights: Path,
    folds: Sequence[str | int],
    outputs: Sequence[tuple[PointSetting, Path]],
    device: str = "auto",
    until: float | None = None,
) -> None:
    """Predict pairs of scans at one or several settings of their points; scans and networks are loaded once.

    Pairs that a folder already has are skipped. Predictions of other weights, at other points, or of changed
    files are replaced. A lesion that fails is reported, scored as missing, and predicted again by the next
    call. Logs a line for each pair.

    Args:
        pairs: the pairs to predict.
        weights: the model folder.
        folds: its folds, one or an ensemble.
        outputs: each setting with the folder of its predictions.
        device: auto, cpu, cuda or cuda:N.
        until: time of `time.monotonic` after which no further pair begins; None: no limit.

    Raises:
        BudgetSpentError: the time is over; the same call resumes from there.
        InputError: original files are missing or unreadable, or two settings share a folder.
        WeightsError: a fold is missing or cannot be used.
        OutputError: a prediction cannot be written.
        MemoryExhaustedError: out of memory after every smaller way of computing.
    """
    caches = [_PredictionFolder(one, folder, new_manifest(one, weights, folds)) for one, folder in outputs]
    if not (open_pairs := _open_pairs(pairs, caches)):
        return
    model = load_model(weights, ModelOptions(device=device, folds=fold_numbers(folds)))
    segmenter = case_segmenter(model, CASE_OPTIONS)
    _predict_open(open_pairs, caches, model.plan, lambda: segmenter, until)


def draw_pairs(
    pairs: Sequence[EvaluationPair],
    floor: Floor,
    outputs: Sequence[tuple[PointSetting, Path]],
    plan: Plan,
    until: float | None = None,
    backend: str | None = None,
) -> None:
    """Draw pairs of scans by a floor, as `predict_pairs` predicts them; scans are registered once.

    Args:
        pairs: the pairs to draw.
        floor: how lesions are drawn.
        outputs: each setting with the folder of its labelmaps.
        plan: of the networks, whose voxels the noise of a setting is counted in.
        until: time of `time.monotonic` after which no further pair begins; None: no limit.
        backend: registration of the warped floor; None takes the default.

    Raises:
        BudgetSpentError: the time is over; the same call resumes from there.
        InputError: original files are missing or unreadable, or two settings share a folder.
        OutputError: a labelmap cannot be written.
    """
    caches = [_PredictionFolder(one, folder, floor_manifest(one, floor)) for one, folder in outputs]

    def segmenter() -> FloorSegmenter:
        return FloorSegmenter(floor, RegistrationCache(LazyBackend(backend)))

    _predict_open(_open_pairs(pairs, caches), caches, plan, segmenter, until)


def _open_pairs(pairs: Sequence[EvaluationPair], caches: Sequence[_PredictionFolder]) -> list[EvaluationPair]:
    """The pairs that a folder lacks; their files exist."""
    folders = [cache.folder for cache in caches]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(f"{folders[0]}: is the folder of two point settings; expected one for each")
    open_pairs = [pair for pair in pairs if any(not cache.has(pair) for cache in caches)]
    if open_pairs:
        check_files(open_pairs)
    return open_pairs


def _predict_open(
    open_pairs: Sequence[EvaluationPair],
    caches: Sequence[_PredictionFolder],
    plan: Plan,
    segmenter_of_pair: Callable[[], LesionSegmenter],
    until: float | None,
) -> None:
    reader = ScanReader()
    for number, pair in enumerate(open_pairs, 1):
        if until is not None and time.monotonic() >= until:
            raise BudgetSpentError(
                f"{caches[0].folder}: no time is left to predict {pair.name}; expected another call, which "
                "resumes"
            )
        segmenter = segmenter_of_pair()
        started = time.perf_counter()
        entry = cache_entry(pair)
        baseline, followup = reader.read(pair)
        reference = reference_of(pair, followup)
        for cache in caches:
            if not cache.has(pair):
                cache.add(pair, entry, baseline, followup, reference, plan, segmenter)
        seconds = time.perf_counter() - started
        log.info(
            "%s: %d lesions, %.1f s (%d/%d)", pair.name, len(pair.lesions), seconds, number, len(open_pairs)
        )


class _PredictionFolder:
    """The folder with the predictions at one setting."""

    def __init__(self, setting: PointSetting, folder: Path, manifest: PredictionManifest) -> None:
        self._setting, self.folder = setting, folder
        saved = read_prediction_manifest(folder)
        if saved is not None and saved.matches(manifest):
            self._manifest = saved
            return
        if (folder / PREDICTIONS_FILE).exists():
            log.info(
                "%s: holds predictions at other points, of other weights, with other boosting, or of an "
                "earlier version; its pairs are predicted again",
                folder,
            )
        self._manifest = manifest
        self._write_manifest()

    def has(self, pair: EvaluationPair) -> bool:
        return self._manifest.is_complete(pair, self.folder)

    def add(
        self,
        pair: EvaluationPair,
        entry: CachedPrediction,
        baseline: LoadedScan,
        followup: LoadedScan,
        reference: Labelmap,
        plan: Plan,
        segmenter: LesionSegmenter,
    ) -> None:
        """Predict one pair; the manifest is written last."""
        predicted = predict_pair(pair, baseline, followup, self._setting, plan, segmenter)
        for lesion_id, reason in predicted.failed.items():
            log.warning(
                "warning: %s: lesion %d has NO PREDICTION and gets the worst score: %s",
                pair.name,
                lesion_id,
                reason,
            )
        path, grid = labelmap_path(self.folder, pair), followup.scan.file_geometry
        write_image(path, predicted.labels, grid, verify=False)
        prediction = Labelmap(path, predicted.labels, grid)
        records = measure_pair(pair, baseline, reference, prediction, frozenset(predicted.failed))
        write_records(records_path(self.folder, pair), records)
        self._manifest = self._manifest.with_prediction(pair, entry, predicted.failed)
        self._write_manifest()

    def _write_manifest(self) -> None:
        """Write the manifest, and remove the score of the earlier predictions."""
        (self.folder / RECORDS_NAME).unlink(missing_ok=True)
        write_prediction_manifest(self.folder, self._manifest)
