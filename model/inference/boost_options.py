"""Boosting methods and their options."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..errors import InputError
from .boost_views import ROTATIONS
from .components import LIMIT_MM

MAX_PERTURBATION_MM = 5.0


class Boosting(StrEnum):
    """Boosting methods: the views of a lesion and how their results are combined."""

    NONE = "none"
    # Two rounds: the second prompt is the voxel deepest inside the first result.
    REPROMPT = "reprompt"  # the second result
    ADDITIVE = "additive"  # the union of both
    MERGED = "merged-probabilities"  # the mean of both
    # One round of several views.
    PERTURBED = "perturbed"  # points near the given one; the mean
    CLICKS = "click-majority"  # several points; majority vote
    ROTATED = "rotated"  # scans rotated by multiples of 90 degrees in the axial plane; the mean


TWO_ROUND_METHODS = (Boosting.REPROMPT, Boosting.ADDITIVE, Boosting.MERGED)


def passes_of(method: Boosting) -> int:
    """How often a method predicts each lesion, with its default options."""
    options = BoostOptions(method)
    further = {Boosting.PERTURBED: options.count, Boosting.CLICKS: options.count, Boosting.ROTATED: 3}
    return 2 if method in TWO_ROUND_METHODS else 1 + further.get(method, 0)


@dataclass(frozen=True, slots=True)
class BoostOptions:
    """Options of boosting.

    Args:
        perturbation_mm: maximum distance of perturbed points from the given one; up to 5 mm.
        count: number of perturbed points per lesion in addition to the given one.
        seed: of the perturbed points, which depend on it and on the lesion id only.
        turns: rotations of the further views of ``rotated`` in degrees: 90, 180, 270.
        limit_mm: maximum distance of a lesion's first result from its point to be re-prompted from.

    Raises:
        InputError: a value is out of range.
    """

    method: Boosting = Boosting.NONE
    perturbation_mm: float = MAX_PERTURBATION_MM
    count: int = 2
    seed: int = 0
    turns: tuple[int, ...] = (90, 180, 270)
    limit_mm: float = LIMIT_MM

    def __post_init__(self) -> None:
        if not 0 < self.perturbation_mm <= MAX_PERTURBATION_MM:
            raise InputError(
                f"perturbation of {self.perturbation_mm:g} mm: expected more than 0 and at most "
                f"{MAX_PERTURBATION_MM:g} mm"
            )
        if self.count < 1:
            raise InputError(f"{self.count} perturbed points: expected at least one")
        if self.seed < 0:
            raise InputError(f"seed {self.seed}: expected 0 or more")
        is_repeated = len(set(self.turns)) < len(self.turns)
        if not self.turns or not set(self.turns) <= set(ROTATIONS) or is_repeated:
            raise InputError(f"turns of {self.turns} degrees: expected some of 90, 180 and 270, each once")

    @property
    def uses_support(self) -> bool:
        """True if the method averages and therefore needs probabilities of one half and less as well.

        If so, build the inner segmenter with ``keep_support``. For results without support, probabilities
        outside the box count as 0.
        """
        return self.method in (Boosting.MERGED, Boosting.PERTURBED, Boosting.ROTATED)
