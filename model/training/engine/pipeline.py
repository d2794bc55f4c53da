"""From prepared data to an ensemble: pretraining where asked for, then fold after fold.

The result is a model folder as inference reads it: plan, `fold_0`, `fold_1` ...
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from ...errors import InputError, one_line
from ...network.plan import Plan
from .checkpoint import FINAL
from .config import TrainingConfig, first_difference, from_plain, settled
from .distributed import joined
from .health import CollapsedFoldError
from .job import CONFIG_FILE, FoldJob, FoldResult, Say, data_digest, finished_data
from .overlap import kept_out, line_of, scans_of, shared_patients
from .run import train_fold
from .source import Patients, ScanPair, patients_of, reversed_pair

EVERYTHING = "all"  # the name of the fold that holds nobody back
SHARED = "shared"  # of the pretraining that serves all folds
PRETRAINING_FOLDER = "pretraining"

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
        InputError: as `train_fold`, and when the two data sets do not go together.
    """
    names = job.folds if job.folds is not None else tuple(str(n) for n in range(len(job.data.splits)))
    if not names:
        raise InputError(f"{job.data.folder}: has no folds; expected them, or --fold {EVERYTHING}")
    splits = {name: _split(job.data, name) for name in names}
    if job.pretraining is not None:
        check_plans(job.data, job.pretraining)
    results, collapsed, begun = [], [], set[Path]()
    with joined(job.device) as world:
        spoken: Say = say if world.is_first else _silence
        for name, split in splits.items():
            try:
                results.append(_train(job, name, split, begun, spoken))
            except CollapsedFoldError as error:
                collapsed.append(one_line(error))
                spoken(collapsed[-1])
    if collapsed:
        raise CollapsedFoldError(" | ".join(collapsed))
    spoken(f"{job.output}: holds {', '.join(f'fold_{name}' for name in splits)}, ready for --weights")
    return results


def _silence(line: str) -> None:
    pass


def finished_folds(job: EnsembleJob) -> dict[str, Split]:
    """The folds of the splits that lie finished in the output, also those of other calls.

    Of those are left out what was trained on other patients, scans or lesions than its split has now (it may
    have seen whom the split holds back), or with other settings.
    """
    asked = job.folds if job.folds is not None else tuple(str(n) for n in range(len(job.data.splits)))
    found: dict[str, Split] = {}
    for name, split in ((str(number), split) for number, split in enumerate(job.data.splits)):
        folder = job.output / f"fold_{name}"
        if (folder / FINAL).is_file() and (name in asked or _is_trained_on(job, split, folder)):
            found[name] = split
    return found


def _is_trained_on(job: EnsembleJob, split: Split, folder: Path) -> bool:
    """Whether a finished fold was trained on a split as it is, and as the job would."""
    patients = [_patients(job.data, one, job.config) for one in (split.training, split.validation)]
    return finished_data(folder) == data_digest(job.data.plan, *patients) and _has_settings(job, folder)


def _has_settings(job: EnsembleJob, folder: Path) -> bool:
    try:
        saved = from_plain(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, InputError):
        return False
    return first_difference(saved, job.config) is None


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


def _train(job: EnsembleJob, name: str, split: Split, begun: set[Path], say: Say) -> FoldResult:
    """Train one fold; ``begun`` are the folders of pretraining that this call began anew."""
    initial = job.initial
    if job.pretraining is not None:
        initial = _pretrained(job, job.pretraining, name, split, begun, say)
    patients = [_patients(job.data, one, job.config) for one in (split.training, split.validation)]
    return train_fold(_fold_job(job, job.output, name, patients, job.config, initial), say)


def _pretrained(
    job: EnsembleJob, data: PreparedData, name: str, split: Split, begun: set[Path], say: Say
) -> Path:
    """The weights of the pretraining that serves a fold.

    One serves all folds, unless its patients are also patients of the folds, by name or by scan: then each
    fold has its own, that has not seen those whom the fold is validated on, and is watched on them.
    """
    config = job.pretraining_config or TrainingConfig(sampling="pretraining")
    everyone = {pair.patient_id for pair in data.pairs}
    overlap = shared_patients(scans_of(job.data.folder, job.data.pairs), scans_of(data.folder, data.pairs))
    left_out = kept_out(overlap, split.validation if name != EVERYTHING else ())
    say(f"fold {name}: {line_of(overlap, left_out)}")
    kept = everyone - left_out.keys()
    if not kept:
        raise InputError(
            f"{data.folder}: holds validation patients of fold {name} alone; expected others to pretrain on"
        )
    # Nothing is chosen by validation here: whom the fold holds back may as well be watched.
    training, validation = (
        (sorted(kept), sorted(left_out)) if left_out else _held_back(sorted(kept), config.seed)
    )
    patients = [_patients(data, one, config) for one in (training, validation)]
    folder, own_name = job.output / PRETRAINING_FOLDER, name if overlap else SHARED
    say(f"fold {name}: pretraining on {len(training)} patients, in {folder / f'fold_{own_name}'}")
    stage = _fold_job(job, folder, own_name, patients, config, job.initial)
    stage = replace(stage, restart=job.restart and stage.folder not in begun)  # once for all folds it serves
    begun.add(stage.folder)
    return train_fold(stage, say).final


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
