"""A CUDA device against the CPU: one forward pass, and a golden case end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.inference.ensemble import Ensemble
from model.inference.options import ModelOptions
from model.network.plan import Plan
from model.network.weights import build_network

from .conftest import GoldenMaps, dice, run_golden

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device to compare with the CPU"),
]

CASE = "a_easy"


@pytest.fixture(autouse=True)
def no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32 proper: torch's default keeps 10 bits of the mantissa."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> GoldenMaps:
    return run_golden(CASE, tmp_path_factory.mktemp("cpu"), ModelOptions(device="cpu"))


def test_a_forward_pass_equals_that_of_the_cpu(golden_plan: Plan, golden_ensemble: Ensemble) -> None:
    shape = (1, len(golden_ensemble.variant.channels), *golden_plan.patch_size_zyx)
    channels = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    logits = {}
    for device in ("cpu", "cuda:0"):
        network = build_network(golden_plan, golden_ensemble.folds[0], device)
        with torch.inference_mode():
            logits[device] = network(channels.to(device)).cpu()
    assert logits["cpu"].abs().max() > 0.1
    assert (logits["cpu"] - logits["cuda:0"]).abs().max() <= 1e-3


# Of a lesion's Dice: in half precision the published pipeline keeps to 0.98 (test_golden).
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.999), ("fp16", 0.98), ("bf16", 0.98)])
def test_a_case_gives_the_labelmap_of_the_cpu(
    precision: str, least: float, on_cpu: GoldenMaps, tmp_path: Path
) -> None:
    options = ModelOptions(device="cuda:0", precision=precision)  # type: ignore[arg-type]
    on_gpu = run_golden(CASE, tmp_path, options)
    assert on_gpu.keys() == on_cpu.keys() and on_cpu
    for name, expected in on_cpu.items():
        assert expected.any()
        for lesion_id in np.unique(expected[expected > 0]):
            assert dice(on_gpu[name] == lesion_id, expected == lesion_id) >= least
