"""SIGTERM at any stage: finished lesions are written within 4 seconds."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ..helpers.cases_on_disk import SHAPE, CaseOnDisk
from ..helpers.paths import CHECKOUT

pytestmark = pytest.mark.slow

# Long work in C code, during which Python handles no signals.
BUSY = """
import torch
def busy():
    print("busy now", flush=True)
    a = torch.randn(3000, 3000)
    torch.linalg.eig(a)
"""
IN_FORWARD = (
    BUSY
    + """
from model.inference import ensemble
forward, calls = ensemble.Ensemble._forward, []
def slow_after_the_first_batch(self, network, channels):
    calls.append(1)
    if len(calls) > 5:
        busy()
    return forward(self, network, channels)
ensemble.Ensemble._forward = slow_after_the_first_batch
"""
)
IN_REGISTRATION = """
from model.propagation.register import affine
method = affine._method
def endless(levels, start, stretch, *rest):
    while True:
        run = method(*levels, 10_000)
        run.SetMetricSamplingPercentage(1.0)
        run.SetOptimizerAsRegularStepGradientDescent(1e-4, 1e-12, 1_000_000)
        print("busy now", flush=True)
        run.SetInitialTransform(affine._itk_transform(start, affine._body_centre_mm(levels[0]), stretch))
        run.Execute(levels[0].image, levels[1].image)
affine._optimised = endless
"""
IN_READING = (
    BUSY
    + """
from model.case import scans
read = scans.read_image
def slow(*arguments):
    busy()
    return read(*arguments)
scans.read_image = slow
"""
)


@pytest.mark.parametrize("where", ["forward", "registration", "reading"])
def test_sigterm(where: str, case: CaseOnDisk, tmp_path: Path) -> None:
    case.ids = (1, 2, 3)
    case.write()
    case.write_scan("secondary", "followup")
    driver = {"forward": IN_FORWARD, "registration": IN_REGISTRATION, "reading": IN_READING}[where]
    for slot in ("primary", "secondary"):
        if where == "registration" or slot == "secondary":
            case.clicks(slot, "followup", {})
    output = tmp_path / "output"
    code = f"{driver}\nimport sys, process\nsys.exit(process.main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--input", case.folder, "--output", output, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    assert process.stdout is not None
    finished = 0
    for line in process.stdout:
        finished += line.startswith("lesion") and " ml," in line
        if "busy now" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    begin = time.perf_counter()
    _, stderr = process.communicate(timeout=60)
    assert time.perf_counter() - begin < 4
    assert process.returncode == 143
    assert "signal 15; UNFINISHED" in stderr.strip().splitlines()[-1]
    assert sorted(p.name for p in output.rglob("*") if p.is_file()) == ["segmentation.mha"] * 2
    maps = {
        slot: sitk.GetArrayFromImage(
            sitk.ReadImage(str(output / f"images/{slot}-followup-ct-tumor-lesion-seg/segmentation.mha"))
        )
        for slot in ("primary", "secondary")
    }
    assert all(labels.shape == SHAPE for labels in maps.values())
    assert not maps["secondary"].any()
    assert finished == (2 if where == "forward" else 0)
    assert set(np.unique(maps["primary"])) == ({0, 1, 2} if where == "forward" else {0})
