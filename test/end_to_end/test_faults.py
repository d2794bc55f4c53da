"""A short run of the fault command, and single faults of the disk, the folder and the size of a case."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.case.folder_lock import locked_folder

from ..faults import sizes
from ..helpers.cases_on_disk import CaseOnDisk
from ..helpers.paths import CHECKOUT

pytestmark = pytest.mark.slow

SMALL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))
"""
FULL_STDOUT = """
import os
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
"""


def test_runs_killed_at_an_instant_leave_whole_files_and_can_be_repeated() -> None:
    command = [sys.executable, "-m", "test.faults", "--instants", "1", "--seed", "1", "--only", "kills"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 trials, 0 not as promised" in done.stdout


def test_a_full_disk_ends_with_5_and_leaves_nothing(case: CaseOnDisk) -> None:
    run = case.run(driver=SMALL_DISK)
    assert run.code == 5, run.stderr
    assert len(run.stderr.strip().splitlines()) == 1 and "segmentation.mha" in run.last_line
    assert run.files() == []


def test_a_log_that_cannot_be_written_costs_no_result(case: CaseOnDisk) -> None:
    run = case.run(driver=FULL_STDOUT)
    assert run.code == 0 and run.stderr == "" and run.labelmap().any()


def test_a_second_run_into_the_folder_is_refused(case: CaseOnDisk) -> None:
    output = case.folder.parent / "output"
    with locked_folder(output):
        (output / "kept.txt").touch()
        run = case.run()
    assert run.code == 5 and "another run" in run.last_line and run.files() == ["kept.txt"]


@pytest.mark.parametrize(
    "write", [sizes.one_voxel, sizes.a_lesion_that_fills_its_scan, sizes.a_followup_smaller_than_the_patch]
)
def test_extreme_sizes(write: sizes.WriteCase, tmp_path: Path) -> None:
    case = CaseOnDisk(tmp_path / "case")
    shape, ids = write(case)
    run = case.run("--folds", "0")
    assert run.code == 0, run.stdout + run.stderr
    assert run.labelmap().shape == shape and set(np.unique(run.labelmap())) <= {0, *ids}
