"""From prepared data to an ensemble: pretraining where asked for, then fold after fold.

The result is a model folder as inference reads it: plan, `fold_0`, `fold_1` ...
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import InputError, one_line
from .checkpoint import FINAL, LATEST
from .config import first_difference
from .distributed import joined
from .fold_provenance import check_provenance, provenance_difference, with_provenance
from .health import CollapsedFoldError
from .job import FoldJob, FoldResult, Say, saved_config, trained_data_digest
from .leakage import overlap_line
from .prepared_data import FoldSplit, PreparedData
from .stages import (
    EVERYTHING,
    EnsembleJob,
    check_plans,
    check_shares,
    excluded_from_pretraining,
    fold_names,
    fold_split,
    fold_stage,
    fold_stages,
    patient_overlap,
    pretraining_stage,
)
from .train_fold import train_fold


def train_ensemble(job: EnsembleJob, say: Say = print) -> list[FoldResult]:
    """Train all folds of a job, one after the other; those that are finished are passed over.

    A fold that collapses does not keep the others from being trained.

    Raises:
        CollapsedFoldError: at the end, when one or more have collapsed.
        BudgetSpentError: the job's time is over; the same call goes on from there.
        InputError: as `train_fold`, when the two data sets do not go together, and when what is there was
            made of other data or weights.
    """
    names = fold_names(job)
    if not names:
        raise InputError(f"{job.data.folder}: has no folds; expected them, or --fold {EVERYTHING}")
    for name in names:
        fold_split(job.data, name)
    if job.pretraining is not None:
        check_plans(job.data, job.pretraining)
    results, collapsed = list[FoldResult](), list[str]()
    with joined(job.device) as world:
        check_shares(job, world.size)
        spoken: Say = say if world.is_first else _silence
        ensemble = _Ensemble(job, spoken)
        for name in names:
            try:
                results.append(ensemble.train(name))
            except CollapsedFoldError as error:
                if (line := one_line(error)) not in collapsed:  # of a pretraining that serves all folds: once
                    collapsed.append(line)
                    spoken(line)
    if collapsed:
        raise CollapsedFoldError(" | ".join(collapsed))
    spoken(f"{job.output}: holds {', '.join(f'fold_{name}' for name in names)}, ready for --weights")
    return results


def _silence(line: str) -> None:
    pass


class _Ensemble:
    """Trains the folds of one call, each after its pretraining."""

    def __init__(self, job: EnsembleJob, say: Say) -> None:
        self._job, self._say = job, say
        self._begun = set[Path]()  # folders of pretraining that this call has begun anew
        self._collapsed = dict[Path, CollapsedFoldError]()

    def train(self, name: str) -> FoldResult:
        initial = self._job.initial
        if self._job.pretraining is not None:
            initial = self._pretrained(name, self._job.pretraining)
        fold = with_provenance(fold_stage(self._job, name, initial))
        check_provenance(fold)
        return train_fold(fold, self._say)

    def _pretrained(self, name: str, data: PreparedData) -> Path:
        """The weights of the pretraining that serves a fold."""
        overlap = patient_overlap(self._job.data, data)
        self._say(
            f"fold {name}: {overlap_line(overlap, excluded_from_pretraining(self._job, name, overlap))}"
        )
        stage = with_provenance(pretraining_stage(self._job, name, data))
        if stage.folder in self._collapsed:
            raise self._collapsed[stage.folder]
        count = len(stage.training.names)
        self._say(f"fold {name}: pretraining on {count} patients, in {stage.folder}")
        # Once for all folds that it serves.
        stage = replace(stage, restart=self._job.restart and stage.folder not in self._begun)
        self._begun.add(stage.folder)
        _check_follows(self._job, name, stage)
        check_provenance(stage)
        try:
            return train_fold(stage, self._say).final
        except CollapsedFoldError as error:
            self._collapsed[stage.folder] = error
            raise


def _check_follows(job: EnsembleJob, name: str, stage: FoldJob) -> None:
    """Raises InputError for a fold, begun or finished, whose pretraining is not finished: it had another."""
    folder = job.output / f"fold_{name}"
    if job.restart or (stage.folder / FINAL).is_file():
        return
    if any((folder / file).is_file() for file in (FINAL, LATEST)):
        raise InputError(
            f"{stage.folder / FINAL}: is missing, though {folder} is there, which began with it; expected "
            "both or neither, another output folder, or --restart"
        )


def finished_folds(job: EnsembleJob) -> dict[str, FoldSplit]:
    """The folds of the splits that lie finished in the output, also those of other calls.

    Of those are left out what was trained on other patients, scans or lesions than its split has now (it may
    have seen whom the split holds back), from another pretraining, or with other settings.
    """
    asked = fold_names(job)
    names = (str(number) for number in range(len(job.data.splits)))
    return {name: fold_split(job.data, name) for name in names if _is_finished(job, name, name in asked)}


def _is_finished(job: EnsembleJob, name: str, is_asked: bool) -> bool:
    """Whether a fold is finished, and as the job would train it; one that it was to train need not say so."""
    if not (job.output / f"fold_{name}" / FINAL).is_file():
        return False
    try:
        stages = fold_stages(job, name)
    except InputError:
        if is_asked:
            raise
        return False  # of another call, as this one could not train it
    for stage in stages:
        if not (stage.folder / FINAL).is_file() or provenance_difference(stage) is not None:
            return False
        saved = saved_config(stage.folder)
        if saved is not None and first_difference(saved, stage.config) is not None:
            return False
    folder = stages[-1].folder
    return is_asked or (trained_data_digest(folder) is not None and saved_config(folder) is not None)
