"""Train an ensemble from prepared data: for each fold its pretraining, if any, then the fold itself.

The result is a model folder as inference reads it: plan, `fold_0`, `fold_1` ...
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, one_line
from .checkpoint import FINAL, LATEST
from .config import first_difference
from .distributed import World, joined
from .fold_provenance import check_provenance, provenance_difference, with_provenance
from .health import CollapsedFoldError
from .job import FoldJob, FoldResult, saved_config, trained_data_digest
from .leakage import overlap_line
from .prepared_data import FoldSplit, PreparedData
from .stages import (
    EVERYTHING,
    EnsembleJob,
    check_batch_sizes,
    check_plans,
    check_variant,
    excluded_from_pretraining,
    final_stage,
    fold_names,
    fold_split,
    fold_stages,
    patient_overlap,
    pretraining_stage,
)
from .train_fold import train_fold

log = logging.getLogger(__name__)


def train_ensemble(job: EnsembleJob) -> list[FoldResult]:
    """Train all folds of a job, one after the other; finished folds are skipped.

    If a fold collapses, the others are trained nevertheless.

    Raises:
        CollapsedFoldError: one or more folds have collapsed; raised at the end.
        BudgetSpentError: the job's time is over; the same call resumes from there.
        InputError: as `train_fold`; or the two data sets do not fit together, or existing folds were trained
            on other data or weights.
    """
    names = fold_names(job)
    if not names:
        raise InputError(f"{job.data.folder}: has no folds; expected some, or --fold {EVERYTHING}")
    for name in names:
        fold_split(job.data, name)
    check_variant(job)
    if job.pretraining is not None:
        check_plans(job.data, job.pretraining)
    results, collapsed = list[FoldResult](), list[str]()
    with joined(job.device) as world:
        check_batch_sizes(job, world.size)
        ensemble = _Ensemble(job, world)
        for name in names:
            try:
                results.append(ensemble.train(name))
            except CollapsedFoldError as error:
                if (line := one_line(error)) not in collapsed:  # a shared pretraining fails for every fold
                    collapsed.append(line)
                    world.log(log, "%s", line)
    if collapsed:
        raise CollapsedFoldError(" | ".join(collapsed))
    folders = ", ".join(f"fold_{name}" for name in names)
    world.log(log, "%s: holds %s, ready for --weights", job.output, folders)
    return results


class _Ensemble:
    """Trains the folds of one call, each after its pretraining."""

    def __init__(self, job: EnsembleJob, world: World) -> None:
        self._job, self._world = job, world
        self._begun = set[Path]()  # pretraining folders that this call has already restarted
        self._collapsed = dict[Path, CollapsedFoldError]()

    def train(self, name: str) -> FoldResult:
        initial = self._job.initial
        if self._job.pretraining is not None:
            initial = self._pretrained_weights(name, self._job.pretraining)
        fold = with_provenance(final_stage(self._job, name, initial))
        check_provenance(fold)
        return train_fold(fold)

    def _pretrained_weights(self, name: str, data: PreparedData) -> Path:
        """Run the pretraining of a fold, unless it is finished, and return its weights."""
        overlap = patient_overlap(self._job.data, data)
        excluded = excluded_from_pretraining(self._job, name, overlap)
        self._world.log(log, "fold %s: %s", name, overlap_line(overlap, excluded))
        stage = with_provenance(pretraining_stage(self._job, name, data))
        if stage.folder in self._collapsed:
            raise self._collapsed[stage.folder]
        count = len(stage.training.names)
        self._world.log(log, "fold %s: pretraining on %d patients, in %s", name, count, stage.folder)
        # A pretraining that serves several folds is restarted only once.
        stage = replace(stage, restart=self._job.restart and stage.folder not in self._begun)
        self._begun.add(stage.folder)
        _check_pretraining_exists(self._job, name, stage)
        check_provenance(stage)
        try:
            return train_fold(stage).final
        except CollapsedFoldError as error:
            self._collapsed[stage.folder] = error
            raise


def _check_pretraining_exists(job: EnsembleJob, name: str, stage: FoldJob) -> None:
    """Raise InputError if a fold exists, begun or finished, without the pretraining that it began with."""
    folder = job.output / f"fold_{name}"
    if job.restart or (stage.folder / FINAL).is_file():
        return
    if any((folder / file).is_file() for file in (FINAL, LATEST)):
        raise InputError(
            f"{stage.folder / FINAL}: is missing, but {folder} exists, which began with it; expected both or "
            "neither, another output folder, or --restart"
        )


def finished_folds(job: EnsembleJob) -> dict[str, FoldSplit]:
    """Find the finished folds in the output, including those of other calls.

    Folds that were trained on other patients, scans or lesions than their present split (they may have seen
    its validation patients), from another pretraining, or with other settings are left out.

    Returns:
        Name of the fold -> its patients.
    """
    requested = fold_names(job)
    names = (str(number) for number in range(len(job.data.splits)))
    return {name: fold_split(job.data, name) for name in names if _is_finished(job, name, name in requested)}


def _is_finished(job: EnsembleJob, name: str, is_requested: bool) -> bool:
    """True if a fold is finished and as the job would train it.

    A fold of this job may lack its records, e.g. in a packed model folder.
    """
    if not (job.output / f"fold_{name}" / FINAL).is_file():
        return False
    try:
        stages = fold_stages(job, name)
    except InputError:
        if is_requested:
            raise
        return False  # trained by another call, as this job could not train it
    for stage in stages:
        if not (stage.folder / FINAL).is_file() or provenance_difference(stage) is not None:
            return False
        saved = saved_config(stage.folder)
        if saved is not None and first_difference(saved, stage.config) is not None:
            return False
    folder = stages[-1].folder
    return is_requested or (trained_data_digest(folder) is not None and saved_config(folder) is not None)
