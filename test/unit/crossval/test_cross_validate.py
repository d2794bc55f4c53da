"""Cross-validation of the folds of `train run` on their held-out patients."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from model.cli import train as command
from model.crossval.cross_validate import cross_validate
from model.data.folds import read_folds
from model.errors import InputError
from model.evaluation.compare_runs import read_run
from model.training.checkpoint import FINAL
from model.training.job import BudgetSpentError
from model.training.prepared_data import open_prepared
from model.training.stages import EnsembleJob
from model.training.train_ensemble import finished_folds, train_ensemble

from ...helpers import training_phantoms as phantoms
from ...helpers.crossval_cases import write_data_set
from ...helpers.log_messages import messages

pytestmark = pytest.mark.slow

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


def test_each_patient_is_predicted_by_the_fold_that_holds_them_out(
    work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "model"
    assert _run(work, out, "--fold", "0", "--no-cross-validation") == 0
    assert not (out / "cross_validation").exists()
    caplog.clear()
    assert _run(work, out, "--fold", "1") == 0  # fold 0 of the earlier call takes part
    lines = "\n".join(messages(caplog))
    assert "cross-validation, fold 0: Dice " in lines and "cross-validation, fold 1: Dice " in lines
    assert "all held-out patients: Dice " in lines and "12 lesions, 4 patients; mean Dice of 2 folds" in lines
    for number, fold in enumerate(read_folds(work / "prepared")):
        names = {path.name for path in (out / "cross_validation" / f"fold_{number}").glob("*.mha")}
        assert names == {f"{patient}_t0-to-{patient}_t1.mha" for patient in fold.val}
    records = read_run(out / "cross_validation")
    assert {record.patient for record in records} == {"anna", "ben", "carl", "dora"}
    assert json.loads((out / "cross_validation" / "summary.json").read_text())["definition"] == "longitudinal"
    caplog.clear()
    assert _run(work, out) == 0
    assert not any("(1/" in line for line in messages(caplog))  # no pair was predicted again
    assert read_run(out / "cross_validation") == records
    with pytest.raises(InputError, match="no fold has held-out patients"):
        cross_validate([], {}, out, tmp_path)
    with pytest.raises(InputError, match="fold 0: holds out no patient with a pair"):
        cross_validate([], {"0": ("anna",)}, out, tmp_path)


def test_folds_trained_on_other_data_are_left_out(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    data, config = open_prepared(work / "prepared", False), phantoms.config(epochs=1, iterations=1)
    job = EnsembleJob(data, out, config, ("0",), device="cpu")
    train_ensemble(job)
    assert finished_folds(replace(job, folds=("1",))).keys() == {"0"}
    assert finished_folds(replace(job, folds=("1",), config=replace(config, seed=1))) == {}
    swapped = replace(job, data=replace(data, splits=data.splits[::-1]))
    assert finished_folds(replace(swapped, folds=("1",))) == {}
    with pytest.raises(InputError, match="was trained on other patients"):
        train_ensemble(swapped)


def test_a_network_of_all_patients_is_not_cross_validated(
    work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert _run(work, tmp_path, "--fold", "all") == 0
    assert not any("cross-validation" in line for line in messages(caplog))


def test_training_succeeds_without_cross_validation_if_original_files_are_missing(
    work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(work / "prepared", tmp_path / "prepared")
    sources = tmp_path / "prepared" / "sources.json"
    sources.write_text(sources.read_text().replace("anna_0_ct.mha", "none.mha"))
    assert _run(tmp_path, tmp_path / "model") == 0
    line = messages(caplog)[-1]
    assert "not possible, the trained folds are unaffected" in line and "none.mha: is missing" in line
    assert (tmp_path / "model" / "fold_1" / FINAL).is_file()


def test_the_time_of_an_ensemble_limits_its_folds(work: Path, tmp_path: Path) -> None:
    data, config = open_prepared(work / "prepared", False), phantoms.config(epochs=1, iterations=1)
    with pytest.raises(BudgetSpentError, match="no time is left for fold 0"):
        train_ensemble(EnsembleJob(data, tmp_path, config, device="cpu", until=0.0))
