"""Batches: their order, and that workers, processes and interruptions do not change them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.training.loader import Step, schedule

from ...helpers.training_jobs import training_batches
from ...helpers.training_phantoms import config


@pytest.mark.slow
def test_samples_do_not_depend_on_workers_processes_or_resuming() -> None:
    settings = config(epochs=2)
    alone = training_batches(settings)
    assert [batch.step for batch in alone] == list(schedule(settings, 0))
    with_workers = training_batches(replace(settings, workers=2))
    later = training_batches(settings, first=1)
    halves = [training_batches(settings, (0,)), training_batches(settings, (1,))]
    for number, batch in enumerate(alone):
        assert torch.equal(batch.channels, with_workers[number].channels)
        parts = torch.cat([half[number].channels for half in halves])
        assert torch.equal(batch.channels, parts)
    assert torch.equal(alone[-2].channels, later[-2].channels)
    assert not torch.equal(alone[0].channels, alone[1].channels)
    assert torch.equal(alone[2].target, alone[5].target) and alone[2].step == Step(True, 0, 0)
