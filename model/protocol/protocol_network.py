"""The network of a run of the protocol: its settings, and predictions for single cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..case.tumor_clicks import TumorClick
from ..data.provenance import file_digest
from ..inference.options import ModelOptions
from ..interactive.false_alarm_rules import FalseAlarmRules
from ..network.weights import ensemble_folds, find_weights, inspect_weights
from .loaded_case import BoolArray, LoadedCase

if TYPE_CHECKING:
    from ..interactive.load_pet_ct import PetCtModel
    from ..interactive.scan_segmenter import ScanSegmenter

_MEMORY_BYTES = 4 << 30  # for predictions of tiles that are kept

Segment = Callable[[LoadedCase, tuple[TumorClick, ...]], BoolArray]
"""All tumour of a case, booleans (z, y, x) on its axial grid, from clicks on that grid."""


@dataclass(frozen=True, slots=True)
class ProtocolNetwork:
    """Models for PET/CT and how they run.

    Attributes:
        weights: folder of each model.
        folds: of each model; None for those of `ensemble_folds`.
        model: device, precision and mirroring.
        rules: against false alarms, applied to the mask of each step.
    """

    weights: tuple[Path, ...]
    folds: tuple[int | str, ...] | None = None
    model: ModelOptions = ModelOptions()
    rules: FalseAlarmRules = FalseAlarmRules()

    def settings(self) -> dict[str, Any]:
        """Everything that determines the predictions, for JSON: hashes of the weights, precision, mirroring.

        Raises:
            WeightsError: a model or a fold is missing.
        """
        roots: Sequence[Path] = [find_weights(folder) for folder in self.weights]
        manifests = [
            inspect_weights(root, ensemble_folds(root) if self.folds is None else self.folds)
            for root in roots
        ]
        return {
            "weights": [manifest.hashes(file_digest) for manifest in manifests],
            "precision": self.model.precision,
            "tta": self.model.tta,
            "rules": asdict(self.rules),
        }

    def load(self) -> Segment:
        """Load the weights.

        Raises:
            WeightsError: they cannot be used.
            InputError: the GPU of the options does not exist.
        """
        from ..interactive.load_pet_ct import load_pet_ct_model  # brings torch

        return _NetworkSegment(load_pet_ct_model(self.weights, self.model, self.folds), self.rules)


class _NetworkSegment:
    """Predictions by a model; further clicks on a case compute only the tiles that they change."""

    def __init__(self, model: PetCtModel, rules: FalseAlarmRules) -> None:
        self._model, self._rules = model, rules
        self._case: LoadedCase | None = None
        self._segmenter: ScanSegmenter | None = None

    def __call__(self, case: LoadedCase, clicks: tuple[TumorClick, ...]) -> BoolArray:
        from ..interactive.scan_segmenter import ScanSegmenter

        if self._segmenter is None or self._case is not case:
            scan = case.scan
            self._segmenter = None  # frees the images of the case before
            self._segmenter = ScanSegmenter(
                self._model, scan.ct, scan.pet, scan.geometry, _MEMORY_BYTES, self._rules
            )
            self._case = case
        self._segmenter.update(clicks)
        return self._segmenter.mask
