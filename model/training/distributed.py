"""One or several training processes, as started by `torchrun`, and their communication."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed as dist

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class World:
    """This process among ``size`` training processes, and the device that it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """True for the process that writes files and logs."""
        return self.rank == 0

    def log(self, logger: logging.Logger, message: str, *values: object) -> None:
        """Log at level INFO in the first process; the others would repeat its lines."""
        if self.is_first:
            logger.info(message, *values)

    def share(self, batch_size: int) -> range:
        """Return the numbers of the samples of a batch that this process computes.

        Raises:
            InputError: the batch cannot be divided among the processes.
        """
        check_share("batch_size", batch_size, self.size)
        local = batch_size // self.size
        return range(self.rank * local, (self.rank + 1) * local)

    def total(self, values: list[float]) -> list[float]:
        """Sum each value over all processes, in double precision."""
        if self.size == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(value) for value in sums.cpu()]

    def wait(self) -> None:
        """Wait until all processes have reached this call."""
        if self.size > 1:
            dist.barrier()


def check_share(name: str, batch_size: int, processes: int) -> None:
    """Check that a batch can be divided among the processes.

    Args:
        name: name of the setting, for the message.
        batch_size: samples of one step, over all processes.
        processes: number of training processes.

    Raises:
        InputError: it cannot.
    """
    if batch_size % processes:
        raise InputError(
            f"{name}: is {batch_size} for {processes} processes; expected a multiple of {processes}, as it "
            "counts for all of them together, or fewer processes"
        )


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the process group that `torchrun` started; without `torchrun` the process is alone.

    Args:
        device: auto, cpu, cuda or cuda:N; each of several processes uses the CUDA device of its local rank.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    torch_device = _torch_device(device, local if size > 1 else None)
    if torch_device.type == "cuda":
        torch.cuda.set_device(torch_device)
    starts_group = size > 1 and not dist.is_initialized()
    if starts_group:
        backend = "nccl" if torch_device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size)
    try:
        yield World(rank, size, torch_device)
    finally:
        if starts_group:
            dist.destroy_process_group()


def _torch_device(name: str, local_rank: int | None) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(f"--device: is {name}; expected cpu or auto, as there is no CUDA device")
    if local_rank is not None:
        count = torch.cuda.device_count()
        if local_rank >= count:
            raise InputError(
                f"torchrun: starts process {local_rank + 1} of this machine; expected {count} at most"
            )
        return torch.device("cuda", local_rank)
    device = torch.device("cuda" if name == "auto" else name)
    return device if device.index is not None else torch.device("cuda", torch.cuda.current_device())
