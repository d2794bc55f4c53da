"""Pairs of scans whose lesions move, grow, shrink and vanish, with the truth known at every voxel.

The background is the sample case: a real chest, and the same chest breathed, turned and shifted on another
grid by a known map (`test.sample.warp`). Lesions are put into both at places that this map joins. Further
pairs of the same background differ in their lesions and noise.
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
"""The sample's own nodule, beside which no other is put."""

LUNG_HU, TISSUE_HU = 40.0, 130.0  # of lesions in the lung, and of those in soft tissue (there about 50)
EDGE_MM = 1.5
NOISE_HU = 10.0
APART_MM = 45.0
ROOM_MM = 9.0  # round a site there is nothing but lung, or soft tissue
PER_PAIR = {"lung": 5, "tissue": 3}

Volume = npt.NDArray[np.float32]


class Change(StrEnum):
    """What becomes of a lesion, and its radius as a share of that before."""

    SAME = "same"
    GROWN = "grown"
    SHRUNK = "shrunk"
    VANISHED = "vanished"

    @property
    def scale(self) -> float:
        return {"same": 1.0, "grown": 1.35, "shrunk": 0.7, "vanished": 0.0}[self]


@dataclass(frozen=True, eq=False)
class PlacedLesion:
    """A lesion of a pair; ``truth`` are booleans over ``box`` on the follow-up's grid (none if vanished)."""

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
        """The lesion as it would be asked for with this point in the follow-up."""
        return LesionPrompt(
            lesion_id=lesion.lesion_id,
            baseline=self.baseline,
            baseline_point=PromptPoint(lesion.baseline_zyx, PointSource.GIVEN),
            followup=self.followup,
            followup_point=PromptPoint(self.followup.geometry.clip(followup_zyx), PointSource.PROPAGATED),
        )


@dataclass(frozen=True)
class _Ellipsoid:
    """``axes`` (3, 3) are unit vectors in world x, y, z as rows, ``radii_mm`` belong to them."""

    centre_mm: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]
    radii_mm: npt.NDArray[np.float64]

    def scaled(self, centre_mm: npt.NDArray[np.float64], scale: float) -> _Ellipsoid:
        return replace(self, centre_mm=centre_mm, radii_mm=self.radii_mm * scale)

    def depth_mm(self, points_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """About how deep points (..., 3) lie inside; negative outside."""
        unit = (points_mm - self.centre_mm) @ self.axes.T / self.radii_mm
        return np.asarray((1 - np.linalg.norm(unit, axis=-1)) * self.radii_mm.min())


def lesion_pairs(count: int, seed: int = 0) -> Iterator[LesionPair]:
    """Pairs with eight lesions each, the same for a seed; changes take turns over all lesions."""
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
        there_mm = _warp().to_baseline(site_mm)
        shape = _Ellipsoid(there_mm, _rotation(rng), rng.uniform(4.5, 9.0) * rng.uniform(0.8, 1.2, 3))
        hu = LUNG_HU if tissue == "lung" else TISSUE_HU
        box, inside = _insert(before, baseline, shape, hu)
        mask[box.slices][inside] = lesion_id
        truth = Box((0, 0, 0), (0, 0, 0)), np.zeros((0, 0, 0), bool)
        if change is not Change.VANISHED:
            truth = _insert(after, followup, shape.scaled(site_mm, change.scale), hu)
        places = (
            baseline.geometry.world_to_zyx(there_mm.tolist()),
            followup.geometry.world_to_zyx(site_mm.tolist()),
        )
        radius_mm = float(np.cbrt(np.prod(shape.radii_mm)))
        lesions.append(PlacedLesion(lesion_id, change, tissue, *places, radius_mm, *truth))
    for volume in (before, after):
        volume += rng.normal(0, NOISE_HU, volume.shape).astype(np.float32)
    return LesionPair(replace(baseline, ct=before, mask=mask), replace(followup, ct=after), tuple(lesions))


def _insert(volume: Volume, scan: Scan, shape: _Ellipsoid, hu: float) -> tuple[Box, npt.NDArray[np.bool_]]:
    """Blend a lesion into a scan; the box round it and its voxels there."""
    geometry = scan.geometry
    reach = (shape.radii_mm.max() + EDGE_MM) / np.asarray(geometry.spacing_zyx)
    centre = np.asarray(geometry.world_to_zyx(shape.centre_mm.tolist()))
    start = np.maximum(np.floor(centre - reach), 0).astype(int)
    stop = np.minimum(np.ceil(centre + reach) + 1, volume.shape).astype(int)
    box = Box.of_shape(stop - start, start)
    index = np.moveaxis(np.indices(stop - start), 0, -1) + start
    depth_mm = shape.depth_mm(geometry.voxel_to_world(index[..., ::-1].reshape(-1, 3)))
    share = np.clip(depth_mm / EDGE_MM + 0.5, 0, 1).reshape(index.shape[:3])
    volume[box.slices] = volume[box.slices] * (1 - share) + hu * share
    return box, share > 0.5


def _rotation(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(q)


def _spread(
    sites: dict[str, npt.NDArray[np.float64]], tissue: str, rng: np.random.Generator
) -> list[npt.NDArray[np.float64]]:
    """Random sites of a tissue that lie apart from each other."""
    found: list[npt.NDArray[np.float64]] = []
    for site in rng.permutation(sites[tissue]):
        if all(np.linalg.norm(site - other) >= APART_MM for other in found):
            found.append(site)
        if len(found) == PER_PAIR[tissue]:
            break
    return found


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
def _warp() -> Warp:
    """The sample's own map; the point it turns about is found as `test.sample.make` does."""
    baseline, _ = _sample()
    thinned = np.argwhere(baseline.ct[::4, ::4, ::4] > -400) * 4
    about = baseline.geometry.voxel_to_world(thinned[:, ::-1].astype(float)).mean(axis=0)
    return Warp(np.asarray(SAMPLE_CENTRE_XYZ_MM), about)


@cache
def _sites() -> dict[str, npt.NDArray[np.float64]]:
    """World points (N, 3) of the follow-up with room for a lesion, by tissue, and in the baseline as well."""
    baseline, followup = _sample()
    geometry = followup.geometry
    smooth = ndimage.gaussian_filter(followup.ct.astype(np.float32), 3.0 / np.asarray(geometry.spacing_zyx))
    found = {}
    for tissue, is_tissue in (("lung", smooth < -650), ("tissue", (smooth > 10) & (smooth < 90))):
        is_tissue[0] = is_tissue[-1] = False
        if tissue == "lung":
            is_tissue &= _inside(smooth)
        room_mm = ndimage.distance_transform_edt(is_tissue, geometry.spacing_zyx)
        index = np.argwhere(room_mm >= ROOM_MM)[::5]
        points_mm = geometry.voxel_to_world(index[:, ::-1].astype(float))
        far = np.linalg.norm(_warp().to_baseline(points_mm) - SAMPLE_CENTRE_XYZ_MM, axis=1) >= APART_MM
        found[tissue] = points_mm[far]
    return found


def _inside(smooth: Volume) -> npt.NDArray[np.bool_]:
    """Not the air round the body: what touches a side of its slice."""
    in_slice = np.zeros((3, 3, 3), bool)
    in_slice[1] = True
    air, _ = ndimage.label(smooth < -400, in_slice)
    rim = [air[:, 0], air[:, -1], air[:, :, 0], air[:, :, -1]]
    return ~np.isin(air, np.unique(np.concatenate([side.ravel() for side in rim])))
