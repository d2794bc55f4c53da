"""Settings of all training tests."""

from __future__ import annotations

import logging

import pytest
import torch

from model.training.logs import EpochLog


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "model")


@pytest.fixture
def curves() -> None:
    """Requested by tests of `curve.png`, which other tests do not draw."""


@pytest.fixture(autouse=True)
def _no_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training these small networks."""
    if "curves" not in request.fixturenames:
        monkeypatch.setattr(EpochLog, "draw", lambda self: None)
