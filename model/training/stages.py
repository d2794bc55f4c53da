"""The stages to train for each fold of an ensemble: an optional pretraining, then the fold itself.

Nothing is trained here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
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

EVERYTHING = "all"  # name of the fold that trains on all patients
SHARED = "shared"  # name of the pretraining that serves all folds
PRETRAINING_FOLDER = "pretraining"
Overlap = Mapping[str, frozenset[str]]  # patient of the pretraining data -> names in the data set

# One patient of twenty is held out in pretraining, as published (docs/model_recipe.md, Pretraining).
_PATIENTS_PER_VALIDATION = 20


@dataclass(frozen=True, eq=False)
class EnsembleJob:
    """An ensemble to train.

    Attributes:
        data: the data set of the folds.
        output: the model folder.
        config: settings of the folds.
        folds: numbers of splits, or `EVERYTHING`; None takes every split.
        pretraining: data set to pretrain on; None: no pretraining.
        pretraining_config: settings of the pretraining; None: the defaults.
        initial: checkpoint of the initial weights of the first stage; None: random weights.
        device: auto, cpu, cuda or cuda:N.
        restart: begin anew even if there are checkpoints to resume from.
        until: time of `time.monotonic` after which no further epoch begins; None: no limit.
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
    """Return the names of the folds to train."""
    return job.folds if job.folds is not None else tuple(str(n) for n in range(len(job.data.splits)))


def fold_split(data: PreparedData, name: str) -> FoldSplit:
    """Return the patients of a fold.

    Raises:
        InputError: the data set has no fold of that name.
    """
    if name == EVERYTHING:
        everyone = tuple(sorted({pair.patient_id for pair in data.pairs}))
        return FoldSplit(everyone, everyone)
    if not name.isdecimal() or int(name) >= len(data.splits):
        raise InputError(
            f"--fold: is {name}; expected 0 to {len(data.splits) - 1} by the splits of {data.folder}, "
            f"or {EVERYTHING}"
        )
    return data.splits[int(name)]


def check_variant(job: EnsembleJob) -> None:
    """Check that the data hold what the variant takes: a PET for the interactive network, pairs for others.

    Raises:
        InputError: they do not.
    """
    data, config = job.data, job.config
    if (data.pet is not None) != (config.variant == "interactive"):
        held, fits = ("PET/CT", "interactive") if data.pet is not None else ("pairs of CTs", "another one")
        raise InputError(f"{data.folder}: holds {held}, not for variant={config.variant}; expected {fits}")
    if data.pet is not None and job.pretraining is not None:
        raise InputError("--pretrain: is not possible with variant=interactive; expected --initial, if any")
    if config.organs > 0 and config.organs != data.organs:
        raise InputError(
            f"{data.folder}: is labelled with {data.organs} organs, not organs={config.organs}; expected "
            "their number, or 0 to train without"
        )


def check_plans(data: PreparedData, pretraining: PreparedData) -> None:
    """Check that two data sets were prepared with the same plan.

    Raises:
        InputError: they were not.
    """
    for field in fields(Plan):
        one, other = getattr(data.plan, field.name), getattr(pretraining.plan, field.name)
        if one != other:
            raise InputError(
                f"{pretraining.plan_file}: {field.name} differs from that in {data.plan_file}; expected data "
                "prepared with the same plan"
            )


def check_batch_sizes(job: EnsembleJob, processes: int) -> None:
    """Check before any training that the batches of all stages can be divided among the processes.

    Raises:
        InputError: one cannot.
    """
    stages = [("", job.config)]
    if job.pretraining is not None:
        stages.append(("pretrain.", _pretraining_config(job)))
    for prefix, config in stages:
        complete = with_plan_defaults(config, job.data.plan_file, job.data.plan.configuration)
        name = f"{prefix}batch_size" + ("" if config.batch_size else " (the plan's)")
        check_share(name, complete.batch_size, processes)


def _pretraining_config(job: EnsembleJob) -> TrainingConfig:
    return job.pretraining_config or TrainingConfig(sampling="pretraining")


def fold_stages(job: EnsembleJob, name: str) -> tuple[FoldJob, ...]:
    """Return the stages of a fold, pretraining first, with their provenance in the settings.

    Raises:
        InputError: there is no such fold, or no patient is left to pretrain on.
    """
    if job.pretraining is None:
        return (with_provenance(final_stage(job, name, job.initial)),)
    first = pretraining_stage(job, name, job.pretraining)
    return with_provenance(first), with_provenance(final_stage(job, name, first.folder / FINAL))


def final_stage(job: EnsembleJob, name: str, initial: Path | None) -> FoldJob:
    """Return the stage that trains the fold itself.

    Args:
        job: the ensemble.
        name: of the fold.
        initial: checkpoint of its initial weights; None: random weights.
    """
    split = fold_split(job.data, name)
    patients = [_patients(job.data, names, job.config) for names in (split.training, split.validation)]
    return _fold_job(job, job.output, name, patients, job.config, initial)


@lru_cache(maxsize=4)
def patient_overlap(data: PreparedData, pretraining: PreparedData) -> Overlap:
    """Return the patients of the pretraining data that are also in the data set, see `shared_patients`."""
    return shared_patients(scans_of(data.folder, data.pairs), scans_of(pretraining.folder, pretraining.pairs))


def excluded_from_pretraining(job: EnsembleJob, name: str, overlap: Overlap) -> Overlap:
    """Return the shared patients that the pretraining of a fold must not see."""
    return excluded_patients(overlap, fold_split(job.data, name).validation if name != EVERYTHING else ())


def pretraining_stage(job: EnsembleJob, name: str, data: PreparedData) -> FoldJob:
    """Return the pretraining of a fold.

    One pretraining serves all folds, unless the two data sets share patients, by name or by scan. Then each
    fold has its own, which excludes the fold's validation patients and is validated on them.

    Args:
        job: the ensemble.
        name: of the fold.
        data: data set to pretrain on.

    Raises:
        InputError: no patient is left to pretrain on.
    """
    config = _pretraining_config(job)
    overlap = patient_overlap(job.data, data)
    excluded = excluded_from_pretraining(job, name, overlap)
    remaining = sorted({pair.patient_id for pair in data.pairs} - excluded.keys())
    if not remaining:
        raise InputError(
            f"{data.folder}: contains only validation patients of fold {name}; expected others to pretrain on"
        )
    # The validation of a pretraining selects nothing, so it may use the fold's validation patients.
    training, validation = (
        (remaining, sorted(excluded)) if excluded else _pretraining_split(remaining, config.seed)
    )
    patients = [_patients(data, names, config) for names in (training, validation)]
    stage_name = name if overlap else SHARED
    return _fold_job(job, job.output / PRETRAINING_FOLDER, stage_name, patients, config, job.initial)


def _pretraining_split(patients: Sequence[str], seed: int) -> tuple[Sequence[str], Sequence[str]]:
    """Training and validation patients, one in twenty for validation; a single patient serves for both."""
    if len(patients) == 1:
        return patients, patients
    order = np.random.default_rng(seed).permutation(len(patients)).tolist()
    count = max(1, len(patients) // _PATIENTS_PER_VALIDATION)
    return [patients[n] for n in sorted(order[count:])], [patients[n] for n in sorted(order[:count])]


def _patients(data: PreparedData, names: Sequence[str], config: TrainingConfig) -> Patients:
    oriented: Callable[[ScanPair], ScanPair] = reversed_pair if config.reverse_pairs else lambda pair: pair
    return patients_of([oriented(pair) for pair in data.pairs if pair.patient_id in set(names)], names)


def _fold_job(
    job: EnsembleJob,
    output: Path,
    name: str,
    patients: Sequence[Patients],
    config: TrainingConfig,
    initial: Path | None,
) -> FoldJob:
    training, validation = patients
    config = with_plan_defaults(config, job.data.plan_file, job.data.plan.configuration)
    if job.data.pet is not None and config.organs < 0:
        config = replace(config, organs=job.data.organs)
    return FoldJob(
        plan=job.data.plan,
        plan_file=job.data.plan_file,
        training=training,
        validation=validation,
        output=output,
        fold=name,
        config=config,
        initial=initial,
        device=job.device,
        restart=job.restart,
        until=job.until,
        pet=job.data.pet,
    )
