"""Composes one synthetic follow-up of a scan from its drawn values; nothing here is random.

The steps, in order: events edit a copy of the baseline, lesions grow or shrink one after the other, the
patient moves, and the appearance changes. CT and labelmap are resampled once, through all displacements
together, so that nothing is interpolated twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, FloatArray, Geometry
from ..errors import InputError
from ..propagation.register.field import FieldTransform
from .appearance import apply_appearance, halo_slices, mean_hu
from .canvas import Canvas
from .displacement import LocalField, Volume, grid_positions, pull_back
from .draw_types import FollowupDraw
from .events import Events, apply_events
from .growth import GrowthResult, grow_lesion
from .label_warp import SMALL_VOXELS, nearest_ids, place_small
from .motion import Motion, build_motion
from .random_draws import weaken
from .reconstruction import apply_reconstruction
from .saved_displacement import field_error, sample_displacement, smallest_jacobian
from .scan_lesions import LabelledLesion, ScanLesions, labelled_lesions
from .settings import SynthesisSettings

_SLAB_VOXELS = 1_500_000
# This many voxels away, the cut of a slab no longer affects the coefficients of a cubic spline.
_SPLINE_MARGIN = 10
_CT_RANGE = (-1024.0, 3071.0)
# Shares of the drawn growth and deformation to try, in turn, until the whole does not fold.
_SHARES = (1.0, 0.5, 0.25, 0.125)


@dataclass(frozen=True, eq=False)
class Baseline:
    """A scan: HU int16 and lesion ids uint16, both (z, y, x) with the axes of the file, and their grid."""

    ct: Array
    labels: Array
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class Pullback:
    """Maps positions (3, N) of the follow-up to the baseline, both in axis mm (z, y, x)."""

    motion: Motion
    fields: tuple[LocalField, ...]

    def __call__(self, positions_mm: FloatArray) -> FloatArray:
        return pull_back(self.motion.pull_back(positions_mm), self.fields)


@dataclass(frozen=True, eq=False)
class Followup:
    """A finished follow-up, on the grid of its baseline.

    Attributes:
        ct: HU (z, y, x), int16.
        labels: lesion ids (z, y, x), uint16.
        pullback: exact map of follow-up positions to baseline positions.
        displacement: the same map, sampled; takes follow-up points to baseline points in LPS mm.
        events: events as applied.
        growth: growth by lesion id.
        before_growth: lesions by id after the events, before they grew.
        lesions: lesions of ``labels``.
        min_jacobian: smallest Jacobian determinant of ``displacement``.
        field_error_mm: largest error of ``displacement`` at voxels of lesions.
        share: share of the drawn growth and deformation that was applied; below 1 if the whole would fold.
    """

    ct: Array
    labels: Array
    pullback: Pullback
    displacement: FieldTransform
    events: Events
    growth: dict[int, GrowthResult]
    before_growth: dict[int, LabelledLesion]
    lesions: tuple[LabelledLesion, ...]
    min_jacobian: float
    field_error_mm: float
    share: float


@dataclass(frozen=True, eq=False)
class _Change:
    """Growth and motion together, and the displacement that results."""

    growth: dict[int, GrowthResult]
    pullback: Pullback
    displacement: FieldTransform
    min_jacobian: float
    share: float


def compose_followup(
    baseline: Baseline, scan: ScanLesions, draw: FollowupDraw, settings: SynthesisSettings
) -> Followup:
    """Apply everything drawn for one follow-up.

    Args:
        baseline: the scan to change; not modified.
        scan: lesions of the baseline, from `find_scan_lesions`.
        draw: the drawn values.
        settings: parameters of the generator.

    Raises:
        InputError: the displacement folds even with an eighth of the drawn growth and deformation.
    """
    geometry = baseline.geometry
    canvas, events = apply_events(baseline.ct, baseline.labels, geometry, scan, draw)
    present = {lesion.lesion_id: lesion for lesion in labelled_lesions(canvas.labels, geometry.spacing_zyx)}
    change = _apply_without_folding(canvas, present, draw, settings)
    ct, labels = _resample(canvas, change.pullback, draw, settings)
    ct = apply_reconstruction(ct, geometry.spacing_zyx, geometry.axial_map(), draw.reconstruction)
    for lesion in present.values():
        if lesion.voxels <= SMALL_VOXELS:
            grown = change.growth.get(lesion.lesion_id)
            expected = lesion.voxels * (grown.ratio if grown else 1.0) / draw.motion.scaling**3
            place_small(labels, canvas.labels, lesion, change.pullback, geometry.spacing_zyx, expected)
    return Followup(
        ct,
        labels,
        change.pullback,
        change.displacement,
        events,
        change.growth,
        present,
        labelled_lesions(labels, geometry.spacing_zyx),
        change.min_jacobian,
        field_error(change.pullback, change.displacement, labels),
        change.share,
    )


def _apply_without_folding(
    canvas: Canvas, present: dict[int, LabelledLesion], draw: FollowupDraw, settings: SynthesisSettings
) -> _Change:
    """Combine growth and motion; weaken both until no node of the whole folds."""
    smallest = 0.0
    for share in _SHARES:
        chosen = draw if share == 1 else weaken(draw, share)
        growth = _grow_all(canvas, present, chosen, settings)
        motion = build_motion(chosen.motion, canvas.geometry, settings.motion)
        pullback = Pullback(motion, tuple(grown.field for grown in growth.values()))
        displacement = sample_displacement(pullback, canvas.geometry, settings.field_spacing_mm)
        smallest = smallest_jacobian(displacement)
        if smallest > 0:
            return _Change(growth, pullback, displacement, smallest, share)
    raise InputError(
        f"{draw.scan}: its follow-up {draw.number} folds even with {_SHARES[-1]:g} of the drawn change "
        f"(smallest Jacobian determinant {smallest:.3g}); expected one above 0: other --set motion or growth"
    )


def _grow_all(
    canvas: Canvas, present: dict[int, LabelledLesion], draw: FollowupDraw, settings: SynthesisSettings
) -> dict[int, GrowthResult]:
    """Grow each lesion in turn, in the scan as changed by the lesions before it."""
    growth: dict[int, GrowthResult] = {}
    for lesion_draw in draw.growth:
        lesion = present.get(lesion_draw.lesion_id)
        if lesion is None:
            continue
        earlier = [grown.field for grown in growth.values()]
        growth[lesion.lesion_id] = grow_lesion(
            canvas.labels,
            canvas.geometry.spacing_zyx,
            lesion,
            earlier,
            lesion_draw,
            settings.growth,
            settings.voxel_mm,
        )
    return growth


def _resample(
    canvas: Canvas, pullback: Pullback, draw: FollowupDraw, settings: SynthesisSettings
) -> tuple[Array, Array]:
    """Resample CT and labelmap through the pullback, slab by slab."""
    spacing, shape = canvas.geometry.spacing_zyx, canvas.ct.shape
    ct, labels = np.empty(shape, np.int16), np.empty(shape, np.uint16)
    limits = float(canvas.ct.min()), float(canvas.ct.max())
    allowed = min(_CT_RANGE[0], limits[0]), max(_CT_RANGE[1], limits[1])
    centre = mean_hu(canvas.ct, settings.appearance)
    halo = halo_slices(draw.appearance, spacing)
    for start, stop in _slabs(shape):
        first, last = max(0, start - halo), min(shape[0], stop + halo)
        positions = grid_positions((first * spacing[0], 0.0, 0.0), spacing, (last - first, *shape[1:]))
        positions = pullback(positions)
        slab = (last - first, *shape[1:])
        hu = np.clip(_sample_cubic(canvas.ct, positions / np.reshape(spacing, (3, 1))), *limits).reshape(slab)
        hu = apply_appearance(hu, first, centre, limits, spacing, draw.appearance, settings.appearance)
        inner = slice(start - first, stop - first)
        ct[start:stop] = np.rint(np.clip(hu[inner], *allowed)).astype(np.int16)
        labels[start:stop] = nearest_ids(canvas.labels, positions, spacing).reshape(slab)[inner]
    return ct, labels


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    count = max(1, _SLAB_VOXELS // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], count):
        yield start, min(shape[0], start + count)


def _sample_cubic(ct: Array, index: FloatArray) -> Volume:
    """Interpolate HU at fractional voxel indices (3, N); beyond the scan its border is repeated."""
    last = np.subtract(ct.shape, 1).reshape(3, 1)
    index = np.clip(index, 0, last)
    low = np.maximum(np.floor(index.min(axis=1)).astype(int) - _SPLINE_MARGIN, 0)
    high = np.minimum(np.ceil(index.max(axis=1)).astype(int) + _SPLINE_MARGIN, last[:, 0]) + 1
    part = ct[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    coefficients = ndimage.spline_filter(part, 3, output=np.float32, mode="mirror")
    return np.asarray(
        ndimage.map_coordinates(
            coefficients, index - low.reshape(3, 1), np.float32, order=3, mode="mirror", prefilter=False
        ),
        np.float32,
    )
