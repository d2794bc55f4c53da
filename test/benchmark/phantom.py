"""A phantom patient of any size in the interface of Task 2: for timing, not for accuracy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

SPACING_XYZ_MM = (0.98, 0.98, 2.0)


@dataclass(frozen=True)
class PhantomLesion:
    lesion_id: int
    centre_zyx: tuple[float, float, float]
    radius_mm: float


def write_phantom_case(folder: Path, size_xyz: tuple[int, int, int], lesions: int, seed: int = 0) -> None:
    """Write baseline, mask, follow-up and clicks. Int16 HU with noise, compressed, as scanners' CT are."""
    rng = np.random.default_rng(seed)
    shape = size_xyz[::-1]
    placed = _lesions(shape, lesions, rng)
    followup = [
        PhantomLesion(
            lesion.lesion_id,
            (lesion.centre_zyx[0] + 2, lesion.centre_zyx[1] - 3, lesion.centre_zyx[2] + 4),
            lesion.radius_mm * 1.2,
        )
        for lesion in placed
    ]
    images = folder / "images"
    _write(images / "primary-baseline-ct" / "baseline.mha", _ct(shape, placed, rng))
    mask = np.zeros(shape, np.uint8)
    for lesion in placed:
        _paint(mask, lesion, lesion.lesion_id)
    _write(images / "primary-baseline-ct-tumor-lesion-seg" / "mask.mha", mask)
    _write(images / "primary-followup-ct" / "followup.mha", _ct(shape, followup, rng))
    _write_clicks(folder / "primary-baseline-lesion-clicks.json", placed)
    _write_clicks(folder / "primary-followup-lesion-clicks.json", followup)


def _lesions(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> list[PhantomLesion]:
    """Spread through the body, one per slab, so that none overlap."""
    centres_z = (np.arange(count) + 0.5) * shape[0] / count
    found = []
    for number, z in enumerate(centres_z, 1):
        angle = rng.uniform(0, 2 * np.pi)
        y = shape[1] / 2 + 0.18 * shape[1] * np.sin(angle)
        x = shape[2] / 2 + 0.22 * shape[2] * np.cos(angle)
        found.append(PhantomLesion(number, (float(z), float(y), float(x)), float(rng.uniform(6, 14))))
    return found


def _ct(
    shape: tuple[int, ...], lesions: list[PhantomLesion], rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Air, a body of soft tissue with two lungs and a spine, lesions, and noise; slice by slice."""
    y = (np.arange(shape[1]) - shape[1] / 2)[:, None] / shape[1]
    x = (np.arange(shape[2]) - shape[2] / 2)[None, :] / shape[2]
    slice_hu = np.full(shape[1:], -1000, np.int16)
    slice_hu[(x / 0.42) ** 2 + (y / 0.32) ** 2 < 1] = 40
    slice_hu[((abs(x) - 0.2) / 0.13) ** 2 + (y / 0.22) ** 2 < 1] = -820
    slice_hu[(x / 0.05) ** 2 + ((y - 0.2) / 0.05) ** 2 < 1] = 350
    volume = np.repeat(slice_hu[None], shape[0], axis=0)
    for lesion in lesions:
        _paint(volume, lesion, 60)
    for plane in volume:
        noise = rng.normal(0, 18, plane.shape).astype(np.int16)
        plane += np.where(plane > -1000, noise, noise // 6)
    return volume


def _paint(volume: npt.NDArray[np.int16] | npt.NDArray[np.uint8], lesion: PhantomLesion, value: int) -> None:
    spacing_zyx = np.asarray(SPACING_XYZ_MM[::-1])
    reach = np.ceil(lesion.radius_mm / spacing_zyx).astype(int) + 1
    start = np.maximum(np.asarray(lesion.centre_zyx).astype(int) - reach, 0)
    stop = np.minimum(np.asarray(lesion.centre_zyx).astype(int) + reach + 1, volume.shape)
    slices = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    grid = np.indices(stop - start).reshape(3, -1).T + start
    distance = np.linalg.norm((grid - np.asarray(lesion.centre_zyx)) * spacing_zyx, axis=1)
    volume[slices][(distance < lesion.radius_mm).reshape(tuple(stop - start))] = value


def _write(path: Path, array: npt.NDArray[np.int16] | npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING_XYZ_MM)
    image.SetOrigin((-250.0, -250.0, -400.0))
    sitk.WriteImage(image, str(path), useCompression=True)


def _write_clicks(path: Path, lesions: list[PhantomLesion]) -> None:
    points = [{"name": str(les.lesion_id), "point": list(les.centre_zyx[::-1])} for les in lesions]
    document = {"name": "Points of interest", "type": "Multiple points", "points": points}
    path.write_text(json.dumps({**document, "version": {"major": 1, "minor": 0}}))
