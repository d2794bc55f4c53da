"""The lines of the table: which network, which folds, which question, what came out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..crossval.scores import Score, score_of
from ..evaluation.records import RECORDS_NAME, LesionRecord, read_records
from .layout import Layout
from .ledger import Ledger, Training
from .steps import MAIN_QUESTIONS, NOISE_QUESTIONS
from .variants import HEADLINE, ROWS, Row, folds_of

MAIN_QUESTION, GIVEN_QUESTION = (question.name for question in MAIN_QUESTIONS)

Section = Literal["rows", "collapsed", "folds", "points", "noise", "ensemble"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a section; ``score`` is None as long as nothing was asked.

    Of the folds that it should have: ``folds`` are those that it has, ``not_run`` those that are not trained
    or not asked yet, ``collapsed`` those that have collapsed. The latter are left out of the score, except in
    the section "collapsed", where they count as if they had drawn nothing. Minutes are those of training.
    """

    section: Section
    row: str
    title: str
    question: str
    folds: tuple[str, ...]
    not_run: tuple[str, ...] = ()
    collapsed: tuple[str, ...] = ()
    score: Score | None = None
    minutes: float | None = None
    pretraining_minutes: float | None = None


def lines_of(ledger: Ledger, layout: Layout, fold_count: int) -> tuple[Line, ...]:
    """All lines, from the ledger and the records of the answers."""
    return tuple(_Lines(ledger, layout, fold_count).all())


class _Lines:
    def __init__(self, ledger: Ledger, layout: Layout, fold_count: int) -> None:
        self._ledger, self._layout, self._fold_count = ledger, layout, fold_count

    def all(self) -> Iterator[Line]:
        for row, folds in self._compared(ROWS):
            yield self._line("rows", row, MAIN_QUESTION, folds)
        for row, folds in self._compared(ROWS):
            line = self._line("collapsed", row, MAIN_QUESTION, folds)
            if line.collapsed:
                yield self._with_collapsed(line, row)
        for row in ROWS:
            for fold in folds_of(row, self._fold_count):
                yield self._line("folds", row, MAIN_QUESTION, (fold,))
        for row, folds in self._compared(ROWS):
            for question in (MAIN_QUESTION, GIVEN_QUESTION):
                yield self._line("points", row, question, folds)
        for row, folds in self._compared([row for row in ROWS if row.is_moved]):
            for asked in NOISE_QUESTIONS:
                yield self._line("noise", row, asked.name, folds)
        yield from self._of_test()

    def _compared(self, rows: Sequence[Row]) -> Iterator[tuple[Row, tuple[str, ...]]]:
        """Each row with its folds; one that has more than others stands there with theirs as well."""
        few = min((folds_of(row, self._fold_count) for row in rows), key=len)
        for row in rows:
            folds = folds_of(row, self._fold_count)
            yield row, folds
            if folds != few:
                yield row, few

    def _line(self, section: Section, row: Row, question: str, folds: Sequence[str]) -> Line:
        trainings = [self._training(row, fold) for fold in folds]
        collapsed = tuple(t.fold for t in trainings if t.state == "collapsed")
        there = tuple(fold for fold in folds if self._is_there(row, question, fold) and fold not in collapsed)
        records = [record for fold in there for record in self._records(row, question, fold)]
        counted = [t for t in trainings if t.fold in there]
        first = [t.pretraining_minutes for t in counted]
        shared = any(t.shares_pretraining for t in counted)
        return Line(
            section=section,
            row=row.name,
            title=row.title,
            question=question,
            folds=there,
            not_run=tuple(fold for fold in folds if fold not in (*there, *collapsed)),
            collapsed=collapsed,
            score=score_of(records) if there else None,
            minutes=sum(t.minutes for t in counted) if there else None,
            pretraining_minutes=(max(first) if shared else sum(first)) if there else None,
        )

    def _training(self, row: Row, fold: str) -> Training:
        known = self._ledger.training(row.name, fold)
        return known or Training(row=row.name, fold=fold, state="not run", epochs=0, of_epochs=0, minutes=0.0)

    def _is_there(self, row: Row, question: str, fold: str) -> bool:
        answer = self._ledger.answer(row.name, "held-out", question, (fold,))
        return answer is not None and answer.state == "finished"

    def _records(self, row: Row, question: str, fold: str) -> tuple[LesionRecord, ...]:
        return read_records(self._layout.held_out(row.name, question, fold) / RECORDS_NAME)

    def _with_collapsed(self, line: Line, row: Row) -> Line:
        """The same where folds that have collapsed draw nothing: their lesions are known from other rows.

        Without a score as long as no other row was asked about them.
        """
        records = [r for fold in line.folds for r in self._records(row, line.question, fold)]
        for fold in line.collapsed:
            other = next((o for o in ROWS if self._is_there(o, line.question, fold)), None)
            if other is None:
                return replace(line, score=None)
            records += undrawn(self._records(other, line.question, fold))
        return replace(line, score=score_of(records))

    def _of_test(self) -> Iterator[Line]:
        for question in (MAIN_QUESTION, GIVEN_QUESTION):
            folds = folds_of(HEADLINE, self._fold_count)
            sound = tuple(f for f in folds if self._training(HEADLINE, f).state != "collapsed")
            for group in (*((fold,) for fold in folds), *((sound,) if len(sound) > 1 else ())):
                answer = self._ledger.answer(HEADLINE.name, "test", question, group)
                is_there = answer is not None and answer.state == "finished"
                collapsed = tuple(fold for fold in group if fold not in sound)
                yield Line(
                    section="ensemble",
                    row=HEADLINE.name,
                    title=f"Ensemble of {len(group)}" if len(group) > 1 else f"Fold {group[0]}",
                    question=question,
                    folds=group if is_there else (),
                    not_run=() if is_there or collapsed else group,
                    collapsed=collapsed,
                    score=answer.score if answer is not None else None,
                )


def undrawn(records: Sequence[LesionRecord]) -> list[LesionRecord]:
    """The records of the same lesions by a network that draws nothing."""
    return [
        replace(
            record,
            prediction_ids=(),
            is_missing=False,
            prediction_voxels=0,
            common_voxels=0,
            fn_voxels=record.reference_voxels,
            fp_voxels=0,
            nsd_2mm=None,
            hd95_mm=None,
            assd_mm=None,
            centre_mm=None,
        )
        for record in records
        if record.is_real
    ]
