"""Fixtures of the tests of data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.network.plan import Plan, read_plan
from test.helpers.paths import GOLDEN_MODEL


@pytest.fixture(scope="session")
def plan() -> Plan:
    """The golden model's plan at a spacing that fits the small scans of `data_sets`."""
    return replace(read_plan(GOLDEN_MODEL / "plans.json"), spacing_zyx=(2.0, 1.0, 0.9))
