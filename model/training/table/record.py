"""The ledger's entries, made anew from the run folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...evaluation.records import RECORDS_NAME, read_records
from ..heldout.question import Question
from ..heldout.score import score_of
from .layout import Layout
from .ledger import Answer, Asked, Ledger, State, Training
from .rows import ROWS, Row, Stages, folds_of
from .steps import AskStep, Step, TestStep, TrainStep, answer_folders, steps_of
from .survey import is_current, training_of


@dataclass(frozen=True, slots=True)
class Site:
    """What is looked at: the folder, the settings of all rows by name, and how many folds there are."""

    layout: Layout
    stages: Mapping[str, Stages]
    folds: int


def renewed(site: Site, ledger: Ledger) -> Ledger:
    """The ledger as the folders have it; minutes of calls and answers stay as they are known.

    Raises:
        InputError: something was trained with other settings.
    """
    trainings = [
        training_of(site.layout, row, fold, site.stages[row.name])
        for row in ROWS
        for fold in folds_of(row, site.folds)
    ]
    trained = ledger.model_copy(update={"trainings": tuple(trainings)})
    answers = [
        answer
        for step in steps_of(ROWS, site.folds, has_test=True)
        if (asked := settled(step, trained)) is not None and not isinstance(asked, TrainStep)
        for answer in _answers(site, asked, ledger, 0.0)
    ]
    return trained.model_copy(update={"answers": tuple(answers)})


def settled(step: Step, ledger: Ledger) -> Step | None:
    """A step without folds that have collapsed; None where nobody is left to ask."""
    if isinstance(step, TrainStep):
        return step
    sound = tuple(fold for fold in step.needs if state_of(ledger, step.row, fold) != "collapsed")
    if isinstance(step, AskStep):
        return step if sound else None
    if not sound or (len(sound) == 1 < len(step.folds)):
        return None  # an ensemble of one is that fold
    return replace(step, folds=sound)


def state_of(ledger: Ledger, row: Row, fold: str) -> State:
    training = ledger.training(row.name, fold)
    return "not run" if training is None else training.state


def with_training(site: Site, ledger: Ledger, step: TrainStep, reason: str | None) -> Ledger:
    """The ledger after a training; ``reason``: why it collapsed, where its folder does not say so."""
    entry = training_of(site.layout, step.row, step.fold, site.stages[step.row.name])
    if reason is not None and entry.state != "collapsed":
        entry = entry.model_copy(update={"state": "collapsed", "reason": reason})
    key = (entry.row, entry.fold)
    trainings: Sequence[Training] = [entry if (t.row, t.fold) == key else t for t in ledger.trainings]
    return ledger.model_copy(update={"trainings": tuple(trainings)})


def with_answers(site: Site, ledger: Ledger, step: AskStep | TestStep, minutes: float) -> Ledger:
    """The ledger after answers, of which some may be missing."""
    new = {answer.key: answer for answer in _answers(site, step, ledger, minutes)}
    kept = [answer for answer in ledger.answers if answer.key not in new]
    return ledger.model_copy(update={"answers": (*kept, *new.values())})


def _answers(site: Site, step: AskStep | TestStep, ledger: Ledger, minutes: float) -> Iterator[Answer]:
    """The entries of a step's questions; ``minutes`` are those that it took in all."""
    asked: Asked = "held-out" if isinstance(step, AskStep) else "test"
    finals = [site.layout.final(step.row.name, fold) for fold in step.needs]
    for question, folder in answer_folders(step, site.layout):
        records = folder / RECORDS_NAME
        is_there = is_current(records, finals)
        spent = _minutes(ledger, step, asked, question, minutes / len(step.questions))
        yield Answer(
            row=step.row.name,
            asked=asked,
            question=question.name,
            folds=step.needs,
            state="finished" if is_there else "begun" if folder.is_dir() else "not run",
            minutes=spent,
            score=score_of(read_records(records)) if is_there else None,
        )


def _minutes(
    ledger: Ledger, step: AskStep | TestStep, asked: Asked, question: Question, more: float
) -> float | None:
    before = ledger.answer(step.row.name, asked, question.name, step.needs)
    known = before.minutes if before is not None else None
    return (known or 0.0) + more if known is not None or more else None
