"""The floors of a data set's pairs: all lesions, at each point setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.crossval.floor_records import floor_records
from model.crossval.pairs import EvaluationPair
from model.crossval.point_setting import PointSetting
from model.crossval.predict import draw_pairs
from model.crossval.prediction_store import floor_manifest, read_prediction_manifest
from model.crossval.scores import read_pair_records
from model.evaluation.records import Scope
from model.floor.floors import Floor
from model.training.job import BudgetSpentError

from ...helpers import training_phantoms as phantoms


@pytest.mark.slow
def test_floors_are_measured_as_networks_are(pairs: tuple[EvaluationPair, ...]) -> None:
    given, propagated = PointSetting("given"), PointSetting("propagated")
    plan = phantoms.plan((16, 16, 16), 4)
    measured = floor_records(pairs, [given, propagated], plan, [Floor.PASTED, Floor.WARPED], "identity")
    lesions = {
        key: {record.lesion: record for record in records if record.patient == "anna"}
        for key, records in measured.items()
    }
    for of_setting in lesions.values():
        assert of_setting.keys() == {"1", "2", "3+4", "all"}
    pasted = lesions[Floor.PASTED, given]["1"]
    assert pasted.reference_voxels > pasted.prediction_voxels  # a ball of radius 4, the mask has 3
    assert pasted.common_voxels == pasted.prediction_voxels and pasted.scope is Scope.LESION
    vanished = lesions[Floor.PASTED, given]["2"]
    assert not vanished.reference_voxels and vanished.prediction_voxels and not vanished.is_missing
    # The pasted mask moves with the point, the warped one does not.
    moved, warped = (
        [lesions[floor, setting]["1"].common_voxels for setting in (given, propagated)]
        for floor in (Floor.PASTED, Floor.WARPED)
    )
    assert moved[0] != moved[1] and warped[0] == warped[1]


def test_drawn_pairs_are_stored_as_predictions_are(pairs: tuple[EvaluationPair, ...], tmp_path: Path) -> None:
    plan, setting = phantoms.plan((16, 16, 16), 4), PointSetting("given")
    outputs = [(setting, tmp_path / "pasted")]
    draw_pairs(pairs, Floor.PASTED, outputs, plan)
    stored = read_prediction_manifest(tmp_path / "pasted")
    assert stored is not None and stored.matches(floor_manifest(setting, Floor.PASTED))
    assert not stored.matches(floor_manifest(setting, Floor.GROWN))
    assert all(stored.is_complete(pair, tmp_path / "pasted") for pair in pairs)
    drawn = floor_records(pairs, [setting], plan, [Floor.PASTED])[Floor.PASTED, setting]
    assert list(read_pair_records(pairs, tmp_path / "pasted")) == drawn
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mha")}
    draw_pairs(pairs, Floor.PASTED, outputs, plan, until=0.0)  # nothing is left to draw
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mha")} == written
    with pytest.raises(BudgetSpentError, match="no time is left"):
        draw_pairs(pairs, Floor.PASTED, [(setting, tmp_path / "late")], plan, until=0.0)
