"""Paths of the checkout and its data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TEST = CHECKOUT / "test"
GOLDEN_MODEL = TEST / "golden" / "model"
GOLDEN_DIFFERENCE = TEST / "golden" / "difference_weighting"
SAMPLE = TEST / "sample"

# Real scans that are not the project's to distribute: test/README.md says where they come from.
REAL_DATA = Path(os.environ.get("LONGILESION_TEST_DATA", CHECKOUT / "test-data"))


def real_file(*names: str) -> Path:
    """A file of the data outside of the repository; the test that needs it is skipped if it is missing."""
    path = REAL_DATA.joinpath(*names)
    if not path.exists():
        name = "/".join(names)
        pytest.skip(f"{name} is missing: set LONGILESION_TEST_DATA, see test/README.md for its source")
    return path
