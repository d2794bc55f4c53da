"""Two CTs as files, in several formats, give what the same case gives in the platform's folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import SimpleITK as sitk

from model.case.pair_input import PairInput
from model.cli.segment import CaseRunOptions, run_case
from model.inference.options import CaseOptions, ModelOptions
from model.measure.measurement_names import MEASUREMENT_NAMES

from ..helpers.paths import GOLDEN_DIFFERENCE, TEST

pytestmark = pytest.mark.slow

CASE = TEST / "golden" / "cases" / "c_small" / "input"
MASK = "primary-baseline-ct-tumor-lesion-seg"


def _image(slug: str) -> Path:
    (path,) = (CASE / "images" / slug).iterdir()
    return path


def _converted(slug: str, path: Path) -> Path:
    sitk.WriteImage(sitk.ReadImage(str(_image(slug))), str(path), useCompression=True)
    return path


def _same(one: Path, other: Path) -> bool:
    first, second = (sitk.ReadImage(str(path)) for path in (one, other))
    assert sitk.GetArrayViewFromImage(first).any()
    return bool((sitk.GetArrayViewFromImage(first) == sitk.GetArrayViewFromImage(second)).all())


@pytest.fixture
def options(tmp_path: Path) -> CaseRunOptions:
    """Two folds on the case, whose clicks lie in the folder of the interface."""
    pair = PairInput(
        _converted("primary-baseline-ct", tmp_path / "before.nii.gz"),
        _converted("primary-followup-ct", tmp_path / "after.nrrd"),
        None,
        CASE / "primary-baseline-lesion-clicks.json",
        CASE / "primary-followup-lesion-clicks.json",
    )
    return CaseRunOptions(
        output_dir=tmp_path / "out",
        weights_dir=GOLDEN_DIFFERENCE / "model",
        extras_dir=tmp_path / "out",
        model=ModelOptions(device="cpu", folds=(0, 1)),
        case=CaseOptions(segment_baseline=True),
        pair=pair,
    )


def test_a_pair_without_a_mask_equals_the_case(options: CaseRunOptions, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    (bare / "images").mkdir(parents=True)
    for path in (*CASE.glob("*.json"), *(CASE / "images").iterdir()):
        if path.name != MASK:
            (bare / path.relative_to(CASE)).symlink_to(path)
    assert run_case(options) == 0
    case = replace(options, input_dir=bare, output_dir=tmp_path / "c", extras_dir=tmp_path / "x", pair=None)
    assert run_case(case) == 0
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    labelmaps = {"followup_lesions.nrrd", "baseline_lesions.nii.gz"}
    assert names == labelmaps | {"run.json", *MEASUREMENT_NAMES}
    (followup,) = (tmp_path / "c").rglob("*.mha")
    assert _same(out / "followup_lesions.nrrd", followup)
    assert _same(out / "baseline_lesions.nii.gz", tmp_path / "x" / "baseline" / "primary-baseline.mha")
    records = [json.loads((folder / "run.json").read_text()) for folder in (out, tmp_path / "x")]
    assert records[0]["segmented_baseline"]["labelmaps"] == ["baseline_lesions.nii.gz"]
    assert records[0]["outputs"] == [str(out / "followup_lesions.nrrd"), str(out / "baseline_lesions.nii.gz")]
    volumes = [[one["volume_followup_ml"] for one in record["lesions"]] for record in records]
    assert volumes[0] == volumes[1]


def test_the_written_mask_can_be_given(
    options: CaseRunOptions, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert options.pair is not None
    mask = _converted(MASK, tmp_path / "mask.mha")
    given = replace(options, pair=replace(options.pair, baseline_mask=mask))
    assert run_case(given) == 0
    assert (tmp_path / "out" / "followup_lesions.nrrd").is_file()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert all(
        not one["baseline"]["is_segmented"] for one in record["lesions"] if one["baseline"]["has_mask"]
    )
    again = tmp_path / "out" / "followup_lesions.nrrd"
    clash = replace(options, pair=replace(options.pair, followup=again))
    capfd.readouterr()
    assert run_case(clash) == 2 and again.is_file()
    assert "is an input, too" in capfd.readouterr().err
