"""Opening a prepared data set, and training a fold on it by the command."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import blosc2
import numpy as np
import pytest

from model.case.geometry import Box
from model.cli import train_run as run_command
from model.data.planning.plan_files import preparation_of
from model.data.point_tables import write_voxels
from model.data.store import CT_FILE, LABELS_FILE, VOXELS_FILE, scan_folder
from model.errors import InputError
from model.network.plan import read_plan
from model.network.weights import load_fold
from model.training.prepared_data import open_prepared

from ...helpers import training_phantoms as phantoms
from ...helpers.log_messages import messages
from ...helpers.training_phantoms import MemoryScan

_STAMP: dict[str, object] = {"settings": "", "files": []}


def _write_scan(folder: Path, patient: str, scan: MemoryScan) -> None:
    place = scan_folder(folder, scan.scan_id)
    place.mkdir(parents=True)
    for name, array in ((CT_FILE, scan.ct), (LABELS_FILE, scan.labels.astype(np.uint16))):
        blosc2.asarray(np.ascontiguousarray(array), urlpath=str(place / name), mode="w")
    tables = {}
    for lesion_id in set(np.unique(scan.labels).tolist()) - {0}:
        tables[lesion_id] = phantoms.table(scan, lesion_id)
    write_voxels(place / VOXELS_FILE, tables)
    document = {
        "stamp": _STAMP,
        "scan_id": scan.scan_id,
        "patient_id": patient,
        "shape_zyx": scan.shape_zyx,
        "spacing_zyx": (1, 1, 1),
        "source_shape": scan.shape_zyx,
        "source_spacing_mm": (1, 1, 1),
        "axis_order": (0, 1, 2),
        "axis_flipped": (False, False, False),
        "lesions": [],
    }
    (place / "scan.json").write_text(json.dumps(document))


def _prepared(folder: Path) -> Path:
    pairs = []
    for number, name in enumerate(("A", "B")):
        pair = phantoms.pair(name, number)
        for scan in (pair.baseline, pair.followup):
            assert isinstance(scan, MemoryScan)
            _write_scan(folder, name, scan)
        lesions = [
            {
                "lesion_id": lesion.lesion_id,
                "followup_ids": lesion.followup_ids,
                "baseline_point_zyx": lesion.baseline_point_zyx,
                "followup_point_zyx": lesion.followup_point_zyx,
                "propagated_point_zyx": lesion.propagated_point_zyx,
            }
            for lesion in pair.lesions[:3]
        ]
        pairs.append(
            {"patient_id": name, "baseline": f"{name}-0", "followup": f"{name}-1", "lesions": lesions}
        )
    plan = read_plan(phantoms.write_plan(folder, phantoms.plan(features=4)))
    preparation = preparation_of(plan)
    index = {"name": "phantoms", "preparation": preparation, "excluded": [], "pairs": pairs}
    (folder / "index.json").write_text(json.dumps(index))
    splits = [{"train": ["A"], "val": ["B"]}, {"train": ["B"], "val": ["A"]}]
    (folder / "splits_final.json").write_text(json.dumps(splits))
    return folder


def test_an_opened_data_set_has_the_scans_lesions_and_folds_on_disk(tmp_path: Path) -> None:
    data = open_prepared(_prepared(tmp_path), with_tables=True)
    assert [pair.patient_id for pair in data.pairs] == ["A", "B"]
    assert [split.validation for split in data.splits] == [("B",), ("A",)]
    one, same = data.pairs[0], phantoms.pair("A", 0)
    box = Box((-3, 5, 30), (21, 29, 54))
    assert np.array_equal(one.baseline.read_ct(box), same.baseline.read_ct(box))
    assert np.array_equal(one.followup.read_labels(box), np.maximum(same.followup.read_labels(box), 0))
    merged = one.lesions[2].followup_table
    assert merged is not None and merged.voxels_zyx.shape == (len(merged.weights), 3)
    assert one.lesions[1].followup_table is None and one.lesions[1].baseline_table is not None
    assert open_prepared(tmp_path, with_tables=False).pairs[0].lesions[0].baseline_table is None


def test_scans_prepared_with_another_plan_are_refused(tmp_path: Path) -> None:
    _prepared(tmp_path)
    plan = phantoms.plan(features=4)
    phantoms.write_plan(tmp_path, replace(plan, patch_size_zyx=(32, 32, 32)))  # the scans stay prepared
    open_prepared(tmp_path, with_tables=False)
    phantoms.write_plan(tmp_path, replace(plan, spacing_zyx=(2.0, 1.0, 1.0)))
    with pytest.raises(InputError, match=r"plans\.json: is not the plan that the scans were prepared with"):
        open_prepared(tmp_path, with_tables=False)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([{"train": ["A"], "val": ["A"]}], "fold 0 trains and validates on A"),
        ([{"train": ["A"], "val": ["Z"]}], "lists patient Z, who has no prepared pair of scans"),
        ([{"train": ["A"]}], "expected a list of train and val"),
    ],
)
def test_invalid_folds_are_refused(tmp_path: Path, splits: list[dict[str, list[str]]], message: str) -> None:
    _prepared(tmp_path)
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    with pytest.raises(InputError, match=message):
        open_prepared(tmp_path, with_tables=False)


@pytest.mark.slow
def test_the_command_pretrains_and_trains_a_fold(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = _prepared(tmp_path / "data")
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    short = ("epochs=1", "iterations=2", "validation_iterations=1")
    texts = [
        "--data",
        str(data),
        "--pretrain",
        str(data),
        "-o",
        str(tmp_path / "out"),
        "--fold",
        "0",
        "--device",
        "cpu",
        *short,
        "workers=1",
        *(f"pretrain.{text}" for text in short),
    ]
    assert run_command.run(parser.parse_args(texts)) == 0
    fold = load_fold(tmp_path / "out" / "fold_0" / "checkpoint_final.pth")
    assert fold.trainer_name == "AutoPETTrainer"
    pretrained = load_fold(tmp_path / "out" / "pretraining" / "fold_0" / "checkpoint_final.pth")
    assert pretrained.trainer_name == "AutoPETTrainerPretrain"
    assert any("pretraining on 1 patients" in line for line in messages(caplog))
