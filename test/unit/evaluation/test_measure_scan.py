"""Distances of centres are in mm, on grids of any spacing and direction: hand-computed."""

from __future__ import annotations

import json
from math import cos, radians, sin, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.case.geometry import Geometry
from model.evaluation.lesion_groups import LesionGroup
from model.evaluation.measure_scan import Labelmap, ScanName, measure_scan
from model.evaluation.records import read_records

from ...helpers.evaluation_cases import Block, command, write
from ...helpers.sheared_grids import ball_on, tilted

SIZE, SPACING, ORIGIN = (48, 40, 20), (0.7, 0.9, 3.0), (-100.0, 31.5, 700.25)
_C, _S = cos(radians(25)), sin(radians(25))
DIRECTIONS = {
    "plain": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    "flipped": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0),
    "upside down": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0),
    "tilted": (1.0, 0.0, 0.0, 0.0, _C, -_S, 0.0, _S, _C),
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0),
}

# Position and size (z, y, x) of each lesion in the reference and in the prediction, and the distance.
LESIONS: dict[int, tuple[Any, ...]] = {
    # 2, 10 and 20 voxels away: 6, 9 and 14 mm.
    1: ((1, 2, 2), (2, 2, 2), (3, 12, 22), (2, 2, 2), sqrt(36 + 81 + 196)),
    # 8, 5 and 4 voxels: 24, 4.5 and 2.8 mm.
    2: ((9, 20, 2), (2, 2, 2), (17, 25, 6), (2, 2, 2), sqrt(24**2 + 4.5**2 + 2.8**2)),
    # 8, 9 and 2 voxels: 24, 8.1 and 1.4 mm, more than 25 mm, but not 25 voxels.
    3: ((9, 2, 2), (2, 2, 2), (17, 11, 4), (2, 2, 2), sqrt(24**2 + 8.1**2 + 1.4**2)),
    # 29 voxels along x: 20.3 mm, less than 25 mm, but not 25 voxels.
    4: ((5, 30, 10), (1, 1, 1), (5, 30, 39), (1, 1, 1), 20.3),
    # A prediction twice as deep and three times as wide: half a voxel and one.
    5: ((13, 30, 30), (1, 2, 2), (13, 30, 30), (2, 2, 4), sqrt(1.5**2 + 0.7**2)),
}
MATCHED = (1, 2, 4, 5)


def _block(value: int, place: tuple[int, ...], size: tuple[int, ...]) -> Block:
    z, y, x = (slice(start, start + length) for start, length in zip(place, size, strict=True))
    return (value, z, y, x)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("suffix", [".mha", ".nii.gz"])
def test_centres_are_compared_in_mm(tmp_path: Path, direction: str, suffix: str) -> None:
    grid = Geometry(SIZE, SPACING, ORIGIN, DIRECTIONS[direction])
    for name, at in (("reference", 0), ("prediction", 2)):
        blocks = [_block(value, *lesion[at : at + 2]) for value, lesion in LESIONS.items()]
        write(tmp_path / f"{name}{suffix}", *blocks, grid=grid)
    command(
        "--reference",
        tmp_path / f"reference{suffix}",
        "--prediction",
        tmp_path / f"prediction{suffix}",
        "-o",
        tmp_path / "out",
        "--definition",
        "tracking",
    )
    records = {record.lesion: record for record in read_records(tmp_path / "out" / "lesions.csv")}
    expected = {value: lesion[-1] for value, lesion in LESIONS.items()}
    assert {value: records[str(value)].centre_mm for value in LESIONS} == pytest.approx(expected, rel=1e-5)
    (step,) = (
        s
        for s in json.loads((tmp_path / "out" / "summary.json").read_text())["steps"]
        if s["scope"] == "lesion"
    )
    means = {name: metric["mean"] for name, metric in step["metrics"].items()}
    assert means["med_mm"] == pytest.approx(sum(expected.values()) / 5, rel=1e-5)
    assert means["cpm_25"] == pytest.approx(len(MATCHED) / 5)
    # Only the last one overlaps: 4 voxels of 4 and of 16.
    assert means["dice_25"] == pytest.approx(2 * 4 / 20 / len(MATCHED))
    assert means["dice"] == pytest.approx(2 * 4 / 20 / 5)


@pytest.mark.parametrize("degrees", [20.0, -25.0])
def test_distances_and_volumes_on_a_sheared_grid_are_those_of_the_world(degrees: float) -> None:
    """Balls 4 mm apart along the slice axis of the patient, which is none of the sheared axes' normals."""
    grid = tilted((40, 40, 30), (1.0, 1.0, 1.5), degrees, (-20.0, -20.0, 0.0))
    straight = Geometry((80, 80, 60), (0.5, 0.5, 0.75), (-20.0, -20.0, 0.0))
    group = LesionGroup("1", (), (1,), (1,), None)
    found = []
    for one in (grid, straight):
        middle = tuple(grid.zyx_to_world((15, 20, 20)))
        maps = [
            Labelmap(Path(name), ball_on(one, (middle[0], middle[1], middle[2] + up), 7.0) * np.uint8(1), one)
            for name, up in (("reference", 0.0), ("prediction", 4.0))
        ]
        records = measure_scan(ScanName("p", "s", 0, False), [group], maps[0], maps[1], {})
        found.append(records[0])
    sheared, expected = found
    assert sheared.centre_mm == pytest.approx(4.0, abs=0.3)
    assert sheared.hd95_mm == pytest.approx(expected.hd95_mm, abs=0.6)
    volume_ml = sheared.reference_voxels * sheared.voxel_ml
    assert volume_ml == pytest.approx(4 / 3 * np.pi * 0.343, rel=0.03)
