"""Choose the points that represent a lesion as prompts, from its mask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..case.case import MaskPrompt, Scan
from ..case.geometry import Array, Vector
from ..prompts.sampling import Candidates, Probability, choose_points, deepest_point
from .series import TrackingOptions

log = logging.getLogger(__name__)

UnpromptedProbability = Callable[[Scan, Sequence[Vector]], Sequence[float]]
"""Foreground probability at points (voxel indices z, y, x) of a scan without a prompt."""


@dataclass(frozen=True, eq=False)
class PointChooser:
    """Chooses points from lesion masks: the deepest voxel, or sampled and filtered as the options say.

    Attributes:
        unprompted: needed if ``options.choice`` filters by probability.
    """

    options: TrackingOptions
    unprompted: UnpromptedProbability | None = None

    def __call__(self, mask: MaskPrompt, scan: Scan, lesion_id: int) -> tuple[Vector, ...]:
        """Choose voxels of a mask, best first.

        Args:
            mask: the lesion, on the scan's axial grid.

        Returns:
            Voxel indices (z, y, x) on the scan's axial grid, at least one.
        """
        probability = partial(self.unprompted, scan) if self.unprompted is not None else None
        chosen = self.candidates(mask, scan.geometry.spacing_zyx, lesion_id, scan.ct, probability)
        if chosen.is_fallback:
            log.warning(
                "lesion %d in %s: no sampled point passes the filter, all are kept", lesion_id, scan.name
            )
        return chosen.points

    def candidates(
        self,
        mask: MaskPrompt,
        spacing_zyx: Vector,
        lesion_id: int,
        ct: Array | None = None,
        probability: Probability | None = None,
    ) -> Candidates:
        """Choose voxels of a mask, best first, without a scan.

        Args:
            mask: the lesion, on an axial grid.
            spacing_zyx: of that grid, in mm.
            ct: HU (z, y, x) of the scan; needed to filter by HU.
            probability: of lesion at points of the scan; needed to filter by probability.

        Returns:
            Voxel indices (z, y, x) on that grid, and whether no point passed the filter.
        """
        choice = self.options.choice
        if choice is None:
            return Candidates((deepest_point(mask.voxels, mask.box, spacing_zyx),))
        rng = np.random.default_rng([self.options.seed, lesion_id])
        return choose_points(mask, spacing_zyx, choice, rng, ct, probability)
