"""Run a module or a script with the networks' forward passes left out: what remains is all other work.

    python -m test.benchmark.skipped_networks process.py --input CASE ...
    python -m test.benchmark.skipped_networks test.benchmark.published_pet_ct CASE WEIGHTS OUT.npz

In place of logits the networks return CT and PET, so that both ways still give the same mask.
"""

from __future__ import annotations

import runpy
import sys

from torch import Tensor

from model.network.resenc_unet import ResEncUNet


def _first_channels(_network: ResEncUNet, channels: Tensor) -> Tensor:
    return channels[:, :2].clone()


def main() -> None:
    ResEncUNet.forward = _first_channels  # type: ignore[method-assign, assignment]
    del sys.argv[0]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
