"""Rigid and affine registration with SimpleITK, from any start.

The overlap is searched first by correlation over all shifts (scans of other parts, other tables); the best
few shifts and the headers as they are then compete as starts of a multi-resolution optimisation. What wins
is judged by the correlation of HU inside the body, not by the optimiser's own metric.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ...case.geometry import FloatArray
from . import Registration, RegistrationImage
from .grids import AIR_HU, Level, pyramid
from .linear import LinearTransform
from .search import evidence, translations

log = logging.getLogger(__name__)

_SPACINGS_MM = (8.0, 5.0, 3.0)
# Enough for metrics of 12 parameters to be smooth; more costs time and changes points by < 0.1 mm.
_SAMPLES = 60_000
_SEED = 20_250_704
_STARTS_TO_POLISH = 2

# Breathing and posture stretch a trunk by a tenth; more is a failed fit.
_VOLUME_LIMITS = (0.75, 1.33)
_STRETCH_LIMITS = (0.8, 1.25)
# A slab thinner than this says nothing of stretching along its normal.
_MIN_AFFINE_EXTENT_MM = 60.0

_TOO_SMALL_MM = 30.0
_POOR_SIMILARITY = 0.5
_USELESS_SIMILARITY = 0.3
_SMALL_OVERLAP = 0.15


@dataclass(frozen=True, eq=False)
class _Fit:
    """A transform with how well it fits: correlation inside the body, share of the smaller body seen."""

    transform: LinearTransform
    similarity: float
    overlap: float

    @property
    def score(self) -> float:
        return float(evidence(self.similarity, self.overlap)) if np.isfinite(self.similarity) else -np.inf


class LinearBackend:
    """Multi-resolution rigid registration, then affine where asked for and where it helps."""

    def __init__(self, affine: bool = True) -> None:
        self._affine = affine

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed); see `Backend.register`."""
        reason = _unusable(fixed, "follow-up") or _unusable(moving, "baseline")
        if reason:
            return _as_headers_say(reason)
        try:
            fit = self._fit(fixed, moving)
        except RuntimeError as error:  # what ITK raises when an image gives its optimiser nothing
            log.debug("registration failed: %s", error)
            return _as_headers_say("the registration of the two scans failed")
        return _judged(fit, fixed, moving)

    def _fit(self, fixed: RegistrationImage, moving: RegistrationImage) -> _Fit:
        levels = list(zip(pyramid(fixed, _SPACINGS_MM), pyramid(moving, _SPACINGS_MM), strict=True))
        coarse, middle, fine = levels
        starts = [_rigid(coarse, start) for start in translations(*coarse)]
        best = sorted((_measure(middle, start) for start in starts), key=lambda fit: -fit.score)
        polished = [_measure(middle, _rigid(middle, fit.transform)) for fit in best[:_STARTS_TO_POLISH]]
        rigid = max([*polished, best[0]], key=lambda fit: fit.score)
        if not self._affine:
            return _better(fine, rigid.transform, _rigid(fine, rigid.transform))
        return self._stretched(levels, rigid)
