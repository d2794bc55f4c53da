"""What a table is made from, opened and checked before anything is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...network.plan import Plan
from ..engine.job import Say, finished_data
from ..engine.overlap import PatientScan, scans_of, shared_patients
from ..engine.pipeline import EnsembleJob, PreparedData, check_plans, finished_folds
from ..engine.prepared import open_prepared
from ..heldout.cases import AskedPair, data_set_pairs, prepared_pairs
from .layout import Layout
from .ledger import Ledger
from .rows import ROWS, Row, Stages, folds_of
from .survey import training_of
from .unseen import check_unseen


@dataclass(frozen=True, slots=True)
class DataSet:
    """Who is in a data set; ``digest`` stands for the patients, scans and lesions, and for the folds."""

    path: Path
    patients: int
    pairs: int
    lesions: int
    digest: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """``folds`` is how many the splits have. ``shares_pretraining``: one pretraining serves all folds, as it
    has none of their patients."""

    plan: Plan
    data: DataSet
    pretraining: DataSet | None
    test: DataSet | None
    folds: int
    shares_pretraining: bool


def open_inputs(
    data: Path, pretraining: Path | None, test: Path | None, rows: Sequence[Row],
    stages: Mapping[str, Stages], layout: Layout, say: Say,
) -> Inputs:  # fmt: skip
    """Open and check the data sets.

    Args:
        rows: those that are to be trained.
        stages: the settings of all rows, by name.

    Raises:
        InputError: something is missing, does not go together, or the test set is not unseen.
    """
    needing = [row.name for row in rows if row.is_pretrained]
    if needing and pretraining is None:
        raise InputError(
            f"--pretrain: is missing; expected prepared synthetic follow-ups for {', '.join(needing)} "
            "(--rows names the rows to run)"
        )
    real = open_prepared(data, False)
    if not real.splits:
        raise InputError(f"{data}: has no folds; expected those of 'train prepare --folds K'")
    asked = prepared_pairs(data)
    known = _data_set(data, asked, repr(real.splits))
    first = open_prepared(pretraining, False) if pretraining is not None else None
    if first is not None:
        check_plans(real, first)
    _check_trained_on(real, stages, layout)
    return Inputs(
        plan=real.plan,
        data=known,
        pretraining=_prepared_set(first) if first is not None else None,
        test=_tested(test, [real, *([first] if first is not None else [])], layout, say),
        folds=len(real.splits),
        shares_pretraining=first is not None and not shared_patients(_scans(real), _scans(first)),
    )


def _check_trained_on(data: PreparedData, stages: Mapping[str, Stages], layout: Layout) -> None:
    """Raises InputError where a finished fold says that it was trained on others than the data hold now."""
    for row in ROWS:
        job = EnsembleJob(data, layout.run(row.name), stages[row.name].config, folds=())
        known = finished_folds(job)
        for fold in folds_of(row, len(data.splits)):
            training_of(layout, row, fold, stages[row.name])  # says which setting is another
            final = layout.final(row.name, fold)
            if final.is_file() and fold not in known and finished_data(final.parent) is not None:
                raise InputError(
                    f"{final}: was trained on other patients, scans or lesions than {data.folder} holds; "
                    "expected the same, or another -o"
                )


def _scans(data: PreparedData) -> tuple[PatientScan, ...]:
    return scans_of(data.folder, data.pairs)


def _patients(data: PreparedData) -> set[str]:
    return {pair.patient_id for pair in data.pairs}


def _prepared_set(data: PreparedData) -> DataSet:
    """A set that nobody is asked about needs no original files."""
    who = [
        (pair.patient_id, pair.baseline.scan_id, pair.followup.scan_id, lesion.lesion_id)
        for pair in data.pairs
        for lesion in pair.lesions
    ]
    return DataSet(data.folder, len(_patients(data)), len(data.pairs), len(who), _digest(sorted(who)))


def _data_set(path: Path, pairs: Sequence[AskedPair], folds: str = "") -> DataSet:
    who = [
        (pair.patient_id, pair.name, lesion.lesion_id, lesion.followup_ids)
        for pair in pairs
        for lesion in pair.lesions
    ]
    patients = {pair.patient_id for pair in pairs}
    return DataSet(path, len(patients), len(pairs), len(who), _digest([*sorted(who), folds]))


def _digest(values: Sequence[object]) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


def _tested(path: Path | None, prepared: Sequence[PreparedData], layout: Layout, say: Say) -> DataSet | None:
    if path is None:
        return None
    pairs = data_set_pairs(path, surveys=layout.surveys, say=say)
    check_unseen(pairs, [data.folder for data in prepared])
    return _data_set(path, pairs)


def fitted(ledger: Ledger, inputs: Inputs, layout: Layout) -> Ledger:
    """The ledger with the fingerprints of the inputs; those that are not given now stay.

    Raises:
        InputError: it is the ledger of other data.
    """
    updates = {}
    for name in ("data", "pretraining", "test"):
        given: DataSet | None = getattr(inputs, name)
        if given is None:
            continue
        before = getattr(ledger, name)
        if before not in (None, given.digest):
            raise InputError(
                f"{layout.ledger}: is that of another data set than {given.path}; expected the same "
                "patients, lesions and folds, or another -o"
            )
        updates[name] = given.digest
    return ledger.model_copy(update=updates)
