"""Lesions of a reference that a prediction finds: the detection metric DMM of autoPET V."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..case.connected_components import label_components
from .overlap import CONNECTIVITY

MATCH_IOU = 0.1
"""Intersection over union from which a component of the prediction finds a lesion."""


@dataclass(frozen=True, slots=True)
class LesionMatches:
    """Counts of lesions.

    Attributes:
        found: lesions of the reference that match a component of the prediction.
        missed: lesions of the reference that match none.
        false: components of the prediction that match no lesion.
    """

    found: int
    missed: int
    false: int

    @property
    def f1(self) -> float | None:
        """F1 of the lesions (DMM); None if the reference holds no lesion."""
        if not self.found + self.missed:
            return None
        return 2 * self.found / (2 * self.found + self.missed + self.false)


def match_lesions(
    reference: npt.NDArray[np.bool_], prediction: npt.NDArray[np.bool_], least_iou: float = MATCH_IOU
) -> LesionMatches:
    """Match the components (18 neighbours) of two masks; one may match several.

    Args:
        reference: booleans (z, y, x).
        prediction: booleans of the same shape.
        least_iou: intersection over union of a match, above 0.
    """
    lesions, lesion_count = label_components(reference, CONNECTIVITY)
    predicted, predicted_count = label_components(prediction, CONNECTIVITY)
    both = reference & prediction
    pairs, common = np.unique(np.stack([lesions[both], predicted[both]]), axis=1, return_counts=True)
    lesion_sizes = np.bincount(lesions[reference], minlength=lesion_count + 1)
    predicted_sizes = np.bincount(predicted[prediction], minlength=predicted_count + 1)
    union = lesion_sizes[pairs[0]] + predicted_sizes[pairs[1]] - common
    matched = pairs[:, common >= least_iou * union]
    found, useful = len(np.unique(matched[0])), len(np.unique(matched[1]))
    return LesionMatches(found, lesion_count - found, predicted_count - useful)
