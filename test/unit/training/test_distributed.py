"""Several training processes: shares of a batch, and the same result as of one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import InputError
from model.training.checkpoint import LATEST, read_latest
from model.training.distributed import World
from model.training.train_fold import train_fold

from ...helpers.training_jobs import fold_job, run_two_processes

pytestmark = pytest.mark.slow


def test_a_batch_that_cannot_be_divided_among_processes_is_refused() -> None:
    assert list(World(1, 2, torch.device("cpu")).share(4)) == [2, 3]
    with pytest.raises(InputError, match="batch_size: is 3 for 2 processes; expected a multiple of 2"):
        World(0, 2, torch.device("cpu")).share(3)


_SCRIPT = """
import logging, sys, torch
from pathlib import Path
torch.set_num_threads(1)
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from test.helpers.training_jobs import fold_job
from model.training.logs import EpochLog
from model.training.train_fold import train_fold
EpochLog.draw = lambda self: None
train_fold(fold_job(Path(sys.argv[1]), epochs=2, iterations=2, deep_supervision=sys.argv[2] == "True"))
"""


@pytest.mark.parametrize("deep", [True, False])
def test_two_processes_train_the_same_network_as_one_and_only_the_first_logs(
    tmp_path: Path, deep: bool
) -> None:
    alone = fold_job(tmp_path / "one", epochs=2, iterations=2, deep_supervision=deep)
    train_fold(alone)
    codes, outputs, _ = run_two_processes(_SCRIPT, tmp_path / "two", deep)
    assert codes == [0, 0]
    assert "epoch 2/2" in outputs[0] and "fold" not in outputs[1]
    one, two = (read_latest(tmp_path / name / "out" / "fold_0" / LATEST) for name in ("one", "two"))
    for name in one.network:
        assert torch.allclose(one.network[name], two.network[name], atol=1e-5), name
    assert np.isclose(one.progress.ema or 0, two.progress.ema or 0, atol=1e-3)
