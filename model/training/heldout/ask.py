"""Ask a model folder about pairs of scans: a labelmap for each, as a run would write it, and its records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from ...case.images import write_image
from ...errors import InputError
from ...evaluation.measure import Labelmap
from ...evaluation.records import write_records
from ...inference.load import LoadedModel, load_model
from ...inference.segmenter import Segmenter
from ...network.weights import find_weights, inspect_weights
from ...options import Options
from ..engine.job import Say
from .answer import Answer, answer
from .asked import Asked, labelmap_path, new_asked, read_asked, records_path, write_asked
from .cases import AskedPair
from .measuring import measure_pair, reference_of
from .question import Question
from .scans import LoadedScan, ScanReader, check_files


def ask(
    pairs: Sequence[AskedPair],
    weights: Path,
    folds: Sequence[str | int],
    question: Question,
    output: Path,
    device: str = "auto",
    say: Say = print,
) -> None:
    """Ask one question; see `ask_many`."""
    ask_many(pairs, weights, folds, [(question, output)], device, say)


def ask_many(
    pairs: Sequence[AskedPair],
    weights: Path,
    folds: Sequence[str | int],
    questions: Sequence[tuple[Question, Path]],
    device: str = "auto",
    say: Say = print,
) -> None:
    """Ask several questions, each into a folder of its own; scans and networks are read once for all.

    Pairs that are answered there are passed over; answers to another question, or of other weights, are asked
    anew. A lesion that fails is told, counts as missing, and is asked again the next time.

    Args:
        weights: a model folder.
        folds: its folds, one or an ensemble.
        questions: with the folder of its answers each.
        say: takes a line for each pair.

    Raises:
        InputError: original files are not there any more, or cannot be read; two questions have one folder.
        WeightsError: a fold is missing or cannot be used.
        OutputError: an answer cannot be written.
        MemoryExhaustedError: out of memory after every smaller way of computing.
    """
    if len({path.resolve() for _, path in questions}) < len(questions):
        raise InputError(f"{questions[0][1]}: is the folder of two questions; expected one for each")
    numbers = _numbers(folds)
    hashes = inspect_weights(find_weights(weights), numbers).hashes()
    names = tuple(map(str, folds))
    sheets = [
        _Sheet(question, output, new_asked(question, names, hashes), say) for question, output in questions
    ]
    open_pairs = [pair for pair in pairs if any(not sheet.has(pair) for sheet in sheets)]
    if not open_pairs:
        return
    check_files(open_pairs)
    model = load_model(Options(weights_dir=weights, device=device, folds=numbers))
    segmenter, reader = Segmenter(model.plan, model.ensemble), ScanReader()
    for number, pair in enumerate(open_pairs, 1):
        started = time.perf_counter()
        baseline, followup = reader.read(pair)
        reference = reference_of(pair, followup)
        for sheet in sheets:
            if not sheet.has(pair):
                sheet.fill(pair, baseline, followup, reference, model, segmenter)
        seconds = time.perf_counter() - started
        say(f"{pair.name}: {len(pair.lesions)} lesions, {seconds:.1f} s ({number}/{len(open_pairs)})")


def _numbers(folds: Sequence[str | int]) -> tuple[int, ...]:
    """Folds as inference names them; that of all patients has a name for a number, which it takes as well."""
    found = [int(fold) if str(fold).isdecimal() else fold for fold in folds]
    return cast(tuple[int, ...], tuple(found))


class _Sheet:
    """The answers to one question."""

    def __init__(self, question: Question, folder: Path, wanted: Asked, say: Say) -> None:
        self._question, self._folder, self._say = question, folder, say
        kept = read_asked(folder)
        if kept is not None and not kept.is_same(wanted):
            say(f"{folder}: holds answers to another question or of other weights; it is asked anew")
            kept = None
        self._asked = kept or wanted
        if kept is None:
            write_asked(folder, wanted)

    def has(self, pair: AskedPair) -> bool:
        return self._asked.has(pair, self._folder)

    def fill(
        self, pair: AskedPair, baseline: LoadedScan, followup: LoadedScan, reference: Labelmap,
        model: LoadedModel, segmenter: Segmenter,
    ) -> None:  # fmt: skip
        """Answer for one pair; that it is answered is written down last."""
        given = answer(pair, baseline, followup, self._question, model.plan, segmenter)
        self._tell_failures(pair, given)
        path, grid = labelmap_path(self._folder, pair), followup.scan.file_geometry
        write_image(path, given.labels, grid, verify=False)
        prediction = Labelmap(path, given.labels, grid)
        records = measure_pair(pair, baseline, reference, prediction, frozenset(given.failed))
        write_records(records_path(self._folder, pair), records)
        self._asked = self._asked.with_answer(pair, given.failed)
        write_asked(self._folder, self._asked)

    def _tell_failures(self, pair: AskedPair, given: Answer) -> None:
        for lesion_id, reason in given.failed.items():
            where = f"{pair.name}: lesion {lesion_id}"
            self._say(f"warning: {where} has NO ANSWER and gets the worst score: {reason}")
