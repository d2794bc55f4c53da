"""The library convexAdam, as it is used here: two volumes on one isotropic grid in, a field in mm out.

Siebert et al., "ConvexAdam: Self-Configuring Dual-Optimisation-Based 3D Multitask Medical Image
Registration", IEEE TMI 2024. The only place that imports it (and torch).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ...errors import InputError
from .field import FloatField
from .grids import FloatVolume


@dataclass(frozen=True, slots=True)
class Search:
    """Which displacements are tried before the optimisation: ``reach`` steps of ``step`` voxels each way."""

    step: int
    reach: int


def torch_device(wanted: str) -> str:
    """cpu, cuda or cuda:N for what the user asked; "auto" takes a GPU where there is one.

    Raises:
        InputError: a GPU was asked for that is not there.
    """
    if wanted == "cpu":
        return wanted
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda" if count else "cpu"
    number = int(wanted.partition(":")[2] or 0)
    if number >= count:
        raise InputError(f"--device {wanted}: {count} CUDA devices are present, expected more than {number}")
    return wanted


def convex_adam(
    fixed: FloatVolume, moving: FloatVolume, spacing_mm: float, search: Search, device: str
) -> FloatField:
    """Displacements u (z, y, x, 3) mm, last axis x, y, z: fixed(p) is like moving(p + u).

    Args:
        fixed, moving: (z, y, x) float32 of one shape on one grid along the world's axes, whose sides are
            multiples of the search's step and of two.

    Raises:
        RuntimeError: what torch could not do, out of memory on a GPU (the CPU is tried then) left out.
    """
    import torch

    try:
        found = _run(fixed, moving, search, device)
    except torch.OutOfMemoryError:
        if device == "cpu":
            raise
        torch.cuda.empty_cache()
        found = _run(fixed, moving, search, "cpu")
    return np.ascontiguousarray(found[..., ::-1], np.float32) * np.float32(spacing_mm)


def _run(fixed: FloatVolume, moving: FloatVolume, search: Search, device: str) -> FloatField:
    """Displacements in voxels, last axis z, y, x."""
    import torch

    method = _library().convex_adam_pt
    with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, on how the library samples its grids
        found = method(
            torch.from_numpy(fixed),
            torch.from_numpy(moving),
            grid_sp=search.step,
            disp_hw=search.reach,
            dtype=torch.float32,
            device=torch.device(device),
        )
    return np.asarray(found, np.float32)


def _library() -> ModuleType:
    with warnings.catch_warnings():  # it silences all warnings of the process when it is imported
        from convexAdam import convex_adam_MIND
    module: ModuleType = convex_adam_MIND
    return module
