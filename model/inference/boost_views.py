"""Further views of a lesion for boosting: prompts at nearby points, and rotated scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..case.case import Click, LesionPrompt, MaskPrompt, PromptPoint, Scan
from ..case.geometry import AxisMap, Box, Geometry, Vector, voxel_at
from .counterpart import moved_prompt

# Degrees -> map from a scan's (z, y, x) array to the array rotated in the axial plane.
ROTATIONS = {
    90: AxisMap((0, 2, 1), (False, False, True)),
    180: AxisMap((0, 1, 2), (False, True, True)),
    270: AxisMap((0, 2, 1), (False, True, False)),
}


def perturbed_points(prompt: LesionPrompt, count: int, radius_mm: float, seed: int) -> list[Vector]:
    """Draw points from a ball around the follow-up point, uniformly by volume, inside the image.

    They depend on the seed and the lesion id, not on the other prompts. Near the image border points inside
    are taken first; if there are too few (e.g. in a single slice), others are clipped to the border.

    Args:
        count: number of points.
        radius_mm: radius of the ball in mm.

    Returns:
        Voxel indices (z, y, x) on the follow-up's axial grid.
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


def shifted_prompt(prompt: LesionPrompt, point_zyx: Vector) -> LesionPrompt:
    """Move both points of a prompt, with its box and mask, those by whole voxels; see `moved_prompt`.

    Args:
        point_zyx: voxel index (z, y, x) on the follow-up's axial grid.
    """
    before, after = voxel_at(prompt.followup_point.point_zyx), voxel_at(point_zyx)
    offset = [b - a for a, b in zip(before, after, strict=True)]
    shifted = moved_prompt(prompt, point_zyx)
    image = Box.of_shape(prompt.followup.geometry.shape_zyx)
    if prompt.followup_box is not None:
        box = prompt.followup_box.shifted(offset).intersection(image)
        shifted = replace(shifted, followup_box=prompt.followup_box if box.is_empty else box)
    if prompt.followup_mask is not None:
        shifted = replace(shifted, followup_mask=_shifted_mask(prompt.followup_mask, offset, image))
    return shifted


def _shifted_mask(mask: MaskPrompt, offset_zyx: Sequence[int], image: Box) -> MaskPrompt:
    """Shift a mask and crop it to the image; unchanged if nothing of it would remain."""
    box = mask.box.shifted(offset_zyx)
    inside = box.intersection(image)
    if inside.is_empty:
        return mask
    return MaskPrompt(inside, mask.voxels[inside.relative_to(box).slices])


class RotatedScans:
    """Rotates prompts with both scans in the axial plane; each scan is rotated once per angle."""

    def __init__(self) -> None:
        self._scans: dict[tuple[int, int], tuple[Scan, Scan]] = {}

    def prompt(self, prompt: LesionPrompt, degrees: int) -> LesionPrompt:
        """The prompt on scans rotated by 90, 180 or 270 degrees."""
        rotation = ROTATIONS[degrees]
        baseline_shape, followup_shape = (
            prompt.baseline.geometry.shape_zyx,
            prompt.followup.geometry.shape_zyx,
        )
        box, mask = prompt.followup_box, prompt.followup_mask
        return replace(
            prompt,
            baseline=self._scan(prompt.baseline, degrees),
            baseline_point=_rotated_point(prompt.baseline_point, rotation, baseline_shape),
            followup=self._scan(prompt.followup, degrees),
            followup_point=_rotated_point(prompt.followup_point, rotation, followup_shape),
            followup_box=None if box is None else rotation.box(box, followup_shape),
            followup_mask=None
            if mask is None
            else MaskPrompt(rotation.box(mask.box, followup_shape), rotation.array(mask.voxels)),
            to_baseline=None,  # it maps points of the scans as they were
        )

    def _scan(self, scan: Scan, degrees: int) -> Scan:
        key = (id(scan), degrees)
        if key not in self._scans:  # keeps a reference to the scan, so that its id is not reused
            self._scans[key] = (scan, rotated_scan(scan, ROTATIONS[degrees]))
        return self._scans[key][1]


def rotated_scan(scan: Scan, rotation: AxisMap) -> Scan:
    """Rotate a scan in the axial plane: arrays, clicks, and world coordinates.

    If only the axes were swapped, the rotated x axis would run along the world's y axis, and comparing the
    axis signs of baseline and follow-up (``Geometry.sign_map``) would look at the small off-diagonal
    entries. World coordinates are therefore rotated as well, by the same angle for every scan: axes keep the
    directions of an axial image, and the relative position of two scans is preserved.
    """
    shape = scan.geometry.shape_zyx
    stored, axes = scan.file_geometry, scan.axes
    if scan.shear is not None:  # a rotated scan has no way back to the grid of its file
        stored, axes = replace(scan.geometry, measured=None), AxisMap()
    return replace(
        scan,
        file_geometry=_rotated_world(stored, rotation),
        axes=axes.then(rotation),
        shear=None,
        ct=rotation.array(scan.ct),
        mask=None if scan.mask is None else rotation.array(scan.mask),
        clicks=tuple(Click(click.lesion_id, rotation.point(click.point_zyx, shape)) for click in scan.clicks),
    )


def _rotated_world(geometry: Geometry, rotation: AxisMap) -> Geometry:
    """The geometry in a world rotated about its origin such that it undoes the rotation of the axes."""
    plain = Geometry((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)).reoriented(rotation)
    matrix = np.reshape(plain.direction, (3, 3)).T
    x, y, z = (float(value) for value in matrix @ geometry.origin_xyz)
    direction = matrix @ np.reshape(geometry.direction, (3, 3))
    return replace(
        geometry, origin_xyz=(x, y, z), direction=tuple(float(value) for value in direction.ravel())
    )


def _rotated_point(point: PromptPoint, rotation: AxisMap, shape_zyx: Sequence[int]) -> PromptPoint:
    return PromptPoint(rotation.point(point.point_zyx, shape_zyx), point.source)
