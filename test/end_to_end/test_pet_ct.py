"""`process.py` on a PET/CT in the platform's folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.case.images import read_image, write_image

from ..helpers.golden_pet_ct import PET_CT_MODEL, GoldenPetCt
from ..helpers.warm_process import ScriptResult, ScriptRun, run_scripts

pytestmark = pytest.mark.slow

CASE = GoldenPetCt("p8_clicks_outside")
MASK = Path("images", "tumor-lesion-segmentation", CASE.file("ct").name)


_SCRIPT = "import runpy\nrunpy.run_path('process.py', run_name='__main__')"


def _run(folder: Path, *options: str) -> ScriptResult:
    arguments = ["--input", str(folder / "input"), "--output", str(folder / "output"), "--device", "cpu"]
    arguments += ["--weights", str(PET_CT_MODEL), *options]
    (result,) = run_scripts(ScriptRun(_SCRIPT, arguments, str(folder)))
    return result


def _earlier_mask(folder: Path) -> Path:
    mask = folder / "output" / MASK
    mask.parent.mkdir(parents=True)
    for path in (mask, mask.with_name("another-ct.mha")):
        path.write_text("of an earlier run")
    return mask


def test_a_pet_ct_is_recognised_and_all_its_folds_give_the_published_mask(tmp_path: Path) -> None:
    shutil.copytree(CASE.input, tmp_path / "input")
    mask = _earlier_mask(tmp_path)
    extras = tmp_path / "extras"
    result = _run(tmp_path, "--extras", str(extras))
    assert result.code == 0, result.stdout + result.stderr
    assert result.stderr == "" and "with 4 folds" in result.stdout
    assert result.stdout.count("it is moved to the border") == result.stdout.count("it is left out") == 2
    files = [path for path in (tmp_path / "output").rglob("*") if path.is_file()]
    assert files == [mask]  # that of another CT has gone
    record = json.loads((extras / "run.json").read_text())
    assert sum("it is moved to the border" in warning for warning in record["warnings"]) == 2
    assert record["outputs"] == [str(mask)] and record["model"]["parts"][0]["folds"] == [0, 1, 2, 3]
    (published,) = (CASE.expected / "fp32_no_tta_outside_clipped_5mm").rglob("*.mha")
    got, wanted = read_image(mask), read_image(published)
    assert got.array.dtype == np.uint8 and got.geometry.same_grid(wanted.geometry)
    np.testing.assert_array_equal(got.array, wanted.array)


def test_bad_input_ends_in_one_line_and_leaves_no_old_mask(tmp_path: Path) -> None:
    shutil.copytree(CASE.input, tmp_path / "input")
    mask = _earlier_mask(tmp_path)
    pet = tmp_path / "input" / CASE.file("pet").relative_to(CASE.input)
    write_image(pet, (CASE.pet * 4000).astype(np.float32), CASE.geometry)
    result = _run(tmp_path)
    assert result.code == 2 and not list(mask.parent.iterdir())
    (line,) = result.stderr.splitlines()
    assert pet.name in line and "Bq/ml" in line


def test_clicks_of_the_other_task_are_refused(tmp_path: Path) -> None:
    shutil.copytree(CASE.input, tmp_path / "input")
    clicks = tmp_path / "input" / "lesion-clicks.json"
    clicks.write_text('{"points": [{"name": "Lesion 7", "point": [1, 2, 3]}]}')
    result = _run(tmp_path)
    assert result.code == 2 and "'Lesion 7'" in result.stderr


def test_a_missing_pet_is_named(tmp_path: Path) -> None:
    shutil.copytree(CASE.input, tmp_path / "input")
    shutil.rmtree(tmp_path / "input" / "images" / "pet")
    result = _run(tmp_path)
    (line,) = result.stderr.splitlines()
    assert result.code == 2 and "images/pet: " in line and "expected" in line
