"""Command ``track``: from arguments to files."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from model.case.clicks import read_clicks
from model.case.images import read_image
from model.cli import track
from model.cli.point_options import SAMPLINGS
from model.errors import InputError, WeightsError
from model.inference.boost_options import Boosting
from model.inference.options import BOOSTS, ModelOptions
from model.prompts.sampling import Sampling
from model.report.measurement_files import read_measurements
from model.tracking.longiseg_series import FollowupPoints
from model.tracking.patients import TrackRunOptions
from model.tracking.series import DEFAULT_CONFIDENCE, ConfidenceRule, PromptKind, Topology
from test.helpers.paths import SAMPLE

from ...helpers import moving_lesions as moving
from ...helpers.moving_lesions import NAMES, Ball, Patient

OWN = ("--segmenter", f"{moving.__name__}:bright", "--backend", f"{moving.__name__}:ShiftBackend")


def _parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    track.add_arguments(parser)
    return parser.parse_args(words)


def _options(*words: str) -> TrackRunOptions:
    return track.track_options(_parsed("--series", "in", "-o", "out", *words))


def _run(series: Path, output: Path, *words: str) -> int:
    return track.run(_parsed("--series", str(series), "-o", str(output), *OWN, *words))


def _record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "tracking.json").read_text())
    return record


def _found(folder: Path, name: str, lesion_id: int) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = read_image(folder / name / "primary.mha").array == lesion_id
    return found


# --- options ---------------------------------------------------------------------------------------------


def test_defaults_and_choices_match_the_library() -> None:
    assert _options() == TrackRunOptions(Path("in"), Path("out"))
    assert tuple(Topology) == track.TOPOLOGIES and tuple(Boosting) == BOOSTS
    assert tuple(Sampling) == SAMPLINGS and tuple(ConfidenceRule) == track.CONFIDENCES
    assert track.CONFIDENCES[0] == DEFAULT_CONFIDENCE
    assert get_args(FollowupPoints) == track.FOLLOWUP_POINTS


def test_given_registrations_are_not_registered_back() -> None:
    for name, rule in (("affine", "there-and-back"), ("transform:f.h5", "spread"), ("identity", "spread")):
        assert _options("--backend", name).tracking.confidence == ConfidenceRule(rule)


def test_every_option_is_passed_on() -> None:
    options = _options(
        "--source",
        "t1",
        "--topology",
        "recentre",
        "--previous-mask",
        "--clicks",
        "world",
        "--followup-points",
        "none",
        "--segmenter",
        "single",
        "--weights",
        "w",
        "--device",
        "cuda:1",
        "--precision",
        "fp16",
        "--folds",
        "0,2",
        "--tta",
        "--deterministic",
        "--boost",
        "perturbed",
        "--boost-mm",
        "3",
        "--boost-count",
        "4",
        "--seed",
        "9",
        "--backend",
        "rigid",
        "--prompt",
        "box",
        "--sample",
        "uniform",
        "--samples",
        "5",
        "--sample-hu",
        "-50",
        "200",
        "--sample-probability",
        "0.4",
        "--confidence",
        "spread",
        "--flag-mm",
        "6",
        "--no-component-rule",
        "--component-mm",
        "12",
        "--overlap",
        "max-id",
        "--min-probability",
        "0.7",
        "--min-mean-probability",
        "0.5",
        "--min-volume-ml",
        "0.1",
        "--min-diameter-mm",
        "5",
        "--hu-window",
        "-100",
        "300",
    )
    tracking, segmenter, boost = options.tracking, options.segmenter, options.segmenter.boost
    assert (options.source, options.units, options.backend) == ("t1", "world", "rigid")
    assert options.followup_points == "none"
    assert (tracking.topology, tracking.previous_mask, tracking.prompt) == (
        Topology.RECENTRE,
        True,
        PromptKind.BOX,
    )
    assert tracking.choice is not None and tracking.choice.hu_window == (-50.0, 200.0) and tracking.seed == 9
    assert tracking.choice.min_probability == 0.4
    assert (tracking.choice.sampling.method, tracking.choice.sampling.count) == (Sampling.UNIFORM, 5)
    assert (tracking.confidence, tracking.confidence_options.flag_mm) == (ConfidenceRule.SPREAD, 6)
    assert tracking.overlap == "max-id" and tracking.fate.hu_window == (-100.0, 300.0)
    assert (tracking.fate.min_probability, tracking.fate.min_mean_probability) == (0.7, 0.5)
    assert (tracking.fate.min_volume_ml, tracking.fate.min_diameter_mm) == (0.1, 5)
    assert (segmenter.name, segmenter.weights_dir) == ("single", Path("w"))
    assert segmenter.model == ModelOptions("cuda:1", "fp16", (0, 2), tta=True, deterministic=True)
    assert (segmenter.component_rule, segmenter.component_limit_mm) == (False, 12)
    assert boost.method is Boosting.PERTURBED
    assert (boost.perturbation_mm, boost.count, boost.seed) == (3, 4, 9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--samples", "0"), "expected at least one point"),
        (("--sample-hu", "0", "1"), "expected it beside that option"),
        (("--sample-probability", "0.5"), "expected it beside that option"),
        (("--sample", "uniform", "--sample-probability", "5"), "expected 0 to 1"),
        (("--sample", "uniform", "--sample-probability", "0.5", *OWN), "needs a model"),
        (("--flag-mm", "0"), "--flag-mm 0: expected more than 0"),
        (("--component-mm", "-1"), "expected more than 0"),
        (("--boost-mm", "9"), "at most 5 mm"),
        (("--min-probability", "2"), "expected 0 to 1"),
        (("--hu-window", "5", "1"), "lower value first"),
    ],
)
def test_option_values_out_of_range(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _options(*words)


@pytest.mark.parametrize(
    "words", [("--device", "gpu"), ("--folds", "a"), ("--folds", "1,1"), ("--boost", "x")]
)
def test_invalid_option_values(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _options(*words)
    assert words[1] in capsys.readouterr().err


def test_track_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, argparse, model.cli.track as t; t.add_arguments(argparse.ArgumentParser());"
        "print([name for name in ('torch', 'SimpleITK', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# --- runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["order", "date"])
def test_track_writes_labelmaps_on_the_scans_grids(columns: str, tmp_path: Path) -> None:
    patient = Patient()
    manifest = patient.write(tmp_path, columns, permuted=["t0", "t2"])
    assert _run(manifest, tmp_path / "out") == 0
    folder = tmp_path / "out" / "P_1"
    record = _record(folder)
    assert record["is_whole"] and record["settings"]["model"]["name"] == OWN[1]
    for index, name in enumerate(NAMES):
        given = read_image(tmp_path / f"{name}-primary-ct.mha")
        image = read_image(folder / name / "primary.mha")
        assert image.geometry.same_grid(given.geometry)
        order = (2, 0, 1) if name in ("t0", "t2") else (0, 1, 2)
        for lesion_id, ball in patient.balls.items():
            assert np.array_equal(image.array == lesion_id, ball.voxels(index).transpose(order))


@pytest.mark.slow
def test_written_clicks_as_input_give_the_same_result(tmp_path: Path) -> None:
    manifest = Patient().write(tmp_path, permuted=["t1"])
    _run(manifest, tmp_path / "first")
    folder = tmp_path / "first" / "P_1"
    rows = ["patient,timepoint,order,scan,mask,clicks"]
    for index, name in enumerate(NAMES):
        clicks = folder / name / "primary-lesion-clicks.json"
        rows.append(f"P 1,{name},{index},{name}-primary-ct.mha,,{clicks}")
    (tmp_path / "again.csv").write_text("\n".join(rows) + "\n")
    assert _run(tmp_path / "again.csv", tmp_path / "again", "--prompt", "point") == 0
    again = tmp_path / "again" / "P_1"
    assert all(not point["registrations"] for point in _record(again)["time_points"])
    for name in NAMES:
        for lesion_id in (1, 2):
            assert np.array_equal(_found(folder, name, lesion_id), _found(again, name, lesion_id))
        first, second = (read_clicks(f / name / "primary-lesion-clicks.json") for f in (folder, again))
        assert first == second


@pytest.mark.slow
def test_track_a_folder(tmp_path: Path) -> None:
    patient = Patient(masks=(), clicks={"t1": {1: Patient().balls[1].at(1)}})
    patient.write(tmp_path)
    for index, name in enumerate(NAMES):
        place = tmp_path / "P" / f"2024-0{index + 1}-01"
        place.mkdir(parents=True)
        (tmp_path / f"{name}-primary-ct.mha").rename(place / "ct.mha")
    (tmp_path / "t1-primary-clicks.json").rename(tmp_path / "P" / "2024-02-01" / "clicks.json")
    words = ("--segmenter", OWN[1], "--backend", "identity", "--component-mm", "15", "--topology", "recentre")
    parsed = _parsed("--series", str(tmp_path / "P"), "-o", str(tmp_path / "out"), *words)
    assert track.run(parsed) == 0
    record = _record(tmp_path / "out" / "P")
    assert record["source"] == "2024-02-01"
    fates = [point["lesions"][0]["fate"] for point in record["time_points"]]
    assert fates == ["persistent", "source", "persistent", "persistent"]
    (measured,) = read_measurements(tmp_path / "out" / "P" / "measurements.json").patients
    assert [str(point.date) for point in measured.time_points][0] == "2024-01-01"
    volumes = [point["lesions"][0]["volume_ml"] for point in record["time_points"]]
    assert [finding.volume_ml for finding in measured.lesions[0].findings] == pytest.approx(volumes, abs=1e-5)


def test_track_a_tracking_file_and_a_pair_list(tmp_path: Path) -> None:
    """LongiSeg's layout, and the viewer's list with its export: the same lesion from the same points."""
    patient = Patient(masks=())
    patient.write(tmp_path)
    (tmp_path / "imagesTr").mkdir()
    for name in NAMES[:2]:
        (tmp_path / f"{name}-primary-ct.mha").rename(tmp_path / "imagesTr" / f"{name}_0000.mha")
    before, after = (list(patient.balls[1].at(index)) for index in (0, 1))
    scans = {"img_bl": "t0", "img_fu": "t1", "merged_lesions": [1], "fu_point_prop": None}
    lesion = scans | {"bl_point": before[::-1], "fu_point": after[::-1]}
    (tmp_path / "trackingTr.json").write_text(json.dumps({"P": [{"1": lesion}]}))
    pair = {"baseline_scan": "imagesTr/t0_0000.mha", "followup_scan": "imagesTr/t1_0000.mha"}
    (tmp_path / "pairs.json").write_text(json.dumps([pair]))
    points = {"1": {"bl_point": before, "fu_point_corrected": after}}
    export = [{"baseline_scan": "t0", "followup_scan": "t1", "lesions": points}]
    (tmp_path / "inference_meta.json").write_text(json.dumps(export))
    words = ("--segmenter", OWN[1], "--backend", "identity", "--prompt", "point")
    for series, out, name in (
        (tmp_path / "trackingTr.json", tmp_path / "out/P", "t1"),
        (tmp_path / "pairs.json", tmp_path / "pairs/imagesTr_t0_0000-to-imagesTr_t1_0000", "followup"),
    ):
        assert track.run(_parsed("--series", str(series), "-o", str(out.parent), *words)) == 0
        (lesion_,) = _record(out)["time_points"][1]["lesions"]
        assert lesion_["point_source"] == "given" and lesion_["fate"] == "persistent"
        assert np.array_equal(_found(out, name, 1), patient.balls[1].voxels(1))


def test_failing_patient_does_not_affect_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Patient().write(tmp_path)
    text = manifest.read_text()
    (tmp_path / "bad.mha").write_bytes(b"no image")
    manifest.write_text(text + "Q,t0,0,bad.mha,,,,\nQ,t1,1,t1-primary-ct.mha,,,,\n")
    assert _run(manifest, tmp_path / "out") == InputError.exit_code
    assert _record(tmp_path / "out" / "P_1")["is_whole"]
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "patients that failed: Q (" in message and "bad.mha" in message


def test_failure_of_the_only_patient_is_raised(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no lesion in any mask"):
        _run(Patient(masks=()).write(tmp_path), tmp_path / "out")


def test_failed_lesions_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Patient({1: Ball((10, 11, 11))}, clicks={"t2": {5: (-50.0, 0.0, 0.0)}}).write(tmp_path)
    assert _run(manifest, tmp_path / "out") == 0
    assert "could not be tracked: P 1 at t2: 5; all others are complete" in capsys.readouterr().err


def test_invalid_model_or_back_end_ends_before_writing(tmp_path: Path) -> None:
    manifest = Patient().write(tmp_path)
    words = ("--series", str(manifest), "-o", str(tmp_path / "out"))
    with pytest.raises(WeightsError):
        track.run(_parsed(*words, "--segmenter", "single"))
    with pytest.raises(InputError, match="registration back end 'magic' is unknown"):
        track.run(_parsed(*words, "--segmenter", OWN[1], "--backend", "magic"))
    assert not (tmp_path / "out").exists()


# --- shipped model --------------------------------------------------------------------------------------

SAMPLE_INPUT = SAMPLE / "input"


def test_two_time_points_give_the_same_result_as_a_case(tmp_path: Path) -> None:
    from model.cli.case_run import CaseRun
    from model.cli.segment import CaseRunOptions

    images = SAMPLE_INPUT / "images"
    rows = ["patient,timepoint,date,scan,mask,clicks"]
    for number, name in enumerate(("baseline", "followup")):
        (ct,) = (images / f"primary-{name}-ct").iterdir()
        masks = list(images.glob(f"primary-{name}-ct-tumor-lesion-seg/*"))
        clicks = SAMPLE_INPUT / f"primary-{name}-lesion-clicks.json"
        rows.append(f"P,{name},2024-0{number + 1}-01,{ct},{masks[0] if masks else ''},{clicks}")
    (tmp_path / "series.csv").write_text("\n".join(rows) + "\n")
    words = ("--prompt", "point", "--no-component-rule", "--device", "cpu", "--folds", "0")
    series, output = tmp_path / "series.csv", tmp_path / "out"
    assert track.run(_parsed("--series", str(series), "-o", str(output), *words)) == 0
    tracked = read_image(tmp_path / "out" / "P" / "followup" / "primary.mha")
    options = CaseRunOptions(SAMPLE_INPUT, tmp_path / "case", model=ModelOptions(device="cpu", folds=(0,)))
    CaseRun(options).execute()
    (labelmap,) = tmp_path.glob("case/images/*/*.mha")
    case = read_image(labelmap)
    assert tracked.geometry.same_grid(case.geometry) and tracked.array.any()
    assert np.array_equal(tracked.array, case.array)
