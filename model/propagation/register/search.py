"""Where two scans may lie on each other before anything is known: translations worth a try."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy.signal import fftconvolve

from ...case.geometry import FloatArray
from .grids import Level
from .linear import LinearTransform

_PEAKS = 4
# Two starts nearer than this run into the same place.
_APART_MM = 30.0
# A tenth of the smaller body in common: below it, chance finds better matches than the truth.
_MIN_OVERLAP = 0.1


def alignment_evidence(correlation: npt.ArrayLike, overlap: npt.ArrayLike) -> FloatArray:
    """How much a correlation over a share of the smaller body speaks for an alignment; larger is better.

    Fisher's transform makes steps near 1 count; the root favours large overlaps, where a good match by
    chance is rarer, without letting them outweigh a clearly better one.
    """
    bounded = np.clip(np.asarray(correlation, np.float64), -0.999, 0.999)
    return np.asarray(np.arctanh(bounded) * np.clip(overlap, 0.0, 1.0) ** 0.25)


def candidate_translations(fixed: Level, moving: Level) -> list[LinearTransform]:
    """Starts for the optimiser, the most likely first: peaks of the correlation, header, centres.

    Both levels must have one and the same spacing along the world's axes.
    """
    found = _correlation_peaks(fixed, moving)
    centres = np.subtract(_centre_mm(moving.image), _centre_mm(fixed.image))
    starts: list[FloatArray] = []
    for offset in [*found, np.zeros(3), centres]:
        if all(np.linalg.norm(offset - other) >= _APART_MM for other in starts):
            starts.append(offset)
    return [LinearTransform.translation(offset) for offset in starts]


def _correlation_peaks(fixed: Level, moving: Level) -> list[FloatArray]:
    """Offsets (moving minus fixed, mm) of the best correlations over all overlaps."""
    correlation_image = sitk.MaskedFFTNormalizedCorrelation(
        _at_zero(fixed.image),
        _at_zero(moving.image),
        _at_zero(fixed.seen),
        _at_zero(moving.seen),
        requiredFractionOfOverlappingPixels=0.02,
    )
    correlation = sitk.GetArrayFromImage(correlation_image)
    overlap = _body_overlap(fixed, moving)
    score = np.where(overlap >= _MIN_OVERLAP, alignment_evidence(correlation, overlap), -np.inf)
    spacing = np.asarray(fixed.image.GetSpacing())
    origins = np.subtract(moving.image.GetOrigin(), fixed.image.GetOrigin())
    reach = int(np.ceil(_APART_MM / spacing[0]))
    offsets: list[FloatArray] = []
    for _ in range(_PEAKS):
        peak_zyx = np.unravel_index(int(score.argmax()), score.shape)
        if not np.isfinite(score[peak_zyx]):
            break
        # At index (size of moving - 1) the first voxels of both lie on each other.
        shift_xyz = np.asarray(peak_zyx[::-1]) - np.asarray(moving.image.GetSize()) + 1
        offsets.append(origins - shift_xyz * spacing)
        score[tuple(slice(max(0, p - reach), p + reach + 1) for p in peak_zyx)] = -np.inf
    return offsets


def _at_zero(image: sitk.Image) -> sitk.Image:
    """A float copy without a place in the world, as the filter counts shifts in voxels."""
    copy = sitk.Cast(image, sitk.sitkFloat32)
    copy.SetOrigin([0.0] * 3)
    return copy


def _body_overlap(fixed: Level, moving: Level) -> FloatArray:
    """Share of the smaller body that lies in the other body, for every shift; shape as the correlation."""
    bodies = [sitk.GetArrayViewFromImage(level.body).astype(np.float32) for level in (fixed, moving)]
    smaller = max(1.0, min(float(body.sum()) for body in bodies))
    return np.asarray(fftconvolve(bodies[0], bodies[1][::-1, ::-1, ::-1]) / smaller, np.float64)


def _centre_mm(image: sitk.Image) -> FloatArray:
    middle = [(n - 1) / 2 for n in image.GetSize()]
    return np.asarray(image.TransformContinuousIndexToPhysicalPoint(middle))
