"""Rendered scans: anatomy without its tumour, movement between two dates, lesions painted, and the scanner.

It shares no code with the package's generator of follow-ups: lesions are drawn from analytic shapes with
partial volume, not grown by displacements, and tumours are taken away and drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from test.sample.warp import rotation

from .rendered_shapes import Bools, Floats, Grid, Random, Shape, size_of_volume, smoothed

PART_MM, LARGE_MM = 1.0, 18.0
"""Voxels are divided into parts of this length, up to four along an axis; less for larger lesions."""


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or labelmap (z, y, x) on its grid."""

    array: npt.NDArray[Any]
    grid: Grid

    def at(self, points_xyz: Floats, order: int) -> Floats:
        """Interpolate at world points; beyond the border its voxels are continued."""
        index = self.grid.index(points_xyz)
        array = np.asarray(self.array, np.float32)
        return np.asarray(ndimage.map_coordinates(array, index, order=order, mode="nearest"))


@dataclass(frozen=True, eq=False)
class Motion:
    """From a follow-up to the anatomy: a rigid movement is undone, then a sum of Gaussian pulls.

    Attributes:
        about_xyz: centre of the rotation, (3,).
        turn: rotation matrix, (3, 3).
        shift_xyz: shift in mm, (3,).
        centres_xyz: centres of the pulls, (n, 3).
        reaches_mm: their standard deviations, (n,).
        pulls_xyz: their displacements at the centre in mm, (n, 3).
    """

    about_xyz: Floats
    turn: Floats
    shift_xyz: Floats
    centres_xyz: Floats
    reaches_mm: Floats
    pulls_xyz: Floats

    @classmethod
    def none(cls) -> Motion:
        """No movement."""
        return cls(np.zeros(3), np.eye(3), np.zeros(3), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)))

    @classmethod
    def draw(cls, random: Random, grid: Grid) -> Motion:
        """Draw up to 4 degrees about each axis, a shift of up to 25 mm, and 8 pulls of up to 8 mm each."""
        low, high = grid.corners_xyz
        x, y, z = random.uniform(-4, 4, 3)
        return cls(
            about_xyz=(low + high) / 2,
            turn=rotation((x, y, z)),
            shift_xyz=random.uniform(-25, 25, 3),
            centres_xyz=random.uniform(low, high, (8, 3)),
            reaches_mm=random.uniform(30, 60, 8),
            pulls_xyz=random.uniform(-1, 1, (8, 3)) * random.uniform(2, 8, (8, 1)),
        )

    def to_source(self, points_xyz: Floats) -> Floats:
        """Points of the follow-up, (..., 3), to those of the anatomy."""
        return self._pulled((points_xyz - self.about_xyz - self.shift_xyz) @ self.turn + self.about_xyz)

    def to_followup(self, points_xyz: Floats) -> Floats:
        """Inverse of `to_source`; the pulls are a contraction, as their gradients stay far below one."""
        still = points_xyz.copy()
        for _ in range(60):
            still = still - (self._pulled(still) - points_xyz)
        return (still - self.about_xyz) @ self.turn.T + self.about_xyz + self.shift_xyz

    def _pulled(self, points_xyz: Floats) -> Floats:
        moved = points_xyz.copy()
        for centre, reach, pull in zip(self.centres_xyz, self.reaches_mm, self.pulls_xyz, strict=True):
            far = (((points_xyz - centre) / reach) ** 2).sum(axis=-1)
            moved += np.exp(-0.5 * far)[..., None] * pull
        return moved


@dataclass(frozen=True, eq=False)
class Look:
    """HU of a rendered lesion.

    ``profile`` are the HU in the middle and those of the rim; ``rim_mm`` is the rim's thickness, 0 without
    one. ``inside`` replaces them by the HU of an image at points scaled about the shape's centre.
    """

    profile: tuple[float, float]
    rim_mm: float = 0.0
    mottle_hu: float = 6.0
    noise_hu: float = 0.0
    inside: Volume | None = None

    def hu(self, shape: Shape, size: float, points_xyz: Floats, distance: Floats, random: Random) -> Floats:
        """HU at points (z, y, x, 3) with their signed distances, without noise of the scanner."""
        if self.inside is not None:
            hu = self.inside.at(shape.centre_xyz + (points_xyz - shape.centre_xyz) / size, 1)
        else:
            middle, rim = self.profile
            share = np.clip(1 + distance / max(self.rim_mm, 1e-6), 0, 1) if self.rim_mm else 0.0
            hu = middle + (rim - middle) * np.asarray(share)
        steps = points_xyz[1, 1, 1] - points_xyz[0, 0, 0] if min(distance.shape) > 1 else np.ones(3)
        spacing_zyx = np.abs(steps)[::-1] + 1e-6
        mottle = correlated(random, distance.shape, 2.5 / spacing_zyx) * self.mottle_hu
        noise = correlated(random, distance.shape, np.asarray((0.3, 0.6, 0.6))) * self.noise_hu
        return np.asarray(hu + mottle + noise)


@dataclass(frozen=True, eq=False)
class Lesion:
    """A lesion to render: label, shape, size and look."""

    label: int
    shape: Shape
    size: float
    look: Look


def correlated(random: Random, shape: tuple[int, ...], sigma_voxels: Floats) -> Floats:
    """Smooth noise of mean 0 and standard deviation 1; ``sigma_voxels`` z, y, x."""
    noise = ndimage.gaussian_filter(random.standard_normal(shape), sigma_voxels, mode="wrap")
    return np.asarray((noise - noise.mean()) / max(float(noise.std()), 1e-9))


class Painter:
    """Renders lesions into an image (HU, float, z, y, x) that looks at the anatomy through a motion.

    Args:
        grid: of the image.
        motion: from the image to the anatomy in which the shapes lie.
        allowed: anatomy that lesions may take, e.g. the body without bone; None for everywhere.
    """

    def __init__(self, grid: Grid, motion: Motion, allowed: Volume | None = None) -> None:
        self._grid, self._motion, self._allowed = grid, motion, allowed

    def fitted(self, shape: Shape, target_ml: float, largest: float) -> float:
        """Return the size at which the voxels of a shape have a volume, to half a voxel if one allows it."""
        box = self._box(shape, largest)
        seen = [self._motion.to_source(points) for points in self._parts(box, shape)]
        allowed = [self._is_allowed(points) for points in seen]

        def volume_ml(size: float) -> float:
            return float((_filled(shape, size, seen, allowed) >= 0.5).sum() * self._grid.voxel_ml)

        return size_of_volume(volume_ml, target_ml, largest)

    def paint(self, hu: Floats, labels: npt.NDArray[np.uint16], lesion: Lesion, random: Random) -> float:
        """Render a lesion into an image and its labelmap: voxels that it fills by half or more are its own.

        Args:
            hu: the image (z, y, x), changed in place.
            labels: the labelmap, changed in place.
            lesion: what to render.
            random: of its texture.

        Returns:
            Volume of its voxels in ml.
        """
        box = self._box(lesion.shape, lesion.size)
        seen = [self._motion.to_source(points) for points in self._parts(box, lesion.shape)]
        allowed = [self._is_allowed(points) for points in seen]
        filled = _filled(lesion.shape, lesion.size, seen, allowed)
        points = self._motion.to_source(self._grid.points(box))
        distance = lesion.shape.distance(points, lesion.size)
        value = lesion.look.hu(lesion.shape, lesion.size, points, distance, random)
        hu[box] += filled * (value - hu[box])
        labels[box][filled >= 0.5] = lesion.label
        return float((filled >= 0.5).sum() * self._grid.voxel_ml)

    def _box(self, shape: Shape, size: float) -> tuple[slice, ...]:
        centre = self._motion.to_followup(shape.centre_xyz[None])[0]
        return self._grid.box_round(centre, shape.reach_mm * size * 1.15 + 3)

    def _parts(self, box: tuple[slice, ...], shape: Shape) -> Iterator[Floats]:
        """Points of the parts of all voxels; those of large lesions are divided along z alone."""
        is_large = shape.reach_mm > LARGE_MM
        limits_mm = np.asarray((2.0, np.inf, np.inf)) if is_large else np.full(3, PART_MM)
        counts = np.clip(np.ceil(np.asarray(self._grid.spacing_zyx) / limits_mm), 1, 4).astype(int)
        for index in np.ndindex(*counts):
            yield self._grid.points(box, (np.asarray(index) + 0.5) / counts - 0.5)

    def _is_allowed(self, points_xyz: Floats) -> Bools | None:
        return None if self._allowed is None else np.asarray(self._allowed.at(points_xyz, 0) > 0.5)


def _filled(shape: Shape, size: float, seen: Sequence[Floats], allowed: Sequence[Bools | None]) -> Floats:
    """Share of each voxel that lies in a shape, from the points of its parts."""
    filled = np.zeros(seen[0].shape[:-1])
    for points, where in zip(seen, allowed, strict=True):
        inside = shape.distance(points, size) < 0
        filled += inside if where is None else inside & where
    return filled / len(seen)


@dataclass(frozen=True, slots=True)
class Scanner:
    """Reconstruction of a scan: blur in the plane (sigma), slice thickness (FWHM), noise, and shift of HU."""

    blur_mm: float
    thickness_mm: float
    noise_hu: float
    grain_voxels: float
    scale: float
    offset_hu: float

    @classmethod
    def draw(cls, random: Random, spacing_z: float, noise_hu: tuple[float, float]) -> Scanner:
        """Draw a scanner; slices are as thick as their distance or half as thick again."""
        return cls(
            blur_mm=float(random.uniform(0, 0.8)),
            thickness_mm=spacing_z * float(random.choice((1.0, 1.5))),
            noise_hu=float(random.uniform(*noise_hu)),
            grain_voxels=float(random.uniform(0.4, 0.9)),
            scale=float(random.uniform(0.98, 1.02)),
            offset_hu=float(random.uniform(-6, 6)),
        )

    def scan(self, hu: Floats, grid: Grid, random: Random) -> npt.NDArray[np.int16]:
        """Return an image in HU as this scanner shows it."""
        z, y, x = grid.spacing_zyx
        sigma_z = np.sqrt(max(self.thickness_mm**2 - z**2, 0)) / 2.355
        seen = ndimage.gaussian_filter(hu, (sigma_z / z, self.blur_mm / y, self.blur_mm / x), mode="nearest")
        drift = correlated(random, hu.shape, 40 / np.asarray(grid.spacing_zyx)) * 3
        seen = np.where(seen > -300, seen * self.scale + self.offset_hu + drift, seen)
        grain = np.asarray((0.3, self.grain_voxels, self.grain_voxels))
        seen = seen + correlated(random, hu.shape, grain) * self.noise_hu
        return np.asarray(np.clip(np.rint(seen), -1024, 3071), np.int16)


def noise_of(hu: npt.NDArray[Any], grid: Grid) -> float:
    """Estimate the noise of an image from its soft tissue, in HU."""
    rest = hu - smoothed(hu, grid, 2.0)
    soft = np.abs(smoothed(hu, grid, 3.0) - 30) < 100
    middle = np.median(rest[soft]) if soft.any() else 0.0
    return float(1.4826 * np.median(np.abs(rest[soft] - middle))) if soft.any() else 0.0


def without_lesion(
    ct: Volume, mask: Bools, kinds: tuple[tuple[float, float], ...], random: Random, ring_mm: float = 4.0
) -> Volume:
    """Take a lesion out of an image: the tissues round it go on inside, with their HU and noise.

    Args:
        ct: the image in HU.
        mask: the lesion (z, y, x).
        kinds: ranges of HU of the tissues that may go on; others round the lesion are ignored.
        random: of the noise.
        ring_mm: so far round the mask the image belongs to the lesion.

    Returns:
        The image with other voxels in and next to the mask alone, float64.
    """
    grid, hu = ct.grid, np.asarray(ct.array, np.float64)
    far = ndimage.distance_transform_edt(~mask, grid.spacing_zyx)
    where = ndimage.find_objects((far < ring_mm + 40).astype(np.uint8))[0]
    part = Grid(hu[where].shape, grid.spacing_xyz, grid.origin_xyz)
    own, calm = hu[where], smoothed(hu[where], part, 1.5)
    gone = far[where] < ring_mm
    tissues = [(calm >= low) & (calm < high) & ~gone for low, high in kinds]
    shares = _continued(tissues, gone, part)
    filled = sum(share * _level(own, tissue, part) for share, tissue in zip(shares, tissues, strict=True))
    noise = noise_of(own, part)
    filled = filled + correlated(random, own.shape, np.asarray((0.3, 0.6, 0.6))) * noise
    filled = filled + correlated(random, own.shape, 4 / np.asarray(grid.spacing_zyx)) * 4
    blend = np.clip((ring_mm - far[where]) / 1.5, 0, 1)
    changed = hu.copy()
    changed[where] = own + blend * (filled - own)
    return Volume(changed, grid)


def _continued(tissues: list[Bools], gone: Bools, grid: Grid) -> list[Floats]:
    """Share of each tissue where it is to go on: the nearest one, with smooth borders between them."""
    known = np.any(tissues, axis=0)
    kind = np.argmax(tissues, axis=0)
    _, nearest = ndimage.distance_transform_edt(~known, grid.spacing_zyx, return_indices=True)
    kind = kind[tuple(nearest)]
    for _ in range(6):
        votes = [smoothed(kind == number, grid, 3.0) for number in range(len(tissues))]
        kind = np.where(gone, np.argmax(votes, axis=0), kind)
    return [smoothed(kind == number, grid, 0.7) for number in range(len(tissues))]


def _level(hu: Floats, tissue: Bools, grid: Grid) -> Floats:
    """Mean HU of a tissue in the neighbourhood of each voxel."""
    if not tissue.any():
        return np.zeros_like(hu)
    weight = smoothed(tissue, grid, 15.0) + 1e-6
    total = smoothed(np.where(tissue, hu, 0.0), grid, 15.0) + 1e-6 * float(hu[tissue].mean())
    return np.asarray(total / weight)
