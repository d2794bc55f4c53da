"""One training process or several: what `torchrun` started, and what the processes agree on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed as dist

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class World:
    """This process among ``size`` of them, and where it computes."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """The one that writes files and speaks."""
        return self.rank == 0

    def share(self, batch_size: int) -> range:
        """Which samples of a batch this process has.

        Raises:
            InputError: the batch does not divide.
        """
        check_share("batch_size", batch_size, self.size)
        local = batch_size // self.size
        return range(self.rank * local, (self.rank + 1) * local)

    def total(self, values: list[float]) -> list[float]:
        """Sums over all processes, in double precision."""
        if self.size == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(value) for value in sums.cpu()]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def check_share(name: str, batch_size: int, processes: int) -> None:
    """Raises InputError, which calls it by ``name``, for a batch that does not divide among processes."""
    if batch_size % processes:
        raise InputError(
            f"{name}: is {batch_size} for {processes} processes; expected a multiple of {processes}, as it "
            "counts for all of them together, or fewer processes"
        )


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started; alone without it.

    Args:
        device: auto, cpu, cuda or cuda:N; of several processes each has the CUDA device of its local rank.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    place = _device(device, local if size > 1 else None)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    starts = size > 1 and not dist.is_initialized()
    if starts:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", rank=rank, world_size=size)
    try:
        yield World(rank, size, place)
    finally:
        if starts:
            dist.destroy_process_group()


def _device(name: str, local_rank: int | None) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(f"--device: is {name}; expected cpu or auto, as no CUDA device is at hand")
    if local_rank is not None:
        count = torch.cuda.device_count()
        if local_rank >= count:
            raise InputError(
                f"torchrun: starts process {local_rank + 1} of this machine; expected {count} at most"
            )
        return torch.device("cuda", local_rank)
    place = torch.device("cuda" if name == "auto" else name)
    return place if place.index is not None else torch.device("cuda", torch.cuda.current_device())
