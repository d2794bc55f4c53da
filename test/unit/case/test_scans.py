"""Clicks in world units, on the scan that they belong to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.case.geometry import Geometry
from model.case.scans import _clicks

ANGLE = float(np.deg2rad(20))
COS, SIN = float(np.cos(ANGLE)), float(np.sin(ANGLE))
OBLIQUE = Geometry((60, 56, 34), (1.5, 1.5, 2.0), (12.5, -7.25, 300.0), (COS, -SIN, 0, SIN, COS, 0, 0, 0, 1))
whole = st.integers(0, 55)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clicks")


@given(point=st.tuples(whole, whole, whole))
def test_a_world_click_is_in_the_voxel_that_was_clicked(folder: Path, point: tuple[int, int, int]) -> None:
    """Truncating it afterwards must not take it to the voxel before."""
    document = {
        "name": "Points of interest",
        "type": "Multiple points",
        "points": [{"name": "1", "point": OBLIQUE.voxel_to_world(point).tolist()}],
        "version": {"major": 1, "minor": 0},
    }
    (folder / "clicks.json").write_text(json.dumps(document))
    assert _clicks(folder / "clicks.json", OBLIQUE, "world") == {1: tuple(map(float, point))}
