"""One step, carried out: in this process, or in one of several side by side."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..crossval.predict import predict_pairs
from ..errors import one_line
from ..training.health import CollapsedFoldError
from ..training.job import BudgetSpentError
from ..training.prepared_data import PreparedData, open_prepared
from ..training.stages import EnsembleJob
from ..training.train_ensemble import train_ensemble
from .layout import Layout
from .ledger import State
from .steps import EvaluationPairs, PredictStep, Step, TestStep, TrainStep, answer_folders
from .variants import TablePreset, stages_of


@dataclass(frozen=True, slots=True)
class StepContext:
    """What all steps have in common; goes to other processes as it is."""

    layout: Layout
    data: Path
    pretraining: Path | None
    pairs: EvaluationPairs
    preset: TablePreset
    overrides: tuple[str, ...]
    device: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended: "begun" is one that the budget has stopped."""

    state: State
    minutes: float
    reason: str | None = None


Work = Callable[[Step, StepContext, float], Outcome]


def carry_out(step: Step, place: StepContext, until: float) -> Outcome:
    """Do a step, or what is left of it.

    Args:
        until: a time of `time.monotonic`, which is the machine's, after which no other epoch and no other
            answer begins.

    Raises:
        LongilesionError: whatever keeps it from being done.
    """
    begun = time.monotonic()
    try:
        if isinstance(step, TrainStep):
            _train(step, place, until)
        else:
            _ask(step, place, until)
    except CollapsedFoldError as error:
        return Outcome("collapsed", _minutes_since(begun), one_line(error))
    except BudgetSpentError:
        return Outcome("begun", _minutes_since(begun))
    return Outcome("finished", _minutes_since(begun))


def _minutes_since(begun: float) -> float:
    return (time.monotonic() - begun) / 60


def _train(step: TrainStep, place: StepContext, until: float) -> None:
    stages = stages_of(step.row, place.preset, place.overrides)
    pretraining = None
    if stages.pretraining is not None and place.pretraining is not None:
        pretraining = _opened(place.pretraining, stages.pretraining.sampling == "pretraining")
    train_ensemble(
        EnsembleJob(
            data=_opened(place.data, stages.config.sampling == "pretraining"),
            output=place.layout.run(step.row.name),
            config=stages.config,
            folds=(step.fold,),
            pretraining=pretraining,
            pretraining_config=stages.pretraining,
            device=place.device,
            until=until,
        ),
        _silence,
    )


def _silence(line: str) -> None:
    """Epochs are in the logs, answers in their folders; the table says a line for each step."""


def _ask(step: PredictStep | TestStep, place: StepContext, until: float) -> None:
    pairs = place.pairs.of(step)
    assert pairs is not None, "a step about the test patients is made of those"
    run, folders = place.layout.run(step.row.name), answer_folders(step, place.layout)
    with _quiet():
        predict_pairs(pairs, run, step.needs, folders, place.device, _silence, until)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what inference logs of each network that it loads: a step has one line."""
    log = logging.getLogger(__name__.partition(".")[0])
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


# A process does several steps on the same data.
@lru_cache(maxsize=4)
def _opened(folder: Path, with_tables: bool) -> PreparedData:
    return open_prepared(folder, with_tables)
