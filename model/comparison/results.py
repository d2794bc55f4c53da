"""The lines of the table, and the paired lines that compare two rows lesion by lesion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..crossval.point_setting import PointSetting
from ..crossval.scores import DEFINITION, Score, score_of
from ..evaluation.averages import Average
from ..evaluation.compare_runs import compare_runs
from ..evaluation.floor_scores import lesion_dice
from ..evaluation.records import RECORDS_NAME, LesionRecord, read_records
from .inputs import ComparisonContext, Patients
from .ledger import Ledger
from .steps import ALL_PATIENTS, MAIN_SETTINGS, NOISE_SETTINGS, PROPAGATED
from .variants import ALL_ROWS, FLOOR_ROWS, HEADLINE, PAIRED_ROWS, ROWS, Row

Section = Literal["rows", "collapsed", "folds", "points", "noise", "ensemble"]


@dataclass(frozen=True, slots=True)
class ResultLine:
    """A line of a section; ``score`` is None until there are predictions.

    ``folds`` are those with predictions, ``not_run`` those without, ``collapsed`` those that collapsed.
    Collapsed folds are left out of the score; in the section "collapsed" they count as empty predictions.
    ``pretraining_minutes`` and ``minutes`` are spent on training.
    """

    section: Section
    row: str
    title: str
    setting: str
    folds: tuple[str, ...]
    not_run: tuple[str, ...] = ()
    collapsed: tuple[str, ...] = ()
    pretraining_minutes: float | None = None
    minutes: float | None = None
    score: Score | None = None


@dataclass(frozen=True, slots=True)
class PairedLine:
    """The Dice of a row less that of the ``other`` one, on the ``folds`` that both have.

    ``dice`` is None without common folds. ``better`` and ``worse`` count lesions; ``p_patients`` is that of a
    two-sided Wilcoxon signed-rank test over patients.
    """

    row: str
    title: str
    other: str
    other_title: str
    setting: str
    folds: tuple[str, ...]
    better: int | None = None
    worse: int | None = None
    p_patients: float | None = None
    dice: Average | None = None


@dataclass(frozen=True)
class Results:
    """Makes the lines from the ledger and the records of predictions."""

    context: ComparisonContext
    ledger: Ledger

    def lines(self) -> Iterator[ResultLine]:
        """All lines of the table, section after section."""
        for row, folds in self._comparable(ALL_ROWS):
            yield self._line("rows", row, PROPAGATED, folds)
        for row, folds in self._comparable(ROWS):
            if (line := self._line("collapsed", row, PROPAGATED, folds)).collapsed:
                yield self._with_collapsed(line, row)
        for row in ROWS:
            for fold in row.fold_names(self.context.fold_count):
                yield self._line("folds", row, PROPAGATED, (fold,))
        for row, folds in self._comparable(ALL_ROWS):
            for setting in MAIN_SETTINGS:
                yield self._line("points", row, setting, folds)
        for row, folds in self._comparable([row for row in ALL_ROWS if row.has_noise]):
            for setting in NOISE_SETTINGS:
                yield self._line("noise", row, setting, folds)
        names = HEADLINE.fold_names(self.context.fold_count)
        sound = tuple(f for f in names if self.ledger.training(HEADLINE, f).state != "collapsed")
        networks = [*((fold,) for fold in names), *((sound,) if len(sound) > 1 else ())]
        for setting in MAIN_SETTINGS:
            for network in networks:
                yield self._line("ensemble", HEADLINE, setting, network, "test")
            for row in FLOOR_ROWS:
                yield self._line("ensemble", row, setting, ALL_PATIENTS, "test")

    def paired_lines(self) -> Iterator[PairedLine]:
        """A line for each of `PAIRED_ROWS`, and one for each row less each floor.

        Patients differ by more than networks do: the intervals of two rows may overlap although their
        difference is clear.
        """
        rows, count = {row.name: row for row in ROWS}, self.context.fold_count
        pairs = [(rows[name], rows[other], rows[name].fold_names(count)) for name, other in PAIRED_ROWS]
        pairs += [(row, floor, names) for row, names in self._comparable(ROWS) for floor in FLOOR_ROWS]
        for row, other, names in pairs:
            folds = tuple(f for f in names if self._is_predicted(row, f) and self._is_predicted(other, f))
            line = PairedLine(row.name, row.title, other.name, other.title, PROPAGATED.name, folds)
            if folds:
                records, others = (self._held_out(one, folds) for one in (row, other))
                dice = lesion_dice(compare_runs(records, others, Path(other.name), DEFINITION))
                line = replace(
                    line,
                    better=dice.better,
                    worse=dice.worse,
                    p_patients=dice.p_patients,
                    dice=dice.difference,
                )
            yield line

    def _comparable(self, rows: Sequence[Row]) -> Iterator[tuple[Row, tuple[str, ...]]]:
        """Each row with its folds; rows with more folds than others also with the folds of the others."""
        few = min((row.fold_names(self.context.fold_count) for row in rows), key=len)
        for row in rows:
            for folds in dict.fromkeys((row.fold_names(self.context.fold_count), few)):
                yield row, folds

    def _line(
        self,
        section: Section,
        row: Row,
        setting: PointSetting,
        names: tuple[str, ...],
        patients: Patients = "held-out",
    ) -> ResultLine:
        """The line of some folds: each on its held-out patients, or their ensemble on the test patients."""
        trainings = [self.ledger.training(row, fold) for fold in names]
        collapsed = tuple(entry.fold for entry in trainings if entry.state == "collapsed")
        networks = [names] if patients == "test" else [(fold,) for fold in names]
        entries = [self.ledger.prediction(row, patients, setting.name, folds) for folds in networks]
        finished = [e for e in entries if e.state == "finished" and not {*e.folds} & {*collapsed}]
        folds = tuple(fold for entry in finished for fold in entry.folds)
        not_run = tuple(fold for fold in names if fold not in (*folds, *collapsed))
        title = row.title
        if patients == "test" and row.floor is None:
            title = f"Ensemble of {len(names)}" if len(names) > 1 else f"Fold {names[0]}"
        line = ResultLine(section, row.name, title, setting.name, folds, not_run, collapsed)
        if not folds:
            return line
        score = finished[0].score
        if len(finished) > 1:
            score = score_of(self._records(row, patients, setting.name, [entry.folds for entry in finished]))
        line = replace(line, score=score)
        if patients == "test" or row.floor is not None:
            return line
        counted = [entry for entry in trainings if entry.fold in folds]
        pretraining = [entry.pretraining_minutes for entry in counted]
        is_shared = any(entry.shares_pretraining for entry in counted)
        return replace(
            line,
            pretraining_minutes=max(pretraining) if is_shared else sum(pretraining),
            minutes=sum(entry.minutes for entry in counted),
        )

    def _with_collapsed(self, line: ResultLine, row: Row) -> ResultLine:
        """The line with collapsed folds as empty predictions, for lesions known from another row.

        Its score is None if no other row has predictions yet.
        """
        records = self._held_out(row, line.folds)
        for fold in line.collapsed:
            if (other := next((one for one in ALL_ROWS if self._is_predicted(one, fold)), None)) is None:
                return replace(line, score=None)
            records += empty_predictions(self._held_out(other, (fold,)))
        return replace(line, score=score_of(records))

    def _is_predicted(self, row: Row, fold: str) -> bool:
        if self.ledger.training(row, fold).state == "collapsed":
            return False
        return self.ledger.prediction(row, "held-out", PROPAGATED.name, (fold,)).state == "finished"

    def _held_out(self, row: Row, folds: Sequence[str]) -> list[LesionRecord]:
        return self._records(row, "held-out", PROPAGATED.name, [(fold,) for fold in folds])

    def _records(
        self, row: Row, patients: Patients, setting: str, networks: Sequence[tuple[str, ...]]
    ) -> list[LesionRecord]:
        folders = (self.context.folder.predictions(row, patients, setting, folds) for folds in networks)
        return [record for folder in folders for record in read_records(folder / RECORDS_NAME)]


def empty_predictions(records: Sequence[LesionRecord]) -> list[LesionRecord]:
    """The records of the same lesions for a network that predicts nothing."""
    unknown: dict[str, Any] = dict.fromkeys(("nsd_2mm", "hd95_mm", "assd_mm", "centre_mm"))
    nothing = {"prediction_ids": (), "prediction_voxels": 0, "common_voxels": 0, "fp_voxels": 0, **unknown}
    return [
        replace(record, **nothing, is_missing=False, fn_voxels=record.reference_voxels)
        for record in records
        if record.is_real
    ]
