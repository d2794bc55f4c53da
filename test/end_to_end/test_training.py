"""From labelled CTs to scores with the commands in sequence, on small phantoms."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from model.case.clicks import write_clicks
from model.case.geometry import Array, Geometry
from model.case.images import read_image, write_image
from model.evaluation.compare_runs import read_run
from model.evaluation.records import LesionRecord, Scope

from ..helpers.warm_process import ScriptRun, run_scripts

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENTS = ("p1", "p2", "p3", "p4")
SHAPE = (24, 48, 48)
GRID = Geometry((48, 48, 24), (1.5, 1.5, 2.0), (-30.0, 12.0, -500.0))


def _command(folder: Path, *words: str | Path) -> str:
    script = "import runpy\nrunpy.run_module('model', run_name='__main__')"
    limit = {"OMP_NUM_THREADS": "1"}
    (done,) = run_scripts(ScriptRun(script, list(map(str, words)), str(folder), environment=limit))
    assert done.code == 0, done.stdout + done.stderr
    return done.stdout


def _write_patient(folder: Path, number: int) -> None:
    """A trunk of tissue with two lesions, 1 and 2."""
    rng = np.random.default_rng(number)
    z, y, x = np.indices(SHAPE)
    ct = np.where(np.hypot(y - 24, x - 24) < 20, 20, -1000) + rng.normal(0, 8, SHAPE)
    labels = np.zeros(SHAPE, np.uint16)
    for lesion_id, centre in ((1, (9 + number, 18, 17)), (2, (15, 29, 30 - number))):
        inside = ((z - centre[0]) ** 2 * 1.8 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) < 5**2
        ct[inside] += 90
        labels[inside] = lesion_id
    write_image(folder / f"p{number}-image.mha", ct.astype(np.int16), GRID)
    write_image(folder / f"p{number}-labels.mha", labels, GRID)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every step up to the evaluation by its command."""
    folder = tmp_path_factory.mktemp("training")
    rows = ["patient,timepoint,image,labels"]
    for number, patient in enumerate(PATIENTS, 1):
        _write_patient(folder, number)
        rows.append(f"{patient},t0,{patient}-image.mha,{patient}-labels.mha")
    (folder / "scans.csv").write_text("\n".join(rows) + "\n")
    train = ("train", "synthesize", "--manifest", folder / "scans.csv", "-o", folder / "synthetic")
    _command(folder, *train, "--seed", "3", "--count", "1", "--workers", "1")
    prepare = ("train", "prepare", "--data", folder / "synthetic" / "manifest.csv", "-o", folder / "prepared")
    printed = _command(
        folder, *prepare, "--preset", "tiny", "--patch", "16", "32", "32", "--folds", "2", "--workers", "1"
    )
    assert "0 problems" in printed
    run = ("train", "run", "--data", folder / "prepared", "-o", folder / "model", "--device", "cpu")
    _command(folder, *run, "epochs=2", "iterations=4", "batch_size=2", "validation_iterations=1", "workers=0")
    return folder


def _case(work: Path, patient: str) -> Path:
    """A patient in the layout of the challenge, with the synthetic scan as the follow-up."""
    with (work / "synthetic" / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["patient"] == patient]
    before, after = (work / "synthetic" / row["image"] for row in rows)
    case = work / "cases" / patient
    mask = (work / "synthetic" / rows[0]["labels"]).resolve()
    for socket, source in (
        ("primary-baseline-ct", before),
        ("primary-baseline-ct-tumor-lesion-seg", mask),
        ("primary-followup-ct", after),
    ):
        place = case / "images" / socket
        place.mkdir(parents=True)
        (place / "image.mha").write_bytes(source.resolve().read_bytes())
    labels = read_image(mask).array
    points = {}
    for lesion_id in (1, 2):
        z, y, x = np.argwhere(labels == lesion_id).mean(axis=0).tolist()
        points[lesion_id] = (x, y, z)
    for name in ("baseline", "followup"):
        write_clicks(case / f"primary-{name}-lesion-clicks.json", points)
    truth = work / "truth" / f"{patient}.mha"
    truth.parent.mkdir(exist_ok=True)
    truth.write_bytes((work / "synthetic" / rows[1]["labels"]).resolve().read_bytes())
    return case


def test_two_folds_are_trained_on_disjoint_patients(work: Path) -> None:
    splits = json.loads((work / "prepared" / "splits_final.json").read_text())
    assert len(splits) == 2
    for split in splits:
        assert not set(split["train"]) & set(split["val"])
        assert set(split["train"]) | set(split["val"]) == set(PATIENTS)
    for fold in ("fold_0", "fold_1"):
        assert (work / "model" / fold / "checkpoint_final.pth").is_file()
        assert len((work / "model" / fold / "log.csv").read_text().splitlines()) == 3


def _dice(truth: Array, predicted: Array, lesion_id: int) -> float:
    real, drawn = truth == lesion_id, predicted == lesion_id
    return float(2 * (real & drawn).sum() / (real.sum() + drawn.sum()))


def _check_record(record: LesionRecord, truth: Array, predicted: Array) -> None:
    """Check a lesion's record against its masks, and the range of its other numbers."""
    lesion_id = int(record.lesion)
    real, drawn = truth == lesion_id, predicted == lesion_id
    assert record.reference_ids == (lesion_id,) and not record.is_missing
    counts = (record.reference_voxels, record.prediction_voxels, record.common_voxels)
    assert counts == (real.sum(), drawn.sum(), (real & drawn).sum())
    assert 0 <= record.fn_voxels <= real.sum() > 0 and 0 <= record.fp_voxels <= drawn.sum()
    assert record.voxel_ml == pytest.approx(1.5 * 1.5 * 2 / 1000)
    distances = (record.hd95_mm, record.assd_mm, record.centre_mm)
    if not drawn.any():  # which a network of so few steps may do
        assert record.nsd_2mm in (None, 0) and distances == (None, None, None)
        return
    assert record.nsd_2mm is not None and 0 <= record.nsd_2mm <= 1
    assert all(d is not None and 0 <= d <= record.diagonal_mm for d in distances)


def _check_tables(folder: Path, dice: dict[tuple[str, str], float]) -> None:
    """Check the Dice of each lesion (scan, lesion) in the tables, and the means by lesion and by scan."""
    with (folder / "per_lesion.csv").open(newline="") as file:
        rows = {(row["scan"], row["lesion"]): row for row in csv.DictReader(file) if row["scope"] == "lesion"}
    assert rows.keys() == dice.keys()
    assert {key: float(row["dice"]) for key, row in rows.items()} == pytest.approx(dice, rel=1e-5)
    scans = {
        scan: fmean(value for key, value in dice.items() if key[0] == scan)
        for scan in {scan for scan, _ in dice}
    }
    with (folder / "per_scan.csv").open(newline="") as file:
        found = {row["scan"]: float(row["dice"]) for row in csv.DictReader(file) if row["scope"] == "lesion"}
    assert found == pytest.approx(scans, rel=1e-5)
    summary = json.loads((folder / "summary.json").read_text())
    (step,) = (one for one in summary["steps"] if one["scope"] == "lesion")
    mean = step["metrics"]["dice"]
    assert mean["mean"] == pytest.approx(fmean(scans.values()))
    assert (mean["lesions"], mean["left_out"], mean["scans"]) == (len(dice), 0, len(scans))
    assert f"| dice | {mean['mean']:.4g} |" in (folder / "summary.md").read_text()
    assert summary["missing_predictions"] == []


def test_the_trained_model_segments_a_case_and_is_evaluated(work: Path) -> None:
    case, output, scores = _case(work, "p1"), work / "answers" / "p1", work / "scores"
    weights = ("--weights", work / "model", "--folds", "0,1", "--device", "cpu")
    _command(work, "segment", "--input", case, "--output", output, *weights)
    (labelmap,) = output.rglob("*.mha")
    reference = work / "truth" / "p1.mha"
    printed = _command(
        work, "evaluate", "--reference", reference, "--prediction", labelmap, "-o", scores, "--json"
    )
    assert json.loads(printed) == json.loads((scores / "summary.json").read_text())
    assert json.loads(printed)["definition"] == "longitudinal"
    truth, drawn = read_image(reference), read_image(labelmap)
    assert drawn.geometry.same_grid(GRID) and set(np.unique(drawn.array)) <= {0, 1, 2}
    records = [one for one in read_run(scores) if one.scope is Scope.LESION]
    assert [one.lesion for one in records] == ["1", "2"]
    for record in records:
        _check_record(record, truth.array, drawn.array)
    _check_tables(scores, {("p1", str(i)): _dice(truth.array, drawn.array, i) for i in (1, 2)})


def test_a_network_with_difference_weighting_is_trained_and_segments_without_masks(work: Path) -> None:
    run = ("train", "run", "--data", work / "prepared", "-o", work / "weighted", "--device", "cpu")
    options = ("--fold", "0", "--no-cross-validation", "variant=difference-weighting", "epochs=1")
    _command(work, *run, *options, "iterations=2", "batch_size=2", "validation_iterations=1", "workers=0")
    case, output, extras = _case(work, "p2"), work / "answers" / "p2", work / "extras"
    shutil.rmtree(case / "images" / "primary-baseline-ct-tumor-lesion-seg")
    weights = ("--weights", work / "weighted", "--folds", "0", "--device", "cpu", "--extras", extras)
    _command(work, "segment", "--input", case, "--output", output, *weights)
    (labelmap,) = output.rglob("*.mha")
    assert read_image(labelmap).geometry.same_grid(GRID)
    record = json.loads((extras / "run.json").read_text())
    assert record["model"]["trainer"] == "LongiSegTrainerTrackingDiffWeighting"
    assert [lesion["lesion_id"] for lesion in record["lesions"]] == [1, 2]


def test_each_held_out_lesion_is_predicted_and_scored(work: Path) -> None:
    """Outputs of `train run`: labelmaps by the fold that did not see the patient, records, tables."""
    folder = work / "model" / "cross_validation"
    records = {(one.scan, one.lesion): one for one in read_run(folder) if one.scope is Scope.LESION}
    with (work / "synthetic" / "manifest.csv").open(newline="") as file:
        labels = {row["patient"]: row["labels"] for row in csv.DictReader(file) if row["timepoint"] != "t0"}
    splits = json.loads((work / "prepared" / "splits_final.json").read_text())
    dice: dict[tuple[str, str], float] = {}
    for number, split in enumerate(splits):
        for patient in split["val"]:
            scan = f"{patient}_t0-to-{patient}_t0-synthetic-001"
            truth = read_image(work / "synthetic" / labels[patient]).array
            drawn = read_image(folder / f"fold_{number}" / f"{scan}.mha").array
            for lesion_id in (1, 2):  # new lesions are not scored
                key = (scan, str(lesion_id))
                _check_record(records[key], truth, drawn)
                dice[key] = _dice(truth, drawn, lesion_id)
    assert records.keys() == dice.keys() and len(dice) == 2 * len(PATIENTS)
    _check_tables(folder, dice)
