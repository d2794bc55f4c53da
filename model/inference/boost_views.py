"""Further ways of asking for one lesion: points beside the given one, and scans that are turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..case.case import Click, LesionPrompt, MaskPrompt, PromptPoint, Scan
from ..case.geometry import AxisMap, Box, Geometry, Vector
from .components import point_voxel

# From a scan's (z, y, x) array to the same array turned in the axial plane.
TURNS = {
    90: AxisMap((0, 2, 1), (False, False, True)),
    180: AxisMap((0, 1, 2), (False, True, True)),
    270: AxisMap((0, 2, 1), (False, True, False)),
}


def perturbed_points(prompt: LesionPrompt, count: int, radius_mm: float, seed: int) -> list[Vector]:
    """Points in a ball round the follow-up point, uniformly by volume, inside of the image.

    The same for a lesion id and seed, whichever other lesions are asked for. Near the border those inside are
    taken first; where there is hardly any (a single slice) they are moved to the border.
    """
    geometry = prompt.followup.geometry
    rng = np.random.default_rng([seed, prompt.lesion_id])
    directions = rng.normal(size=(32 * count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radii_mm = radius_mm * np.cbrt(rng.random((len(directions), 1)))
    drawn = np.asarray(prompt.followup_point.point_zyx) + directions * radii_mm / geometry.spacing_zyx
    clipped = np.clip(drawn, 0.0, np.asarray(geometry.shape_zyx) - 1.0)
    is_inside = np.all(drawn == clipped, axis=1)
    chosen = np.concatenate([drawn[is_inside], clipped[~is_inside]])[:count]
    return [(float(z), float(y), float(x)) for z, y, x in chosen]


def prompt_at(prompt: LesionPrompt, point_zyx: Vector) -> LesionPrompt:
    """The prompt with another follow-up point.

    A scan asked about itself has one point, not two: there the baseline's moves along, or the patches would
    be shifted against each other.
    """
    moved = replace(prompt, followup_point=PromptPoint(point_zyx, prompt.followup_point.source))
    is_alone = prompt.baseline is prompt.followup
    if is_alone and prompt.baseline_point.point_zyx == prompt.followup_point.point_zyx:
        moved = replace(moved, baseline_point=moved.followup_point)
    return moved


def moved_prompt(prompt: LesionPrompt, point_zyx: Vector) -> LesionPrompt:
    """The prompt with another point, its box and mask shifted as much, by whole voxels."""
    before, after = point_voxel(prompt.followup_point.point_zyx), point_voxel(point_zyx)
    offset = [b - a for a, b in zip(before, after, strict=True)]
    moved = prompt_at(prompt, point_zyx)
    image = Box.of_shape(prompt.followup.geometry.shape_zyx)
    if prompt.followup_box is not None:
        box = prompt.followup_box.shifted(offset).intersection(image)
        moved = replace(moved, followup_box=prompt.followup_box if box.is_empty else box)
    if prompt.followup_mask is not None:
        moved = replace(moved, followup_mask=_shifted_mask(prompt.followup_mask, offset, image))
    return moved


def _shifted_mask(mask: MaskPrompt, offset_zyx: Sequence[int], image: Box) -> MaskPrompt:
    """A mask moved by whole voxels, without what leaves the image; as it was when all of it would."""
    box = mask.box.shifted(offset_zyx)
    inside = box.intersection(image)
    if inside.is_empty:
        return mask
    return MaskPrompt(inside, mask.voxels[inside.relative_to(box).slices])


class TurnedScans:
    """Prompts with both scans turned by quarters in the axial plane; a scan is turned once per angle."""

    def __init__(self) -> None:
        self._scans: dict[tuple[int, int], tuple[Scan, Scan]] = {}

    def prompt(self, prompt: LesionPrompt, degrees: int) -> LesionPrompt:
        turn = TURNS[degrees]
        before, after = prompt.baseline.geometry.shape_zyx, prompt.followup.geometry.shape_zyx
        box, mask = prompt.followup_box, prompt.followup_mask
        return replace(
            prompt,
            baseline=self._scan(prompt.baseline, degrees),
            baseline_point=_turned_point(prompt.baseline_point, turn, before),
            followup=self._scan(prompt.followup, degrees),
            followup_point=_turned_point(prompt.followup_point, turn, after),
            followup_box=None if box is None else turn.box(box, after),
            followup_mask=None
            if mask is None
            else MaskPrompt(turn.box(mask.box, after), turn.array(mask.voxels)),
        )

    def _scan(self, scan: Scan, degrees: int) -> Scan:
        key = (id(scan), degrees)
        if key not in self._scans:  # the scan itself is kept, so that its id stays its own
            self._scans[key] = (scan, turned_scan(scan, TURNS[degrees]))
        return self._scans[key][1]


def turned_scan(scan: Scan, turn: AxisMap) -> Scan:
    """A scan turned in the axial plane: arrays, clicks, and the world along with them.

    Were only the axes swapped, the turned x would run along the world's y, and whatever compares the axis
    signs of a baseline with those of its follow-up (``Geometry.sign_map``) would be looking at the small
    numbers beside the diagonal. So the patient is turned as well, by the same angle for every scan: axes keep
    pointing where an axial image's axes point, and two scans lie to each other as they did.
    """
    shape = scan.geometry.shape_zyx
    return replace(
        scan,
        file_geometry=_turned_world(scan.file_geometry, turn),
        axes=scan.axes.then(turn),
        ct=turn.array(scan.ct),
        mask=None if scan.mask is None else turn.array(scan.mask),
        clicks=tuple(Click(click.lesion_id, turn.point(click.point_zyx, shape)) for click in scan.clicks),
    )


def _turned_world(geometry: Geometry, turn: AxisMap) -> Geometry:
    """The same voxels in a world that is turned (about its own zero) so as to undo the turn of the axes."""
    plain = Geometry((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)).reoriented(turn)
    rotation = np.reshape(plain.direction, (3, 3)).T
    x, y, z = (float(value) for value in rotation @ geometry.origin_xyz)
    direction = rotation @ np.reshape(geometry.direction, (3, 3))
    return replace(
        geometry, origin_xyz=(x, y, z), direction=tuple(float(value) for value in direction.ravel())
    )


def _turned_point(point: PromptPoint, turn: AxisMap, shape_zyx: Sequence[int]) -> PromptPoint:
    return PromptPoint(turn.point(point.point_zyx, shape_zyx), point.source)
