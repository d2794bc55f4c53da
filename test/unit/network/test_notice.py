"""What a model folder has every run say of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.inference.load import load_model
from model.inference.options import ModelOptions
from model.network.weights import DATASET_FILE, SHIPPED_WEIGHTS, WeightsManifest


def test_the_shipped_weights_say_what_they_are_for(caplog: pytest.LogCaptureFixture) -> None:
    model = load_model(SHIPPED_WEIGHTS, ModelOptions(device="cpu", folds=(0,)))
    (warning,) = model.warnings
    assert "demonstration weights, not for clinical use" in warning and str(SHIPPED_WEIGHTS) in warning
    assert [record.getMessage() for record in caplog.records].count(warning) == 1


@pytest.mark.parametrize(
    ("text", "notice"),
    [
        (json.dumps({"notice": "mind\n  this"}), "mind this"),
        (json.dumps({"notice": ""}), None),
        (json.dumps({"notice": 3}), None),
        (json.dumps({"labels": {}}), None),
        ("[]", None),
        ("{broken", None),
        (None, None),
    ],
)
def test_a_notice_is_one_line_or_none(tmp_path: Path, text: str | None, notice: str | None) -> None:
    if text is not None:
        (tmp_path / DATASET_FILE).write_text(text)
    assert WeightsManifest(tmp_path, (), ()).notice == notice
