"""Time one case: the product, and in the same run on the same case the published way.

    python -m test.benchmark.case --size 512,512,300 --lesions 10 [--weights DIR] [--repeat 3]
        [--assert-ratio 0.3] [--assert-memory 0.35]

Each run is a process of its own, with the interpreter's start and all imports counted. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .machine import describe_machine
from .phantom import write_phantom_case

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Measured:
    """One run: seconds by stage (the total as seen from outside) and peak resident memory."""

    seconds: dict[str, float]
    peak_memory_mib: float


def measure_product(case: Path, weights: Path, work: Path, device: str) -> Measured:
    command = [
        sys.executable,
        str(CHECKOUT / "process.py"),
        "--input",
        str(case),
        "--output",
        str(work / "output"),
        "--extras",
        str(work / "extras"),
        "--weights",
        str(weights),
        "--overlap",
        "max-id",
        "--device",
        device,
    ]
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=CHECKOUT)
    total = time.perf_counter() - begin
    record = json.loads((work / "extras" / "run.json").read_text())
    return Measured({**record["seconds"], "total": total}, record["peak_memory_mib"]["process"])


def measure_published(case: Path, weights: Path, work: Path) -> Measured:
    arguments = [str(case), str(weights), str(work / "published.npz")]
    command = [sys.executable, "-m", "test.benchmark.published", *arguments]
    begin = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
    total = time.perf_counter() - begin
    printed = json.loads(done.stdout.splitlines()[-1])
    return Measured({**printed["seconds"], "total": total}, printed["peak_memory_mib"])


def differing_voxels(work: Path) -> int:
    """Between the two labelmaps of the last runs."""
    path = work / "output" / "images" / "primary-followup-ct-tumor-lesion-seg" / "segmentation.mha"
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return int(np.count_nonzero(ours != np.load(work / "published.npz")["labelmap"]))


def _median(runs: list[Measured]) -> Measured:
    return sorted(runs, key=lambda run: run.seconds["total"])[len(runs) // 2]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="512,512,300", help="voxels in x,y,z of each scan")
    parser.add_argument("--lesions", type=int, default=10)
    parser.add_argument("--weights", type=Path, default=CHECKOUT / "resources" / "weights")
    parser.add_argument("--device", default="cpu", help="of the product; the published way runs on the CPU")
    parser.add_argument("--repeat", type=int, default=1, help="pairs of runs, alternating")
    parser.add_argument("--assert-ratio", type=float, help="fail if ours takes a larger share of the time")
    parser.add_argument("--assert-memory", type=float, help="fail if ours takes a larger share of the memory")
    arguments = parser.parse_args()
    x, y, z = (int(part) for part in arguments.size.split(","))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_phantom_case(work / "case", (x, y, z), arguments.lesions)
        ours, theirs = [], []
        for _ in range(arguments.repeat):
            ours.append(measure_product(work / "case", arguments.weights.resolve(), work, arguments.device))
            theirs.append(measure_published(work / "case", arguments.weights.resolve(), work))
        differing = differing_voxels(work)
    ratios = [a.seconds["total"] / b.seconds["total"] for a, b in zip(ours, theirs, strict=True)]
    time_ratio = statistics.median(ratios)
    memory_ratio = max(run.peak_memory_mib for run in ours) / min(run.peak_memory_mib for run in theirs)
    report = {
        "size_xyz": [x, y, z],
        "lesions": arguments.lesions,
        "product": asdict(_median(ours)),
        "published_way": asdict(_median(theirs)),
        "time_ratio": round(time_ratio, 3),
        "time_ratios": [round(ratio, 3) for ratio in ratios],
        "memory_ratio": round(memory_ratio, 3),
        "differing_voxels": differing,
        "machine": describe_machine(),
    }
    print(json.dumps(report, indent=1))
    too_slow = arguments.assert_ratio is not None and time_ratio > arguments.assert_ratio
    too_large = arguments.assert_memory is not None and memory_ratio > arguments.assert_memory
    return int(too_slow or too_large or differing > 2)


if __name__ == "__main__":
    sys.exit(main())
