"""A PET/CT data set prepared: what is stored, planned, split and kept."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.case.geometry import Box
from model.case.images import write_image
from model.case.pet_ct_scan import PetCtFiles, read_pet_ct
from model.data.pet_ct.prepare_pet_ct import prepare_pet_ct
from model.data.pet_ct.prepared_study import UNKNOWN_ORGAN, PreparedStudy, read_study_sources
from model.data.planning.plan_files import read_organ_count
from model.data.planning.planner import PlanOptions
from model.data.prepare import PrepareOptions
from model.data.store import read_prepared
from model.errors import InputError, WeightsError
from model.network.pet_ct import network_images, pet_ct_grid
from model.network.plan import read_batch, read_pet_ct_plan
from model.training.prepared_data import open_prepared

from ....helpers.pet_ct_sets import GRID, pet_ct_phantom, write_pet_ct_folder

CASES = ("fdg_a1_1", "fdg_a1_2", "psma_b2_1", "c3")
PLAN = PlanOptions(preset="tiny", spacing_zyx=(4.0, 3.0, 3.0), patch_zyx=(8, 16, 16))


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> PrepareOptions:
    """A prepared data set of four studies of three patients, two of them with organs."""
    folder = tmp_path_factory.mktemp("pet-ct")
    raw = write_pet_ct_folder(folder / "raw", CASES, with_organs=True)
    for case in CASES[2:]:
        (raw / "organsTr" / f"{case}.nii.gz").unlink()
    chosen = PrepareOptions(raw, folder / "prepared", plan_options=PLAN, folds=3)
    prepare_pet_ct(chosen)
    return chosen


def _study(options: PrepareOptions, name: str) -> PreparedStudy:
    return PreparedStudy(options.output / "scans" / name)


@pytest.mark.parametrize("case", CASES[:2])  # the second PET lies on another grid
def test_stored_images_are_those_that_inference_computes(options: PrepareOptions, case: str) -> None:
    files = PetCtFiles(
        *(options.data / "imagesTr" / f"{case}_{channel}.nii.gz" for channel in ("0000", "0001"))
    )
    scan, plan = read_pet_ct(files), read_pet_ct_plan(options.output / "plans.json")
    grid = pet_ct_grid(scan.ct, scan.pet, scan.geometry.spacing_zyx, plan)
    images = network_images(scan.ct, scan.pet, grid, plan)
    study, whole = _study(options, case), Box.of_shape(grid.shape)
    assert study.shape_zyx == grid.shape
    np.testing.assert_array_equal(study.read_ct(whole), images[0])
    np.testing.assert_array_equal(study.read_pet(whole), images[1])
    outside = Box((-2, -1, 0), (3, 4, 5))
    assert (study.read_pet(outside)[:2] == 0).all() and (study.read_pet(outside)[2:, 1:] != 0).any()


def test_tumour_is_hot_and_keeps_its_volume(options: PrepareOptions) -> None:
    study = _study(options, CASES[0])
    whole = Box.of_shape(study.shape_zyx)
    tumor, pet = study.read_labels(whole) > 0, study.read_pet(whole)
    before = pet_ct_phantom(0)[2].sum() * np.prod(GRID.spacing_zyx)
    assert tumor.sum() * np.prod(study.spacing_zyx) == pytest.approx(before, rel=0.15)
    assert pet[tumor].mean() > pet[~tumor].mean() + 1
    voxels = study.tumor_voxels
    assert len(voxels) == tumor.sum() and tumor[tuple(voxels.T)].all()


def test_each_channel_is_normalised_by_its_own_constants(options: PrepareOptions) -> None:
    plan = read_pet_ct_plan(options.output / "plans.json")
    ct, pet = plan.network.normalization, plan.pet
    assert 20 < ct.lower < ct.mean < ct.upper < 110 and 3 < pet.lower < pet.mean < pet.upper < 9
    assert plan.network.patch_size_zyx == (8, 16, 16) and plan.network.spacing_zyx == (4.0, 3.0, 3.0)
    assert read_batch(options.output / "plans.json").size >= 2
    dataset = json.loads((options.output / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "CT", "1": "PET"}


def test_organs_are_kept_where_they_are_known(options: PrepareOptions) -> None:
    assert read_organ_count(options.output) == 2
    labelled, bare = _study(options, CASES[0]), _study(options, CASES[3])
    organs = labelled.read_organs(Box.of_shape(labelled.shape_zyx))
    assert set(np.unique(organs)) == {0, 1, 2}
    assert (organs[:, :, : organs.shape[2] // 2 - 1] != 2).all()
    assert (bare.read_organs(Box.of_shape((2, 2, 2))) == UNKNOWN_ORGAN).all()


def test_patients_are_split_not_studies(options: PrepareOptions) -> None:
    data = open_prepared(options.output, with_tables=False)
    assert data.pet == read_pet_ct_plan(options.output / "plans.json").pet and data.organs == 2
    assert sorted(name for split in data.splits for name in split.validation) == ["c3", "fdg_a1", "psma_b2"]
    assert len(data.pairs) == 4 and all(pair.baseline is pair.followup for pair in data.pairs)
    studies = read_study_sources(options.output)
    assert [study.scan_id for study in studies] == sorted(CASES)
    assert all(path.is_absolute() and path.is_file() for study in studies for path in study.files)


def test_a_second_run_keeps_what_is_prepared_and_a_changed_study_is_prepared_again(
    options: PrepareOptions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    prepare_pet_ct(options)
    assert "0 studies prepared, 4 were already" in caplog.text
    digest = _study(options, "c3").digest
    _, pet, _ = pet_ct_phantom(3)
    pet[10] += 0.5
    write_image(options.data / "imagesTr" / "c3_0001.nii.gz", pet, GRID, verify=False)
    prepare_pet_ct(replace(options, plan=options.output / "plans.json"))
    assert "1 studies prepared, 3 were already" in caplog.text
    assert _study(options, "c3").digest != digest


def test_a_prepared_set_with_another_plan_is_refused(options: PrepareOptions, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in options.output.iterdir():
        (copy / path.name).symlink_to(path)
    plans = json.loads((copy / "plans.json").read_text())
    plans["foreground_intensity_properties_per_channel"]["1"]["mean"] += 1
    (copy / "plans.json").unlink()
    (copy / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(InputError, match="is not the plan that the scans were prepared with"):
        open_prepared(copy, with_tables=False)


def test_faults_are_problems_of_their_file_and_the_others_are_prepared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    raw = write_pet_ct_folder(tmp_path / "raw", ("a", "b", "c"))
    _, pet, tumor = pet_ct_phantom(0)
    write_image(raw / "imagesTr" / "a_0001.nii.gz", pet * 5000, GRID, verify=False)
    write_image(raw / "labelsTr" / "b.nii.gz", tumor[:-1], replace(GRID, size_xyz=(28, 28, 19)), verify=False)
    write_image(raw / "labelsTr" / "c.nii.gz", np.zeros_like(tumor), GRID, verify=False)
    with pytest.raises(InputError, match="labelmaps hold no lesion"):
        prepare_pet_ct(PrepareOptions(raw, tmp_path / "out", plan_options=PLAN, folds=0))
    assert f"problem: {raw / 'imagesTr' / 'a_0001.nii.gz'}: " in caplog.text and "Bq/ml" in caplog.text
    assert f"problem: {raw / 'labelsTr' / 'b.nii.gz'}: lies on another grid than its CT" in caplog.text
    with pytest.raises(InputError, match="2 problems"):
        prepare_pet_ct(PrepareOptions(raw, tmp_path / "out", is_strict=True))
    write_image(raw / "labelsTr" / "b.nii.gz", pet_ct_phantom(1)[2], GRID, verify=False)
    prepare_pet_ct(PrepareOptions(raw, tmp_path / "out", plan_options=PLAN, folds=2))
    prepared = read_prepared(tmp_path / "out", PreparedStudy)
    assert [pair.patient_id for pair in prepared.pairs] == ["b", "c"]  # also without tumour
    assert len(_study(PrepareOptions(raw, tmp_path / "out"), "c").tumor_voxels) == 0


def test_a_plan_for_ct_alone_cannot_be_transferred(options: PrepareOptions, tmp_path: Path) -> None:
    plans = json.loads((options.output / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["CTNormalization"]
    (tmp_path / "ct.json").write_text(json.dumps(plans))
    with pytest.raises(WeightsError, match="normalization_schemes is"):
        prepare_pet_ct(replace(options, plan=tmp_path / "ct.json"))
