"""The folds of `train run` answer about their held-out patients, and a fold may run out of time."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from model.cli import train as command
from model.crossval.cross_validate import cross_validate
from model.data.folds import read_folds
from model.errors import InputError
from model.evaluation.compare_runs import read_run
from model.training.checkpoint import FINAL, LATEST, read_latest
from model.training.job import BudgetSpentError, FoldJob
from model.training.prepared_data import open_prepared
from model.training.stages import EnsembleJob
from model.training.train_ensemble import finished_folds, train_ensemble
from model.training.train_fold import train_fold

from ...helpers import training_phantoms as phantoms
from ...helpers.crossval_cases import write_data_set

SHORT = ("epochs=1", "iterations=1", "validation_iterations=1", "batch_size=1", "workers=0")


def _train(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([*map(str, arguments)]))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw and prepared data of four patients."""
    folder = tmp_path_factory.mktemp("work")
    manifest = write_data_set(folder / "raw", ("anna", "ben", "carl", "dora"))
    plan = ("--preset", "tiny", "--spacing", 2, 2, 2, "--patch", 16, 16, 16, "--folds", 2, "--workers", 1)
    _train("prepare", "--data", manifest, "-o", folder / "prepared", *plan)
    return folder


def _run(work: Path, output: Path, *more: str) -> int:
    return _train("run", "--data", work / "prepared", "-o", output, "--device", "cpu", *more, *SHORT)


def test_every_patient_is_asked_of_the_fold_that_has_not_seen_them(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert _run(work, out, "--fold", "0", "--no-cross-validation") == 0
    assert not (out / "cross_validation").exists()
    capsys.readouterr()
    assert _run(work, out, "--fold", "1") == 0  # fold 0 is there, and takes part
    told = capsys.readouterr().out
    assert "cross-validation, fold 0: Dice " in told and "cross-validation, fold 1: Dice " in told
    assert "all held-out patients: Dice " in told and "12 lesions, 4 patients; mean Dice of 2 folds" in told
    for number, fold in enumerate(read_folds(work / "prepared")):
        names = {path.name for path in (out / "cross_validation" / f"fold_{number}").glob("*.mha")}
        assert names == {f"{patient}_t0-to-{patient}_t1.mha" for patient in fold.val}
    records = read_run(out / "cross_validation")
    assert {record.patient for record in records} == {"anna", "ben", "carl", "dora"}
    assert json.loads((out / "cross_validation" / "summary.json").read_text())["definition"] == "longitudinal"
    assert _run(work, out) == 0
    again = capsys.readouterr().out
    assert "(1/" not in again and read_run(out / "cross_validation") == records  # nothing was asked again
    with pytest.raises(InputError, match="no fold holds patients back"):
        cross_validate([], {}, out, tmp_path)
    with pytest.raises(InputError, match="fold 0: holds back no patient with a pair"):
        cross_validate([], {"0": ("anna",)}, out, tmp_path)


def test_folds_of_other_data_take_no_part(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    data, config = open_prepared(work / "prepared", False), phantoms.config(epochs=1, iterations=1)
    job = EnsembleJob(data, out, config, ("0",), device="cpu")
    train_ensemble(job, lambda line: None)
    assert finished_folds(replace(job, folds=("1",))).keys() == {"0"}
    assert finished_folds(replace(job, folds=("1",), config=replace(config, seed=1))) == {}
    turned = replace(job, data=replace(data, splits=data.splits[::-1]))
    assert finished_folds(replace(turned, folds=("1",))) == {}
    with pytest.raises(InputError, match="was trained on other patients"):
        train_ensemble(turned, lambda line: None)


def test_a_network_of_all_patients_has_none(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(work, tmp_path, "--fold", "all") == 0
    assert "cross-validation" not in capsys.readouterr().out


def test_training_stands_where_files_are_gone(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(work / "prepared", tmp_path / "prepared")
    sources = tmp_path / "prepared" / "sources.json"
    sources.write_text(sources.read_text().replace("anna_0_ct.mha", "nobody.mha"))
    assert _run(tmp_path, tmp_path / "model") == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert "could not be done, what was trained stands" in told and "nobody.mha: is missing" in told
    assert (tmp_path / "model" / "fold_1" / FINAL).is_file()


def _job(folder: Path, until: float | None) -> FoldJob:
    plan, everyone = phantoms.plan(features=4), phantoms.patients(2)
    file = phantoms.write_plan(folder / "data", plan)
    config = phantoms.config(epochs=3, iterations=1, checkpoint_every=50)
    return FoldJob(plan, file, everyone, everyone, folder / "out", "0", config, device="cpu", until=until)


def test_a_fold_stops_when_its_time_is_over_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(BudgetSpentError, match=r"no time is left for fold 0") as caught:
        train_fold(_job(tmp_path, time.monotonic()), lambda line: None)
    assert caught.value.exit_code == 7
    assert not (tmp_path / "out").exists()

    def slow(line: str) -> None:
        if "epoch 1/3" in line:
            time.sleep(max(0.0, until - time.monotonic()))

    until = time.monotonic() + 2.0
    with pytest.raises(BudgetSpentError, match=r"is over after 1 of 3 epochs"):
        train_fold(_job(tmp_path, until), slow)
    saved = read_latest(tmp_path / "out" / "fold_0" / LATEST)
    assert saved.progress.epochs_done == 1
    said: list[str] = []
    assert train_fold(_job(tmp_path, time.monotonic() + 600), said.append).epochs == 2
    assert "goes on after 1 epochs" in said[0]
    assert train_fold(_job(tmp_path, 0.0), said.append).epochs == 0  # finished: no time is needed


def test_the_time_of_an_ensemble_is_that_of_its_folds(work: Path, tmp_path: Path) -> None:
    data, config = open_prepared(work / "prepared", False), phantoms.config(epochs=1, iterations=1)
    with pytest.raises(BudgetSpentError, match="no time is left for fold 0"):
        train_ensemble(EnsembleJob(data, tmp_path, config, device="cpu", until=0.0), lambda line: None)
