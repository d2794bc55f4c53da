"""Evaluation of files: pair them, measure each case, score the records and write the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..case.atomic_files import remove_partial_files, write_text
from ..case.folder_lock import locked_folder
from ..case.lesion_json import check_writable, write_json
from ..errors import InputError
from .compare_runs import compare_runs, read_run
from .definitions import DEFAULT_DEFINITION, DEFINITIONS
from .file_pairs import PairedScan, pair_evaluation_files, reference_scans
from .floor_scores import FloorSource, floor_score
from .lesion_map import LesionMap
from .lesion_map_files import read_lesion_map
from .measure_case import measure_case
from .records import RECORDS_NAME, LesionRecord, write_records
from .score_records import score_records
from .summary import Evaluation, summary_document, summary_markdown
from .surface import NSD_KIND
from .tables import comparison_csv, metric_tables

FLOORS_FOLDER = "floors"

Progress = Callable[[int, int], None]
"""Called with the number of scans measured so far and the number of all scans."""


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """Files to compare. ``predictions`` are the steps in order, ``compare`` is the ``-o`` of another run."""

    reference: Path
    predictions: tuple[Path, ...]
    definition: str = DEFAULT_DEFINITION
    lesion_map: Path | None = None
    baseline: Path | None = None
    compare: Path | None = None
    output: Path | None = None


def run_evaluation(
    options: EvaluateOptions, progress: Progress | None = None, floors: FloorSource | None = None
) -> Evaluation:
    """Evaluate files and, if an output folder is given, write records, tables and summary.

    Args:
        options: files to compare.
        progress: called after each case.
        floors: draws the floors that the run is compared with, into ``floors`` of the output folder.

    Raises:
        InputError: see `evaluate_files`, or no case of the floors has a reference.
        OutputError: the output folder cannot be written, or another run writes there.
    """
    with ExitStack() as stack:
        if options.output is not None:
            check_writable(options.output / RECORDS_NAME)
            stack.enter_context(locked_folder(options.output))
            remove_partial_files(options.output)
        if floors is None:
            evaluation = evaluate_files(options, progress)
        else:
            parent = options.output or Path(stack.enter_context(TemporaryDirectory()))
            evaluation = _with_floors(options, floors, parent / FLOORS_FOLDER, progress)
        if options.output is not None:
            _write_evaluation(options.output, evaluation)
    return evaluation


def _with_floors(
    options: EvaluateOptions, source: FloorSource, folder: Path, progress: Progress | None
) -> Evaluation:
    """Evaluate files beside floors, which are drawn last: faults of all other files are found before."""
    given = [path for path in (options.reference, *options.predictions, options.baseline) if path is not None]
    for path in given:
        if folder.resolve() in (path.resolve(), *path.resolve().parents):
            raise InputError(f"{path}: lies in {folder}, which is replaced; expected another output folder")
    lesion_map, planned = _lesion_map(options), source.labelmaps()
    scans = reference_scans(options.reference, folder, planned, lesion_map)
    evaluation = evaluate_files(options, progress)
    warnings = [
        f"{path.parent}: has no reference in {options.reference}; its floor is not drawn"
        for path in planned
        if path not in scans
    ]
    scores = []
    for floor in source.draw(folder, scans.keys()):
        warnings += floor.warnings
        left_out = frozenset(scans[path] for path in floor.left_out)
        drawn = _measured(replace(options, predictions=(floor.folder,)), lesion_map, left_out=left_out)
        warnings += _incomplete(floor.in_words, drawn, len(left_out))
        if drawn.records:
            definition = DEFINITIONS[options.definition]
            scores.append(floor_score(floor, drawn.records, evaluation.records, definition))
    warnings = [*evaluation.warnings, *dict.fromkeys(warnings)]  # floors share reasons
    return replace(evaluation, warnings=tuple(warnings), floors=tuple(scores))


def _incomplete(in_words: str, drawn: _Measured, left_out: int) -> Iterable[str]:
    """Warn of scans that a floor lacks."""
    missing = len({(r.patient, r.scan) for r in drawn.records if r.is_missing})
    if missing:
        yield f"{in_words}: drawn for all but {missing} scans, which get the worst score"
    if left_out and not drawn.records:
        yield f"{in_words}: has no row, as it can be drawn for no scan"
    elif left_out:
        yield f"{in_words}: its row and the differences from it are without {left_out} scans"


def evaluate_files(options: EvaluateOptions, progress: Progress | None = None) -> Evaluation:
    """Measure and score files; nothing is written.

    Args:
        options: files to compare.
        progress: called after each case.

    Raises:
        InputError: a file cannot be used, or a prediction lies on another grid than its reference.
    """
    definition = DEFINITIONS[options.definition]
    others = read_run(options.compare) if options.compare is not None else ()
    lesion_map = _lesion_map(options)
    measured = _measured(options, lesion_map, progress)
    records, warnings = measured.records, [*measured.warnings]
    comparison = None
    if options.compare is not None:
        comparison = compare_runs(records, others, options.compare, definition)
        warnings += comparison.warnings
    notes = (*_notes(lesion_map, options.baseline), *_notes_of_data(measured.binary, measured.patients))
    return Evaluation(records, score_records(records, definition), comparison, notes, tuple(warnings))


def _lesion_map(options: EvaluateOptions) -> LesionMap | None:
    return read_lesion_map(options.lesion_map) if options.lesion_map is not None else None


@dataclass(frozen=True, slots=True)
class _Measured:
    """Records of all scans; ``binary`` counts the cases with binary masks of several values."""

    records: tuple[LesionRecord, ...]
    warnings: tuple[str, ...]
    patients: tuple[str, ...]
    binary: int


def _measured(
    options: EvaluateOptions,
    lesion_map: LesionMap | None,
    progress: Progress | None = None,
    left_out: Set[str] = frozenset(),
) -> _Measured:
    pairing = pair_evaluation_files(options.reference, options.predictions, options.baseline, lesion_map)
    warnings = list(pairing.warnings)
    records: list[LesionRecord] = []
    patients: set[str] = set()
    binary = 0
    for case in _cases(scan for scan in pairing.scans if scan.key.scan not in left_out):
        measured = measure_case(case, lesion_map, is_first=case[0].patient not in patients)
        patients.add(case[0].patient)
        records += measured.records
        warnings += measured.warnings
        binary += measured.is_binary
        if progress is not None:
            progress(len({(r.patient, r.scan) for r in records}), len(pairing.scans))
    return _Measured(tuple(records), tuple(warnings), tuple(s.patient for s in pairing.scans), binary)


def _write_evaluation(output: Path, evaluation: Evaluation) -> None:
    write_records(output / RECORDS_NAME, evaluation.records)
    write_json(output / "summary.json", summary_document(evaluation), decimals=None)
    write_text(output / "summary.md", summary_markdown(evaluation))
    for name, table in metric_tables(evaluation.records, evaluation.scores.definition).items():
        write_text(output / f"{name}.csv", table)
    if evaluation.comparison is not None:
        write_text(output / "comparison.csv", comparison_csv(evaluation.comparison))
    for floor in evaluation.floors:
        write_records(output / FLOORS_FOLDER / floor.name / RECORDS_NAME, floor.records)


def _cases(scans: Iterable[PairedScan]) -> list[list[PairedScan]]:
    """Group the scans of one case in the platform's layout; all others stay alone."""
    cases: dict[tuple[str, bool], list[PairedScan]] = {}
    for files in scans:
        cases.setdefault((files.key.name, files.key.slot is None), []).append(files)
    return list(cases.values())


def _notes(lesion_map: LesionMap | None, baseline: Path | None) -> Iterable[str]:
    if lesion_map is None:
        yield "lesion ids pair with themselves: no lesion map was given"
    else:
        yield f"lesions pair by {lesion_map.path}"
    if baseline is None and lesion_map is None:
        yield "vanished lesions are not counted: neither a baseline nor a lesion map was given"
    yield NSD_KIND


def _notes_of_data(binary: int, patients: Sequence[str]) -> Iterable[str]:
    if binary:
        yield f"binary masks of 1 and of 255 are the same lesion, 1, in {binary} case{'s' * (binary > 1)}"
    if len(patients) > 1 and len(set(patients)) == 1:
        yield f"all {len(patients)} scans are of one patient ({patients[0]}): there are no intervals"
