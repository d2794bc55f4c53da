"""Open a prepared data set for training: scan pairs with their lesions, folds, plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.folds import SPLITS_FILE, read_folds
from ..data.pet_ct.prepared_study import PreparedStudy
from ..data.planning.plan_files import pet_ct_preparation_of, preparation_of, read_organ_count
from ..data.point_tables import LesionVoxels
from ..data.store import PreparedLesion, PreparedPair, PreparedScan, read_prepared
from ..errors import InputError
from ..network.plan import PLANS_FILE, CtNormalization, PetCtPlan, Plan, read_training_plan
from .data_source import LesionPair, ScanPair


@dataclass(frozen=True, slots=True, repr=False)
class FoldSplit:
    """Names of the patients that a fold is trained and validated on."""

    training: tuple[str, ...]
    validation: tuple[str, ...]

    def __repr__(self) -> str:
        # Ledgers of `train table` hold a digest of this text: it must not change with the name of the class.
        return f"Split(training={self.training!r}, validation={self.validation!r})"


@dataclass(frozen=True, eq=False)
class PreparedData:
    """An opened data set written by `train prepare`.

    Attributes:
        folder: of the data set.
        plan: of the network.
        plan_file: its file.
        pairs: all scan pairs with their lesions.
        splits: the folds; empty if the data set has none.
        pet: normalisation of SUV if it holds PET/CT studies, each of which is its own follow-up.
        organs: number of organs that its studies are labelled with.
    """

    folder: Path
    plan: Plan
    plan_file: Path
    pairs: tuple[ScanPair, ...]
    splits: tuple[FoldSplit, ...]
    pet: CtNormalization | None = None
    organs: int = 0


def open_prepared(folder: Path, with_tables: bool) -> PreparedData:
    """Open a data set written by `train prepare`; its volumes are read later, box by box.

    Args:
        folder: of the data set.
        with_tables: load the voxels that pretraining draws points from.

    Raises:
        InputError: it is not a prepared data set, its folds are invalid, or its scans were prepared with
            another plan.
        WeightsError: its plan cannot be used.
    """
    cohort = read_prepared(folder)
    plan_file = folder / PLANS_FILE
    plan, pet = read_training_plan(plan_file)
    organs, preparation = 0, preparation_of(plan)
    if pet is not None:
        cohort = read_prepared(folder, PreparedStudy)
        organs, preparation = read_organ_count(folder), pet_ct_preparation_of(PetCtPlan(plan, pet))
    pairs = tuple(_scan_pair(pair, with_tables) for pair in cohort.pairs)
    if cohort.preparation != preparation:
        raise InputError(
            f"{plan_file}: is not the plan that the scans were prepared with; expected 'train prepare' "
            "run to its end"
        )
    splits = _read_splits(folder / SPLITS_FILE, {pair.patient_id for pair in pairs})
    return PreparedData(folder, plan, plan_file, pairs, splits, pet, organs)


def _read_splits(path: Path, patients: set[str]) -> tuple[FoldSplit, ...]:
    """The folds; empty if the file is missing, as pretraining and a network of all patients need none."""
    if not path.exists():
        return ()
    entries = read_folds(path.parent)
    for number, entry in enumerate(entries):
        both = set(entry.train) & set(entry.val)
        if both:
            raise InputError(f"{path}: fold {number} trains and validates on {min(both)}; expected one only")
        unknown = (set(entry.train) | set(entry.val)) - patients
        if unknown:
            raise InputError(
                f"{path}: fold {number} lists patient {min(unknown)}, who has no prepared pair of scans; "
                "expected one with a pair"
            )
    return tuple(FoldSplit(entry.train, entry.val) for entry in entries)


def _scan_pair(pair: PreparedPair, with_tables: bool) -> ScanPair:
    lesions = tuple(_lesion_pair(pair, lesion, with_tables) for lesion in pair.lesions)
    return ScanPair(pair.patient_id, pair.baseline, pair.followup, lesions)


def _lesion_pair(pair: PreparedPair, lesion: PreparedLesion, with_tables: bool) -> LesionPair:
    return LesionPair(
        **vars(lesion),
        baseline_table=_table(pair.baseline, (lesion.lesion_id,)) if with_tables else None,
        followup_table=_table(pair.followup, lesion.followup_ids) if with_tables else None,
    )


def _table(scan: PreparedScan, ids: Sequence[int]) -> LesionVoxels | None:
    """The voxels of all parts of a lesion, or None."""
    tables = [table for lesion_id in ids if len((table := scan.voxels(lesion_id)).weights)]
    if not tables:
        return None
    return LesionVoxels(
        np.concatenate([table.voxels_zyx for table in tables]),
        np.concatenate([table.weights for table in tables]),
    )
