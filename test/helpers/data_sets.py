"""Small data sets in every layout that `train prepare` reads."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from model.case.geometry import Array, Geometry, Vector
from model.case.images import write_image
from model.data.dataset import RawScan

# Awkward on purpose: anisotropic, off the origin, three different lengths.
GRID = Geometry((26, 22, 14), (1.1, 1.2, 2.6), (-40.0, 12.5, 300.0))

# The same with two axes against the world's, and with slices along x.
TURNED = Geometry(GRID.size_xyz, GRID.spacing_xyz, (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
SAGITTAL = Geometry((14, 22, 26), (2.6, 1.2, 1.1), (0, 0, 0), (0, 0, 1, 1, 0, 0, 0, -1, 0))

Lesions = Mapping[int, tuple[tuple[int, int, int], int]]
"""Lesion id -> centre (z, y, x) and half edge in voxels."""

LESIONS: Lesions = {1: ((4, 5, 5), 2), 300: ((9, 15, 18), 3), 65535: ((9, 8, 20), 1), 7: ((1, 19, 2), 1)}


def labelmap(lesions: Lesions, geometry: Geometry = GRID) -> Array:
    """Cubes of lesions, uint16 (z, y, x)."""
    labels = np.zeros(geometry.shape_zyx, np.uint16)
    for lesion_id, ((z, y, x), half) in lesions.items():
        labels[z - half : z + half + 1, y - half : y + half + 1, x - half : x + half + 1] = lesion_id
    return labels


def write_scan(image: Path, labels: Path, lesions: Lesions, geometry: Geometry = GRID, seed: int = 0) -> None:
    """A noisy CT with brighter lesions, and its labelmap."""
    mask = labelmap(lesions, geometry)
    noise = np.random.default_rng(seed).normal(-20, 15, mask.shape)
    write_image(image, (noise + 80 * (mask > 0)).astype(np.int16), geometry, verify=False)
    write_image(labels, mask, geometry, verify=False)


def write_raw_scan(folder: Path, geometry: Geometry = GRID) -> RawScan:
    """A scan with `LESIONS`, or with one lesion on another grid, under an id with awkward characters."""
    scan = RawScan("a b/c", "a b", 0, folder / "ct.nii.gz", folder / "labels.nii.gz")
    lesions: Lesions = LESIONS if geometry.size_xyz == GRID.size_xyz else {3: ((8, 9, 6), 3)}
    write_scan(scan.image, folder / "labels.nii.gz", lesions, geometry)
    return scan


def write_manifest(folder: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """`manifest.csv` with the columns of its first row."""
    path = folder / "manifest.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def manifest_of_pairs(folder: Path, patients: Mapping[str, Sequence[Lesions]]) -> Path:
    """A manifest of patients, each with the lesions of the scans in turn."""
    rows = []
    for number, (patient, scans) in enumerate(patients.items()):
        for order, lesions in enumerate(scans):
            image, labels = f"{patient}_{order}_ct.nii.gz", f"{patient}_{order}_labels.nii.gz"
            write_scan(folder / image, folder / labels, lesions, seed=10 * number + order)
            rows.append({"patient": patient, "timepoint": f"t{order}", "image": image, "labels": labels})
    return write_manifest(folder, rows)


def write_challenge(
    folder: Path, patient: str, rows: Sequence[Mapping[str, str]], baseline: Lesions, followup: Lesions
) -> None:
    """One patient of the challenge's release, with one image for each time point."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs, targets = folder / "inputsTr", folder / "targetsTr"
    names = [f"{patient}_{which}_{{}}_{which}_img_00.nii.gz" for which in ("BL", "FU")]
    write_scan(inputs / names[0].format("img"), inputs / names[0].format("mask"), baseline, seed=1)
    write_scan(inputs / names[1].format("img"), targets / names[1].format("mask"), followup, seed=2)
    with (inputs / f"{patient}.csv").open("w", newline="") as file:
        columns = ["lesion_id", "img_id_bl", "img_id_fu", "cog_bl", "cog_fu", "cog_propagated"]
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({"img_id_bl": "0", "img_id_fu": "0", **row} for row in rows)


def write_longiseg(
    folder: Path, patients: Mapping[str, Mapping[str, Lesions]], tracking: object, file: str | None
) -> None:
    """LongiSeg's layout: patients with their scans by name, and a tracking file (or none)."""
    for scans in patients.values():
        for name, lesions in scans.items():
            images, labels = folder / "imagesTr", folder / "labelsTr"
            write_scan(images / f"{name}_0000.nii.gz", labels / f"{name}.nii.gz", lesions)
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described))
    (folder / "patientsTr.json").write_text(json.dumps({p: list(scans) for p, scans in patients.items()}))
    if file is not None:
        (folder / file).write_text(json.dumps(tracking))


def text(point: Vector) -> str:
    """A point as the release writes it."""
    return " ".join(f"{value:g}" for value in point)
