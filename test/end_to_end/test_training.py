"""From labelled CTs to scores, by the commands in their order, on phantoms of a few voxels."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.case.clicks import write_clicks
from model.case.geometry import Geometry
from model.case.images import read_image, write_image

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENTS = ("p1", "p2", "p3", "p4")
SHAPE = (24, 48, 48)
GRID = Geometry((48, 48, 24), (1.5, 1.5, 2.0), (-30.0, 12.0, -500.0))


def _command(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "model", *map(str, words)], cwd=CHECKOUT, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
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
    """Everything up to the evaluation, each step by its command."""
    folder = tmp_path_factory.mktemp("training")
    rows = ["patient,timepoint,image,labels"]
    for number, patient in enumerate(PATIENTS, 1):
        _write_patient(folder, number)
        rows.append(f"{patient},t0,{patient}-image.mha,{patient}-labels.mha")
    (folder / "scans.csv").write_text("\n".join(rows) + "\n")
    train = ("train", "synthesize", "--manifest", folder / "scans.csv", "-o", folder / "synthetic")
    _command(*train, "--seed", "3", "--count", "1", "--workers", "2")
    prepare = ("train", "prepare", "--data", folder / "synthetic" / "manifest.csv", "-o", folder / "prepared")
    told = _command(
        *prepare, "--preset", "tiny", "--patch", "16", "32", "32", "--folds", "2", "--workers", "2"
    )
    assert "0 problems" in told
    run = ("train", "run", "--data", folder / "prepared", "-o", folder / "model", "--device", "cpu")
    _command(*run, "epochs=2", "iterations=4", "validation_iterations=1", "workers=0")
    return folder


def _case(work: Path, patient: str) -> Path:
    """A patient as the platform hands it over, with the synthetic scan as the follow-up."""
    with (work / "synthetic" / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["patient"] == patient]
    before, after = (work / "synthetic" / row["image"] for row in rows)
    case = work / "cases" / patient
    mask = (work / "synthetic" / rows[0]["labels"]).resolve()
    for socket, source in (
        ("primary-baseline-ct", before), ("primary-baseline-ct-tumor-lesion-seg", mask),
        ("primary-followup-ct", after),
    ):  # fmt: skip
        place = case / "images" / socket
        place.mkdir(parents=True)
        (place / "image.mha").write_bytes(source.resolve().read_bytes())
    labels = read_image(mask).array
    points = {i: tuple(float(v) for v in np.argwhere(labels == i).mean(axis=0)[::-1]) for i in (1, 2)}
    for name in ("baseline", "followup"):
        write_clicks(case / f"primary-{name}-lesion-clicks.json", points)
    truth = work / "truth" / f"{patient}.mha"
    truth.parent.mkdir(exist_ok=True)
    truth.write_bytes((work / "synthetic" / rows[1]["labels"]).resolve().read_bytes())
    return case


def test_two_folds_are_trained_of_patients_apart(work: Path) -> None:
    splits = json.loads((work / "prepared" / "splits_final.json").read_text())
    assert len(splits) == 2
    for split in splits:
        assert not set(split["train"]) & set(split["val"])
        assert set(split["train"]) | set(split["val"]) == set(PATIENTS)
    for fold in ("fold_0", "fold_1"):
        assert (work / "model" / fold / "checkpoint_final.pth").is_file()
        assert len((work / "model" / fold / "log.csv").read_text().splitlines()) == 3


def test_what_was_trained_segments_and_is_evaluated(work: Path) -> None:
    case, output = _case(work, "p1"), work / "answers" / "p1"
    weights = ("--weights", work / "model", "--folds", "0,1", "--device", "cpu")
    _command("segment", "--input", case, "--output", output, *weights)
    (answer,) = output.rglob("*.mha")
    summary = json.loads(
        _command("evaluate", "--reference", work / "truth" / "p1.mha", "--prediction", answer, "--json")
    )
    assert summary["definition"] == "longitudinal"
    assert answer.stat().st_size > 0 and read_image(answer).geometry.same_grid(GRID)
