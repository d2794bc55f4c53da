"""From PET/CT studies to the mask of a trained network with the commands in sequence, on small phantoms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.case.images import read_image

from ..helpers.pet_ct_sets import write_pet_ct_folder
from ..helpers.warm_process import ScriptRun, run_scripts

pytestmark = pytest.mark.slow

CASES = ("fdg_a_1", "fdg_a_2", "fdg_b_1", "psma_c_1")


def _command(folder: Path, *words: str | Path) -> str:
    script = "import runpy\nrunpy.run_module('model', run_name='__main__')"
    limit = {"OMP_NUM_THREADS": "1"}
    (done,) = run_scripts(ScriptRun(script, list(map(str, words)), str(folder), environment=limit))
    assert done.code == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with organs, prepared and trained in two folds."""
    folder = tmp_path_factory.mktemp("pet-ct-training")
    raw = write_pet_ct_folder(folder / "raw", CASES, with_organs=True)
    plan = ("--preset", "tiny", "--spacing", "3", "3", "3", "--patch", "16", "16", "16", "--folds", "2")
    printed = _command(
        folder, "train", "prepare", "--data", raw, "-o", folder / "prepared", *plan, "--workers", "1"
    )
    assert "0 problems" in printed and "4 studies prepared" in printed
    run = ("train", "run", "--data", folder / "prepared", "-o", folder / "model", "--device", "cpu")
    settings = ("variant=interactive", "epochs=2", "iterations=4", "validation_iterations=1", "batch_size=2")
    _command(folder, *run, *settings, "workers=0")
    return folder


def test_the_trained_folds_segment_a_study(work: Path) -> None:
    (work / "clicks.json").write_text(json.dumps({"tumor": [[9, 10, 6]], "background": [[14, 9, 17]]}))
    study = [work / "raw" / "imagesTr" / f"{CASES[0]}_{channel}.nii.gz" for channel in ("0000", "0001")]
    _command(work, "weights", "pack", work / "model", work / "packed")
    masks = []
    for model in ("model", "packed"):
        mask = work / f"{model}.mha"
        images = ("--ct", study[0], "--pet", study[1], "--clicks", work / "clicks.json", "-o", mask)
        printed = _command(work, "interactive", *images, "--weights", work / model, "--device", "cpu")
        assert "with 2 folds" in printed and "from 2 clicks" in printed and "assumed" not in printed
        masks.append(read_image(mask))
    assert masks[0].geometry.same_grid(read_image(study[0]).geometry)
    assert set(np.unique(masks[0].array)) <= {0, 1}
    np.testing.assert_array_equal(masks[0].array, masks[1].array)


def test_held_out_studies_are_scored_with_rising_numbers_of_clicks(work: Path) -> None:
    folder = work / "model" / "cross_validation"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == [0, 3, 7, 10] and summary["cases"] == len(CASES) and not summary["failed"]
    splits = json.loads((work / "prepared" / "splits_final.json").read_text())
    for number, split in enumerate(splits):
        cases = {path.name for path in (folder / f"fold_{number}" / "predictions").iterdir()}
        assert cases == {case for case in CASES if case.rsplit("_", 1)[0] in split["val"]}


def test_each_fold_is_trained_without_its_patients(work: Path) -> None:
    splits = json.loads((work / "prepared" / "splits_final.json").read_text())
    assert sorted(name for split in splits for name in split["val"]) == ["fdg_a", "fdg_b", "psma_c"]
    assert not any(set(split["train"]) & set(split["val"]) for split in splits)
    config = json.loads((work / "model" / "fold_0" / "config.json").read_text())
    assert config["variant"] == "interactive" and config["organs"] == 2 and config["dice_smooth"] == 0
