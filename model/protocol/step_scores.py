"""Scores of one step of the protocol, and the area under their curve over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from ..case.labelmaps import bounding_box
from ..case.tumor_clicks import ClickKind, TumorClick
from ..evaluation.lesion_matches import LesionMatches, match_lesions
from ..evaluation.overlap import Overlap, dice, measure_overlap

BoolArray = npt.NDArray[np.bool_]


class StepMetric(StrEnum):
    """Metrics of a step: Dice and DMM from 0 to 1, volumes in ml."""

    DICE = "dice"
    DMM = "dmm"
    FPV = "fpv_ml"
    FNV = "fnv_ml"


LARGEST = {StepMetric.DICE: 1.0, StepMetric.DMM: 1.0}
"""Best value of a metric that has one; volumes are best at 0, and have no upper end."""


class StepRecord(BaseModel):
    """The counts of one step, from which all scores are derived.

    Attributes:
        step: number of clicks of each kind, or of scribbles.
        tumor_clicks, background_clicks: points that the network got.
        voxel_ml: volume of a voxel.
        reference_voxels, prediction_voxels, common_voxels: of the masks.
        fn_voxels: of lesions (18 neighbours) that the prediction does not touch.
        fp_voxels: of components of the prediction that touch no lesion.
        found, missed, false: lesions by `match_lesions`.
        seconds: that the prediction took.
    """

    model_config = ConfigDict(frozen=True)

    step: int
    tumor_clicks: int
    background_clicks: int
    voxel_ml: float
    reference_voxels: int
    prediction_voxels: int
    common_voxels: int
    fn_voxels: int
    fp_voxels: int
    found: int
    missed: int
    false: int
    seconds: float

    def score(self, metric: StepMetric) -> float | None:
        """Compute a metric; without any lesion in the reference only FPV is defined, others are None."""
        if metric is StepMetric.FPV:
            return self.fp_voxels * self.voxel_ml
        if not self.reference_voxels:
            return None
        if metric is StepMetric.FNV:
            return self.fn_voxels * self.voxel_ml
        if metric is StepMetric.DMM:
            return LesionMatches(self.found, self.missed, self.false).f1
        return dice(self.reference_voxels, self.prediction_voxels, self.common_voxels)


def measure_step(
    step: int,
    clicks: Sequence[TumorClick],
    reference: BoolArray,
    prediction: BoolArray,
    voxel_ml: float,
    seconds: float = 0.0,
) -> StepRecord:
    """Compare the prediction of a step with the reference.

    Args:
        step: number of clicks of each kind, or of scribbles.
        clicks: that the network got.
        reference: booleans (z, y, x).
        prediction: booleans of the same shape.
        voxel_ml: volume of a voxel.
        seconds: that the prediction took.
    """
    box = bounding_box(reference | prediction)
    if box is None:
        overlap, matches = Overlap(0, 0, 0, 0, 0), LesionMatches(0, 0, 0)
    else:
        masks = reference[box.slices], prediction[box.slices]
        overlap, matches = measure_overlap(*masks), match_lesions(*masks)
    kinds = [click.kind for click in clicks]
    return StepRecord(
        step=step,
        tumor_clicks=kinds.count(ClickKind.TUMOR),
        background_clicks=kinds.count(ClickKind.BACKGROUND),
        voxel_ml=voxel_ml,
        reference_voxels=overlap.reference,
        prediction_voxels=overlap.prediction,
        common_voxels=overlap.common,
        fn_voxels=overlap.fn,
        fp_voxels=overlap.fp,
        found=matches.found,
        missed=matches.missed,
        false=matches.false,
        seconds=round(seconds, 3),
    )


def area_under_steps(values: Sequence[float | None]) -> float | None:
    """Area under the curve by trapezoids with a unit distance between steps.

    Args:
        values: of each step in order.

    Returns:
        From 0 to the number of steps minus 1 for a metric from 0 to 1; None if a value is undefined, or there
        is one step alone.
    """
    numbers = [value for value in values if value is not None]
    if len(numbers) < max(2, len(values)):
        return None
    return float(np.trapezoid(numbers))
