"""Cost of preparing a whole-body scan for training: synthesis, preparation, samples.

    python -m test.benchmark.training_data [--size 512,512,600] [--lesions 40] [--patch 192,192,192]
        [--samples 6] [--seed 0]

A phantom patient (voxels of 0.98 x 0.98 x 2 mm) goes through `train synthesize` and `train prepare` with one
worker each, then one process makes samples as a training's loader does. Each stage is a process of its own,
imports included. Prints JSON: seconds and peak resident memory of each, and the seconds of a sample.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model.training.augment import make_sample
from model.training.config import PRESETS
from model.training.data_source import patients_of
from model.training.prepared_data import open_prepared
from model.training.sampler import Sampler

from .machine import describe_machine
from .phantom import write_phantom_case

CHECKOUT = Path(__file__).resolve().parents[2]


def measure(*arguments: object) -> dict[str, float]:
    """Run a Python command; returns wall seconds and the peak memory of its largest process."""
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, *map(str, arguments)], cwd=CHECKOUT, stdout=sys.stderr)
    _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))}: failed")
    return {"seconds": time.perf_counter() - begin, "peak_memory_mib": usage.ru_maxrss / 1024}


def write_case(folder: Path, size: str, lesions: int, seed: int) -> None:
    x, y, z = (int(part) for part in size.split(","))
    write_phantom_case(folder, (x, y, z), lesions, seed)


def _apart(work: Callable[..., None], *arguments: object) -> None:
    """Run in another process: memory of this one would count in the peaks of the processes that it starts."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__}: failed")


def make_samples(prepared: Path, count: int, seed: int) -> list[float]:
    """Seconds of each sample, augmented, in the patch of the plan."""
    data, config = open_prepared(prepared, True), PRESETS["pretraining"]
    sampler = Sampler(patients_of(data.pairs), data.plan.patch_size_zyx, config)
    seconds = []
    for number in range(count):
        begin, rng = time.perf_counter(), np.random.default_rng((seed, number))
        make_sample(sampler.draw(rng), config, rng, True)
        seconds.append(time.perf_counter() - begin)
    return seconds


def _stages(work: Path, arguments: argparse.Namespace) -> dict[str, object]:
    _apart(write_case, work / "case", arguments.size, arguments.lesions, arguments.seed)
    images, train = work / "case" / "images", ("-m", "model", "train")
    grown = measure(
        *train,
        "synthesize",
        "--ct",
        images / "primary-baseline-ct" / "baseline.mha",
        "--labels",
        images / "primary-baseline-ct-tumor-lesion-seg" / "mask.mha",
        "-o",
        work / "synthetic",
        "--seed",
        arguments.seed,
        "--workers",
        1,
    )
    prepared = measure(
        *train,
        "prepare",
        "--data",
        work / "synthetic" / "manifest.csv",
        "-o",
        work / "prepared",
        "--folds",
        0,
        "--workers",
        1,
        "--patch",
        *arguments.patch.split(","),
    )
    sampled = measure(
        "-m", "test.benchmark.training_data", "--prepared", work / "prepared", "--samples", arguments.samples
    )
    files = [path for path in (work / "prepared").rglob("*") if path.is_file()]
    return {
        "one follow-up grown": grown,
        "two scans prepared": prepared,
        "prepared_mib": sum(path.stat().st_size for path in files) / (1 << 20),
        "a loader's process": sampled,
        "seconds_of_samples": json.loads((work / "prepared" / "samples.json").read_text()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="512,512,600", help="x, y, z")
    parser.add_argument("--lesions", type=int, default=40)
    parser.add_argument("--patch", default="192,192,192", help="z, y, x")
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prepared", type=Path, help=argparse.SUPPRESS)  # the stage in a process of its own
    arguments = parser.parse_args()
    if arguments.prepared is not None:
        seconds = make_samples(arguments.prepared, arguments.samples, arguments.seed)
        (arguments.prepared / "samples.json").write_text(json.dumps(seconds))
        return
    with tempfile.TemporaryDirectory() as temporary:
        found = _stages(Path(temporary), arguments)
    print(json.dumps({"machine": describe_machine(), **found}, indent=2))


if __name__ == "__main__":
    main()
