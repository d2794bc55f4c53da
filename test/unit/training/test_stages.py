"""Stages of a fold: batches are checked for all of them in advance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.errors import InputError
from model.training import train_ensemble as pipeline
from model.training.distributed import World
from model.training.job import FoldJob
from model.training.stages import check_batch_sizes
from model.training.train_ensemble import train_ensemble

from ...helpers.training_jobs import two_stage_job


@pytest.mark.parametrize(
    ("own", "first", "processes", "name"),
    [
        (2, 24, 4, r"batch_size: is 2"),
        (0, 24, 2, r"batch_size \(the plan's\): is 3"),
        (4, 6, 4, r"pretrain\.batch_size: is 6"),
        (4, 0, 2, r"pretrain\.batch_size \(the plan's\): is 3"),
    ],
)
def test_batch_sizes_of_both_stages_are_checked_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: int, first: int, processes: int, name: str
) -> None:
    job = two_stage_job(tmp_path, own, first)

    @contextmanager
    def several(device: str) -> Iterator[World]:
        yield World(0, processes, torch.device("cpu"))

    def never(job_: FoldJob) -> None:
        raise AssertionError(f"{job_.folder} has begun")

    monkeypatch.setattr(pipeline, "joined", several)
    monkeypatch.setattr(pipeline, "train_fold", never)
    with pytest.raises(InputError, match=f"^{name} for {processes} processes; expected a multiple of"):
        train_ensemble(job)
    assert not job.output.exists()
    for divisor in (1, 2, 3, 6):
        check_batch_sizes(two_stage_job(tmp_path, 6, 24), divisor)
    check_batch_sizes(replace(two_stage_job(tmp_path, 6, 7), pretraining=None), 3)
