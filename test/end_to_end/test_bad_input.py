"""Bad input: one line that names the file, what is wrong and what was expected, and the exit code."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ..helpers.cases_on_disk import SHAPE, CaseOnDisk, Finished, Grid, body
from ..helpers.paths import CHECKOUT

pytestmark = pytest.mark.slow

CT = "primary-followup-ct"
MASK = "primary-baseline-ct-tumor-lesion-seg"
CLICKS = "primary-followup-lesion-clicks.json"
WEIGHTS = CHECKOUT / "test" / "golden" / "model"


def assert_refused(run: Finished, code: int, *words: str) -> None:
    assert run.code == code, run.stderr
    for word in words:
        assert word in run.last_line, run.last_line
    assert "Traceback" not in run.stderr
    assert run.files() == []


def _no_scan(case: CaseOnDisk) -> None:
    shutil.rmtree(case.folder / "images" / CT)


def _no_mask(case: CaseOnDisk) -> None:
    shutil.rmtree(case.folder / "images" / MASK)


def _two_images(case: CaseOnDisk) -> None:
    case.image(CT, body(), name="second.mha")


def _not_an_image(case: CaseOnDisk) -> None:
    (case.folder / "images" / CT / "image.mha").write_text("no image at all")


def _truncated(case: CaseOnDisk) -> None:
    path = case.folder / "images" / CT / "image.mha"
    path.write_bytes(path.read_bytes()[:-2000])


def _truncated_raw(case: CaseOnDisk) -> None:
    path = case.image(CT, body(), compress=False)
    path.write_bytes(path.read_bytes()[:-2000])


def _truncated_nifti(case: CaseOnDisk) -> None:
    (case.folder / "images" / CT / "image.mha").unlink()
    path = case.image(CT, body(), name="image.nii.gz")
    path.write_bytes(path.read_bytes()[:-2000])


def _lfs_pointer(case: CaseOnDisk) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
    (case.folder / "images" / CT / "image.mha").write_text(text)


def _flat(case: CaseOnDisk) -> None:
    case.image(CT, body()[0])


def _four_dimensional(case: CaseOnDisk) -> None:
    image = sitk.JoinSeries([sitk.GetImageFromArray(body()), sitk.GetImageFromArray(body())])
    (case.folder / "images" / CT / "image.mha").unlink()
    sitk.WriteImage(image, str(case.folder / "images" / CT / "image.nii.gz"))


def _other_grid(case: CaseOnDisk) -> None:
    case.grids[MASK] = Grid(origin=(-60.0, -52.0, 100.0))
    case.image(MASK, np.zeros(SHAPE, np.uint8))


def _not_whole(case: CaseOnDisk) -> None:
    case.image(MASK, np.full(SHAPE, 0.5, np.float32))


BAD_IMAGES: dict[str, tuple[Callable[[CaseOnDisk], None], tuple[str, ...]]] = {
    "missing scan folder": (_no_scan, (CT, "missing", "expected")),
    "missing mask folder": (_no_mask, (MASK, "missing", "expected")),
    "two images in one folder": (_two_images, (CT, "2 images", "exactly one")),
    "unreadable": (_not_an_image, ("image.mha", "cannot be read", "expected")),
    "truncated": (_truncated, ("image.mha", "truncated", "expected")),
    "truncated, uncompressed": (_truncated_raw, ("image.mha", "truncated", "expected at least")),
    "truncated .nii.gz": (_truncated_nifti, ("image.nii.gz", "truncated", "expected")),
    "git-lfs pointer": (_lfs_pointer, ("image.mha", "git-lfs", "expected")),
    "2-D": (_flat, ("image.mha", "2-dimensional", "3-D")),
    "4-D": (_four_dimensional, ("image.nii.gz", "4-dimensional", "3-D")),
    "mask on another grid": (_other_grid, (MASK, "another grid", "-52, 100", "expected", "-55, 100")),
    "non-integer mask": (_not_whole, (MASK, "not whole numbers", "expected")),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_image_ends_with_2(name: str, case: CaseOnDisk) -> None:
    spoil, words = BAD_IMAGES[name]
    spoil(case)
    assert_refused(case.run(), 2, *words)


def test_a_link_that_leads_nowhere_is_no_missing_file(case: CaseOnDisk) -> None:
    clicks = case.folder / CLICKS
    clicks.unlink()
    clicks.symlink_to("elsewhere.json")
    assert_refused(case.run(), 2, CLICKS, "expected")


def _points(*points: dict[str, object]) -> str:
    return json.dumps({"points": points})


BAD_CLICKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "malformed JSON": ('{"points": [', ("not valid JSON", "expected")),
    "no list of points": ("[]", ("expected",)),
    "two coordinates": (_points({"name": "1", "point": [1.0, 2.0]}), ("three finite numbers",)),
    "strings": (_points({"name": "1", "point": ["1", "2", "3"]}), ("three finite numbers",)),
    "NaN": ('{"points": [{"name": "1", "point": [1.0, NaN, 3.0]}]}', ("three finite numbers",)),
    "infinity": ('{"points": [{"name": "1", "point": [1.0, Infinity, 3.0]}]}', ("three finite numbers",)),
    "name without an id": (_points({"name": "lesion", "point": [1, 2, 3]}), ("no lesion id", "expected")),
    "negative name": (_points({"name": "-4", "point": [1, 2, 3]}), ("no lesion id", "expected")),
    "id twice": (
        _points({"name": "1", "point": [1, 2, 3]}, {"name": "Lesion 1", "point": [1, 2, 4]}),
        ("two different points", "expected"),
    ),
    "id 0": (_points({"name": "0", "point": [1, 2, 3]}), ("out of range", "65535")),
    "id too large": (_points({"name": "65536", "point": [1, 2, 3]}), ("out of range", "65535")),
}


@pytest.mark.parametrize("name", BAD_CLICKS)
def test_bad_clicks_end_with_2(name: str, case: CaseOnDisk) -> None:
    text, words = BAD_CLICKS[name]
    case.click_text("primary", "followup", text)
    assert_refused(case.run(), 2, CLICKS, *words)


def test_a_missing_gpu_ends_with_2(case: CaseOnDisk) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert_refused(case.run("--device", "cuda"), 2, "--device cuda", "expected")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.marker,))


def test_no_weights_end_with_3(case: CaseOnDisk, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(case.run("--weights", str(tmp_path / "empty")), 3, "empty", "expected plans.json")


def test_a_missing_fold_ends_with_3(case: CaseOnDisk, weights: Path) -> None:
    shutil.rmtree(weights / "fold_3")
    assert_refused(case.run("--weights", str(weights)), 3, "fold_3", "missing", "expected")


def test_a_corrupt_fold_ends_with_3(case: CaseOnDisk, weights: Path) -> None:
    file = weights / "fold_2" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:100_000])
    assert_refused(case.run("--weights", str(weights)), 3, "fold_2", "corrupt", "expected")


def test_a_malicious_checkpoint_is_not_executed(case: CaseOnDisk, weights: Path, tmp_path: Path) -> None:
    marker = tmp_path / "was-run"
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        save({"network_weights": _Hostile(marker)}, weights / "fold_0" / "checkpoint_final.pth")
        assert_refused(case.run("--weights", str(weights)), 3, "fold_0", "expected")
        assert not marker.exists()


def test_plan_and_checkpoint_that_disagree_end_with_3(case: CaseOnDisk, weights: Path) -> None:
    plans = json.loads((weights / "plans.json").read_text())
    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network["features_per_stage"][1] = 12
    (weights / "plans.json").write_text(json.dumps(plans))
    assert_refused(case.run("--weights", str(weights)), 3, "fold_0", "does not fit its plan", "expected")


def test_a_plan_without_the_configuration_ends_with_3(case: CaseOnDisk, weights: Path) -> None:
    plans = json.loads((weights / "plans.json").read_text())
    plans["configurations"] = {"3d_lowres": plans["configurations"]["3d_fullres"]}
    (weights / "plans.json").write_text(json.dumps(plans))
    assert_refused(case.run("--weights", str(weights)), 3, "plans.json", "3d_fullres", "expected")


OUT_OF_MEMORY = """
import torch
from model.inference import ensemble
def refuse(self, network, channels):
    raise torch.OutOfMemoryError("CUDA out of memory, by the test")
ensemble.Ensemble._forward = refuse
"""


def test_the_end_of_the_memory_ladder_ends_with_4(case: CaseOnDisk) -> None:
    run = case.run(driver=OUT_OF_MEMORY)
    assert run.code == 4
    assert "out of memory" in run.last_line and "expected" in run.last_line
    assert "Traceback" not in run.stderr
    assert not run.labelmap().any()  # the scan gets its file nevertheless


OTHER_VOXELS = """
import SimpleITK
write = SimpleITK.WriteImage
SimpleITK.WriteImage = lambda image, *rest, **more: write(image + 1, *rest, **more)
"""


def test_an_output_that_does_not_verify_ends_with_5(case: CaseOnDisk) -> None:
    assert_refused(case.run(driver=OTHER_VOXELS), 5, "segmentation.mha", "voxels differ", "expected")


def test_an_unwritable_output_ends_with_5(case: CaseOnDisk) -> None:
    (case.folder.parent / "output").write_text("a file where the folder should be")
    run = case.run(fresh=True)
    assert run.code == 5 and "output" in run.last_line and "expected" in run.last_line


OUR_FAULT = """
from model.inference import lesion_steps
def fail(*arguments):
    raise KeyError("a fault of ours")
lesion_steps.merge = fail
"""


def test_an_unexpected_fault_is_one_line_and_ends_with_1(case: CaseOnDisk) -> None:
    run = case.run(driver=OUR_FAULT)
    assert run.code == 1
    assert run.stderr.strip().count("\n") == 0 and "a fault of ours" in run.last_line
    assert "Traceback" in run.stdout
