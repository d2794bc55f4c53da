"""A small data set of scans with permuted and flipped axes, and model folders with random weights."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from model.case.clicks import write_clicks
from model.case.geometry import Array, Geometry, Index
from model.case.images import write_image
from model.training.checkpoint import FINAL, Progress, RunIdentity, network_checkpoint, write_checkpoint
from model.training.training_network import new_network

from . import training_phantoms as phantoms

SHAPE: Index = (30, 34, 32)  # of the files, whose axes are not the anatomical ones
# The axes of the files are permuted and flipped, in different ways for both scans.
_DIRECTIONS = ((0, 0, 1, 1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
GRIDS = tuple(
    Geometry((32, 34, 30), (1.1, 1.3, 1.2), (10.0, -40.0, 300.0), tuple(map(float, direction)))
    for direction in _DIRECTIONS
)

# Lesion 1 persists, 2 vanishes (its id is reused), 3 and 4 merge into 5, 6 is new.
BEFORE = {1: ((8, 9, 10), 3), 2: ((20, 8, 8), 2), 3: ((20, 24, 14), 2), 4: ((20, 24, 20), 2)}
AFTER = {1: ((9, 10, 10), 4), 2: ((8, 26, 24), 2), 5: ((20, 24, 17), 4), 6: ((24, 10, 25), 2)}
LINKS = "3>5; 4>5; 2>"
PROPAGATED = {1: (12.0, 9.25, 8.5), 2: (9.0, 8.0, 20.0), 3: (15.0, 23.0, 20.5)}  # x, y, z


def labelmap(lesions: dict[int, tuple[Index, int]]) -> Array:
    """Balls, uint8 (z, y, x): id -> (centre, radius)."""
    labels = np.zeros(SHAPE, np.uint8)
    place = np.indices(SHAPE).transpose(1, 2, 3, 0)
    for lesion_id, (centre, radius) in lesions.items():
        labels[np.linalg.norm(place - np.asarray(centre), axis=-1) <= radius] = lesion_id
    return labels


def write_data_set(folder: Path, patients: tuple[str, ...] = ("anna", "ben")) -> Path:
    """A manifest; each patient has a baseline and a follow-up."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, patient in enumerate(patients):
        for order, lesions in enumerate((BEFORE, AFTER)):
            labels = labelmap(lesions)
            noise = np.random.default_rng(10 * number + order).normal(-50, 60, SHAPE)
            stem = f"{patient}_{order}"
            write_image(
                folder / f"{stem}_ct.mha", (noise + 150 * (labels > 0)).astype(np.int16), GRIDS[order]
            )
            write_image(folder / f"{stem}_labels.mha", labels, GRIDS[order])
            if order:
                write_clicks(folder / f"{stem}.json", PROPAGATED)
            rows.append(
                {
                    "patient": patient,
                    "timepoint": f"t{order}",
                    "image": f"{stem}_ct.mha",
                    "labels": f"{stem}_labels.mha",
                    "points": f"{stem}.json" if order else "",
                    "links": LINKS if order else "",
                }
            )
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_model(folder: Path, folds: tuple[str, ...] = ("0", "1"), seed: int = 0) -> Path:
    """A model folder of untrained networks, which predict some voxels of lesion in any input."""
    plan = phantoms.plan((16, 16, 16), 4)
    phantoms.write_plan(folder, plan)
    for number, fold in enumerate(folds):
        config = phantoms.config(seed=100 * seed + number)
        network = new_network(plan, config)
        checkpoint = network_checkpoint(network, config, RunIdentity("3d_fullres", fold, ""), Progress())
        write_checkpoint(folder / f"fold_{fold}" / FINAL, checkpoint)
    return folder
