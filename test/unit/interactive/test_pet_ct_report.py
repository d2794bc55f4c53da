"""Extras of a PET/CT: lesions on the grid of the CT's file, their table, and the record of the run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from model.case.file_grid import FileGrid
from model.case.geometry import Box, Geometry
from model.case.images import read_image
from model.case.pet_ct_scan import PetCtFiles, PetCtScan
from model.case.tumor_clicks import ClickKind, TumorClick
from model.interactive.pet_ct_report import PetCtRecord, write_pet_ct_extras
from model.interactive.segment_pet_ct import TumorSegmentation
from test.helpers.tiny_pet_ct import tiny_pet_ct_model

# Axes of the file in the order (z, x, y), one of them reversed.
TURNED = Geometry((10, 14, 12), (3.0, 2.0, 2.5), (-30.0, 12.0, 100.0), (0, 1, 0, 0, 0, -1, 1, 0, 0))
GRID = FileGrid.of(TURNED)
SHAPE = GRID.axial.shape_zyx


def _record(mask: np.ndarray, pet: np.ndarray) -> PetCtRecord:
    scan = PetCtScan(np.zeros(SHAPE, np.int16), pet, GRID, warnings=("about the scan",))
    click = TumorClick(ClickKind.TUMOR, (3.0, 4.0, 5.0))
    margin = np.where(mask, 2, -2).astype(np.float32)
    result = TumorSegmentation(mask, Box.of_shape(SHAPE), margin, (click,), ("about a click",))
    return PetCtRecord(
        options={"tta": False},
        files=PetCtFiles(Path("in/ct.mha"), Path("in/pet.mha")),
        scan=scan,
        model=tiny_pet_ct_model(),
        result=result,
        mask=Path("out/mask.mha"),
        seconds={"total": 1.23456},
    )


def test_lesions_are_measured_and_written_on_the_files_grid(tmp_path: Path) -> None:
    mask, pet = np.zeros(SHAPE, bool), np.ones(SHAPE, np.float32)
    mask[2:5, 2:5, 2:5] = mask[9, 9, 9] = True
    pet[3, 4, 2], pet[9, 9, 9] = 12, 20
    total = write_pet_ct_extras(tmp_path, _record(mask, pet))
    labels, probability = read_image(tmp_path / "lesions.mha"), read_image(tmp_path / "probability.mha")
    for image in (labels, probability):
        assert image.geometry.same_grid(TURNED)
    axial = GRID.axial_labels(labels.array)
    assert axial.dtype == np.uint8 and axial[3, 4, 2] == 1 and axial[9, 9, 9] == 2
    np.testing.assert_array_equal(axial > 0, mask)
    np.testing.assert_array_equal(GRID.axial_labels(probability.array) > 0.5, mask)
    assert not (tmp_path / "organs.mha").exists()
    document = json.loads((tmp_path / "run.json").read_text())
    first, second = document["lesions"]
    assert (first["voxels"], first["suv_max"], second["suv_max"]) == (27, 12, 20)
    assert first["suv_mean"] == pytest.approx(38 / 27, abs=1e-6)
    assert first["volume_ml"] == pytest.approx(27 * 15e-3)
    x, y, z = first["hottest_xyz"]
    assert labels.array[z, y, x] == 1 and pet[3, 4, 2] == 12
    assert TURNED.voxel_to_world([x, y, z]) == pytest.approx(GRID.axial.zyx_to_world((3, 4, 2)))
    assert document["total"]["tlg_ml"] == pytest.approx(total.glycolysis_ml, abs=1e-6)
    assert document["total"]["lesions"] == 2


def test_the_table_has_a_row_per_lesion_and_a_total(tmp_path: Path) -> None:
    mask, pet = np.zeros(SHAPE, bool), np.full(SHAPE, np.nan, np.float32)
    mask[1:3, 1, 1] = mask[9, 9, 9] = True
    pet[:5] = 3
    write_pet_ct_extras(tmp_path, _record(mask, pet))
    with (tmp_path / "lesions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["lesion_id"] for row in rows] == ["1", "2", "total"]
    assert [row["voxels"] for row in rows] == ["2", "1", "3"]
    assert (rows[0]["suv_max"], rows[1]["suv_max"], rows[2]["suv_max"]) == ("3.0", "", "3.0")
    assert float(rows[2]["volume_ml"]) == pytest.approx(3 * 15e-3)
    assert float(rows[2]["tlg_ml"]) == pytest.approx(3 * 2 * 15e-3)


def test_the_record_names_model_clicks_and_warnings(tmp_path: Path) -> None:
    write_pet_ct_extras(tmp_path, _record(np.zeros(SHAPE, bool), np.ones(SHAPE, np.float32)))
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["lesions"] == [] and document["total"]["suv_max"] is None
    assert document["total"]["volume_ml"] == document["total"]["tlg_ml"] == 0
    assert document["warnings"] == ["about the scan", "about a click"]
    (click,) = document["clicks"]
    assert click["name"] == "tumor"
    assert TURNED.voxel_to_world(click["point_xyz"]) == pytest.approx(click["point_mm"])
    assert document["model"]["device"] == "cpu" and document["model"]["variant"] == "pet_ct_clicks"
    assert document["ct"]["size_xyz"] == [10, 14, 12] and document["options"] == {"tta": False}
    assert document["seconds"] == {"total": 1.235} and document["outputs"] == ["out/mask.mha"]
    assert document["version"] and document["packages"]["torch"]
