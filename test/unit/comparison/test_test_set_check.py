"""Test patients must be unseen: by name, by file and by the voxels of their scans."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.case.geometry import Geometry
from model.case.images import read_image, write_image
from model.comparison.test_set_check import check_unseen
from model.crossval.pairs import EvaluationPair
from model.data.dataset import RawScan
from model.data.planning.planner import PlanOptions
from model.data.prepare import PrepareOptions, prepare
from model.errors import InputError
from model.training.prepared_data import PreparedData, open_prepared

from ...helpers.data_sets import GRID, manifest_of_pairs, write_scan

LESIONS = [{1: ((7, 10, 12), 2)}, {1: ((7, 11, 12), 3)}]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Anna and dora; dora's scans are in no pair, but had a part in the plan."""
    folder = tmp_path_factory.mktemp("unseen")
    plan = PlanOptions(preset="tiny", spacing_zyx=(2.6, 1.2, 1.1), patch_zyx=(16, 16, 16))
    manifest = manifest_of_pairs(folder / "raw", {"anna": LESIONS, "dora": LESIONS})
    prepare(PrepareOptions(manifest, folder / "prepared", plan_options=plan, folds=0))
    index = folder / "prepared" / "index.json"
    document = json.loads(index.read_text())
    document["pairs"] = [pair for pair in document["pairs"] if pair["patient_id"] == "anna"]
    index.write_text(json.dumps(document))
    return open_prepared(folder / "prepared", False)


def _raw(prepared: PreparedData, name: str) -> Path:
    return prepared.folder.parent / "raw" / name


def _new(folder: Path, number: int, patient: str = "ben", grid: Geometry = GRID) -> RawScan:
    image = folder / f"{patient}_{number}.nii.gz"
    folder.mkdir(exist_ok=True)
    write_scan(image, folder / "labels.nii.gz", LESIONS[0], grid, seed=100 + number)
    return RawScan(f"{patient}_{number}", patient, number, image)


def _pair(baseline: RawScan, followup: RawScan) -> EvaluationPair:
    return EvaluationPair(
        baseline.patient_id, f"{baseline.scan_id}-to-{followup.scan_id}", baseline, followup, ()
    )


def test_unseen_patients_pass(tmp_path: Path, prepared: PreparedData) -> None:
    check_unseen([_pair(_new(tmp_path, 0), _new(tmp_path, 1))], [prepared])


@pytest.mark.parametrize("patient", ["anna", "dora"])
def test_a_patient_of_the_data_is_refused(tmp_path: Path, prepared: PreparedData, patient: str) -> None:
    pair = _pair(_new(tmp_path, 0, patient), _new(tmp_path, 1, patient))
    message = f"--test: patient {patient} is in .*prepared too, by name or by a scan; expected patients that"
    with pytest.raises(InputError, match=message):
        check_unseen([pair], [prepared])


def test_a_file_of_the_data_is_refused_by_any_path(tmp_path: Path, prepared: PreparedData) -> None:
    link = tmp_path / "link.nii.gz"
    link.symlink_to(_raw(prepared, "dora_0_ct.nii.gz"))
    with pytest.raises(InputError, match="patient ben is in .*prepared too as dora, by name or by a scan"):
        check_unseen([_pair(_new(tmp_path, 0), RawScan("x", "ben", 1, link))], [prepared])


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_a_copy_is_refused_however_it_is_packed(tmp_path: Path, prepared: PreparedData, suffix: str) -> None:
    copy, original = tmp_path / f"copy{suffix}", _raw(prepared, "anna_1_ct.nii.gz")
    if suffix == ".mha":
        image = read_image(original)
        write_image(copy, image.array, image.geometry)
    else:
        shutil.copy(original, copy)
    with pytest.raises(InputError, match="patient ben is in .*prepared too as anna"):
        check_unseen([_pair(RawScan("x", "ben", 0, copy), _new(tmp_path, 1))], [prepared])


def test_a_copy_is_refused_beside_a_scan_of_other_axis_signs(tmp_path: Path, prepared: PreparedData) -> None:
    turned = Geometry(GRID.size_xyz, GRID.spacing_xyz, (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    copy = tmp_path / "copy.nii.gz"
    shutil.copy(_raw(prepared, "anna_0_ct.nii.gz"), copy)
    pair = _pair(RawScan("x", "ben", 0, copy), _new(tmp_path, 1, grid=turned))
    with pytest.raises(InputError, match="patient ben is in .*prepared too as anna"):
        check_unseen([pair], [prepared])


def test_a_scan_of_the_same_shape_is_no_copy(tmp_path: Path, prepared: PreparedData) -> None:
    image = read_image(_raw(prepared, "anna_0_ct.nii.gz"))
    array = np.array(image.array)
    array[0, 0, 0] += 100
    write_image(tmp_path / "other.mha", array, image.geometry)
    check_unseen([_pair(RawScan("x", "ben", 0, tmp_path / "other.mha"), _new(tmp_path, 1))], [prepared])


def test_all_data_sets_count(tmp_path: Path, prepared: PreparedData) -> None:
    with pytest.raises(InputError, match="patient anna is in"):
        check_unseen(
            [_pair(_new(tmp_path, 0), _new(tmp_path, 1)), _pair(*[_new(tmp_path, 2, "anna")] * 2)], [prepared]
        )
