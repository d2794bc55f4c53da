"""Loading networks for PET/CT: any number of folds, of one model or several with one plan."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import WeightsError
from ..inference.ensemble import Ensemble
from ..inference.options import ModelOptions
from ..network.checkpoint_file import read_checkpoint
from ..network.input_variants import Family, marks_are_assumed
from ..network.plan import PetCtPlan, read_pet_ct_plan
from ..network.weights import (
    FoldWeights,
    WeightsManifest,
    ensemble_folds,
    find_weights,
    inspect_weights,
    load_folds,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PetCtModel:
    """An ensemble for PET/CT, its plan, and the files it was loaded from.

    Attributes:
        plan: of all folds.
        ensemble: the folds of all models.
        manifests: folder and files of each model.
        warnings: for every run with this model.
    """

    plan: PetCtPlan = field(repr=False)
    ensemble: Ensemble = field(repr=False)
    manifests: tuple[WeightsManifest, ...]
    warnings: tuple[str, ...]

    @property
    def takes_clicks(self) -> bool:
        """False for the automatic networks, which see CT and PET alone."""
        return len(self.ensemble.variant.channels) > 2


def load_pet_ct_model(
    folders: str | Path | Sequence[str | Path],
    options: ModelOptions | None = None,
    folds: Sequence[int | str] | None = None,
    organs: bool = False,
) -> PetCtModel:
    """Load all folds of one or several models into one ensemble.

    Args:
        folders: of one or several models, in the layout of nnU-Net or packed; their plans must be equal.
        options: device, precision, mirroring and batch; its folds are not used.
        folds: numbers of the folds to load from each folder; None loads all, and `fold_all` only
            where there are no others.
        organs: predict organs, too.

    Raises:
        WeightsError: weights that are missing, corrupt, unsafe, of another family, do not fit their plan, or
            of models with different plans or channels, or without heads for organs.
        InputError: the GPU of the options does not exist.
    """
    if isinstance(folders, str | Path):
        folders = [folders]
    if not folders:
        raise WeightsError("no model was given; expected at least one folder")
    roots = [find_weights(Path(folder)) for folder in folders]
    manifests = tuple(
        inspect_weights(root, ensemble_folds(root) if folds is None else folds) for root in roots
    )
    if any(not manifest.folds for manifest in manifests):
        raise WeightsError("no folds were chosen; expected at least one")
    plan = _common_plan(manifests)
    weights, notes = _with_common_mirrors(list(load_folds(*manifests, family=Family.PET_CT, organs=organs)))
    if organs and not weights[0].organ_classes:
        raise WeightsError(
            f"{weights[0].path}: has no heads for organs; expected a model with them for --organs"
        )
    warnings = (*_notices(manifests), *_assumptions(weights), *notes)
    for warning in warnings:
        log.warning("%s", warning)
    ensemble = Ensemble(plan.network, weights, options or ModelOptions(), fills_batches=True)
    return PetCtModel(plan, ensemble, manifests, warnings)


def _common_plan(manifests: Sequence[WeightsManifest]) -> PetCtPlan:
    plans = [
        read_pet_ct_plan(manifest.plan_file, read_checkpoint(manifest.files[0]).configuration)
        for manifest in manifests
    ]
    for manifest, plan in zip(manifests, plans, strict=True):
        if plan != plans[0]:
            raise WeightsError(
                f"{manifest.plan_file}: differs from {manifests[0].plan_file}; expected models with one plan "
                "(spacing, patch, normalisation and network)"
            )
    return plans[0]


def _with_common_mirrors(weights: list[FoldWeights]) -> tuple[list[FoldWeights], list[str]]:
    """Restrict all folds to the mirroring axes that all of them allow."""
    common = tuple(
        axis for axis in weights[0].mirror_axes if all(axis in fold.mirror_axes for fold in weights)
    )
    if all(set(fold.mirror_axes) == set(common) for fold in weights):
        return weights, []
    note = (
        f"the folds allow different mirrored views; only axes {list(common)}, which all allow, are mirrored"
    )
    return [replace(fold, mirror_axes=common) for fold in weights], [note]


def _notices(manifests: Sequence[WeightsManifest]) -> list[str]:
    return [f"{one.folder}: {one.notice}" for one in manifests if one.notice is not None]


def _assumptions(weights: Sequence[FoldWeights]) -> list[str]:
    names = dict.fromkeys(fold.trainer_name for fold in weights if marks_are_assumed(fold.trainer_name))
    return [
        f"the name of the trainer {name} does not say how its clicks are drawn; balls of 2 voxels are assumed"
        for name in names
    ]
