"""Ask a model folder about pairs of scans: a labelmap for each, as a run would write it, and its records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ..case.images import write_image
from ..errors import InputError
from ..evaluation.measure_scan import Labelmap
from ..evaluation.records import RECORDS_NAME, write_records
from ..inference.load import LoadedModel, load_model
from ..inference.options import ModelOptions
from ..inference.segmenter import Segmenter
from ..training.job import BudgetSpentError, Say
from .loaded_scans import LoadedScan, ScanReader, check_files
from .measure_pair import measure_pair, reference_of
from .pairs import EvaluationPair
from .point_setting import PointSetting
from .predict_pair import PairPrediction, answer
from .prediction_store import (
    PREDICTIONS_FILE,
    CachedPrediction,
    PredictionManifest,
    cache_entry,
    fold_numbers,
    labelmap_path,
    new_manifest,
    read_prediction_manifest,
    records_path,
    write_prediction_manifest,
)


def ask(
    pairs: Sequence[EvaluationPair],
    weights: Path,
    folds: Sequence[str | int],
    question: PointSetting,
    output: Path,
    device: str = "auto",
    say: Say = print,
) -> None:
    """Ask one question; see `predict_pairs`."""
    predict_pairs(pairs, weights, folds, [(question, output)], device, say)


def predict_pairs(
    pairs: Sequence[EvaluationPair],
    weights: Path,
    folds: Sequence[str | int],
    questions: Sequence[tuple[PointSetting, Path]],
    device: str = "auto",
    say: Say = print,
    until: float | None = None,
) -> None:
    """Ask several questions, each into a folder of its own; scans and networks are read once for all.

    Pairs that are answered there are passed over; answers to another question, of other weights, or about
    other points or files are asked anew. A lesion that fails is told, counts as missing, and is asked again
    the next time.

    Args:
        weights: a model folder.
        folds: its folds, one or an ensemble.
        questions: with the folder of its answers each.
        say: takes a line for each pair.
        until: a time of `time.monotonic` after which no other pair begins.

    Raises:
        BudgetSpentError: the time is over; the same call goes on from there.
        InputError: original files are not there any more, or cannot be read; two questions have one folder.
        WeightsError: a fold is missing or cannot be used.
        OutputError: an answer cannot be written.
        MemoryExhaustedError: out of memory after every smaller way of computing.
    """
    if len({path.resolve() for _, path in questions}) < len(questions):
        raise InputError(f"{questions[0][1]}: is the folder of two questions; expected one for each")
    sheets = [_Sheet(one, output, new_manifest(one, weights, folds), say) for one, output in questions]
    open_pairs = [pair for pair in pairs if any(not sheet.has(pair) for sheet in sheets)]
    if not open_pairs:
        return
    check_files(open_pairs)
    model = load_model(weights, ModelOptions(device=device, folds=fold_numbers(folds)))
    segmenter, reader = Segmenter(model.plan, model.ensemble), ScanReader()
    for number, pair in enumerate(open_pairs, 1):
        if until is not None and time.monotonic() >= until:
            raise BudgetSpentError(
                f"{weights}: no time is left to ask about {pair.name}; expected another call, which goes on"
            )
        started = time.perf_counter()
        asked = cache_entry(pair)
        baseline, followup = reader.read(pair)
        reference = reference_of(pair, followup)
        for sheet in sheets:
            if not sheet.has(pair):
                sheet.fill(pair, asked, baseline, followup, reference, model, segmenter)
        seconds = time.perf_counter() - started
        say(f"{pair.name}: {len(pair.lesions)} lesions, {seconds:.1f} s ({number}/{len(open_pairs)})")


class _Sheet:
    """The answers to one question."""

    def __init__(self, question: PointSetting, folder: Path, wanted: PredictionManifest, say: Say) -> None:
        self._question, self._folder, self._say = question, folder, say
        kept = read_prediction_manifest(folder)
        if kept is not None and kept.matches(wanted):
            self._asked = kept
            return
        if (folder / PREDICTIONS_FILE).exists():
            say(
                f"{folder}: holds answers to another question or of other weights, or of an earlier version; "
                "it is asked anew"
            )
        self._asked = wanted
        self._write()

    def has(self, pair: EvaluationPair) -> bool:
        return self._asked.is_complete(pair, self._folder)

    def fill(
        self,
        pair: EvaluationPair,
        asked: CachedPrediction,
        baseline: LoadedScan,
        followup: LoadedScan,
        reference: Labelmap,
        model: LoadedModel,
        segmenter: Segmenter,
    ) -> None:
        """Answer for one pair; that it is answered is written down last."""
        given = answer(pair, baseline, followup, self._question, model.plan, segmenter)
        self._tell_failures(pair, given)
        path, grid = labelmap_path(self._folder, pair), followup.scan.file_geometry
        write_image(path, given.labels, grid, verify=False)
        prediction = Labelmap(path, given.labels, grid)
        records = measure_pair(pair, baseline, reference, prediction, frozenset(given.failed))
        write_records(records_path(self._folder, pair), records)
        self._asked = self._asked.with_prediction(pair, asked, given.failed)
        self._write()

    def _write(self) -> None:
        """Write down what is asked; a score of what was there before is none any more."""
        (self._folder / RECORDS_NAME).unlink(missing_ok=True)
        write_prediction_manifest(self._folder, self._asked)

    def _tell_failures(self, pair: EvaluationPair, given: PairPrediction) -> None:
        for lesion_id, reason in given.failed.items():
            where = f"{pair.name}: lesion {lesion_id}"
            self._say(f"warning: {where} has NO ANSWER and gets the worst score: {reason}")
