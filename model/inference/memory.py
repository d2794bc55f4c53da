"""Device, precision and batch of an ensemble, and smaller ways of computing when memory runs out.

Memory ladder: it begins with the chosen batch and, if they fit, all folds resident. When memory runs out, the
batch is halved down to 1; then the folds are loaded one at a time, each for all lesions; then everything
moves to the CPU. Only then the run gives up.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import InputError, MemoryExhaustedError, one_line
from ..network.plan import Plan
from ..network.weights import FoldWeights
from .options import ModelOptions, Precision

log = logging.getLogger(__name__)

# A network this narrow takes torch's slow convolution kernels on the CPU for a batch of one.
_NARROW_FEATURES = 32
# First-stage feature maps alive at the peak of a forward pass (decoder and its concatenation).
_MAPS_AT_PEAK = 10
# Voxels of a GPU batch: the device is saturated beyond this.
_GPU_BATCH_VOXELS = 8_000_000
_MEMORY_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",
    "bad_alloc",
    "could not create a primitive",  # oneDNN, when its own memory cannot be had
    "can't start new thread",
)


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung of the memory ladder: a way of computing.

    Attributes:
        device: ``cpu`` or ``cuda:N``.
        precision: of the forward passes.
        batch: patches per forward pass.
        resident: True if all folds stay in the device's memory.
    """

    device: str
    precision: Precision
    batch: int
    resident: bool

    def describe(self) -> str:
        """The rung in words, for logs and errors."""
        folds = "all folds resident" if self.resident else "one fold at a time"
        return f"{self.device}, {self.precision}, batch {self.batch}, {folds}"


def first_rung(plan: Plan, folds: Sequence[FoldWeights], options: ModelOptions) -> Rung:
    """Choose the way of computing to begin with.

    Raises:
        InputError: the GPU of the options does not exist.
    """
    device = choose_device(options.device)
    precision = choose_precision(options.precision, device)
    # Time points that go through the encoder one by one take their memory side by side.
    voxels = int(np.prod(plan.patch_size_zyx)) * folds[0].variant.encoder_passes
    if device == "cpu":
        return Rung(device, precision, options.batch or _cpu_batch(plan), resident=True)
    batch = options.batch or max(1, min(8, _GPU_BATCH_VOXELS // voxels))
    weights_bytes = 4 * sum(tensor.numel() for tensor in folds[0].state.values())
    value_bytes = 4 if precision == "fp32" else 2
    activation_bytes = batch * voxels * plan.architecture.features_per_stage[0] * value_bytes * _MAPS_AT_PEAK
    free_bytes, _ = torch.cuda.mem_get_info(device)
    resident = len(folds) * weights_bytes + activation_bytes <= free_bytes
    return Rung(device, precision, batch, resident)


def next_rung(rung: Rung, plan: Plan, fold_count: int, reason: str) -> Rung:
    """The next smaller way of computing after memory ran out.

    Args:
        rung: the way that did not fit.
        plan: of the network.
        fold_count: number of folds of the ensemble.
        reason: the error, for the message.

    Raises:
        MemoryExhaustedError: there is no smaller way.
    """
    if rung.batch > 1:
        return replace(rung, batch=rung.batch // 2)
    if rung.resident and fold_count > 1:
        return replace(rung, resident=False)
    if rung.device != "cpu":
        return Rung("cpu", choose_precision("auto", "cpu"), _cpu_batch(plan), resident=True)
    raise MemoryExhaustedError(f"out of memory even with {rung.describe()} ({reason}); expected more memory")


def choose_device(requested: str) -> str:
    """Resolve ``auto`` to the first usable GPU, else to the CPU, which is logged.

    Args:
        requested: auto, cpu, cuda or cuda:N.

    Returns:
        ``cpu`` or ``cuda:N``.

    Raises:
        InputError: the requested GPU does not exist.
    """
    if requested == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        if requested != "auto":
            raise InputError(f"--device {requested}: torch sees no GPU here; expected --device cpu or auto")
        log.info(
            "no GPU is available: running on the CPU (docker needs --gpus all and nvidia-container-toolkit)"
        )
        return "cpu"
    if requested == "auto":
        return "cuda:0" if _gpu_works() else "cpu"
    device = torch.device(requested)
    if (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {requested}: torch sees {torch.cuda.device_count()} GPU(s); expected one of them"
        )
    return f"cuda:{device.index or 0}"


def _gpu_works() -> bool:
    """True if this build of torch has kernels for the GPU."""
    try:
        torch.zeros(1, device="cuda:0").add_(1).cpu()
    except RuntimeError as error:
        name = torch.cuda.get_device_name(0)
        log.warning("the GPU (%s) cannot be used: %s; running on the CPU", name, one_line(error)[:160])
        return False
    return True


def choose_precision(requested: str, device: str) -> Precision:
    """Resolve ``auto``: bf16 if the GPU has it in hardware, fp16 on other GPUs (T4), fp32 on the CPU.

    Args:
        requested: auto, fp32, fp16 or bf16.
        device: ``cpu`` or ``cuda:N``.
    """
    if requested in ("fp32", "fp16", "bf16"):
        return requested  # type: ignore[return-value]
    if device == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def is_out_of_memory(error: BaseException) -> bool:
    """True for errors with which Python, torch, cuDNN and the CPU allocator report a lack of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _MEMORY_SIGNS)


def release_memory() -> None:
    """Return freed memory to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_narrow(plan: Plan) -> bool:
    """True for networks that are faster on the CPU with padded batches and channels-last memory."""
    return plan.architecture.features_per_stage[0] < _NARROW_FEATURES


def _cpu_batch(plan: Plan) -> int:
    return 2 if is_narrow(plan) else 1
