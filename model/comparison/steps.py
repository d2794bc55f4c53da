"""What there is to do for the table, in order, and what of it can be begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..crossval.pairs import EvaluationPair
from ..crossval.point_setting import PointSetting
from .layout import Layout
from .variants import HEADLINE, NOISE_VOXELS, Row, folds_of

MAIN_QUESTIONS = (PointSetting("propagated"), PointSetting("given"))
NOISE_QUESTIONS = tuple(PointSetting("propagated", noise) for noise in NOISE_VOXELS)


@dataclass(frozen=True, slots=True)
class TrainStep:
    """Train a fold of a row, with its pretraining."""

    row: Row
    fold: str

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def __str__(self) -> str:
        return f"{self.row.name}: training of fold {self.fold}"


@dataclass(frozen=True, slots=True)
class PredictStep:
    """Ask a fold about its own held-out patients."""

    row: Row
    fold: str
    questions: tuple[PointSetting, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.fold,)

    def __str__(self) -> str:
        return f"{self.row.name}: fold {self.fold} asked about its held-out patients ({_names(self)})"


@dataclass(frozen=True, slots=True)
class TestStep:
    """Ask a fold, or several as an ensemble, about patients that none of them knows."""

    row: Row
    folds: tuple[str, ...]
    questions: tuple[PointSetting, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        return self.folds

    def __str__(self) -> str:
        who = f"fold {self.folds[0]}" if len(self.folds) == 1 else f"ensemble of {len(self.folds)} folds"
        return f"{self.row.name}: {who} asked about the test patients ({_names(self)})"


Step = TrainStep | PredictStep | TestStep


@dataclass(frozen=True, eq=False)
class EvaluationPairs:
    """Who is asked about: the pairs of each fold's held-out patients, and those of the test set, if any."""

    held_out: tuple[tuple[EvaluationPair, ...], ...]
    test: tuple[EvaluationPair, ...] | None = None

    def of(self, step: PredictStep | TestStep) -> tuple[EvaluationPair, ...] | None:
        """Whom a step asks about; None where nobody says who they are."""
        return self.held_out[int(step.fold)] if isinstance(step, PredictStep) else self.test


def _names(step: PredictStep | TestStep) -> str:
    return ", ".join(question.name for question in step.questions)


def steps_of(rows: Sequence[Row], fold_count: int, has_test: bool) -> tuple[Step, ...]:
    """All steps in the order of their worth: first what the table's lines need, row after row."""
    steps: list[Step] = []
    for row in rows:
        folds = folds_of(row, fold_count)
        steps += [TrainStep(row, fold) for fold in folds]
        steps += [PredictStep(row, fold, MAIN_QUESTIONS) for fold in folds]
    for row in rows:
        if row is HEADLINE and has_test:
            folds = folds_of(row, fold_count)
            steps += [TestStep(row, group, MAIN_QUESTIONS) for group in test_groups(folds)]
        if row.is_moved:
            moved = tuple(question for question in NOISE_QUESTIONS if question.noise_voxels)
            steps += [PredictStep(row, fold, moved) for fold in folds_of(row, fold_count)]
    return tuple(steps)


def test_groups(folds: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Each fold alone, then all of them together."""
    return (*((fold,) for fold in folds), *((folds,) if len(folds) > 1 else ()))


def answer_folders(step: PredictStep | TestStep, layout: Layout) -> list[tuple[PointSetting, Path]]:
    """Each question of a step with the folder of its answers."""
    if isinstance(step, PredictStep):
        return [(q, layout.held_out(step.row.name, q.name, step.fold)) for q in step.questions]
    return [(q, layout.test(step.row.name, q.name, step.folds)) for q in step.questions]
