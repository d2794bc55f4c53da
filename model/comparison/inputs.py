"""What a table is made from, opened and checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..crossval.pairs import EvaluationPair, data_set_pairs, evaluation_pairs
from ..data.provenance import digest
from ..errors import InputError
from ..network.plan import Plan
from ..training.checkpoint import FINAL
from ..training.fold_provenance import provenance_difference
from ..training.job import Say
from ..training.leakage import excluded_patients, overlap_line
from ..training.prepared_data import PreparedData, open_prepared
from ..training.stages import EnsembleJob, check_plans, fold_stages, patient_overlap
from .finished import pretraining_folder
from .layout import Layout
from .ledger import Ledger
from .steps import EvaluationPairs
from .test_set_check import check_unseen
from .variants import ROWS, Row, Stages, folds_of


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
    """``pairs`` are those who are asked about. ``shares_pretraining``: one pretraining serves all folds, as
    it has none of their patients; ``kept_out`` are lines that say who of it is kept out of which fold's."""

    plan: Plan
    data: DataSet
    pretraining: DataSet | None
    test: DataSet | None
    pairs: EvaluationPairs
    shares_pretraining: bool
    kept_out: tuple[str, ...] = ()

    @property
    def folds(self) -> int:
        """How many the splits have."""
        return len(self.pairs.held_out)


def open_inputs(
    data: Path,
    pretraining: Path | None,
    test: Path | None,
    rows: Sequence[Row],
    stages: Mapping[str, Stages],
    layout: Layout,
    say: Say,
) -> Inputs:
    """Open and check the data sets.

    Args:
        rows: those that are to be trained.
        stages: the settings of all rows, by name.

    Raises:
        InputError: something is missing, does not go together, the test set is not unseen, or what is
            trained there was made of other data.
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
    asked = evaluation_pairs(data)
    first = open_prepared(pretraining, False) if pretraining is not None else None
    if first is not None:
        check_plans(real, first)
    tested = None
    if test is not None:
        tested = data_set_pairs(test, surveys=layout.surveys, say=say)
        check_unseen(tested, [real, *([first] if first is not None else [])])
    _check_trained_on(real, first, stages, layout)
    held_out = tuple(
        tuple(pair for pair in asked if pair.patient_id in split.validation) for split in real.splits
    )
    return Inputs(
        plan=real.plan,
        data=_data_set(data, asked, repr(real.splits)),
        pretraining=_prepared_set(first) if first is not None else None,
        test=_data_set(test, tested) if test is not None and tested is not None else None,
        pairs=EvaluationPairs(held_out, tested),
        shares_pretraining=first is not None and not patient_overlap(real, first),
        kept_out=_told(real, first) if first is not None and needing else (),
    )


def _told(data: PreparedData, pretraining: PreparedData) -> tuple[str, ...]:
    """Who is kept out of a pretraining, in a line for each fold."""
    overlap = patient_overlap(data, pretraining)
    if not overlap:
        return (overlap_line({}, {}),)
    return tuple(
        f"fold {fold}: {overlap_line(overlap, excluded_patients(overlap, split.validation))}"
        for fold, split in enumerate(data.splits)
    )


def _check_trained_on(
    data: PreparedData, pretraining: PreparedData | None, stages: Mapping[str, Stages], layout: Layout
) -> None:
    """Raises InputError where a fold, or its pretraining, is there and was made of other data or weights."""
    for row in (row for row in ROWS if layout.run(row.name).is_dir()):
        for fold in folds_of(row, len(data.splits)):
            job = EnsembleJob(data, layout.run(row.name), stages[row.name].config)
            if row.is_pretrained and pretraining is not None:
                first = stages[row.name].pretraining
                job = replace(job, pretraining=pretraining, pretraining_config=first)
            elif row.is_pretrained:  # by whatever data, these are its weights
                job = replace(job, initial=pretraining_folder(layout, row, fold) / FINAL)
            for stage in fold_stages(job, fold):
                if (other := provenance_difference(stage)) is not None:
                    raise InputError(f"{stage.folder}: {other}; expected the same, or another -o")


def _patients(data: PreparedData) -> set[str]:
    return {pair.patient_id for pair in data.pairs}


def _prepared_set(data: PreparedData) -> DataSet:
    """A set that nobody is asked about needs no original files."""
    who = [
        (pair.patient_id, pair.baseline.scan_id, pair.followup.scan_id, lesion.lesion_id)
        for pair in data.pairs
        for lesion in pair.lesions
    ]
    return DataSet(data.folder, len(_patients(data)), len(data.pairs), len(who), _short_digest(sorted(who)))


def _data_set(path: Path, pairs: Sequence[EvaluationPair], folds: str = "") -> DataSet:
    who = [
        (pair.patient_id, pair.name, lesion.lesion_id, lesion.followup_ids)
        for pair in pairs
        for lesion in pair.lesions
    ]
    patients = {pair.patient_id for pair in pairs}
    return DataSet(path, len(patients), len(pairs), len(who), _short_digest([*sorted(who), folds]))


def _short_digest(values: Sequence[object]) -> str:
    return digest([values])[:16]


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
