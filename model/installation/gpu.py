"""The GPU, its driver, and whether the installed torch has code for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import one_line
from .condition import Condition, broken, doubtful, works

_DRIVER_FILE = Path("proc/driver/nvidia/version")
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that torch sees.

    Attributes:
        name: of the model.
        capability: major and minor version of its instructions.
        total_bytes: of its memory.
        fault: the error of a first computation; None if it succeeds.
    """

    name: str
    capability: tuple[int, int]
    total_bytes: int
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What torch and the machine say of GPUs.

    Attributes:
        torch_version: of the installed torch.
        cuda_version: for which torch was built; None for a build without CUDA.
        architectures: that torch has code for, e.g. sm_75 or compute_90.
        driver: version of the NVIDIA driver; None if it is not installed.
        has_device: True if the system has an NVIDIA GPU in view.
        gpus: that torch can use.
    """

    torch_version: str
    cuda_version: str | None
    architectures: Sequence[str] = ()
    driver: str | None = None
    has_device: bool = False
    gpus: Sequence[Gpu] = ()


def gpu_facts(root: Path = Path("/")) -> GpuFacts:
    """Collect the facts of this machine; each GPU computes one number.

    Args:
        root: folder that holds ``proc`` and ``dev``.
    """
    import torch

    gpus: list[Gpu] = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            settings = torch.cuda.get_device_properties(index)
            fault = None
            try:
                torch.zeros(1, device=f"cuda:{index}").add_(1).cpu()
            except RuntimeError as error:
                fault = one_line(error)[:160]
            gpus.append(Gpu(settings.name, (settings.major, settings.minor), settings.total_memory, fault))
    return GpuFacts(
        torch_version=torch.__version__,
        cuda_version=torch.version.cuda,
        architectures=tuple(torch.cuda.get_arch_list()),
        driver=_driver(root),
        has_device=any((root / "dev").glob("nvidia[0-9]*")),
        gpus=tuple(gpus),
    )


def _driver(root: Path) -> str | None:
    with suppress(OSError):
        match = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", (root / _DRIVER_FILE).read_text(errors="replace"))
        return match[0] if match else "of an unknown version"
    return None


def gpu_conditions(facts: GpuFacts) -> Iterator[Condition]:
    """Whether the GPUs can be used, one condition for each."""
    build = f"torch {facts.torch_version}" + (f" for CUDA {facts.cuda_version}" if facts.cuda_version else "")
    driver = f"driver {facts.driver}" if facts.driver else "no driver"
    if facts.gpus:
        for number, gpu in enumerate(facts.gpus):
            yield _condition(f"gpu {number}", gpu, facts, f"{driver}; {build}")
    elif not (facts.has_device or facts.driver):
        action = (
            "networks run on the CPU, large ones slowly; if there is a GPU, install its NVIDIA driver, and "
        )
        yield doubtful("gpu", f"none in view; {build}", f"{action}start containers with --gpus all")
    elif facts.cuda_version is None:
        action = "install a torch with CUDA (see pytorch.org), or take --device cpu"
        yield broken("gpu", f"there is one ({driver}), but this torch has no CUDA; {build}", action)
    elif not facts.has_device:
        action = "start the container with --gpus all (nvidia-container-toolkit on the host)"
        yield broken("gpu", f"{driver}, but no device in view; {build}", action)
    else:
        action = "update the NVIDIA driver, or take a torch (or base image) for an older CUDA"
        yield broken("gpu", f"there is one, but torch cannot use it; {driver}; {build}", action)


def _condition(part: str, gpu: Gpu, facts: GpuFacts, surroundings: str) -> Condition:
    major, minor = gpu.capability
    size = f"{gpu.total_bytes / _GIB:.1f} GiB"
    found = f"{gpu.name}, sm_{major}{minor}, {size}; {surroundings}"
    has_code = has_code_for(gpu.capability, facts.architectures)
    if not has_code:
        known = ", ".join(facts.architectures) or "none"
        action = "take a torch (or base image) whose CUDA knows this GPU, or --device cpu"
        return broken(part, f"{found}, which has no code for it (only {known})", action)
    if gpu.fault is not None:
        return broken(
            part,
            f"{found}; a first computation failed: {gpu.fault}",
            "end other programs on the GPU, look at nvidia-smi, or take --device cpu",
        )
    return works(part, found)


def has_code_for(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """True if a build of torch runs on a GPU.

    Code for a processor (sm_80) runs on those of the same major and no lesser minor version; code that the
    driver compiles (compute_80) on all later ones.

    Args:
        capability: major and minor version of the GPU.
        architectures: that torch has code for.
    """
    for name in architectures:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", name)
        if match is None:
            continue
        own = (int(match[2]), int(match[3]))
        if match[4]:  # for this very processor, or its family
            is_usable = (
                own == capability if match[4] == "a" else own[0] == capability[0] and own <= capability
            )
        else:
            is_usable = own <= capability and (match[1] == "compute" or own[0] == capability[0])
        if is_usable:
            return True
    return False
