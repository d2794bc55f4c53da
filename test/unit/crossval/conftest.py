"""One data set and one model folder for all tests, which do not change them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from model.crossval.pairs import EvaluationPair, data_set_pairs
from model.training.logs import EpochLog

from ...helpers.crossval_cases import write_data_set, write_model


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "model")


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training these small networks."""
    monkeypatch.setattr(EpochLog, "draw", lambda self: None)


@pytest.fixture(scope="package")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("crossval") / "raw")


@pytest.fixture(scope="package")
def pairs(manifest: Path) -> tuple[EvaluationPair, ...]:
    return data_set_pairs(manifest)


@pytest.fixture(scope="package")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("crossval") / "model")
