"""Pairs of scans with synthetic lesions that move, grow, shrink and vanish, with voxelwise ground truth.

The background is the sample case: a real chest, and the same chest breathed, turned and shifted on another
grid by a known map (`test.sample.warp`). Lesions are inserted into both at points that correspond by this
map. Further pairs have the same background and differ in lesions and noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from model.case.case import LesionPrompt, PointSource, PromptPoint, Scan, ScanFiles, Slot
from model.case.geometry import Box, Vector
from model.case.scans import read_scans
from test.sample.warp import Warp

SAMPLE = Path(__file__).resolve().parents[1] / "sample"
SAMPLE_CENTRE_XYZ_MM = (-57.2, 131.35, -520.36)
"""The sample's own nodule; no lesion is inserted near it."""

LUNG_HU, TISSUE_HU = 40.0, 130.0  # of lesions in lung and soft tissue (background about 50)
EDGE_MM = 1.5
NOISE_HU = 10.0
APART_MM = 45.0
ROOM_MM = 9.0  # around a site there is only lung, or only soft tissue
PER_PAIR = {"lung": 5, "tissue": 3}

Volume = npt.NDArray[np.float32]


class Change(StrEnum):
    """Change of a lesion; ``scale`` is its radius relative to the baseline."""

    SAME = "same"
    GROWN = "grown"
    SHRUNK = "shrunk"
    VANISHED = "vanished"

    @property
    def scale(self) -> float:
        return {"same": 1.0, "grown": 1.35, "shrunk": 0.7, "vanished": 0.0}[self]


@dataclass(frozen=True, eq=False)
class PlacedLesion:
    """A lesion of a pair; ``truth`` are booleans over ``box`` on the follow-up's grid, empty if vanished."""

    lesion_id: int
    change: Change
    tissue: str
    baseline_zyx: Vector
    followup_zyx: Vector
    radius_mm: float
    box: Box
    truth: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LesionPair:
    baseline: Scan
    followup: Scan
    lesions: tuple[PlacedLesion, ...]

    def prompt(self, lesion: PlacedLesion, followup_zyx: Vector) -> LesionPrompt:
        """The prompt for a lesion with a given point (voxel index z, y, x) in the follow-up."""
        return LesionPrompt(
            lesion_id=lesion.lesion_id,
            baseline=self.baseline,
            baseline_point=PromptPoint(lesion.baseline_zyx, PointSource.GIVEN),
            followup=self.followup,
            followup_point=PromptPoint(self.followup.geometry.clip(followup_zyx), PointSource.PROPAGATED),
            to_baseline=self._to_baseline,
        )

    def _to_baseline(self, followup_zyx: Vector) -> Vector:
        """The known map; only ways between two points are used, which a constant error does not change."""
        place_mm = np.asarray([self.followup.geometry.zyx_to_world(followup_zyx)])
        return self.baseline.geometry.world_to_zyx(known_warp().to_baseline(place_mm)[0].tolist())


@dataclass(frozen=True)
class _Ellipsoid:
    """``axes`` (3, 3) are unit vectors in world x, y, z as rows, with the radii ``radii_mm``."""

    centre_mm: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]
    radii_mm: npt.NDArray[np.float64]

    def scaled(self, centre_mm: npt.NDArray[np.float64], scale: float) -> _Ellipsoid:
        return replace(self, centre_mm=centre_mm, radii_mm=self.radii_mm * scale)

    def depth_mm(self, points_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Approximate depth of points (..., 3) inside the ellipsoid, negative outside."""
        unit = (points_mm - self.centre_mm) @ self.axes.T / self.radii_mm
        return np.asarray((1 - np.linalg.norm(unit, axis=-1)) * self.radii_mm.min())


def lesion_pairs(count: int, seed: int = 0) -> Iterator[LesionPair]:
    """Generate pairs with eight lesions each, reproducibly for a seed; lesions change in rotation."""
    baseline, followup = _sample()
    sites = _sites()
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        chosen = [(tissue, site) for tissue in PER_PAIR for site in _spread(sites, tissue, rng)]
        yield _pair(baseline, followup, chosen, number, rng)


def _pair(
    baseline: Scan,
    followup: Scan,
    chosen: list[tuple[str, npt.NDArray[np.float64]]],
    number: int,
    rng: np.random.Generator,
) -> LesionPair:
    before, after = (scan.ct.astype(np.float32) for scan in (baseline, followup))
    mask = np.zeros(before.shape, np.uint16)
    lesions = []
    changes = list(Change)
    for index, (tissue, site_mm) in enumerate(chosen):
        lesion_id, change = index + 1, changes[(index + number) % len(changes)]
        baseline_mm = known_warp().to_baseline(site_mm)
        shape = _Ellipsoid(baseline_mm, _rotation(rng), rng.uniform(4.5, 9.0) * rng.uniform(0.8, 1.2, 3))
        hu = LUNG_HU if tissue == "lung" else TISSUE_HU
        box, inside = _insert(before, baseline, shape, hu)
        mask[box.slices][inside] = lesion_id
        truth = Box((0, 0, 0), (0, 0, 0)), np.zeros((0, 0, 0), bool)
        if change is not Change.VANISHED:
            truth = _insert(after, followup, shape.scaled(site_mm, change.scale), hu)
        points_zyx = (
            baseline.geometry.world_to_zyx(baseline_mm.tolist()),
            followup.geometry.world_to_zyx(site_mm.tolist()),
        )
        radius_mm = float(np.cbrt(np.prod(shape.radii_mm)))
        lesions.append(PlacedLesion(lesion_id, change, tissue, *points_zyx, radius_mm, *truth))
    for volume in (before, after):
        volume += rng.normal(0, NOISE_HU, volume.shape).astype(np.float32)
    return LesionPair(replace(baseline, ct=before, mask=mask), replace(followup, ct=after), tuple(lesions))


def _insert(volume: Volume, scan: Scan, shape: _Ellipsoid, hu: float) -> tuple[Box, npt.NDArray[np.bool_]]:
    """Blend a lesion into a scan; returns the box around it and its voxels over the box."""
    geometry = scan.geometry
    reach = (shape.radii_mm.max() + EDGE_MM) / np.asarray(geometry.spacing_zyx)
    centre = np.asarray(geometry.world_to_zyx(shape.centre_mm.tolist()))
    start = np.maximum(np.floor(centre - reach), 0).astype(int)
    stop = np.minimum(np.ceil(centre + reach) + 1, volume.shape).astype(int)
    box = Box.of_shape(stop - start, start)
    index = np.moveaxis(np.indices(stop - start), 0, -1) + start
    depth_mm = shape.depth_mm(geometry.voxel_to_world(index[..., ::-1].reshape(-1, 3)))
    weight = np.clip(depth_mm / EDGE_MM + 0.5, 0, 1).reshape(index.shape[:3])
    volume[box.slices] = volume[box.slices] * (1 - weight) + hu * weight
    return box, weight > 0.5


def _rotation(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(q)


def _spread(
    sites: dict[str, npt.NDArray[np.float64]], tissue: str, rng: np.random.Generator
) -> list[npt.NDArray[np.float64]]:
    """Random sites of a tissue with a minimum distance from each other."""
    chosen: list[npt.NDArray[np.float64]] = []
    for site in rng.permutation(sites[tissue]):
        if all(np.linalg.norm(site - other) >= APART_MM for other in chosen):
            chosen.append(site)
        if len(chosen) == PER_PAIR[tissue]:
            break
    return chosen


@cache
def _sample() -> tuple[Scan, Scan]:
    images = SAMPLE / "input" / "images"
    files = [
        (
            "baseline",
            ScanFiles(
                Slot.PRIMARY,
                images / "primary-baseline-ct" / "lidc0314-baseline.mha",
                images / "primary-baseline-ct-tumor-lesion-seg" / "lidc0314-baseline.mha",
            ),
        ),
        ("followup", ScanFiles(Slot.PRIMARY, images / "primary-followup-ct" / "lidc0314-followup.mha")),
    ]
    (baseline, followup), _ = read_scans(files, "voxel")
    return baseline, followup


@cache
def known_warp() -> Warp:
    """The map of the sample; its centre of rotation is computed as in `test.sample.make`."""
    baseline, _ = _sample()
    thinned = np.argwhere(baseline.ct[::4, ::4, ::4] > -400) * 4
    about = baseline.geometry.voxel_to_world(thinned[:, ::-1].astype(float)).mean(axis=0)
    return Warp(np.asarray(SAMPLE_CENTRE_XYZ_MM), about)


@cache
def _sites() -> dict[str, npt.NDArray[np.float64]]:
    """World points (N, 3) of the follow-up, by tissue, with room for a lesion there and in the baseline."""
    baseline, followup = _sample()
    geometry = followup.geometry
    smooth = ndimage.gaussian_filter(followup.ct.astype(np.float32), 3.0 / np.asarray(geometry.spacing_zyx))
    sites = {}
    for tissue, is_tissue in (("lung", smooth < -650), ("tissue", (smooth > 10) & (smooth < 90))):
        is_tissue[0] = is_tissue[-1] = False
        if tissue == "lung":
            is_tissue &= _inside(smooth)
        room_mm = ndimage.distance_transform_edt(is_tissue, geometry.spacing_zyx)
        index = np.argwhere(room_mm >= ROOM_MM)[::5]
        points_mm = geometry.voxel_to_world(index[:, ::-1].astype(float))
        far = np.linalg.norm(known_warp().to_baseline(points_mm) - SAMPLE_CENTRE_XYZ_MM, axis=1) >= APART_MM
        sites[tissue] = points_mm[far]
    return sites


def _inside(smooth: Volume) -> npt.NDArray[np.bool_]:
    """Exclude the air around the body, i.e. air connected with the border of its slice."""
    in_slice = np.zeros((3, 3, 3), bool)
    in_slice[1] = True
    air, _ = ndimage.label(smooth < -400, in_slice)
    rim = [air[:, 0], air[:, -1], air[:, :, 0], air[:, :, -1]]
    return ~np.isin(air, np.unique(np.concatenate([side.ravel() for side in rim])))
