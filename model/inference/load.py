"""Weights on disk -> an ensemble that is ready to predict."""

from __future__ import annotations

from dataclasses import dataclass

from ..network.plan import Plan
from ..network.weights import WeightsManifest, find_weights, inspect_weights, load_folds, load_plan
from ..options import Options
from .ensemble import Ensemble, EnsembleOptions


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """The ensemble with its plan and the files it came from."""

    plan: Plan
    ensemble: Ensemble
    manifest: WeightsManifest


def load_model(options: Options) -> LoadedModel:
    """Load the folds that the options name.

    Raises:
        WeightsError: weights that are missing, corrupt, unsafe, or do not fit their plan.
        InputError: a GPU was asked for that is not there.
    """
    manifest = inspect_weights(find_weights(options.weights_dir), options.folds)
    plan = load_plan(manifest)
    settings = EnsembleOptions(
        device=options.device,
        precision=options.precision,
        tta=options.tta,
        deterministic=options.deterministic,
    )
    return LoadedModel(plan, Ensemble(plan, list(load_folds(manifest)), settings), manifest)
