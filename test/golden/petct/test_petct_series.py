"""Eleven steps of clicks on one phantom: scores and masks equal the published ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model.case.images import read_image
from model.case.tumor_clicks import TumorClick
from model.cli import main as cli
from model.click_simulation.challenge_clicks import first_clicks
from model.errors import ExitCode
from model.interactive.false_alarm_rules import FalseAlarmRules
from model.interactive.false_alarms import apply_rules
from model.protocol.case_record import mask_path
from model.protocol.loaded_case import LoadedCase, load_protocol_case
from model.protocol.protocol_cases import find_protocol_cases
from model.protocol.protocol_options import ProtocolOptions
from model.protocol.protocol_report import write_protocol_report
from model.protocol.run_protocol import run_protocol
from model.protocol.step_scores import StepMetric, area_under_steps, measure_step
from test.helpers.golden_pet_ct import PET_CT, PET_CT_MODEL

SERIES = PET_CT / "series"
CASE = SERIES / "p3_three_three_oblique"
EVALUATION = json.loads((CASE / "evaluation.json").read_text())
METRICS = ("dice", "fpv_ml", "fnv_ml", "dmm")


def _stored_mask(case: LoadedCase, clicks: tuple[TumorClick, ...]) -> npt.NDArray[np.bool_]:
    return case.on_axial(read_image(CASE / f"mask_{len(clicks) // 2:02d}.mha").array > 0)


def test_the_scores_of_the_series_are_the_published_ones(tmp_path: Path) -> None:
    options = ProtocolOptions(given_clicks=True)
    result = run_protocol(find_protocol_cases(SERIES, SERIES), tmp_path, options, {}, lambda: _stored_mask)
    summary = write_protocol_report(tmp_path, result, options)
    for step, wanted in zip(summary["by_step"], EVALUATION["steps"], strict=True):
        assert step["step"] == wanted["step"]
        assert {name: step[name]["mean"] for name in METRICS} == pytest.approx(
            {name: wanted[name] for name in METRICS}, abs=1e-12
        )
    for ours, theirs, largest in (
        ("auc", "auc_11_steps", 10),
        ("auc_steps_0_3_7_10", "auc_paper_steps_0_3_7_10", 3),
        ("auc_steps_0_1_2_3_4_5", "auc_steps_0_to_5", 5),
    ):
        for name, value in EVALUATION[theirs].items():
            assert summary[ours][name]["mean"] == pytest.approx(value, abs=1e-12)
        assert summary[ours]["dice"]["range"] == summary[ours]["dmm"]["range"] == [0, largest]


@pytest.mark.parametrize(
    ("rules", "areas"),
    [
        (FalseAlarmRules(), (6.621, 7.517, 20.478, 2.0)),
        (FalseAlarmRules(min_suv=1.5), (6.621, 7.517, 20.478, 2.0)),
        (FalseAlarmRules(min_suv=5), (6.623, 7.606, 20.431, 2.0)),
        (FalseAlarmRules(remove_clicked=True), (7.277, 8.333, 2.615, 2.0)),
        (FalseAlarmRules(cover_clicks=True), (6.621, 7.517, 20.478, 2.0)),
        (FalseAlarmRules(1.5, True, True), (7.277, 8.333, 2.615, 2.0)),
    ],
)
def test_rules_against_false_alarms_reach_the_figures_of_the_page(
    rules: FalseAlarmRules, areas: tuple[float, ...]
) -> None:
    (found,) = find_protocol_cases(SERIES, SERIES).cases
    case = load_protocol_case(found)
    steps = []
    for step in range(11):
        clicks = first_clicks(case.scan.clicks, step)
        stored = _stored_mask(case, clicks)
        mask, _ = apply_rules(stored, case.scan.pet, case.scan.geometry, clicks, rules)
        steps.append(measure_step(step, clicks, case.truth, case.in_file(mask), case.voxel_ml))
    measured = [area_under_steps([step.score(metric) for step in steps]) for metric in StepMetric]
    assert measured == pytest.approx(areas, abs=6e-4)


@pytest.mark.slow
def test_the_command_segments_and_scores_the_series(tmp_path: Path) -> None:
    arguments = ["interactive-eval", "--data", str(SERIES), "--clicks", str(SERIES), "--steps", "0,3"]
    arguments += ["--weights", str(PET_CT_MODEL), "--device", "cpu", "-o", str(tmp_path)]
    assert cli.main(arguments) == ExitCode.SUCCESS
    summary = json.loads((tmp_path / "summary.json").read_text())
    for number, step in enumerate((0, 3)):
        mask = read_image(mask_path(tmp_path, CASE.name, step)).array
        np.testing.assert_array_equal(mask, read_image(CASE / f"mask_{step:02d}.mha").array)
        wanted = EVALUATION["steps"][step]
        assert {name: summary["by_step"][number][name]["mean"] for name in METRICS} == pytest.approx(
            {name: wanted[name] for name in METRICS}, abs=1e-12
        )
