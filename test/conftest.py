"""Settings of all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# As in a run (model/cli/process.py), and before any test imports torch: threads that wait must not spin on
# the cores of others, or a machine with other work takes ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Tests run side by side, one process per core (test/run.sh): more threads would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

# A time limit for each example would fail tests on a busy machine.
settings.register_profile("any-speed", deadline=None)
settings.load_profile("any-speed")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first; processes take files in this order, and short ones fill the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
