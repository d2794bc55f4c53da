"""The command `train prepare` from end to end."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.case.geometry import Box, Vector
from model.cli import train as command
from model.data import prepare
from model.data.folds import read_folds
from model.data.preprocess import PreparationJob, prepare_scan
from model.data.store import read_prepared, scan_folder
from model.errors import InputError
from model.network.plan import read_plan
from test.helpers.paths import GOLDEN_MODEL

from ...helpers.data_sets import manifest_of_pairs, write_challenge, write_scan

BEFORE = {1: ((5, 8, 9), 2), 2: ((9, 15, 18), 2)}
AFTER = {1: ((6, 9, 10), 2), 2: ((9, 14, 17), 3)}
PATIENTS = ("anna", "ben", "carl", "dora", "LIDC-0314")


def _run(*arguments: object, folds: int = 2) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    parsed = parser.parse_args(["prepare", *map(str, arguments), "--preset", "tiny", "--folds", str(folds)])
    return command.run(parsed)


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _logged(caplog: pytest.LogCaptureFixture) -> str:
    """Lines logged since the last call."""
    lines = "\n".join(caplog.messages)
    caplog.clear()
    return lines


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return manifest_of_pairs(tmp_path_factory.mktemp("data"), {name: [BEFORE, AFTER] for name in PATIENTS})


def test_a_data_set_is_prepared_and_read_back(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert _run("--data", data, "-o", tmp_path, "--workers", 1) == 0
    cohort = read_prepared(tmp_path)
    assert [pair.patient_id for pair in cohort.pairs] == sorted(PATIENTS)
    plan = read_plan(tmp_path / "plans.json")
    for pair in cohort.pairs:
        assert [lesion.followup_ids for lesion in pair.lesions] == [(1,), (2,)]
        for lesion in pair.lesions:
            assert lesion.has_baseline_mask and not lesion.is_absent
            assert lesion.baseline_point_zyx is not None
            z, y, x = (int(value) for value in lesion.baseline_point_zyx)
            at_point = Box((z, y, x), (z + 1, y + 1, x + 1))
            assert pair.baseline.read_labels(at_point).item() == lesion.lesion_id
            assert len(pair.followup.voxels(lesion.lesion_id).weights)
        assert pair.baseline.spacing_zyx == plan.spacing_zyx
    folds = read_folds(tmp_path)
    assert sorted(name for fold in folds for name in fold.val) == sorted(PATIENTS)
    logged = _logged(caplog)
    assert "0 problems" in logged and "10 scans prepared, 0 were already" in logged


@pytest.mark.slow
def test_prepared_scans_are_kept(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    whole = prepare_scan

    def interrupted(job: PreparationJob) -> None:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(job.scan.scan_id)
        whole(job)

    monkeypatch.setattr(prepare, "prepare_scan", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _run("--data", data, "-o", tmp_path, "--workers", 1)
    monkeypatch.setattr(prepare, "prepare_scan", whole)
    (scan_folder(tmp_path, calls[0]) / "scan.json").unlink()  # as an interrupted run leaves it
    caplog.clear()
    _run("--data", data, "-o", tmp_path, "--workers", 1)
    assert "7 scans prepared, 3 were already" in _logged(caplog)
    _run("--data", data, "-o", tmp_path, "--workers", 1)
    assert "0 scans prepared, 10 were already" in _logged(caplog)
    _run("--data", data, "-o", tmp_path, "--workers", 1, "--spacing", 3, 1.5, 1.5)
    assert "10 scans prepared, 0 were already" in _logged(caplog)


@pytest.mark.slow
def test_processes_give_the_same_data(data: Path, tmp_path: Path) -> None:
    alone, many = tmp_path / "alone", tmp_path / "many"
    _run("--data", data, "-o", alone, "--workers", 1)
    _run("--data", data, "-o", many, "--workers", 2)
    for one, other in zip(read_prepared(alone).pairs, read_prepared(many).pairs, strict=True):
        assert one.lesions == other.lesions
        whole = Box.of_shape(one.followup.shape_zyx)
        np.testing.assert_array_equal(one.followup.read_ct(whole), other.followup.read_ct(whole))
        np.testing.assert_array_equal(one.followup.voxels(2).voxels_zyx, other.followup.voxels(2).voxels_zyx)
    assert read_folds(alone) == read_folds(many)
    assert (alone / "plans.json").read_bytes() == (many / "plans.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--seed", 1), "was drawn with seed 0, not 1"),
        (("--folds", 3), "holds 2 folds, not 3"),
        (("--exclude", "ben"), "patient ben of its folds is missing"),
    ],
)
def test_conflicting_folds_are_refused_before_anything_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, Any], difference: str
) -> None:
    _run("--data", data, "-o", tmp_path, "--workers", 1)
    before = _files(tmp_path)
    monkeypatch.setattr(prepare, "prepare_scan", lambda job: pytest.fail("prepared anew"))
    name, value = options
    with pytest.raises(InputError, match=rf"splits_final\.json: {difference}; expected the same"):
        if name == "--folds":
            _run("--data", data, "-o", tmp_path, "--workers", 1, folds=value)
        else:
            _run("--data", data, "-o", tmp_path, "--workers", 1, name, value)
    assert _files(tmp_path) == before


@pytest.mark.slow
def test_an_added_patient_is_refused_before_scans_are_prepared(tmp_path: Path) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    patients = {name: [BEFORE, AFTER] for name in ("a", "b")}
    _run("--data", manifest_of_pairs(folder, patients), "-o", out, "--workers", 1)
    index = (out / "index.json").read_bytes()
    more = manifest_of_pairs(folder, {**patients, "c": [BEFORE, AFTER]})
    with pytest.raises(InputError, match="patient c is in none of its folds"):
        _run("--data", more, "-o", out, "--workers", 1)
    assert (out / "index.json").read_bytes() == index and len(list((out / "scans").iterdir())) == 4


@pytest.mark.slow
def test_a_patient_lost_in_resampling_does_not_prevent_a_second_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    speck = [BEFORE, {2: ((9, 14, 17), 0)}]
    path = manifest_of_pairs(tmp_path, {"a": [BEFORE, AFTER], "b": [BEFORE, AFTER], "c": speck})
    options = ("--data", path, "-o", tmp_path / "out", "--workers", 1, "--spacing", 6, 2.4, 2.4)
    _run(*options)
    assert sorted(name for fold in read_folds(tmp_path / "out") for name in fold.val) == ["a", "b"]
    assert json.loads((tmp_path / "out" / "folds.json").read_text())["lost"] == ["c"]
    assert _run(*options) == 0
    assert "0 scans prepared, 6 were already" in _logged(caplog)
    before = (tmp_path / "out" / "index.json").read_bytes()
    for scan in (tmp_path / "out" / "scans").glob("c_*"):
        (scan / "scan.json").unlink()  # as an interrupted run leaves it
    assert _run(*options) == 0
    shutil.rmtree(tmp_path / "out" / "scans")  # to save space
    assert _run(*options) == 0
    assert (tmp_path / "out" / "index.json").read_bytes() == before


@pytest.mark.slow
def test_an_excluded_patient_prepared_before_the_folds_is_new_to_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = manifest_of_pairs(tmp_path / "data", {name: [BEFORE, AFTER] for name in "abc"})
    _run("--data", path, "-o", out, "--workers", 1, folds=0)
    _run("--data", path, "-o", out, "--workers", 1, "--exclude", "c")
    before = _files(out)
    with pytest.raises(InputError, match=r"patient c is in none of its folds; expected .* \(--exclude c\)"):
        _run("--data", path, "-o", out, "--workers", 1)
    after = _files(out)
    changed = {file.relative_to(out).parts[0] for file in after if after[file] != before.get(file)}
    assert changed <= {"checks.json", "survey"} and after.keys() >= before.keys()
    assert [pair.patient_id for pair in read_prepared(out).pairs] == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("spacings", [((6, 2.4, 2.4), (2.6, 1.2, 1.1)), ((2.6, 1.2, 1.1), (6, 2.4, 2.4))])
def test_folds_in_conflict_after_resampling_leave_no_index(
    tmp_path: Path, spacings: tuple[Vector, Vector]
) -> None:
    """Only after resampling is it known who is lost, or is no longer lost."""
    speck = [BEFORE, {2: ((9, 14, 17), 0)}]
    path = manifest_of_pairs(tmp_path, {"a": [BEFORE, AFTER], "b": [BEFORE, AFTER], "c": speck})
    options = ("--data", path, "-o", tmp_path / "out", "--workers", 1, "--spacing")
    _run(*options, *spacings[0])
    names = ("splits_final.json", "folds.json")
    before = [(tmp_path / "out" / name).read_bytes() for name in names]
    with pytest.raises(InputError, match="patient c (is in none|of its folds is missing)"):
        _run(*options, *spacings[1])
    assert not (tmp_path / "out" / "index.json").exists()
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == before
    assert _run(*options, *spacings[0]) == 0
    assert read_prepared(tmp_path / "out").pairs


@pytest.mark.slow
def test_an_excluded_patient_is_in_nothing_that_is_written(data: Path, tmp_path: Path) -> None:
    _run("--data", data, "-o", tmp_path, "--workers", 1, "--exclude", "LIDC-0314")
    names = [path.name for path in tmp_path.rglob("*") if "0314" in path.name]
    files = [path.name for path in tmp_path.rglob("*.json") if "LIDC-0314" in path.read_text()]
    assert not names and sorted(files) == ["folds.json", "index.json"]  # which list excluded patients
    assert all("LIDC-0314" not in fold.train + fold.val for fold in read_folds(tmp_path))
    assert read_prepared(tmp_path).excluded == ("LIDC-0314",)
    fingerprint = json.loads((tmp_path / "fingerprint.json").read_text())
    assert len(fingerprint["spacings_zyx"]) == 2 * (len(PATIENTS) - 1)


@pytest.mark.slow
def test_problems_are_logged_and_strict_stops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = manifest_of_pairs(tmp_path, {name: [BEFORE, AFTER] for name in ("a", "b", "c")})
    write_scan(tmp_path / "c_0_ct.nii.gz", tmp_path / "c_0_labels.nii.gz", {})
    (tmp_path / "c_1_ct.nii.gz").unlink()
    with pytest.raises(InputError, match="2 problems, listed above"):
        _run("--data", path, "-o", tmp_path / "out", "--workers", 1, "--strict")
    logged = _logged(caplog)
    assert "c_0_labels.nii.gz: is empty" in logged and "c_1_ct.nii.gz: is missing" in logged
    assert not (tmp_path / "out" / "plans.json").exists()
    assert _run("--data", path, "-o", tmp_path / "out", "--workers", 1) == 0
    assert {pair.patient_id for pair in read_prepared(tmp_path / "out").pairs} == {"a", "b"}
    listed = json.loads((tmp_path / "out" / "checks.json").read_text())["problems"]
    assert sum(not entry["note"] for entry in listed) == 2


@pytest.mark.slow
def test_only_checking_prepares_nothing(data: Path, tmp_path: Path) -> None:
    assert _run("--data", data, "-o", tmp_path, "--workers", 1, "--check") == 0
    assert not (tmp_path / "scans").exists() and not (tmp_path / "plans.json").exists()


@pytest.mark.slow
def test_only_checking_ignores_folds(tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = manifest_of_pairs(tmp_path, {name: [BEFORE, AFTER] for name in "ab"})
    _run("--data", path, "-o", out, "--workers", 1)
    index = (out / "index.json").read_bytes()
    more = manifest_of_pairs(tmp_path, {name: [BEFORE, AFTER] for name in "abc"})
    assert _run("--data", more, "-o", out, "--workers", 1, "--check", "--seed", 3) == 0
    assert _run("--data", more, "-o", out, "--workers", 1, "--check") == 0
    assert _run("--data", more, "-o", out, "--workers", 1, "--check", folds=9) == 0
    assert (out / "index.json").read_bytes() == index


def test_lesions_lost_in_resampling_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = {**AFTER, 2: ((9, 14, 17), 0)}
    path = manifest_of_pairs(tmp_path, {name: [BEFORE, small] for name in ("a", "b")})
    _run("--data", path, "-o", tmp_path / "out", "--workers", 1, "--spacing", 6, 2.4, 2.4)
    assert "lesion 2 has no voxel left at the plan's spacing" in _logged(caplog)
    for pair in read_prepared(tmp_path / "out").pairs:
        assert [lesion.lesion_id for lesion in pair.lesions] == [1]


def test_absent_lesions_of_the_release_keep_their_propagated_point(tmp_path: Path) -> None:
    rows = [
        {"lesion_id": "1", "cog_bl": "9 8 5", "cog_fu": "10 9 6", "cog_propagated": "10 9 5"},
        {"lesion_id": "2", "cog_bl": "18 15 9", "cog_propagated": "17 15 9"},
    ]
    for patient in ("a", "b"):
        write_challenge(tmp_path, patient, rows, BEFORE, {1: AFTER[1]})
    _run("--data", tmp_path, "-o", tmp_path / "out", "--workers", 1)
    for pair in read_prepared(tmp_path / "out").pairs:
        there, gone = pair.lesions
        assert not there.is_absent and there.propagated_point_zyx is not None
        assert gone.is_absent and gone.followup_point_zyx is None and gone.propagated_point_zyx is not None


@pytest.mark.slow
def test_the_plan_of_another_data_set_is_used_unchanged(data: Path, tmp_path: Path) -> None:
    weights = GOLDEN_MODEL / "plans.json"
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = ["prepare", "--data", str(data), "-o", str(tmp_path), "--folds", "2", "--plan", str(weights)]
    assert command.run(parser.parse_args([*options, "--workers", "1"])) == 0
    assert read_plan(tmp_path / "plans.json") == read_plan(weights)
    with pytest.raises(InputError, match="given beside --plan"):
        _run("--data", data, "-o", tmp_path, "--plan", weights)  # and a preset


@pytest.mark.slow
def test_impossible_folds_are_refused_before_the_work(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="9 folds of 5 patients"):
        _run("--data", data, "-o", tmp_path, "--workers", 1, folds=9)
    assert not (tmp_path / "scans").exists()
    assert _run("--data", data, "-o", tmp_path, "--workers", 1, folds=0) == 0
    assert not (tmp_path / "splits_final.json").exists()


@pytest.mark.parametrize("options", [("--workers", 0), ("--spacing", 0, 1, 1), ("--seed", -1)])
def test_invalid_options_are_refused(data: Path, tmp_path: Path, options: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match=options[0]):
        _run("--data", data, "-o", tmp_path, *options)


def test_the_command_line_needs_no_heavy_library() -> None:
    names = ("torch", "SimpleITK", "numpy", "blosc2", "pydantic", "tqdm")
    code = f"import sys, model.cli.train; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
