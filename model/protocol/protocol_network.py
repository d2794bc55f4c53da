"""The network of a run of the protocol: its settings, and predictions for single cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..case.tumor_clicks import TumorClick
from ..data.provenance import file_digest
from ..inference.options import ModelOptions
from ..network.weights import available_folds, find_weights, inspect_weights
from .loaded_case import BoolArray, LoadedCase

if TYPE_CHECKING:
    from ..interactive.load_pet_ct import PetCtModel

Segment = Callable[[LoadedCase, tuple[TumorClick, ...]], BoolArray]
"""All tumour of a case, booleans (z, y, x) on its axial grid, from clicks on that grid."""


@dataclass(frozen=True, slots=True)
class ProtocolNetwork:
    """Models for PET/CT and how they run.

    Attributes:
        weights: folder of each model.
        folds: of each model; None for all.
        model: device, precision and mirroring.
    """

    weights: tuple[Path, ...]
    folds: tuple[int, ...] | None = None
    model: ModelOptions = ModelOptions()

    def settings(self) -> dict[str, Any]:
        """What decides about the predictions, as JSON holds it: hashes of the weights, precision, mirroring.

        Raises:
            WeightsError: a model or a fold is missing.
        """
        roots: Sequence[Path] = [find_weights(folder) for folder in self.weights]
        manifests = [
            inspect_weights(root, available_folds(root) if self.folds is None else self.folds)
            for root in roots
        ]
        return {
            "weights": [manifest.hashes(file_digest) for manifest in manifests],
            "precision": self.model.precision,
            "tta": self.model.tta,
        }

    def load(self) -> Segment:
        """Load the weights.

        Raises:
            WeightsError: they cannot be used.
            InputError: the GPU of the options does not exist.
        """
        from ..interactive.load_pet_ct import load_pet_ct_model  # brings torch

        return _NetworkSegment(load_pet_ct_model(self.weights, self.model, self.folds))


@dataclass(frozen=True, eq=False)
class _NetworkSegment:
    """Predictions by a model."""

    model: PetCtModel

    def __call__(self, case: LoadedCase, clicks: tuple[TumorClick, ...]) -> BoolArray:
        from ..interactive.segment_pet_ct import segment_pet_ct

        scan = case.scan
        return segment_pet_ct(self.model, scan.ct, scan.pet, scan.geometry, clicks).mask
