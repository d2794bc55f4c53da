"""From prepared data to an ensemble: pretraining where asked for, then fold after fold.

The result is a model folder as inference reads it: plan, `fold_0`, `fold_1` ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...errors import InputError, one_line
from ...network.plan import Plan
from .checkpoint import FINAL, LATEST
from .config import TrainingConfig, first_difference, settled
from .distributed import check_share, joined
from .health import CollapsedFoldError
from .job import FoldJob, FoldResult, Say, finished_data, saved_config
from .origin import check_origin, other_origin, with_origin
from .overlap import kept_out, line_of, scans_of, shared_patients
from .run import train_fold
from .source import Patients, ScanPair, patients_of, reversed_pair

EVERYTHING = "all"  # the name of the fold that holds nobody back
SHARED = "shared"  # of the pretraining that serves all folds
PRETRAINING_FOLDER = "pretraining"
Overlap = Mapping[str, frozenset[str]]  # patients of pretraining data, with their names in the data

# One patient of twenty is held back in pretraining, as published (facts A7).
_PATIENTS_PER_VALIDATION = 20


@dataclass(frozen=True, slots=True)
class Split:
    """The patients of one fold."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PreparedData:
    """A data set as `train prepare` leaves it, opened."""

    folder: Path
    plan: Plan
    plan_file: Path
    pairs: tuple[ScanPair, ...]
    splits: tuple[Split, ...]


@dataclass(frozen=True, eq=False)
class EnsembleJob:
    """What to train. ``folds`` are numbers of splits, or `EVERYTHING`; None takes every split.

    ``pretraining`` data come first, with ``pretraining_config``; ``initial`` weights are those of the very
    first stage. ``until`` is a time of `time.monotonic` after which no other epoch begins.
    """

    data: PreparedData
    output: Path
    config: TrainingConfig
    folds: tuple[str, ...] | None = None
    pretraining: PreparedData | None = None
    pretraining_config: TrainingConfig | None = None
    initial: Path | None = None
    device: str = "auto"
    restart: bool = False
    until: float | None = None


def train_ensemble(job: EnsembleJob, say: Say = print) -> list[FoldResult]:
    """Train all folds of a job, one after the other; those that are finished are passed over.

    A fold that collapses does not keep the others from being trained.

    Raises:
        CollapsedFoldError: at the end, when one or more have collapsed.
        BudgetSpentError: the job's time is over; the same call goes on from there.
        InputError: as `train_fold`, when the two data sets do not go together, and when what is there was
            made of other data or weights.
    """
    names = _names(job)
    if not names:
        raise InputError(f"{job.data.folder}: has no folds; expected them, or --fold {EVERYTHING}")
    for name in names:
        _split(job.data, name)
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


def check_shares(job: EnsembleJob, processes: int) -> None:
    """Raises InputError where the batch of either stage does not divide: also of the last one at once."""
    stages = [("", job.config)]
    if job.pretraining is not None:
        stages.append(("pretrain.", _first_config(job)))
    for prefix, config in stages:
        whole = settled(config, job.data.plan_file, job.data.plan.configuration)
        name = f"{prefix}batch_size" + ("" if config.batch_size else " (the plan's)")
        check_share(name, whole.batch_size, processes)


def _first_config(job: EnsembleJob) -> TrainingConfig:
    return job.pretraining_config or TrainingConfig(sampling="pretraining")


def _silence(line: str) -> None:
    pass


def _names(job: EnsembleJob) -> tuple[str, ...]:
    return job.folds if job.folds is not None else tuple(str(n) for n in range(len(job.data.splits)))


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
        fold = with_origin(_own_stage(self._job, name, initial))
        check_origin(fold)
        return train_fold(fold, self._say)

    def _pretrained(self, name: str, data: PreparedData) -> Path:
        """The weights of the pretraining that serves a fold."""
        overlap = overlap_of(self._job.data, data)
        self._say(f"fold {name}: {line_of(overlap, _kept_out(self._job, name, overlap))}")
        stage = with_origin(_first_stage(self._job, name, data))
        if stage.folder in self._collapsed:
            raise self._collapsed[stage.folder]
        count = len(stage.training.names)
        self._say(f"fold {name}: pretraining on {count} patients, in {stage.folder}")
        # Once for all folds that it serves.
        stage = replace(stage, restart=self._job.restart and stage.folder not in self._begun)
        self._begun.add(stage.folder)
        _check_follows(self._job, name, stage)
        check_origin(stage)
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


def finished_folds(job: EnsembleJob) -> dict[str, Split]:
    """The folds of the splits that lie finished in the output, also those of other calls.

    Of those are left out what was trained on other patients, scans or lesions than its split has now (it may
    have seen whom the split holds back), from another pretraining, or with other settings.
    """
    asked = _names(job)
    names = (str(number) for number in range(len(job.data.splits)))
    return {name: _split(job.data, name) for name in names if _is_finished(job, name, name in asked)}


def _is_finished(job: EnsembleJob, name: str, is_asked: bool) -> bool:
    """Whether a fold is finished, and as the job would train it; one that it was to train need not say so."""
    if not (job.output / f"fold_{name}" / FINAL).is_file():
        return False
    stages = fold_stages(job, name)
    for stage in stages:
        if not (stage.folder / FINAL).is_file() or other_origin(stage) is not None:
            return False
        saved = saved_config(stage.folder)
        if saved is not None and first_difference(saved, stage.config) is not None:
            return False
    folder = stages[-1].folder
    return is_asked or (finished_data(folder) is not None and saved_config(folder) is not None)


def fold_stages(job: EnsembleJob, name: str) -> tuple[FoldJob, ...]:
    """What there is to train for a fold, its pretraining first; settings say what each stage is made of.

    Raises:
        InputError: nobody is left to pretrain on, or there is no such fold.
    """
    if job.pretraining is None:
        return (with_origin(_own_stage(job, name, job.initial)),)
    first = _first_stage(job, name, job.pretraining)
    return with_origin(first), with_origin(_own_stage(job, name, first.folder / FINAL))


def _split(data: PreparedData, name: str) -> Split:
    if name == EVERYTHING:
        everyone = tuple(sorted({pair.patient_id for pair in data.pairs}))
        return Split(everyone, everyone)
    if not name.isdecimal() or int(name) >= len(data.splits):
        raise InputError(
            f"--fold: is {name}; expected 0 to {len(data.splits) - 1} by the splits of {data.folder}, "
            f"or {EVERYTHING}"
        )
    return data.splits[int(name)]


def check_plans(data: PreparedData, pretraining: PreparedData) -> None:
    """Raises InputError where the two data sets were prepared for different networks."""
    for field in fields(Plan):
        one, other = getattr(data.plan, field.name), getattr(pretraining.plan, field.name)
        if one != other:
            raise InputError(
                f"{pretraining.plan_file}: {field.name} is another than in {data.plan_file}; expected data "
                "that were prepared by the same plan"
            )


def _own_stage(job: EnsembleJob, name: str, initial: Path | None) -> FoldJob:
    """The fold itself."""
    split = _split(job.data, name)
    patients = [_patients(job.data, one, job.config) for one in (split.training, split.validation)]
    return _fold_job(job, job.output, name, patients, job.config, initial)


@lru_cache(maxsize=4)
def overlap_of(data: PreparedData, pretraining: PreparedData) -> Overlap:
    """The patients of pretraining data who are patients of the data, see `shared_patients`."""
    return shared_patients(scans_of(data.folder, data.pairs), scans_of(pretraining.folder, pretraining.pairs))


def _kept_out(job: EnsembleJob, name: str, overlap: Overlap) -> Overlap:
    return kept_out(overlap, _split(job.data, name).validation if name != EVERYTHING else ())


def _first_stage(job: EnsembleJob, name: str, data: PreparedData) -> FoldJob:
    """The pretraining that serves a fold.

    One serves all folds, unless its patients are also patients of the folds, by name or by scan: then each
    fold has its own, that has not seen those whom the fold is validated on, and is watched on them.
    """
    config = _first_config(job)
    overlap = overlap_of(job.data, data)
    left_out = _kept_out(job, name, overlap)
    kept = {pair.patient_id for pair in data.pairs} - left_out.keys()
    if not kept:
        raise InputError(
            f"{data.folder}: holds validation patients of fold {name} alone; expected others to pretrain on"
        )
    # Nothing is chosen by validation here: whom the fold holds back may as well be watched.
    training, validation = (
        (sorted(kept), sorted(left_out)) if left_out else _held_back(sorted(kept), config.seed)
    )
    patients = [_patients(data, one, config) for one in (training, validation)]
    own_name = name if overlap else SHARED
    return _fold_job(job, job.output / PRETRAINING_FOLDER, own_name, patients, config, job.initial)


def _held_back(patients: Sequence[str], seed: int) -> tuple[Sequence[str], Sequence[str]]:
    """Patients to train on and one in twenty to watch; a single one does both."""
    if len(patients) == 1:
        return patients, patients
    order = np.random.default_rng(seed).permutation(len(patients)).tolist()
    count = max(1, len(patients) // _PATIENTS_PER_VALIDATION)
    return [patients[n] for n in sorted(order[count:])], [patients[n] for n in sorted(order[:count])]


def _patients(data: PreparedData, names: Sequence[str], config: TrainingConfig) -> Patients:
    turned: Callable[[ScanPair], ScanPair] = reversed_pair if config.reverse_pairs else lambda pair: pair
    return patients_of([turned(pair) for pair in data.pairs if pair.patient_id in set(names)], names)


def _fold_job(
    job: EnsembleJob, output: Path, name: str, patients: Sequence[Patients], config: TrainingConfig,
    initial: Path | None,
) -> FoldJob:  # fmt: skip
    training, validation = patients
    return FoldJob(
        plan=job.data.plan,
        plan_file=job.data.plan_file,
        training=training,
        validation=validation,
        output=output,
        fold=name,
        config=settled(config, job.data.plan_file, job.data.plan.configuration),
        initial=initial,
        device=job.device,
        restart=job.restart,
        until=job.until,
    )
