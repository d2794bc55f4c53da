"""The loop of the protocol: steps, resuming, failures of single cases, settings of the folder; its report."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.case.images import read_image
from model.case.tumor_clicks import read_tumor_clicks
from model.click_simulation.error_scribbles import ScribbleStyle
from model.errors import InputError, WeightsError
from model.protocol.case_record import clicks_path, mask_path
from model.protocol.protocol_cases import find_protocol_cases
from model.protocol.protocol_options import ProtocolOptions, ProtocolPrompt
from model.protocol.protocol_report import CURVES_FILE, draw_curves, summary_table, write_protocol_report
from model.protocol.run_protocol import ProtocolResult, run_protocol
from model.protocol.step_prompts import case_style
from test.helpers.protocol_cases_on_disk import CubesAtClicks, write_protocol_case

OPTIONS = ProtocolOptions(steps=(0, 1, 3))
NETWORK = {"weights": ["none"]}


def _run(
    folder: Path,
    segment: CubesAtClicks,
    options: ProtocolOptions = OPTIONS,
    network: Mapping[str, Any] = NETWORK,
) -> ProtocolResult:
    found = find_protocol_cases(folder)
    return run_protocol(found, folder / "out", options, network, lambda: segment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, lesions in (("a", 2), ("b", 0), ("c", 1)):
        write_protocol_case(tmp_path, name, lesions)
    return tmp_path


def test_each_step_gets_more_clicks_and_its_mask_is_scored(folder: Path) -> None:
    segment = CubesAtClicks()
    result = _run(folder, segment)
    assert segment.calls == [("a", 0), ("a", 1), ("a", 3), *[("b", 0)] * 3, ("c", 0), ("c", 1), ("c", 3)]
    assert not result.failures
    first = result.records[0]
    assert [step.step for step in first.steps] == [0, 1, 3]
    assert [step.background_clicks for step in first.steps] == [0, 1, 3]
    assert [step.common_voxels for step in first.steps][:2] == [0, 27]
    out = folder / "out"
    mask, truth = read_image(mask_path(out, "a", 3)), read_image(folder / "labelsTr" / "a.nii.gz")
    assert mask.geometry.same_grid(truth.geometry)
    assert np.count_nonzero(mask.array) == first.steps[2].prediction_voxels
    assert np.count_nonzero(truth.array & mask.array) == first.steps[2].common_voxels
    assert len(read_tumor_clicks(clicks_path(out, "a", 3))) == 6


def test_a_run_goes_on_where_it_ended_and_one_failure_leaves_the_others(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failing = CubesAtClicks(broken=("a", 3))
    result = _run(folder, failing)
    assert [record.case for record in result.records] == ["b", "c"]
    assert str(result.failures["a"]) == "out of luck"
    again = CubesAtClicks()
    complete = _run(folder, again)
    assert again.calls == [("a", 3)] and not complete.failures
    assert complete.records[1:] == result.records

    def refused() -> CubesAtClicks:
        raise AssertionError("nothing is left to predict")

    found = find_protocol_cases(folder)
    assert run_protocol(found, folder / "out", OPTIONS, NETWORK, refused) == complete


def test_a_changed_file_or_a_lost_mask_is_predicted_again(folder: Path) -> None:
    _run(folder, CubesAtClicks())
    write_protocol_case(folder, "b", 1)
    mask_path(folder / "out", "c", 1).unlink()
    again = CubesAtClicks()
    assert not _run(folder, again).failures
    assert again.calls == [("b", 0), ("b", 1), ("b", 3), ("c", 1), ("c", 3)]


@pytest.mark.parametrize(
    ("options", "network", "part"),
    [
        (ProtocolOptions(steps=(0, 1, 3), seed=7), NETWORK, "seed 42, not 7"),
        (ProtocolOptions(steps=(0, 1)), NETWORK, "steps 0, 1, 3, not 0, 1"),
        (OPTIONS, {"weights": ["others"]}, "weights none, not others"),
        (OPTIONS, {**NETWORK, "tta": True}, "tta None, not True"),
    ],
)
def test_a_folder_keeps_to_its_settings(
    folder: Path, options: ProtocolOptions, network: dict[str, Any], part: str
) -> None:
    _run(folder, CubesAtClicks())
    with pytest.raises(InputError, match=f"holds a run with {part}; expected"):
        _run(folder, CubesAtClicks(), options, network)


def test_each_scribble_is_added_to_the_ones_before_and_lies_on_the_last_error(folder: Path) -> None:
    options = ProtocolOptions(ProtocolPrompt.SCRIBBLES, (0, 1, 2), style=ScribbleStyle.CENTERLINE)
    failing = CubesAtClicks(broken_call=3)
    assert set(_run(folder, failing, options).failures) == {"a"}
    again = CubesAtClicks()
    result = _run(folder, again, options)
    assert [name for name, _ in again.calls] == ["a"] and not result.failures
    out = folder / "out"
    truth = read_image(folder / "labelsTr" / "a.nii.gz").array > 0
    earlier = read_tumor_clicks(clicks_path(out, "a", 0))
    assert earlier == ()
    for step in (1, 2):
        clicks, mask = read_tumor_clicks(clicks_path(out, "a", step)), mask_path(out, "a", step - 1)
        wrong = truth != (read_image(mask).array > 0)
        new = clicks[len(earlier) :]
        assert clicks[: len(earlier)] == earlier and new
        assert all(wrong[tuple(int(i) for i in click.point_zyx)] for click in new)
        earlier = clicks
    # Nothing to correct: no scribble, and no prediction after the first one.
    assert [step.tumor_clicks + step.background_clicks for step in result.records[1].steps] == [0, 0, 0]
    assert [name for name, _ in failing.calls].count("b") == 1


def test_styles_take_turns_over_the_cases() -> None:
    options = ProtocolOptions(ProtocolPrompt.SCRIBBLES, (0, 1))
    assert [case_style(options, number) for number in range(4)] == [*ScribbleStyle, ScribbleStyle.CENTERLINE]
    assert case_style(replace(options, style=ScribbleStyle.RANDOM), 0) is ScribbleStyle.RANDOM
    assert case_style(ProtocolOptions(), 1) is None


def test_a_case_that_cannot_be_read_is_among_the_failures(folder: Path) -> None:
    (folder / "labelsTr" / "a.nii.gz").unlink()
    (folder / "imagesTr" / "c_0001.nii.gz").write_bytes(b"damaged")
    result = _run(folder, CubesAtClicks())
    assert [record.case for record in result.records] == ["b"]
    assert set(result.failures) == {"a", "c"}


def test_weights_that_cannot_be_loaded_end_the_run(folder: Path) -> None:
    def refused() -> CubesAtClicks:
        raise WeightsError("damaged")

    with pytest.raises(WeightsError, match="damaged"):
        run_protocol(find_protocol_cases(folder), folder / "out", OPTIONS, NETWORK, refused)


def test_the_report_holds_means_over_cases_with_their_ranges(folder: Path) -> None:
    result = _run(folder, CubesAtClicks(broken=("c", 3)))
    summary = write_protocol_report(folder / "out", result, OPTIONS)
    assert json.loads((folder / "out" / "summary.json").read_text()) == summary
    assert summary["cases"] == 2 and summary["failed"] == {"c": "out of luck"}
    dices = [2 * step.common_voxels / (96 + step.prediction_voxels) for step in result.records[0].steps]
    area = (dices[0] + 2 * dices[1] + dices[2]) / 2
    assert summary["auc"]["dice"] == {
        "mean": pytest.approx(area),
        "share": pytest.approx(area / 2),
        "range": [0, 2],
        "cases": 1,  # the other one has no lesion
    }
    assert summary["auc"]["fpv_ml"]["cases"] == 2 and summary["auc"]["fpv_ml"]["range"] == [0, None]
    assert summary["last"]["dice"]["mean"] == pytest.approx(dices[2]) and summary["last"] == {
        key: value for key, value in summary["by_step"][2].items() if key != "step"
    }
    rows = list(csv.DictReader((folder / "out" / "steps.csv").open()))
    assert [(row["case"], row["step"]) for row in rows] == [
        (case, str(n)) for case in "ab" for n in (0, 1, 3)
    ]
    assert rows[3]["dice"] == "" and float(rows[2]["dice"]) == dices[2]
    (case, other) = csv.DictReader((folder / "out" / "cases.csv").open())
    assert (
        float(case["auc_dice"]) == pytest.approx(area) and case["lesions"] == "2" and other["last_dice"] == ""
    )
    table = summary_table(summary)
    assert "dice 0 to 2" in table and f"| 3 | {dices[2]:.4f} |" in table


@pytest.mark.slow
def test_curves_are_drawn(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_curves(folder / CURVES_FILE, _run(folder, CubesAtClicks()).records, OPTIONS)
    assert (folder / CURVES_FILE).read_bytes().startswith(b"\x89PNG")
