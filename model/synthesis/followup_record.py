"""Record of a follow-up: fate and sizes of each lesion, and everything that was drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy import ndimage

from ..case.geometry import Array, Geometry, Vector, flip_order
from .compose_followup import Followup
from .draw_types import FollowupDraw
from .growth import GrowthResult
from .label_warp import push_forward
from .scan_lesions import LabelledLesion, ScanLesions
from .settings import SynthesisSettings

VERSION = 2

# Volumes that differ by less count as unchanged: lesions are whole numbers of voxels, and deformed.
_ALIKE = 0.03
_NEAR_TARGET = 0.1


class SyntheticFate(StrEnum):
    """Fate of a lesion; merged and split ones also grow or shrink.

    Grown, shrunk and unchanged (by less than 3 %) compare the volumes in the two labelmaps, corrected for the
    scaling of the patient. Split lesions have more than one part in the follow-up.
    """

    GROWN = "grown"
    SHRUNK = "shrunk"
    UNCHANGED = "unchanged"
    VANISHED = "vanished"
    MERGED = "merged"
    SPLIT = "split"
    NEW = "new"
    OUT_OF_VIEW = "out-of-view"  # no voxel left: propagated out of the scan, or crowded out by other lesions


@dataclass(frozen=True, slots=True)
class Part:
    """A connected piece of a lesion in the follow-up (26 neighbours) and its centre of gravity."""

    voxels: int
    centre_xyz: Vector


@dataclass(frozen=True, slots=True)
class SyntheticLesion:
    """One lesion in record.json. Points are voxel indices (x, y, z) on the grid of their scan, or None.

    Attributes:
        followup_ids: ids whose union is the lesion in the follow-up.
        achieved_ratio: volume ratio of the two labelmaps, including scaling, events and neighbours.
        growth_ratio: volume ratio of growth alone, which is steered to ``target_ratio``.
        target_reached: growth reached its target, and so does the follow-up's labelmap within 10 % or a
            voxel, apart from events and scaling; lesions pushed by others or cut by the border miss it.
        propagated_point_xyz: centre of the baseline lesion, mapped by the true displacement; may be outside
            the scan.
        joined_again: the lesion was split, but its parts have grown together again.
    """

    lesion_id: int
    fate: SyntheticFate
    followup_ids: tuple[int, ...]
    baseline_voxels: int
    baseline_ml: float
    baseline_point_xyz: Vector | None
    followup_voxels: int
    followup_ml: float
    followup_point_xyz: Vector | None
    propagated_point_xyz: Vector | None
    achieved_ratio: float | None
    growth_ratio: float | None
    target_ratio: float | None
    target_reached: bool | None
    min_jacobian: float | None
    touches_border: bool
    parts: tuple[Part, ...]
    donor: int | None = None
    joined_again: bool = False


def lesion_records(
    scan: ScanLesions, draw: FollowupDraw, followup: Followup, geometry: Geometry
) -> tuple[SyntheticLesion, ...]:
    """Describe all lesions of the baseline, by id, followed by the new ones that could be inserted.

    Args:
        scan: lesions of the baseline.
        draw: the drawn values.
        followup: the finished follow-up.
        geometry: their grid.
    """
    after = {lesion.lesion_id: lesion for lesion in followup.lesions}
    partners = _partners(followup)
    # Positions are looked up at distances larger by this factor: volumes are smaller by its cube.
    scale = draw.motion.scaling**3
    targets = {growth.lesion_id: growth.target_ratio for growth in draw.growth}
    records = []
    for lesion in scan.lesions:
        key = lesion.lesion_id
        records.append(
            _record(
                lesion,
                after.get(key),
                followup,
                geometry,
                fate=_fate(lesion, after.get(key), followup, partners, scale),
                followup_ids=tuple(i for i in sorted({key, *partners.get(key, ())}) if i in after)
                if key in after
                else (),
                target=targets.get(key),
                scale=scale,
            )
        )
    for new in followup.events.new:
        if new.lesion_id in after:
            records.append(_new_record(after[new.lesion_id], new.donor, followup, geometry))
    return tuple(records)


def _partners(followup: Followup) -> dict[int, tuple[int, ...]]:
    partners: dict[int, tuple[int, ...]] = {}
    for merged in followup.events.merged:
        partners[merged.first], partners[merged.second] = (merged.second,), (merged.first,)
    return partners


def _fate(
    lesion: LabelledLesion,
    after: LabelledLesion | None,
    followup: Followup,
    partners: dict[int, tuple[int, ...]],
    scale: float,
) -> SyntheticFate:
    key = lesion.lesion_id
    if key in followup.events.vanished:
        return SyntheticFate.VANISHED
    if after is None:
        return SyntheticFate.OUT_OF_VIEW
    if key in partners:
        return SyntheticFate.MERGED
    if _is_split(key, followup) and len(_parts(after, followup.labels)) > 1:
        return SyntheticFate.SPLIT
    ratio = after.voxels * scale / lesion.voxels
    return (
        SyntheticFate.UNCHANGED
        if abs(ratio - 1) < _ALIKE
        else SyntheticFate.GROWN
        if ratio > 1
        else SyntheticFate.SHRUNK
    )


def _is_split(lesion_id: int, followup: Followup) -> bool:
    """Check if a lesion was cut before it grew."""
    return any(split.lesion_id == lesion_id and split.parts_voxels for split in followup.events.split)


def _is_reached(lesion_id: int, followup: Followup, voxels: int, target: float, scale: float) -> bool:
    """Check if growth reached its target and the follow-up's labelmap shows it."""
    expected = followup.before_growth[lesion_id].voxels * target / scale
    return followup.growth[lesion_id].is_reached and abs(voxels - expected) <= max(
        1.0, _NEAR_TARGET * expected
    )


def _record(
    before: LabelledLesion,
    after: LabelledLesion | None,
    followup: Followup,
    geometry: Geometry,
    fate: SyntheticFate,
    followup_ids: tuple[int, ...],
    target: float | None,
    scale: float,
) -> SyntheticLesion:
    grown: GrowthResult | None = followup.growth.get(before.lesion_id)
    centre = np.reshape(np.multiply(before.centre_zyx, geometry.spacing_zyx), (3, 1))
    propagated = push_forward(followup.pullback, centre)[:, 0] / np.asarray(geometry.spacing_zyx)
    parts = _parts(after, followup.labels) if after else ()
    voxels = after.voxels if after else 0
    return SyntheticLesion(
        before.lesion_id,
        fate,
        followup_ids,
        before.voxels,
        before.volume_ml,
        flip_order(before.centre_zyx),
        voxels,
        after.volume_ml if after else 0.0,
        flip_order(after.centre_zyx) if after else None,
        flip_order((float(propagated[0]), float(propagated[1]), float(propagated[2]))),
        (after.volume_ml if after else 0.0) / before.volume_ml,
        grown.ratio if grown else None,
        target,
        _is_reached(before.lesion_id, followup, voxels, target, scale) if grown and target else None,
        grown.min_jacobian if grown else None,
        bool(after and _touches_border(after, followup.labels)),
        parts,
        joined_again=len(parts) == 1
        and fate is not SyntheticFate.MERGED
        and _is_split(before.lesion_id, followup),
    )


def _new_record(
    lesion: LabelledLesion, donor: int | None, followup: Followup, geometry: Geometry
) -> SyntheticLesion:
    return SyntheticLesion(
        lesion.lesion_id,
        SyntheticFate.NEW,
        (lesion.lesion_id,),
        0,
        0.0,
        None,
        lesion.voxels,
        lesion.volume_ml,
        flip_order(lesion.centre_zyx),
        None,
        None,
        None,
        None,
        None,
        None,
        _touches_border(lesion, followup.labels),
        _parts(lesion, followup.labels),
        donor,
    )


def _touches_border(lesion: LabelledLesion, labels: Array) -> bool:
    start, stop = lesion.box.start_zyx, lesion.box.stop_zyx
    return any(a == 0 or b == n for a, b, n in zip(start, stop, labels.shape, strict=True))


def _parts(lesion: LabelledLesion, labels: Array) -> tuple[Part, ...]:
    """List the connected pieces of a lesion, the largest first."""
    mask = labels[lesion.box.slices] == lesion.lesion_id
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    centres = np.atleast_2d(ndimage.center_of_mass(mask, pieces, range(1, count + 1)))
    order = np.argsort(-sizes, kind="stable")
    return tuple(
        Part(int(sizes[n]), flip_order((centres[n] + np.asarray(lesion.box.start_zyx)).tolist()))
        for n in order
    )


def record_document(
    draw: FollowupDraw,
    settings: SynthesisSettings,
    followup: Followup,
    lesions: tuple[SyntheticLesion, ...],
    sources: dict[str, Any],
    files: dict[str, Any],
) -> dict[str, Any]:
    """Build record.json; units are part of the keys or given in docs/synthetic_followups.md."""
    motion = followup.pullback.motion
    return {
        "version": VERSION,
        "seed": draw.seed,
        "scan": draw.scan,
        "number": draw.number,
        "source": sources,
        "files": files,
        "settings": asdict(settings),
        "drawn": asdict(draw),
        "events": asdict(followup.events),
        "applied_share": followup.share,
        "motion": {"elastic_share": motion.elastic_share, "min_jacobian": motion.min_jacobian},
        "growth": [
            {"lesion_id": key, "stages": [asdict(stage) for stage in grown.stages]}
            for key, grown in followup.growth.items()
        ],
        "lesions": [asdict(lesion) for lesion in lesions],
        "displacement": {
            "meaning": "baseline point = follow-up point + displacement, LPS mm, follow-up grid",
            "min_jacobian": followup.min_jacobian,
            "largest_error_mm_at_lesions": followup.field_error_mm,
        },
    }
