"""Choice of device and precision, and the memory ladder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.errors import InputError, MemoryExhaustedError
from model.inference import memory
from model.inference.memory import (
    Rung,
    choose_device,
    choose_precision,
    first_rung,
    is_out_of_memory,
    next_rung,
)
from model.inference.options import ModelOptions
from model.network.input_variants import InputVariant
from model.network.weights import inspect_weights, load_folds, load_plan
from test.helpers.paths import GOLDEN_MODEL


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_that_mean_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(
    ("requested", "device", "has_bf16", "expected"),
    [
        ("auto", "cpu", True, "fp32"),
        ("bf16", "cpu", False, "bf16"),
        ("auto", "cuda:0", True, "bf16"),
        ("auto", "cuda:0", False, "fp16"),
        ("fp32", "cuda:0", True, "fp32"),
    ],
)
def test_the_choice_of_the_precision(
    requested: str, device: str, has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A T4 only emulates bf16, which is slower than fp16.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has_bf16
    )
    assert choose_precision(requested, device) == expected


def test_the_choice_of_the_device(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level("INFO"):
        assert choose_device("auto") == choose_device("cpu") == "cpu"
    assert sum("no GPU" in record.message for record in caplog.records) == 1
    with pytest.raises(InputError, match="--device cuda:1"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("cuda") == choose_device("cuda:0") == "cuda:0"
    with pytest.raises(InputError, match="sees 1 GPU"):
        choose_device("cuda:1")


def test_the_memory_ladder() -> None:
    plan = load_plan(inspect_weights(GOLDEN_MODEL, (0,)))
    rung, rungs = Rung("cuda:0", "fp16", 4, resident=True), []
    with pytest.raises(MemoryExhaustedError, match="out of memory even with cpu, fp32, batch 1, one fold"):
        while True:
            rung = next_rung(rung, plan, 2, "full")
            rungs.append(rung.describe())
    on_gpu = ["batch 2, all folds resident", "batch 1, all folds resident", "batch 1, one fold at a time"]
    on_cpu = ["batch 2, all folds resident", "batch 1, all folds resident", "batch 1, one fold at a time"]
    assert rungs == [f"cuda:0, fp16, {text}" for text in on_gpu] + [f"cpu, fp32, {text}" for text in on_cpu]


def test_two_passes_of_the_encoder_halve_the_batch_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """And need twice the memory: with as much as one pass takes the folds are not all kept."""
    monkeypatch.setattr(memory, "choose_device", lambda requested: "cuda:0")
    free_bytes = 1 << 40
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_bytes, free_bytes))
    manifest = inspect_weights(GOLDEN_MODEL, (0,))
    plan, (fold,) = load_plan(manifest), load_folds(manifest)
    plan = replace(plan, patch_size_zyx=(128, 128, 128))
    twice = replace(fold, variant=InputVariant.DIFFERENCE_WEIGHTING)
    options = ModelOptions(precision="fp32")
    rungs = [first_rung(plan, [one], options) for one in (fold, twice)]
    assert [(rung.batch, rung.resident) for rung in rungs] == [(3, True), (1, True)]
    options = replace(options, batch=1)
    free_bytes = 128**3 * plan.architecture.features_per_stage[0] * 4 * 15  # of 10 feature maps a pass
    assert [first_rung(plan, [one], options).resident for one in (fold, twice)] == [True, False]
