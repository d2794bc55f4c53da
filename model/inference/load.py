"""Load weights from disk into an ensemble that is ready to predict."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import WeightsError
from ..network.input_variants import Family, PromptNetwork
from ..network.plan import Plan
from ..network.weights import (
    WeightsManifest,
    find_prompt_network,
    find_weights,
    inspect_weights,
    load_folds,
    load_plan,
)
from .ensemble import Ensemble
from .options import ModelOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """An ensemble, its plan, and the files it was loaded from."""

    plan: Plan = field(repr=False)
    ensemble: Ensemble = field(repr=False)
    manifest: WeightsManifest

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for every run with this model: the notice of its weights, if any."""
        notice = self.manifest.notice
        return () if notice is None else (f"{self.manifest.folder}: {notice}",)


def load_model(folder: Path | None = None, options: ModelOptions | None = None) -> LoadedModel:
    """Load the longitudinal model of a folder.

    Args:
        folder: in the layout of nnU-Net; None finds the default one.
        options: folds, device, precision, mirroring and batch; None takes the defaults.

    Raises:
        WeightsError: weights that are missing, corrupt, unsafe, or do not fit their plan.
        InputError: the GPU of the options does not exist.
    """
    options = options or ModelOptions()
    manifest = inspect_weights(find_weights(folder), options.folds)
    plan = load_plan(manifest)
    model = LoadedModel(plan, Ensemble(plan, list(load_folds(manifest)), options), manifest)
    for warning in model.warnings:
        log.warning("%s", warning)
    return model


def load_single_time_point(
    weights_dir: Path,
    options: ModelOptions | None = None,
    *,
    networks: Collection[PromptNetwork] | None = None,
) -> dict[PromptNetwork, LoadedModel]:
    """Load LesionLocator's networks from the layout in which they are published ([Rokuss2025]).

    Args:
        weights_dir: `LesionLocatorCheckpoint`, or the folder above it, or one network's own.
        options: folds, device, precision, mirroring and batch; None takes the defaults.
        networks: networks that must be there; None loads all that are there.

    Raises:
        WeightsError: there is no network, or one is missing, corrupt, unsafe, or does not fit its plan.
        InputError: the GPU of the options does not exist.
    """
    options = options or ModelOptions()
    requested = [network for network in PromptNetwork if networks is None or network in networks]
    folders = {network: find_prompt_network(weights_dir, network) for network in requested}
    missing = [network.value for network, folder in folders.items() if folder is None]
    if missing and (networks is not None or len(missing) == len(requested)):
        raise WeightsError(f"{weights_dir}: holds no {' or '.join(missing)}; expected a plans.json there")
    manifests = {
        network: inspect_weights(folder, options.folds)
        for network, folder in folders.items()
        if folder is not None
    }
    return {network: _prompt_model(network, manifest, options) for network, manifest in manifests.items()}


def _prompt_model(network: PromptNetwork, manifest: WeightsManifest, options: ModelOptions) -> LoadedModel:
    plan = load_plan(manifest)
    weights = list(load_folds(manifest, family=Family.SINGLE_TIME_POINT))
    if network is PromptNetwork.TRACK:  # mirrored in all axes as published, regardless of its checkpoints
        weights = [replace(fold, mirror_axes=(0, 1, 2)) for fold in weights]
    return LoadedModel(plan, Ensemble(plan, weights, options), manifest)
