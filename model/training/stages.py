"""What there is to train for each fold of an ensemble, stage after stage; nothing is trained here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..network.plan import Plan
from .checkpoint import FINAL
from .config import TrainingConfig, with_plan_defaults
from .data_source import Patients, ScanPair, patients_of, reversed_pair
from .distributed import check_share
from .fold_provenance import with_provenance
from .job import FoldJob
from .leakage import excluded_patients, scans_of, shared_patients
from .prepared_data import FoldSplit, PreparedData

EVERYTHING = "all"  # the name of the fold that holds nobody back
SHARED = "shared"  # of the pretraining that serves all folds
PRETRAINING_FOLDER = "pretraining"
Overlap = Mapping[str, frozenset[str]]  # patients of pretraining data, with their names in the data

# One patient of twenty is held back in pretraining, as published (facts A7).
_PATIENTS_PER_VALIDATION = 20


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


def fold_names(job: EnsembleJob) -> tuple[str, ...]:
    """The folds that a job asks for."""
    return job.folds if job.folds is not None else tuple(str(n) for n in range(len(job.data.splits)))


def fold_split(data: PreparedData, name: str) -> FoldSplit:
    """The patients of a fold. InputError where the splits have none of that name."""
    if name == EVERYTHING:
        everyone = tuple(sorted({pair.patient_id for pair in data.pairs}))
        return FoldSplit(everyone, everyone)
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


def check_shares(job: EnsembleJob, processes: int) -> None:
    """Raises InputError where the batch of either stage does not divide: also of the last one at once."""
    stages = [("", job.config)]
    if job.pretraining is not None:
        stages.append(("pretrain.", _first_config(job)))
    for prefix, config in stages:
        whole = with_plan_defaults(config, job.data.plan_file, job.data.plan.configuration)
        name = f"{prefix}batch_size" + ("" if config.batch_size else " (the plan's)")
        check_share(name, whole.batch_size, processes)


def _first_config(job: EnsembleJob) -> TrainingConfig:
    return job.pretraining_config or TrainingConfig(sampling="pretraining")


def fold_stages(job: EnsembleJob, name: str) -> tuple[FoldJob, ...]:
    """What there is to train for a fold, its pretraining first; settings say what each stage is made of.

    Raises:
        InputError: nobody is left to pretrain on, or there is no such fold.
    """
    if job.pretraining is None:
        return (with_provenance(fold_stage(job, name, job.initial)),)
    first = pretraining_stage(job, name, job.pretraining)
    return with_provenance(first), with_provenance(fold_stage(job, name, first.folder / FINAL))


def fold_stage(job: EnsembleJob, name: str, initial: Path | None) -> FoldJob:
    """The fold itself."""
    split = fold_split(job.data, name)
    patients = [_patients(job.data, one, job.config) for one in (split.training, split.validation)]
    return _fold_job(job, job.output, name, patients, job.config, initial)


@lru_cache(maxsize=4)
def patient_overlap(data: PreparedData, pretraining: PreparedData) -> Overlap:
    """The patients of pretraining data who are patients of the data, see `shared_patients`."""
    return shared_patients(scans_of(data.folder, data.pairs), scans_of(pretraining.folder, pretraining.pairs))


def excluded_from_pretraining(job: EnsembleJob, name: str, overlap: Overlap) -> Overlap:
    """Of an overlap those whom a fold's pretraining may not see."""
    return excluded_patients(overlap, fold_split(job.data, name).validation if name != EVERYTHING else ())


def pretraining_stage(job: EnsembleJob, name: str, data: PreparedData) -> FoldJob:
    """The pretraining that serves a fold.

    One serves all folds, unless its patients are also patients of the folds, by name or by scan: then each
    fold has its own, that has not seen those whom the fold is validated on, and is watched on them.
    """
    config = _first_config(job)
    overlap = patient_overlap(job.data, data)
    left_out = excluded_from_pretraining(job, name, overlap)
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
    job: EnsembleJob,
    output: Path,
    name: str,
    patients: Sequence[Patients],
    config: TrainingConfig,
    initial: Path | None,
) -> FoldJob:
    training, validation = patients
    return FoldJob(
        plan=job.data.plan,
        plan_file=job.data.plan_file,
        training=training,
        validation=validation,
        output=output,
        fold=name,
        config=with_plan_defaults(config, job.data.plan_file, job.data.plan.configuration),
        initial=initial,
        device=job.device,
        restart=job.restart,
        until=job.until,
    )
