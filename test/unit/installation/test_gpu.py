"""GPUs: whether torch has code for them, and what to do for each way in which they cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model.installation.condition import Health
from model.installation.gpu import Gpu, GpuFacts, gpu_conditions, gpu_facts, has_code_for

T4 = Gpu("Tesla T4", (7, 5), 16 << 30)
FACTS = GpuFacts("2.8.0", "12.6", ("sm_75", "sm_80", "sm_90"), "560.35.03", True, (T4,))


@pytest.mark.parametrize(
    ("capability", "architectures", "expected"),
    [
        ((7, 5), ("sm_75",), True),
        ((8, 6), ("sm_80",), True),  # the same major version
        ((8, 0), ("sm_86",), False),
        ((12, 0), ("sm_75", "sm_90"), False),
        ((12, 0), ("sm_90", "compute_90"), True),  # compiled by the driver
        ((7, 0), ("compute_75",), False),
        ((9, 0), ("sm_90a",), True),
        ((10, 0), ("sm_90a",), False),
        ((12, 1), ("sm_120f",), True),
        ((7, 5), ("gfx90a",), False),
    ],
)
def test_code_for_a_gpu(capability: tuple[int, int], architectures: tuple[str, ...], expected: bool) -> None:
    assert has_code_for(capability, architectures) is expected


@pytest.mark.parametrize(
    ("facts", "health", "found", "action"),
    [
        (FACTS, Health.OK, "Tesla T4, sm_75, 16.0 GiB; driver 560.35.03; torch 2.8.0 for CUDA 12.6", ""),
        (
            replace(FACTS, gpus=(Gpu("New", (12, 0), 1 << 30),)),
            Health.BROKEN,
            "no code for it (only sm_75, sm_80, sm_90)",
            "whose CUDA knows this GPU",
        ),
        (
            replace(FACTS, gpus=(replace(T4, fault="out of memory"),)),
            Health.BROKEN,
            "first computation failed: out of memory",
            "nvidia-smi",
        ),
        (replace(FACTS, gpus=()), Health.BROKEN, "torch cannot use it", "update the NVIDIA driver"),
        (replace(FACTS, gpus=(), has_device=False), Health.BROKEN, "no device in view", "--gpus all"),
        (
            replace(FACTS, gpus=(), cuda_version=None),
            Health.BROKEN,
            "this torch has no CUDA",
            "torch with CUDA",
        ),
        (GpuFacts("2.8.0", None), Health.WARNING, "none in view", "networks run on the CPU"),
    ],
)
def test_what_to_do(facts: GpuFacts, health: Health, found: str, action: str) -> None:
    (condition,) = gpu_conditions(facts)
    assert condition.health is health and found in condition.found and action in condition.action


def test_every_gpu_has_a_line() -> None:
    parts = [condition.part for condition in gpu_conditions(replace(FACTS, gpus=(T4, T4)))]
    assert parts == ["gpu 0", "gpu 1"]


def test_the_driver_and_the_device_of_the_system(tmp_path: Path) -> None:
    driver = tmp_path / "proc" / "driver" / "nvidia" / "version"
    driver.parent.mkdir(parents=True)
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    facts = gpu_facts(tmp_path)
    assert (facts.driver, facts.has_device) == ("535.183.01", True)
    assert gpu_facts(tmp_path / "none").driver is None
