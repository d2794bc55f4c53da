"""The ledger's entries, made anew from the run folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ..crossval.point_setting import PointSetting
from .finished import Answers, answers_of, training_of
from .layout import Layout
from .ledger import AskedAbout, Ledger, PredictionEntry, State, Training
from .steps import EvaluationPairs, PredictStep, Step, TestStep, TrainStep, answer_folders, steps_of
from .variants import ROWS, Row, Stages, folds_of


@dataclass(frozen=True, slots=True)
class ComparisonContext:
    """What is looked at: the folder, the settings of all rows by name, and who is asked about."""

    layout: Layout
    stages: Mapping[str, Stages]
    pairs: EvaluationPairs

    @property
    def folds(self) -> int:
        """How many the splits have."""
        return len(self.pairs.held_out)


def renewed(site: ComparisonContext, ledger: Ledger) -> Ledger:
    """The ledger as the folders have it; minutes of calls and answers stay as they are known.

    Answers that are whole, but not scored yet, are scored.

    Raises:
        InputError: something was trained with other settings, or cannot be scored.
        OutputError: a score cannot be written.
    """
    trainings = [training for row in ROWS for training in _trainings(site, row)]
    trained = ledger.model_copy(update={"trainings": tuple(trainings)})
    answers = [
        answer
        for step in steps_of(ROWS, site.folds, has_test=True)
        if (asked := settled(step, trained)) is not None and not isinstance(asked, TrainStep)
        for answer in _answers(site, asked, ledger, 0.0)
    ]
    return trained.model_copy(update={"answers": tuple(answers)})


def _trainings(site: ComparisonContext, row: Row) -> list[Training]:
    stages = site.stages[row.name]
    return [training_of(site.layout, row, fold, stages) for fold in folds_of(row, site.folds)]


def settled(step: Step, ledger: Ledger) -> Step | None:
    """A step without folds that have collapsed; None where nobody is left to ask."""
    if isinstance(step, TrainStep):
        return step
    sound = tuple(fold for fold in step.needs if state_of(ledger, step.row, fold) != "collapsed")
    if isinstance(step, PredictStep):
        return step if sound else None
    if not sound or (len(sound) == 1 < len(step.folds)):
        return None  # an ensemble of one is that fold
    return replace(step, folds=sound)


def state_of(ledger: Ledger, row: Row, fold: str) -> State:
    training = ledger.training(row.name, fold)
    return "not run" if training is None else training.state


def with_training(site: ComparisonContext, ledger: Ledger, step: TrainStep, reason: str | None) -> Ledger:
    """The ledger after a training, which says something of all folds that share its pretraining.

    Args:
        reason: why it collapsed, where its folder does not say so.
    """
    entries = {entry.fold: entry for entry in _trainings(site, step.row)}
    if reason is not None and entries[step.fold].state != "collapsed":
        told = {"state": "collapsed", "reason": reason}
        entries[step.fold] = entries[step.fold].model_copy(update=told)
    # Of other folds of the row stays what they were told to be, where their folders do not say it.
    trainings = [
        entries[t.fold] if t.row == step.row.name and (t.fold == step.fold or t.state != "collapsed") else t
        for t in ledger.trainings
    ]
    return ledger.model_copy(update={"trainings": tuple(trainings)})


def with_answers(
    site: ComparisonContext, ledger: Ledger, step: PredictStep | TestStep, minutes: float
) -> Ledger:
    """The ledger after answers, of which some may be missing."""
    new = {answer.key: answer for answer in _answers(site, step, ledger, minutes)}
    kept = [answer for answer in ledger.answers if answer.key not in new]
    return ledger.model_copy(update={"answers": (*kept, *new.values())})


def _answers(
    site: ComparisonContext, step: PredictStep | TestStep, ledger: Ledger, minutes: float
) -> Iterator[PredictionEntry]:
    """The entries of a step's questions; ``minutes`` are those that it took in all."""
    asked: AskedAbout = "held-out" if isinstance(step, PredictStep) else "test"
    run, pairs = site.layout.run(step.row.name), site.pairs.of(step)
    is_trained = all(site.layout.final(step.row.name, fold).is_file() for fold in step.needs)
    for question, folder in answer_folders(step, site.layout):
        found = answers_of(question, folder, run, step.needs, pairs) if is_trained else Answers("not run")
        yield PredictionEntry(
            row=step.row.name,
            asked=asked,
            question=question.name,
            folds=step.needs,
            state=found.state,
            minutes=_minutes(ledger, step, asked, question, minutes / len(step.questions)),
            score=found.score,
            failed=found.failed,
        )


def answers_to(ledger: Ledger, step: PredictStep | TestStep) -> tuple[PredictionEntry | None, ...]:
    """The entries of a step's questions."""
    asked: AskedAbout = "held-out" if isinstance(step, PredictStep) else "test"
    return tuple(ledger.answer(step.row.name, asked, q.name, step.needs) for q in step.questions)


def _minutes(
    ledger: Ledger, step: PredictStep | TestStep, asked: AskedAbout, question: PointSetting, more: float
) -> float | None:
    before = ledger.answer(step.row.name, asked, question.name, step.needs)
    known = before.minutes if before is not None else None
    return (known or 0.0) + more if known is not None or more else None
