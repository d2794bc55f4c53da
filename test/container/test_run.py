"""The sample case through the image, confined as on the platform."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from .confined import (
    CHECKOUT,
    NO_SCRATCH,
    Mounts,
    Run,
    copy_readable,
    docker,
    finish,
    run,
    start,
    writable_folder,
)

pytestmark = pytest.mark.container
SCANS = ("primary", "secondary")


def followup_scans(case: Path) -> dict[str, Path]:
    """Slug of each labelmap -> its follow-up scan."""
    folders = {f"{scan}-followup-ct": case / "images" / f"{scan}-followup-ct" for scan in SCANS}
    return {f"{slug}-tumor-lesion-seg": next(f.iterdir()) for slug, f in folders.items() if f.is_dir()}


def lesion_ids(case: Path) -> set[int]:
    """Every id that the case's click files name."""
    documents = [json.loads(path.read_text()) for path in case.glob("*-lesion-clicks.json")]
    names = [point["name"] for document in documents for point in document["points"]]
    return {int(re.findall(r"\d+$", name)[0]) for name in names}


def read_labelmap(output: Path, slug: str) -> sitk.Image:
    (path,) = (output / "images" / slug).iterdir()
    return sitk.ReadImage(path)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.fixture(scope="module", params=["clicked", "unclicked"])
def case(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(f"{request.param}_input")
    return folder


RunOf = Callable[[Path], Run]


@pytest.fixture(scope="module")
def good_run(image: str, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """Runs each case once."""

    @cache
    def run_once(case: Path) -> Run:
        output = writable_folder(tmp_path_factory.mktemp("finished") / "output")
        result = run(image, Mounts(case, output, weights))
        assert result.returncode == 0, result.stderr
        return result

    return run_once


@pytest.fixture
def finished(good_run: RunOf, case: Path) -> Run:
    return good_run(case)


def test_one_labelmap_per_followup_and_nothing_else(finished: Run, case: Path) -> None:
    slugs = followup_scans(case)
    assert slugs
    assert len(finished.files()) == len(slugs)
    assert {name.rpartition("/")[0] for name in finished.files()} == {f"images/{slug}" for slug in slugs}
    assert all(name.endswith(".mha") for name in finished.files())


def test_labelmap_is_on_the_followup_grid(finished: Run, case: Path) -> None:
    for slug, scan in followup_scans(case).items():
        followup, labelmap = sitk.ReadImage(scan), read_labelmap(finished.output, slug)
        assert labelmap.GetSize() == followup.GetSize()
        for grid in ("Spacing", "Origin", "Direction"):
            expected = getattr(followup, f"Get{grid}")()
            assert getattr(labelmap, f"Get{grid}")() == pytest.approx(expected, abs=1e-9)


def test_every_lesion_is_segmented_in_uint8(finished: Run, case: Path) -> None:
    found = set()
    for slug in followup_scans(case):
        labelmap = read_labelmap(finished.output, slug)
        assert labelmap.GetPixelID() == sitk.sitkUInt8
        found |= set(np.unique(sitk.GetArrayViewFromImage(labelmap)).tolist()) - {0}
    assert found == lesion_ids(case)


def test_a_missing_gpu_is_logged_in_one_line(finished: Run) -> None:
    assert len([line for line in finished.stdout.splitlines() if "GPU" in line]) == 1


def test_a_good_run_leaves_stderr_empty(finished: Run) -> None:
    assert finished.stderr == ""  # the platform flags every job that wrote there


def test_container_equals_the_same_code_on_the_host(
    good_run: RunOf, clicked_input: Path, weights: Path, tmp_path: Path
) -> None:
    host, output = tmp_path / "host", good_run(clicked_input).output
    arguments = {"--input": clicked_input, "--output": host, "--weights": weights, "--device": "cpu"}
    flat = [str(word) for pair in arguments.items() for word in pair]
    subprocess.run([sys.executable, CHECKOUT / "process.py", *flat], check=True)
    for slug in followup_scans(clicked_input):
        ours, theirs = (sitk.GetArrayFromImage(read_labelmap(folder, slug)) for folder in (output, host))
        for lesion_id in set(np.unique(theirs).tolist()) - {0}:
            assert dice(ours == lesion_id, theirs == lesion_id) >= 0.999


def test_image_brings_weights_of_its_own_and_needs_no_home_and_no_tmp(
    image: str, clicked_input: Path, tmp_path: Path
) -> None:
    mounts = Mounts(clicked_input, writable_folder(tmp_path / "output"))
    result = run(image, mounts, scratch=NO_SCRATCH)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert len(result.files()) == len(followup_scans(clicked_input))


def test_mounted_weights_come_first(image: str, clicked_input: Path, weights: Path, tmp_path: Path) -> None:
    broken = copy_readable(weights, tmp_path / "model")
    for checkpoint in (broken / "fold_0").glob("checkpoint_final.*"):
        os.truncate(checkpoint, checkpoint.stat().st_size // 2)
    result = run(image, Mounts(clicked_input, writable_folder(tmp_path / "output"), broken))
    assert result.returncode == 3
    assert "fold_0" in result.last_error
    assert result.files() == set()


def test_truncated_scan_is_named_and_nothing_is_written(
    image: str, clicked_input: Path, weights: Path, tmp_path: Path
) -> None:
    case = copy_readable(clicked_input, tmp_path / "input")
    scan = next(iter(followup_scans(case).values()))
    os.truncate(scan, scan.stat().st_size // 2)
    result = run(image, Mounts(case, writable_folder(tmp_path / "output"), weights))
    assert result.returncode == 2
    assert scan.name in result.last_error
    assert result.files() == set()


def test_sigterm_leaves_every_file_and_ends_with_143(
    image: str, clicked_input: Path, weights: Path, tmp_path: Path
) -> None:
    mounts = Mounts(clicked_input, writable_folder(tmp_path / "output"), weights)
    name = start(image, mounts)
    deadline = time.monotonic() + 60
    while not docker("logs", name).stdout and time.monotonic() < deadline:
        time.sleep(0.1)  # its first line comes when it is at work
    docker("kill", "--signal", "TERM", name)
    begin = time.monotonic()
    result = finish(image, name, mounts)
    assert time.monotonic() - begin < 6  # 4 s for the run, the rest for Docker
    assert result.returncode == 143
    for slug, scan in followup_scans(clicked_input).items():
        assert read_labelmap(result.output, slug).GetSize() == sitk.ReadImage(scan).GetSize()
