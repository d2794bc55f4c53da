"""The memory ladder on a GPU: five real-size folds (random weights) under a limit for this process.

    python -m test.benchmark.memory [--plans PLANS.json] [--limits 14,8,4] [--lesions 10] [--precision fp16]

Prints one JSON line per limit (GiB): the rung that was reached, seconds, and peak GPU memory. Without a GPU
it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from model.inference.ensemble import Ensemble
from model.inference.options import ModelOptions
from model.network.input_variants import InputVariant
from model.network.plan import Plan, read_plan
from model.network.weights import FoldWeights

from .network import REAL_SIZE_PLANS, random_network


def _fold(plan: Plan, seed: int) -> FoldWeights:
    state = random_network(plan, seed).state_dict()
    return FoldWeights(Path(f"fold_{seed}"), state, "random", "3d_fullres", (), InputVariant.LONGITUDINAL)


def _patch(plan: Plan, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((5, *plan.patch_size_zyx), np.float32)


def measure(
    plan: Plan, folds: list[FoldWeights], limit_gib: float, lesions: int, precision: str
) -> dict[str, object]:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit_gib * (1 << 30) / total))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    ensemble = Ensemble(plan, folds, ModelOptions("cuda:0", precision))  # type: ignore[arg-type]
    predicted = sum(
        p.margin is not None for p in ensemble.predict([partial(_patch, plan, i) for i in range(lesions)])
    )
    return {
        "limit_gib": limit_gib,
        "predicted": predicted,
        "rung": ensemble.rung.describe(),
        "steps": ensemble.notes,
        "seconds": round(time.perf_counter() - begin, 2),
        "peak_gpu_mib": round(torch.cuda.max_memory_reserved() / (1 << 20), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plans", type=Path, default=REAL_SIZE_PLANS)
    parser.add_argument("--limits", default="14,8,4")
    parser.add_argument("--lesions", type=int, default=10)
    parser.add_argument("--precision", default="fp16")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(json.dumps({"skipped": "no GPU is available"}))
        return 0
    plan = read_plan(arguments.plans)
    folds = [_fold(plan, seed) for seed in range(5)]
    for limit in arguments.limits.split(","):
        line = measure(plan, folds, float(limit), arguments.lesions, arguments.precision)
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
