"""ConvexAdam ([Siebert2024]): two volumes on one isotropic grid in, a displacement field in mm out.

The only module that imports the library convexAdam.
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
    """Displacements of the discrete search: up to ``reach`` steps of ``step`` voxels in each direction."""

    step: int
    reach: int


def torch_device(name: str) -> str:
    """Resolve the name of a device; "auto" is a GPU if there is one, otherwise the CPU.

    Raises:
        InputError: the GPU does not exist.
    """
    if name == "cpu":
        return name
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    number = int(name.partition(":")[2] or 0)
    if number >= count:
        raise InputError(f"--device {name}: {count} CUDA devices are present, expected more than {number}")
    return name


def convex_adam(
    fixed: FloatVolume, moving: FloatVolume, spacing_mm: float, search: Search, device: str
) -> FloatField:
    """Estimate the displacements that align two volumes; retries on the CPU if GPU memory runs out.

    Args:
        fixed: (z, y, x) float32 on an isotropic grid along the world axes, whose sides are multiples of two
            and of the search's step.
        moving: (z, y, x) float32 on the same grid.
        spacing_mm: of that grid.
        search: displacements to try before the optimisation.
        device: cpu, cuda or cuda:N.

    Returns:
        Displacements u (z, y, x, 3) float32 in mm, last axis x, y, z, with fixed(p) ~ moving(p + u).

    Raises:
        RuntimeError: any other failure of torch.
    """
    import torch

    try:
        displacements = _run(fixed, moving, search, device)
    except torch.OutOfMemoryError:
        if device == "cpu":
            raise
        torch.cuda.empty_cache()
        displacements = _run(fixed, moving, search, "cpu")
    return np.ascontiguousarray(displacements[..., ::-1], np.float32) * np.float32(spacing_mm)


def _run(fixed: FloatVolume, moving: FloatVolume, search: Search, device: str) -> FloatField:
    """Displacements in voxels, last axis z, y, x."""
    import torch

    method = _library().convex_adam_pt
    with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # by torch, about the library's use of grid_sample
        displacements = method(
            torch.from_numpy(fixed),
            torch.from_numpy(moving),
            grid_sp=search.step,
            disp_hw=search.reach,
            dtype=torch.float32,
            device=torch.device(device),
        )
    return np.asarray(displacements, np.float32)


def _library() -> ModuleType:
    with warnings.catch_warnings():  # importing it silences all warnings of the process
        from convexAdam import convex_adam_MIND
    module: ModuleType = convex_adam_MIND
    return module
