"""Time one PET/CT: the product, and in the same run on the same case the published way.

    python -m test.benchmark.pet_ct --size 256,256,371 [--folds 0] [--patch 192] [--weights DIR] [--repeat 2]
        [--skip-networks] [--assert-ratio 0.3] [--assert-memory 0.5]

Each run is a process of its own, with the interpreter's start and all imports counted. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .case import CHECKOUT, Measured
from .machine import cpu_seconds, describe_machine

# 256 × 256 × 371 voxels of it are 404 × 344 × 344 (z, y, x) of the published network.
_SPACING_XYZ_MM = (2.7344, 2.7344, 3.267)
_LESIONS = 8
_CLICKS = 5
_CONFIGURATION = "3d_fullres"
_SKIPPED = "test.benchmark.skipped_networks"


def write_phantom(folder: Path, size_xyz: tuple[int, int, int], seed: int = 0) -> None:
    """Write CT, PET and clicks of a body with hot spots: for timing, not for accuracy."""
    rng = np.random.default_rng(seed)
    shape = size_xyz[::-1]
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    body = (y / 0.6) ** 2 + (x / 0.8) ** 2 + 0 * z < 1
    ct = np.where(body, 40, -1000) + rng.integers(-30, 31, shape)
    pet = np.where(body, 1.5, 0.02) * rng.gamma(4.0, 0.25, shape)
    centres = rng.uniform(-0.4, 0.4, (_LESIONS, 3))
    for cz, cy, cx in centres:
        pet += 9 * np.exp(-((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / 0.005)
    for name, values in (("ct", ct.astype(np.int16)), ("pet", pet.astype(np.float32))):
        path = folder / "images" / name / f"{name}.mha"
        path.parent.mkdir(parents=True)
        image = sitk.GetImageFromArray(values)
        image.SetSpacing(_SPACING_XYZ_MM)
        sitk.WriteImage(image, str(path), useCompression=True)
    places = [[(c + 1) / 2 * (n - 1) for c, n in zip(zyx[::-1], size_xyz, strict=True)] for zyx in centres]
    points = [{"name": "tumor", "point": place} for place in places[:_CLICKS]]
    points += [
        {"name": "background", "point": [n * (number + 2) / (_CLICKS + 4) for n in size_xyz]}
        for number in range(_CLICKS)
    ]
    (folder / "lesion-clicks.json").write_text(json.dumps({"points": points}))


def model_copy(weights: Path, folder: Path, folds: list[str], patch: int | None) -> Path:
    """Copy some folds of a model, with another patch size: its networks are convolutional and take any."""
    folder.mkdir()
    for path in weights.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
        elif path.name.removeprefix("fold_") in folds:
            shutil.copytree(path, folder / path.name)
    if patch is not None:
        plans = json.loads((folder / "plans.json").read_text())
        plans["configurations"][_CONFIGURATION]["patch_size"] = [patch] * 3
        (folder / "plans.json").write_text(json.dumps(plans))
    return folder


def measure_product(case: Path, weights: Path, work: Path, skips_networks: bool) -> Measured:
    command = [str(CHECKOUT / "process.py"), "--input", str(case), "--output", str(work / "output")]
    command += ["--extras", str(work / "extras"), "--weights", str(weights), "--device", "cpu"]
    seconds, _ = _timed(["-m", _SKIPPED, *command] if skips_networks else command)
    record = json.loads((work / "extras" / "run.json").read_text())  # the published way writes no extras
    return Measured({**record["seconds"], **seconds}, record["peak_memory_mib"]["process"])


def measure_published(case: Path, weights: Path, work: Path, skips_networks: bool) -> Measured:
    module = "test.benchmark.published_pet_ct"
    command = [_SKIPPED, module] if skips_networks else [module]
    seconds, printed = _timed(["-m", *command, str(case), str(weights), str(work / "published.npz")])
    record = json.loads(printed.splitlines()[-1])
    return Measured({**record["seconds"], **seconds}, record["peak_memory_mib"])


def _timed(command: list[str]) -> tuple[dict[str, float], str]:
    """Run Python; returns wall and CPU seconds of the whole process, and what it printed."""
    begin, cpu = time.perf_counter(), cpu_seconds()
    done = subprocess.run(
        [sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    )
    return {"total": time.perf_counter() - begin, "cpu": cpu_seconds() - cpu}, done.stdout


def differing_voxels(work: Path) -> int:
    """Between the masks of the last runs."""
    ours = sitk.ReadImage(str(work / "output" / "images" / "tumor-lesion-segmentation" / "ct.mha"))
    return int(
        np.count_nonzero((sitk.GetArrayFromImage(ours) > 0) != np.load(work / "published.npz")["mask"])
    )


def main() -> int:
    arguments = _arguments()
    x, y, z = (int(part) for part in arguments.size.split(","))
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_phantom(work / "case", (x, y, z))
        weights = model_copy(arguments.weights, work / "model", arguments.folds.split(","), arguments.patch)
        for _ in range(arguments.repeat):
            ours.append(measure_product(work / "case", weights, work, arguments.skip_networks))
            theirs.append(measure_published(work / "case", weights, work, arguments.skip_networks))
        differing = differing_voxels(work)
    ratio = {
        key: statistics.median(a.seconds[key] / b.seconds[key] for a, b in zip(ours, theirs, strict=True))
        for key in ("total", "cpu")
    }
    memory = max(run.peak_memory_mib for run in ours) / min(run.peak_memory_mib for run in theirs)
    report = {
        "size_xyz": [x, y, z],
        "product": [asdict(run) for run in ours],
        "published_way": [asdict(run) for run in theirs],
        "time_ratio": round(ratio["total"], 3),
        "cpu_time_ratio": round(ratio["cpu"], 3),
        "memory_ratio": round(memory, 3),
        "differing_voxels": differing,
        "machine": describe_machine(),
    }
    print(json.dumps(report, indent=1))
    too_slow = arguments.assert_ratio is not None and ratio["total"] > arguments.assert_ratio
    too_large = arguments.assert_memory is not None and memory > arguments.assert_memory
    return int(too_slow or too_large or differing > 2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", default="256,256,371", help="voxels in x,y,z of CT and PET")
    add("--folds", default="0,1,2,3", help="folds of the model")
    add("--patch", type=int, help="voxels of a cubic patch (default: the model's own)")
    add("--weights", type=Path, default=CHECKOUT / "test" / "golden" / "petct" / "model")
    add("--repeat", type=int, default=1, help="pairs of runs, alternating")
    add("--skip-networks", action="store_true", help="leave the forward passes out: all other work")
    add("--assert-ratio", type=float, help="fail if ours takes a larger share of the time")
    add("--assert-memory", type=float, help="fail if ours takes a larger share of the memory")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
