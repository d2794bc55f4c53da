"""One synthetic follow-up of one scan: what was drawn, applied. Nothing here is random.

The order: events edit the baseline (copies), lesions grow or shrink one after the other, the patient moves,
the scanner is another. CT and labelmap are looked up once, through all displacements together, so that
nothing is interpolated twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, FloatArray, Geometry
from ..errors import InputError
from ..propagation.register.field import FieldTransform, jacobian_determinants
from ..propagation.register.linear import LinearTransform
from .appearance import apply_appearance, halo_slices, mean_hu
from .displacement import LocalField, Volume, grid_positions, pull_back
from .events import Canvas, Events, apply_events
from .growth import GrowthResult, grow_lesion
from .label_warp import SMALL_VOXELS, nearest_ids, place_small
from .motion import Motion, build_motion
from .random_draws import FollowupDraw, weaken
from .scan_lesions import LabelledLesion, ScanLesions, labelled_lesions
from .settings import SynthesisSettings

_SLAB_VOXELS = 1_500_000
# Beyond so many voxels a cubic spline's coefficients no longer feel where the slab was cut.
_SPLINE_MARGIN = 10
_CT_RANGE = (-1024.0, 3071.0)
_CHECKED_VOXELS = 20_000
_JACOBIAN_NODES = 250_000
# What is left of growth and deformation where all together would fold.
_SHARES = (1.0, 0.5, 0.25, 0.125)


@dataclass(frozen=True, eq=False)
class Baseline:
    """A scan: HU int16 and lesion ids uint16, both (z, y, x) as the file has them, and their grid."""

    ct: Array
    labels: Array
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class Pullback:
    """Places (3, N) of the follow-up, axis mm -> where they come from in the baseline."""

    motion: Motion
    fields: tuple[LocalField, ...]

    def __call__(self, places_mm: FloatArray) -> FloatArray:
        return pull_back(self.motion.pulled(places_mm), self.fields)


@dataclass(frozen=True, eq=False)
class Followup:
    """A finished follow-up.

    ``displacement`` takes follow-up points to baseline points (LPS mm). Volumes of ``lesions`` are those of
    the follow-up's labelmap; ``growth`` is by lesion id, ``before_growth`` the lesions with the events done.
    ``field_error_mm`` is how far the saved, coarser field is off at most at lesion voxels. ``share`` of the
    growth and deformation that were drawn has been applied: 1, or less where all together would fold.
    """

    ct: Array
    labels: Array
    pull: Pullback
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
    """Where everything goes, and how it was come by."""

    growth: dict[int, GrowthResult]
    pull: Pullback
    displacement: FieldTransform
    min_jacobian: float
    share: float


def compose_followup(
    baseline: Baseline, facts: ScanLesions, draw: FollowupDraw, settings: SynthesisSettings
) -> Followup:
    """Apply everything that was drawn for one follow-up.

    Raises:
        InputError: its displacement folds, also with an eighth of the growth and deformation drawn.
    """
    geometry = baseline.geometry
    canvas, events = apply_events(baseline.ct, baseline.labels, geometry, facts, draw)
    present = {lesion.lesion_id: lesion for lesion in labelled_lesions(canvas.labels, geometry.spacing_zyx)}
    change = _unfolded(canvas, present, draw, settings)
    ct, labels = _looked_up(canvas, change.pull, draw, settings)
    for lesion in present.values():
        if lesion.voxels <= SMALL_VOXELS:
            grown = change.growth.get(lesion.lesion_id)
            expected = lesion.voxels * (grown.ratio if grown else 1.0) / draw.motion.scaling**3
            place_small(labels, canvas.labels, lesion, change.pull, geometry.spacing_zyx, expected)
    return Followup(
        ct,
        labels,
        change.pull,
        change.displacement,
        events,
        change.growth,
        present,
        labelled_lesions(labels, geometry.spacing_zyx),
        change.min_jacobian,
        _field_error(change.pull, change.displacement, labels),
        change.share,
    )


def _unfolded(
    canvas: Canvas, present: dict[int, LabelledLesion], draw: FollowupDraw, settings: SynthesisSettings
) -> _Change:
    """Growth and motion together; less of both where a single place of the whole would fold."""
    smallest = 0.0
    for share in _SHARES:
        chosen = draw if share == 1 else weaken(draw, share)
        growth = _grown(canvas, present, chosen, settings)
        motion = build_motion(chosen.motion, canvas.geometry, settings.motion)
        pull = Pullback(motion, tuple(grown.field for grown in growth.values()))
        displacement = saved_field(pull, canvas.geometry, settings.field_spacing_mm)
        smallest = smallest_jacobian(displacement)
        if smallest > 0:
            return _Change(growth, pull, displacement, smallest, share)
    raise InputError(
        f"{draw.scan}: its follow-up {draw.number} folds even with {_SHARES[-1]:g} of the drawn change "
        f"(smallest Jacobian determinant {smallest:.3g}); expected one above 0: other --set motion or growth"
    )


def smallest_jacobian(field: FieldTransform) -> float:
    """The smallest determinant of all nodes, a few slices at a time: each node needs the next ones alone."""
    u, grid = field.displacement_mm, field.geometry
    count = max(1, _JACOBIAN_NODES // (u.shape[1] * u.shape[2]))
    smallest = np.inf
    for start in range(0, len(u), count):
        first, last = max(0, start - 1), min(len(u), start + count + 1)
        shape = (u.shape[2], u.shape[1], last - first)
        slab = Geometry(shape, grid.spacing_xyz, grid.origin_xyz, grid.direction)
        found = jacobian_determinants(FieldTransform(field.linear, u[first:last], slab))
        smallest = min(smallest, float(found[start - first : start - first + count].min()))
    return smallest


def _grown(
    canvas: Canvas, present: dict[int, LabelledLesion], draw: FollowupDraw, settings: SynthesisSettings
) -> dict[int, GrowthResult]:
    """Each lesion in turn, in the scan that those before it have changed."""
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


def _looked_up(
    canvas: Canvas, pull: Pullback, draw: FollowupDraw, settings: SynthesisSettings
) -> tuple[Array, Array]:
    """CT and labelmap of the follow-up, slab by slab."""
    spacing, shape = canvas.geometry.spacing_zyx, canvas.ct.shape
    ct, labels = np.empty(shape, np.int16), np.empty(shape, np.uint16)
    limits = float(canvas.ct.min()), float(canvas.ct.max())
    allowed = min(_CT_RANGE[0], limits[0]), max(_CT_RANGE[1], limits[1])
    centre = mean_hu(canvas.ct, settings.appearance)
    halo = halo_slices(draw.appearance, spacing)
    for start, stop in _slabs(shape):
        first, last = max(0, start - halo), min(shape[0], stop + halo)
        places = grid_positions((first * spacing[0], 0.0, 0.0), spacing, (last - first, *shape[1:]))
        places = pull(places)
        slab = (last - first, *shape[1:])
        hu = np.clip(_cubic(canvas.ct, places / np.reshape(spacing, (3, 1))), *limits).reshape(slab)
        hu = apply_appearance(hu, first, centre, limits, spacing, draw.appearance, settings.appearance)
        inner = slice(start - first, stop - first)
        ct[start:stop] = np.rint(np.clip(hu[inner], *allowed)).astype(np.int16)
        labels[start:stop] = nearest_ids(canvas.labels, places, spacing).reshape(slab)[inner]
    return ct, labels


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    count = max(1, _SLAB_VOXELS // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], count):
        yield start, min(shape[0], start + count)


def _cubic(ct: Array, index: FloatArray) -> Volume:
    """HU at fractions of voxels (3, N); beyond the scan those of its border."""
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


def saved_field(pull: Pullback, geometry: Geometry, spacing_mm: float) -> FieldTransform:
    """Baseline place - follow-up place in LPS mm, over the whole scan at about the given spacing."""
    sides = [(n - 1) * s for n, s in zip(geometry.shape_zyx, geometry.spacing_zyx, strict=True)]
    counts = [max(1, round(side / spacing_mm)) + 1 for side in sides]
    # An axis of a single voxel still needs a spacing above zero.
    steps = [max(side, 1e-3) / (n - 1) for side, n in zip(sides, counts, strict=True)]
    axes = np.asarray(geometry.direction, np.float64).reshape(3, 3)
    u = np.empty((*counts, 3), np.float32)
    for z in range(counts[0]):
        places = grid_positions((z * steps[0], 0.0, 0.0), steps, (1, *counts[1:]))
        moved = (pull(places) - places)[::-1]
        u[z] = (axes @ moved).T.reshape(*counts[1:], 3)
    grid = Geometry(
        (counts[2], counts[1], counts[0]),
        (steps[2], steps[1], steps[0]),
        geometry.origin_xyz,
        geometry.direction,
    )
    return FieldTransform(LinearTransform.identity(), u, grid)


def _field_error(pull: Pullback, field: FieldTransform, labels: Array) -> float:
    """The largest distance between the saved field and the true one at lesion voxels, mm."""
    voxels = np.argwhere(labels)
    if len(voxels) == 0:
        return 0.0
    voxels = voxels[:: max(1, len(voxels) // _CHECKED_VOXELS)]
    geometry = field.geometry
    spacing = [
        s * (g - 1) / max(n - 1, 1)
        for s, g, n in zip(geometry.spacing_zyx, geometry.shape_zyx, labels.shape, strict=True)
    ]
    places = voxels.T.astype(np.float64) * np.reshape(spacing, (3, 1))
    axes = np.asarray(geometry.direction, np.float64).reshape(3, 3)
    world = (axes @ places[::-1]).T + np.asarray(geometry.origin_xyz)
    true = (axes @ (pull(places) - places)[::-1]).T
    return float(np.linalg.norm(field.displacement(world) - true, axis=1).max())
