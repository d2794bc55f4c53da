"""Where tests find the checkout and its data."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TEST = CHECKOUT / "test"
GOLDEN_MODEL = TEST / "golden" / "model"
SAMPLE = TEST / "sample"
