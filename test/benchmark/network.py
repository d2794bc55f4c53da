"""One forward of a real-size network (random weights) per device, precision and batch.

    python -m test.benchmark.network [--plans PLANS.json] [--device auto] [--precision fp32,fp16] [--batch 1]

Prints one JSON line per combination: median seconds, and peak memory (of the process on the CPU, of the
device on a GPU).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from model.inference.memory import choose_device
from model.network.plan import Plan, read_plan
from model.network.resenc_unet import ResEncUNet
from model.timing import peak_memory_mib

from .machine import describe_machine

REAL_SIZE_PLANS = Path(__file__).parent / "real_size_plans.json"
_KINDS = {"fp16": torch.float16, "bf16": torch.bfloat16}


def random_network(plan: Plan, seed: int = 0) -> ResEncUNet:
    """A longitudinal network (5 channels, 2 classes) with fresh weights."""
    torch.manual_seed(seed)
    network = ResEncUNet(5, 2, plan.architecture)
    network.initialize()
    return network.eval().requires_grad_(False)


def time_forward(
    network: ResEncUNet, plan: Plan, device: str, precision: str, batch: int, repeat: int
) -> dict[str, object]:
    network = network.to(device)
    channels = torch.randn(batch, 5, *plan.patch_size_zyx, device=device)
    is_gpu = device != "cpu"
    if is_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeat + 1):
        begin = time.perf_counter()
        with (
            torch.inference_mode(),
            torch.autocast(device.split(":")[0], _KINDS.get(precision), precision in _KINDS),
        ):
            network(channels)
        if is_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    # The first run chooses algorithms; with a single repetition on the CPU it is as good as any.
    measured = seconds[1:] or seconds
    peak = torch.cuda.max_memory_allocated() / (1 << 20) if is_gpu else peak_memory_mib()
    return {
        "device": torch.cuda.get_device_name(0) if is_gpu else "cpu",
        "precision": precision,
        "batch": batch,
        "patch": list(plan.patch_size_zyx),
        "seconds": round(statistics.median(measured), 3),
        "peak_memory_mib": round(peak, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plans", type=Path, default=REAL_SIZE_PLANS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", help="comma-separated: fp32, fp16, bf16")
    parser.add_argument("--batch", default="1", help="comma-separated")
    parser.add_argument("--repeat", type=int, default=3, help="measured forwards; 0 measures the first one")
    arguments = parser.parse_args()
    plan, device = read_plan(arguments.plans), choose_device(arguments.device)
    network = random_network(plan)
    print(
        json.dumps(
            {"machine": describe_machine(), "parameters": sum(p.numel() for p in network.parameters())}
        )
    )
    for precision in arguments.precision.split(","):
        for batch in arguments.batch.split(","):
            line = time_forward(network, plan, device, precision, int(batch), arguments.repeat)
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
