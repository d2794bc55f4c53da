"""Initial alignment of two scans: candidate translations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy.signal import fftconvolve

from ...case.geometry import FloatArray
from .grids import Level
from .linear import LinearTransform

_PEAKS = 4
# Two starts nearer than this converge to the same optimum.
_APART_MM = 30.0
# Smallest share of the smaller body in common: below it, chance matches exceed the true one.
_MIN_OVERLAP = 0.1


def alignment_evidence(correlation: npt.ArrayLike, overlap: npt.ArrayLike) -> FloatArray:
    """Score of an alignment from the correlation and the overlap; larger is better.

    Fisher's transform gives weight to differences near 1; the root favours large overlaps, in which a chance
    match is less likely, without letting them outweigh a clearly better correlation.

    Args:
        correlation: of HU, any shape.
        overlap: share of the smaller body that lies in the other body, same shape.

    Returns:
        Scores of the same shape.
    """
    bounded = np.clip(np.asarray(correlation, np.float64), -0.999, 0.999)
    return np.asarray(np.arctanh(bounded) * np.clip(overlap, 0.0, 1.0) ** 0.25)


def candidate_translations(fixed: Level, moving: Level) -> list[LinearTransform]:
    """Starts of the optimiser: peaks of the correlation (best first), headers, centres of the scans.

    Both levels must have the same isotropic spacing along the world axes.
    """
    peaks = _correlation_peaks(fixed, moving)
    centres = np.subtract(_centre_mm(moving.image), _centre_mm(fixed.image))
    starts: list[FloatArray] = []
    for offset in [*peaks, np.zeros(3), centres]:
        if all(np.linalg.norm(offset - other) >= _APART_MM for other in starts):
            starts.append(offset)
    return [LinearTransform.translation(offset) for offset in starts]


def turned_starts(fixed: Level, moving: Level) -> list[LinearTransform]:
    """Starts with half turns about x, y and z, for headers that state the patient's position wrongly.

    Both levels must have the same isotropic spacing along the world axes.
    """
    centre = _centre_mm(moving.image)
    starts = []
    for kept in range(3):
        axes = [axis != kept for axis in range(3)]
        turn = np.diag(np.where(axes, -1.0, 1.0))
        turned = Level(*(_flipped(image, axes) for image in (moving.image, moving.seen, moving.body)))
        for offset in _correlation_peaks(fixed, turned, 2):
            # The turned image at p is the image at turn (p - centre) + centre.
            starts.append(LinearTransform(turn, turn @ (offset - centre) + centre))
    return starts


def _flipped(image: sitk.Image, axes_xyz: list[bool]) -> sitk.Image:
    """The image with its content mirrored along some axes, in its place."""
    array = sitk.GetArrayFromImage(image)
    mirrored = sitk.GetImageFromArray(np.flip(array, tuple(2 - axis for axis in range(3) if axes_xyz[axis])))
    mirrored.CopyInformation(image)
    return mirrored


def _correlation_peaks(fixed: Level, moving: Level, count: int = _PEAKS) -> list[FloatArray]:
    """Offsets (moving minus fixed, mm) of the ``count`` best correlations over all shifts."""
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
    for _ in range(count):
        peak_zyx = np.unravel_index(int(score.argmax()), score.shape)
        if not np.isfinite(score[peak_zyx]):
            break
        # At index (size of moving - 1) the first voxels of both coincide.
        shift_xyz = np.asarray(peak_zyx[::-1]) - np.asarray(moving.image.GetSize()) + 1
        offsets.append(origins - shift_xyz * spacing)
        score[tuple(slice(max(0, p - reach), p + reach + 1) for p in peak_zyx)] = -np.inf
    return offsets


def _at_zero(image: sitk.Image) -> sitk.Image:
    """A float copy with its origin at zero, as the filter counts shifts in voxels."""
    copy: sitk.Image = sitk.Cast(image, sitk.sitkFloat32)
    copy.SetOrigin([0.0] * 3)
    return copy


def _body_overlap(fixed: Level, moving: Level) -> FloatArray:
    """Share of the smaller body that lies in the other body, for each shift (shape as the correlation)."""
    bodies = [sitk.GetArrayViewFromImage(level.body).astype(np.float32) for level in (fixed, moving)]
    smaller = max(1.0, min(float(body.sum()) for body in bodies))
    return np.asarray(fftconvolve(bodies[0], bodies[1][::-1, ::-1, ::-1]) / smaller, np.float64)


def _centre_mm(image: sitk.Image) -> FloatArray:
    middle = [(n - 1) / 2 for n in image.GetSize()]
    return np.asarray(image.TransformContinuousIndexToPhysicalPoint(middle))
