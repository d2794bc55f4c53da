"""The steps of one call: begun in their order, several at once, none after the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool

from ..errors import LongilesionError, MemoryExhaustedError, one_line
from ..training.job import Say
from ..training.stages import SHARED
from .finished import pretraining_folder
from .ledger import Ledger
from .progress import ComparisonContext, answers_to, settled, state_of, with_answers, with_training
from .step_execution import Outcome, StepContext, Work
from .steps import PredictStep, Step, TestStep, TrainStep

Keep = Callable[[Ledger], object]


class Schedule:
    """Does steps, and keeps the ledger; nobody else writes it.

    Args:
        steps: all, in the order of their worth; those that are finished are passed over.
        keep: called with the ledger after each step.
        until: a time of ``clock`` after which no step begins.
        shares_pretraining: one pretraining serves all folds of a row, so that only one fold trains it.
    """

    def __init__(
        self,
        site: ComparisonContext,
        place: StepContext,
        ledger: Ledger,
        steps: Sequence[Step],
        keep: Keep,
        until: float,
        work: Work,
        shares_pretraining: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site, self._place, self.ledger, self._keep = site, place, ledger, keep
        self._until, self._work, self._clock = until, work, clock
        self._shares_pretraining = shares_pretraining
        self._waiting = [*steps]
        self._total, self._ended = len(self.left), 0

    @property
    def left(self) -> tuple[Step, ...]:
        """The steps that are still to be done, begun or not; without those of folds that have collapsed.

        Lesions without an answer are asked about again by another call, not by this one.
        """
        steps = (settled(step, self.ledger) for step in self._waiting)
        return tuple(step for step in steps if step is not None and not self._is_done(step))

    def run(self, pool: Executor, jobs: int, say: Say) -> None:
        """Do what can be done. After an error nothing else is begun; what runs comes to its end first.

        Raises:
            MemoryExhaustedError: a process was ended from outside.
            LongilesionError: of the first step that could not be done.
        """
        running: dict[Future[Outcome], Step] = {}
        failure: LongilesionError | None = None
        while True:
            while failure is None and len(running) < jobs:
                if (step := self._next(list(running.values()))) is None:
                    break
                running[pool.submit(self._work, step, self._place, self._until)] = step
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                try:
                    self._take(step, _result(step, future), say)
                except LongilesionError as error:
                    say(f"{step}: failed: {one_line(error)}")
                    failure = failure or error
        if failure is not None:
            raise failure

    def _is_done(self, step: Step) -> bool:
        if isinstance(step, TrainStep):
            return state_of(self.ledger, step.row, step.fold) in ("finished", "collapsed")
        return all(
            answer is not None and answer.state == "finished" and not answer.failed
            for answer in answers_to(self.ledger, step)
        )

    def _next(self, running: Sequence[Step]) -> Step | None:
        """The first step that can begin now."""
        if self._clock() >= self._until:
            return None
        for place, step in enumerate(self._waiting):
            ready = settled(step, self.ledger)
            if ready is None or self._is_done(ready) or not self._can_begin(ready, running):
                continue
            del self._waiting[place]
            return ready
        return None

    def _can_begin(self, step: Step, running: Sequence[Step]) -> bool:
        if not isinstance(step, TrainStep):
            return all(state_of(self.ledger, step.row, fold) == "finished" for fold in step.needs)
        if not (step.row.is_pretrained and self._shares_pretraining):
            return True
        others = [one for one in running if isinstance(one, TrainStep) and one.row is step.row]
        folder = pretraining_folder(self._site.layout, step.row, SHARED)
        return not others or (folder / self._site.layout.final(step.row.name, step.fold).name).is_file()

    def _take(self, step: Step, outcome: Outcome, say: Say) -> None:
        if isinstance(step, TrainStep):
            self.ledger = with_training(self._site, self.ledger, step, outcome.reason)
        else:
            self.ledger = with_answers(self._site, self.ledger, step, outcome.minutes)
        if outcome.state == "begun":
            self._waiting.append(step)
        self._ended += 1
        self._keep(self.ledger)
        say(self._line(step, outcome))

    def _line(self, step: Step, outcome: Outcome) -> str:
        text = f"[{self._ended}/{self._total}] {step}: "
        text += "stopped by the budget" if outcome.state == "begun" else outcome.state
        if isinstance(step, TrainStep):
            entry = self.ledger.training(step.row.name, step.fold)
            if entry is not None and outcome.state == "begun":
                text += f" after {entry.epochs} of {entry.of_epochs} epochs"
        text += f", {outcome.minutes:.1f} min"
        if not isinstance(step, TrainStep) and (failed := self._failed(step)):
            text += f"; {len(failed)} lesions have NO ANSWER, get the worst score, and are asked about again "
            text += f"by the next call: {'; '.join(failed)}"
        return text + (f" ({outcome.reason})" if outcome.reason else "")

    def _failed(self, step: PredictStep | TestStep) -> list[str]:
        """A line for each lesion without an answer, with the question."""
        answers = [answer for answer in answers_to(self.ledger, step) if answer is not None]
        return [f"{answer.question}, {line}" for answer in answers for line in answer.failed]


def _result(step: Step, future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise MemoryExhaustedError(
            f"{step}: its process was ended, as it happens when memory is short; expected fewer --jobs, or "
            "more memory (the same command goes on)"
        ) from error
