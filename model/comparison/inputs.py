"""A comparison's data sets, settings and output folder, checked before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..crossval.pairs import EvaluationPair, data_set_pairs, evaluation_pairs
from ..data.provenance import digest
from ..errors import InputError
from ..network.plan import Plan
from ..training.checkpoint import FINAL
from ..training.data_source import ScanPair
from ..training.fold_provenance import provenance_difference
from ..training.leakage import excluded_patients, overlap_line
from ..training.prepared_data import PreparedData, open_prepared
from ..training.stages import (
    PRETRAINING_FOLDER,
    SHARED,
    EnsembleJob,
    check_plans,
    fold_stages,
    patient_overlap,
)
from .test_set_check import check_unseen
from .variants import ROWS, Row, RowConfigs, row_configs

log = logging.getLogger(__name__)

Patients = Literal["held-out", "test"]


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """The folder of all output.

    ::

        ledger.json, table.md, table.csv, paired.csv, noise.png
        test_survey/       facts about the test scans, so that their files are read once
        runs/<row>/        a model folder, as `train run` writes it
            held_out/<point setting>/fold_N/        predictions for the fold's held-out patients, records
            test/<point setting>/fold_N/            the same for the test patients
            test/<point setting>/ensemble_N-M-.../  of several folds
    """

    root: Path

    def model(self, row: Row) -> Path:
        """The model folder of a row."""
        return self.root / "runs" / row.name

    def final(self, row: Row, fold: str) -> Path:
        """The weights of a fold, which exist once it is finished."""
        return self.model(row) / f"fold_{fold}" / FINAL

    def pretraining(self, row: Row, fold: str) -> Path:
        """The pretraining of a fold: the shared one if only that exists, otherwise the fold's own."""
        folder = self.model(row) / PRETRAINING_FOLDER
        own, shared = folder / f"fold_{fold}", folder / f"fold_{SHARED}"
        return shared if shared.is_dir() and not own.is_dir() else own

    def predictions(self, row: Row, patients: Patients, setting: str, folds: tuple[str, ...]) -> Path:
        """Predictions by a fold, or an ensemble of several, at a point setting (by its name)."""
        name = f"fold_{folds[0]}" if len(folds) == 1 else f"ensemble_{'-'.join(folds)}"
        return self.model(row) / patients.replace("-", "_") / setting / name


@dataclass(frozen=True, slots=True)
class DataSet:
    """The size of a data set; ``digest`` identifies its patients, scans, lesions and folds."""

    path: Path
    patients: int
    pairs: int
    lesions: int
    digest: str


@dataclass(frozen=True, eq=False)
class ComparisonContext:
    """Settings and data that all steps share; picklable, as steps may run in other processes.

    ``configs`` are the settings by row name. ``held_out`` are the pairs of scans of each fold's validation
    patients, ``tested`` those of the test set, None without one. ``shares_pretraining``: one pretraining
    serves all folds, as it shows none of their patients.
    """

    folder: OutputFolder
    configs: Mapping[str, RowConfigs]
    device: str
    plan: Plan
    data: DataSet
    pretraining: DataSet | None
    test: DataSet | None
    held_out: tuple[tuple[EvaluationPair, ...], ...]
    tested: tuple[EvaluationPair, ...] | None
    shares_pretraining: bool

    @property
    def fold_count(self) -> int:
        """The number of folds of the data set."""
        return len(self.held_out)


def open_context(
    data: Path,
    pretraining: Path | None,
    test: Path | None,
    output: Path,
    rows: Sequence[Row] = ROWS,
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> ComparisonContext:
    """Open and check the data sets, and log which patients are excluded from pretraining.

    Raises:
        InputError: a setting is wrong, a data set that ``rows`` need is missing, data sets do not fit each
            other, a test patient is not unseen, or an existing fold was trained on other data.
    """
    configs = {row.name: row_configs(row, overrides) for row in ROWS}
    needing = ", ".join(row.name for row in rows if row.is_pretrained)
    if needing and pretraining is None:
        raise InputError(
            f"--pretrain: is missing; expected prepared synthetic follow-ups for {needing} "
            "(--rows names the rows to run)"
        )
    real = open_prepared(data, False)
    if not real.splits:
        raise InputError(f"{data}: has no folds; expected those of 'train prepare --folds K'")
    first = open_prepared(pretraining, False) if pretraining is not None else None
    if first is not None:
        check_plans(real, first)
    pairs, tested = evaluation_pairs(data), None
    if test is not None:
        tested = data_set_pairs(test, surveys=output / "test_survey")
        check_unseen(tested, [real] if first is None else [real, first])
    context = ComparisonContext(
        folder=OutputFolder(output),
        configs=configs,
        device=device,
        plan=real.plan,
        data=_evaluated_set(data, pairs, repr(real.splits)),
        pretraining=_pretraining_set(first) if first is not None else None,
        test=_evaluated_set(test, tested) if test is not None and tested is not None else None,
        held_out=tuple(tuple(p for p in pairs if p.patient_id in s.validation) for s in real.splits),
        tested=tested,
        shares_pretraining=first is not None and not patient_overlap(real, first),
    )
    _check_existing_folds(context, real, first)
    if needing and first is not None:
        _log_exclusions(real, first)
    return context


def _log_exclusions(data: PreparedData, pretraining: PreparedData) -> None:
    if not (overlap := patient_overlap(data, pretraining)):
        log.info(overlap_line({}, {}))
    for fold, split in enumerate(data.splits if overlap else ()):
        log.info("fold %d: %s", fold, overlap_line(overlap, excluded_patients(overlap, split.validation)))


def _check_existing_folds(
    context: ComparisonContext, data: PreparedData, pretraining: PreparedData | None
) -> None:
    """Raise InputError if an existing fold, or its pretraining, had other data or initial weights."""
    for row in (row for row in ROWS if context.folder.model(row).is_dir()):
        configs = context.configs[row.name]
        for fold in row.fold_names(context.fold_count):
            job = EnsembleJob(data, context.folder.model(row), configs.training)
            if row.is_pretrained and pretraining is not None:
                job = replace(job, pretraining=pretraining, pretraining_config=configs.pretraining)
            elif row.is_pretrained:  # whatever it was trained on, the fold began with these weights
                job = replace(job, initial=context.folder.pretraining(row, fold) / FINAL)
            for stage in fold_stages(job, fold):
                if (difference := provenance_difference(stage)) is not None:
                    raise InputError(f"{stage.folder}: {difference}; expected the same, or another -o")


def _evaluated_set(path: Path, pairs: Sequence[EvaluationPair], folds: str = "") -> DataSet:
    lesions = [(p.patient_id, p.name, one.lesion_id, one.followup_ids) for p in pairs for one in p.lesions]
    return _data_set(path, pairs, lesions, folds)


def _pretraining_set(data: PreparedData) -> DataSet:
    lesions = [
        (pair.patient_id, pair.baseline.scan_id, pair.followup.scan_id, lesion.lesion_id)
        for pair in data.pairs
        for lesion in pair.lesions
    ]
    return _data_set(data.folder, data.pairs, lesions)


def _data_set(
    path: Path, pairs: Sequence[EvaluationPair | ScanPair], lesions: Sequence[Any], *folds: str
) -> DataSet:
    patients = len({pair.patient_id for pair in pairs})
    identity = digest([[*sorted(lesions), *folds]])[:16]
    return DataSet(path, patients, len(pairs), len(lesions), identity)
