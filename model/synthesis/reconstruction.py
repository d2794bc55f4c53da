"""Another scanner and contrast phase: reconstruction kernel, slice thickness, noise in HU, enhancement.

All are applied to a whole scan after it was resampled, in the order of an examination: the patient's
enhancement, the kernel, the slices, and noise that is as correlated as that of a scanner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, AxisMap, Vector
from .displacement import Volume
from .draw_types import ReconstructionDraw

# Enhancement changes these HU fully (the inner two), and none beyond (the outer two).
_TISSUE_HU = (-30.0, 10.0, 110.0, 220.0)
_VESSEL_HU = (90.0, 130.0, 250.0, 500.0)
_PLAIN_HU = 60.0  # of blood without contrast agent
_FIELD_MM = 60.0  # between the nodes of a smooth field
_GRAIN_VOXELS = 0.6
_HU_RANGE = (-1024.0, 3071.0)


def apply_reconstruction(ct: Array, spacing_zyx: Vector, axial: AxisMap, draw: ReconstructionDraw) -> Array:
    """Apply the drawn changes to a scan.

    Args:
        ct: HU (z, y, x), int16; not modified.
        spacing_zyx: voxel spacing (z, y, x) in mm.
        axial: map to axial order; slices are averaged along its first axis, the kernel acts along the others.
        draw: the drawn changes.

    Returns:
        HU (z, y, x), int16; ``ct`` itself if nothing was drawn.
    """
    if draw == ReconstructionDraw(seed=draw.seed):
        return ct
    rng = np.random.default_rng(draw.seed)
    limits = min(_HU_RANGE[0], float(ct.min())), max(_HU_RANGE[1], float(ct.max()))
    hu = ct.astype(np.float32)
    if draw.tissue_hu is not None:
        hu += draw.tissue_hu * smooth_field(ct.shape, spacing_zyx, rng) * _weight(hu, _TISSUE_HU)
    if draw.vessel_factor is not None:
        strength = (draw.vessel_factor - 1) * (1 + 0.3 * smooth_field(ct.shape, spacing_zyx, rng))
        hu += strength * np.maximum(hu - _PLAIN_HU, 0) * _weight(hu, _VESSEL_HU)
    if draw.kernel_mm is not None:
        in_plane = sorted(axial.order[1:])  # a kernel acts within slices; their thickness is drawn apart
        widths = [abs(draw.kernel_mm) / spacing_zyx[axis] for axis in in_plane]
        soft = ndimage.gaussian_filter(hu, widths, mode="nearest", axes=in_plane)
        hu = soft if draw.kernel_mm > 0 else hu + (hu - soft)
    if draw.slice_mm is not None:
        hu = axial.inverse().array(
            _thick_slices(axial.array(hu), axial.triple(spacing_zyx)[0], draw.slice_mm)
        )
    if draw.noise_hu is not None:
        hu = hu + draw.noise_hu * _scanner_noise(hu.shape, sorted(axial.order[1:]), rng)
    return np.rint(np.clip(hu, *limits)).astype(np.int16)


def smooth_field(shape: tuple[int, ...], spacing_zyx: Vector, rng: np.random.Generator) -> Volume:
    """Draw a field that varies smoothly from -1 to 1.

    Args:
        shape: shape (z, y, x) of the scan.
        spacing_zyx: voxel spacing (z, y, x) in mm.
        rng: generator of its nodes.

    Returns:
        Values (z, y, x), float32.
    """
    counts = [max(2, round(n * s / _FIELD_MM) + 1) for n, s in zip(shape, spacing_zyx, strict=True)]
    field = rng.uniform(-1, 1, counts).astype(np.float32)
    for axis, (n, count) in enumerate(zip(shape, counts, strict=True)):
        place = np.linspace(0, count - 1, n)
        low = np.minimum(place.astype(int), count - 2)
        share = (place - low).reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
        share = share * share * (3 - 2 * share)
        field = np.take(field, low, axis) * (1 - share) + np.take(field, low + 1, axis) * share
    return field


def _weight(hu: Volume, edges: tuple[float, float, float, float]) -> Volume:
    return np.interp(hu, edges, (0, 1, 1, 0)).astype(np.float32)


def _thick_slices(hu: Volume, spacing_mm: float, slice_mm: float) -> Volume:
    """Average over thick slices along the first axis, one beside the other, and sample them back."""
    count = max(1, round(hu.shape[0] * spacing_mm / slice_mm))
    if count >= hu.shape[0]:
        return hu
    edges = np.linspace(0, hu.shape[0], count + 1)
    sums = np.concatenate([np.zeros((1, *hu.shape[1:])), np.cumsum(hu, axis=0, dtype=np.float64)])
    low = np.minimum(edges.astype(int), hu.shape[0] - 1)
    share = (edges - low).reshape(-1, 1, 1)
    at_edges = sums[low] * (1 - share) + sums[low + 1] * share
    slices = (np.diff(at_edges, axis=0) / np.diff(edges).reshape(-1, 1, 1)).astype(np.float32)
    middles = (edges[:-1] + edges[1:]) / 2 - 0.5
    place = np.interp(np.arange(hu.shape[0]), middles, np.arange(count))
    below = np.minimum(place.astype(int), count - 1)
    above = np.minimum(below + 1, count - 1)
    part = (place - below).reshape(-1, 1, 1).astype(np.float32)
    return np.asarray(slices[below] * (1 - part) + slices[above] * part, np.float32)


def _scanner_noise(shape: tuple[int, ...], in_plane: Sequence[int], rng: np.random.Generator) -> Volume:
    """Noise with a standard deviation of one, correlated over about a voxel along the axes of slices."""
    noise = rng.standard_normal(shape, np.float32)
    for axis in in_plane:
        noise = ndimage.gaussian_filter1d(noise, _GRAIN_VOXELS, axis)
    return np.asarray(noise / max(float(noise.std()), 1e-6), np.float32)
