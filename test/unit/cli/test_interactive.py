"""The command ``interactive``: the golden mask, options that reach the run, and errors in one line."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.case.geometry import Box
from model.case.images import read_image
from model.case.pet_ct_outputs import EXTRA_FILES
from model.cli import main as cli
from model.errors import ExitCode
from model.interactive import load_pet_ct, segment_pet_ct
from model.interactive.segment_pet_ct import TumorSegmentation
from test.helpers.golden_pet_ct import PET_CT_MODEL, GoldenPetCt
from test.helpers.paths import GOLDEN_MODEL

CASE = GoldenPetCt("p5_thick_slices_small_z")


def _run(output: Path, *options: str, ct: Path | None = None, weights: Path = PET_CT_MODEL) -> int:
    arguments = ["interactive", "--ct", str(ct or CASE.file("ct")), "--pet", str(CASE.file("pet"))]
    arguments += ["-o", str(output), "--weights", str(weights), "--device", "cpu", *options]
    return cli.main(arguments)


@pytest.mark.slow
def test_the_mask_of_one_fold_lies_on_the_ct_and_depends_on_clicks(tmp_path: Path) -> None:
    masks, extras = {}, tmp_path / "extras"
    clicked = ["--clicks", str(CASE.clicks_file), "--extras", str(extras), "--organs"]
    for name, options in {"clicked": clicked, "automatic": []}.items():
        file = tmp_path / f"{name}.mha"
        assert _run(file, "--folds", "2", *options) == ExitCode.SUCCESS
        masks[name] = read_image(file)
        assert masks[name].geometry.same_grid(CASE.geometry) and masks[name].array.dtype == np.uint8
    assert set(np.unique(masks["clicked"].array)) == {0, 1}
    assert (masks["clicked"].array != masks["automatic"].array).any()
    assert sorted(path.name for path in extras.iterdir()) == sorted(EXTRA_FILES)
    lesions, probability = read_image(extras / "lesions.mha"), read_image(extras / "probability.mha")
    np.testing.assert_array_equal(lesions.array > 0, masks["clicked"].array > 0)
    np.testing.assert_array_equal(probability.array > 0.5, masks["clicked"].array > 0)
    organs = read_image(extras / "organs.mha")
    assert organs.geometry.same_grid(CASE.geometry) and len(np.unique(organs.array)) > 1
    record = json.loads((extras / "run.json").read_text())
    assert record["model"]["parts"][0]["folds"] == [2] and len(record["clicks"]) == 4
    hottest = max(record["lesions"], key=lambda lesion: lesion["suv_max"])
    assert hottest["suv_max"] == pytest.approx(CASE.pet[masks["clicked"].array > 0].max(), abs=1e-6)
    rows = list(csv.DictReader((extras / "lesions.csv").open()))
    assert len(rows) == lesions.array.max() + 1 == len(record["lesions"]) + 1
    assert {"read", "load weights", "segment", "write", "total"} <= record["seconds"].keys()


def test_a_failing_run_leaves_no_old_mask(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output, extras = tmp_path / "mask.mha", tmp_path / "extras"
    extras.mkdir()
    for path in (output, extras / "run.json"):
        path.write_text("of an earlier run")
    assert _run(output, "--extras", str(extras), ct=tmp_path / "missing.mha") == ExitCode.INPUT
    assert not output.exists() and not list(extras.iterdir())
    assert "missing.mha" in capfd.readouterr().err


def test_weights_of_the_other_task_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path / "mask.mha", weights=GOLDEN_MODEL) == ExitCode.WEIGHTS
    (line,) = capfd.readouterr().err.splitlines()
    assert "plans.json" in line and "CT and PET" in line


def test_a_dose_from_a_file_is_used(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dose = tmp_path / "dose.json"
    dose.write_text('{"weight_kg": 70, "dose_mbq": 350, "half_life_minutes": 110, "minutes": 60}')
    assert _run(tmp_path / "mask.mha", "--dose", str(dose)) == ExitCode.INPUT  # its PET is in SUV
    assert "too little for Bq/ml" in capfd.readouterr().err
    dose.write_text("{}")
    assert _run(tmp_path / "mask.mha", "--dose", str(dose)) == ExitCode.INPUT
    assert "dose.json: weight_kg" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "part"), [("mask", "suffix of no image"), ("mask.png", "suffix of no image")]
)
def test_the_mask_needs_the_name_of_an_image(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, part: str
) -> None:
    assert _run(tmp_path / name) == ExitCode.INPUT
    assert part in capfd.readouterr().err


def test_an_input_is_never_overwritten(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ct = tmp_path / "ct.mha"
    shutil.copyfile(CASE.file("ct"), ct)
    before = ct.read_bytes()
    assert _run(ct, ct=ct) == ExitCode.INPUT
    assert "is an input, too" in capfd.readouterr().err and ct.read_bytes() == before


def test_organs_need_a_folder_for_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path / "mask.mha", "--organs") == ExitCode.INPUT
    assert "expected --extras DIR" in capfd.readouterr().err


def test_rules_change_the_mask_and_say_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = Box.of_shape(CASE.truth.shape)
    margin = np.where(CASE.truth, 1, -1).astype(np.float32)
    found = TumorSegmentation(CASE.truth, whole, margin, CASE.clicks, ())
    monkeypatch.setattr(load_pet_ct, "load_pet_ct_model", lambda *_: None)
    monkeypatch.setattr(segment_pet_ct, "segment_pet_ct", lambda *_: found)
    output = tmp_path / "mask.mha"
    assert _run(output, "--min-suv", "1000") == ExitCode.SUCCESS
    assert not read_image(output).array.any()
    assert "below SUV 1000 everywhere: removed" in caplog.text
    assert _run(output, "--min-suv") == ExitCode.SUCCESS
    np.testing.assert_array_equal(read_image(output).array > 0, CASE.truth)
    assert _run(output, "--min-suv", "0") == ExitCode.INPUT
    assert "--min-suv: is 0; expected a positive number" in capfd.readouterr().err
