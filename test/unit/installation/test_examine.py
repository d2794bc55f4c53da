"""The whole examination, of a good and of damaged models, and the command doctor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.cli.main import main
from model.installation import examine as module
from model.installation.condition import Condition, Health, worst
from model.installation.examine import ExaminedPlaces, network_condition, weights_conditions
from test.helpers.golden_pet_ct import PET_CT_MODEL
from test.helpers.paths import GOLDEN_DIFFERENCE

from ...helpers.checkpoints import FOLD, small_model


@pytest.mark.parametrize("folder", [GOLDEN_DIFFERENCE / "model", PET_CT_MODEL])
def test_a_forward_pass_of_each_family(folder: Path) -> None:
    condition = network_condition(ExaminedPlaces(folder, device="cpu"))
    assert condition.health is Health.OK and "voxels on cpu in" in condition.found


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model(tmp_path / "m")
    words = ["doctor", "--weights", str(model), "--output", str(tmp_path), "--device", "cpu"]
    code = main([*words, "--json"])
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["health"] in ("ok", "warning") and code == 0 and captured.err == ""
    parts = {condition["part"]: condition for condition in document["conditions"]}
    assert {"python", "packages", "processor", "memory", "outputs", "weights", "network"} <= parts.keys()
    assert parts[f"weights fold_1/{FOLD.name}"]["health"] == "ok"
    (model / "fold_1" / FOLD.name).write_bytes(b"damaged")
    assert main(words) == 1
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("broken"))
    assert f"fold_1/{FOLD.name}: cannot be read safely" in line and "-> put a whole model in place" in line


def test_a_missing_model_is_a_condition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--weights", str(tmp_path), "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("\nbroken") == 2 and f"{tmp_path}: holds no model" in captured.out
    assert captured.err == ""


def test_faults_of_a_library_are_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object = None) -> Iterator[Condition]:
        raise OSError("libcuda.so: cannot open shared object file")

    for name in ("gpu_facts", "weights_conditions", "network_condition", "memory_condition"):
        monkeypatch.setattr(module, name, fails)
    conditions = {condition.part: condition for condition in module.examine(ExaminedPlaces())}
    assert worst(conditions.values()) is Health.BROKEN
    for part in ("gpu", "weights", "network", "memory"):
        assert "libcuda.so" in conditions[part].found and conditions[part].action


def test_logits_that_are_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "isfinite", lambda values: torch.zeros_like(values, dtype=torch.bool))
    monkeypatch.setattr("model.network.weights.first_not_finite", lambda _: None)
    condition = network_condition(ExaminedPlaces(GOLDEN_DIFFERENCE / "model", device="cpu"))
    assert condition.health is Health.BROKEN and "not finite" in condition.found


def test_the_notice_is_told() -> None:
    *_, model = weights_conditions()
    assert "demonstration weights" in model.found
