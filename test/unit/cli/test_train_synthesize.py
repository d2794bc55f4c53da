"""Command `train synthesize`: files, tables, seeds, workers, resumed runs, and errors."""

from __future__ import annotations

import argparse
import csv
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.case.clicks import read_clicks, write_clicks
from model.case.geometry import Box
from model.case.images import read_image, write_image
from model.cli import train_synthesize as synthesize_command
from model.data.formats.manifest import read_manifest
from model.errors import InputError
from model.synthesis.followup_files import POINTS, followup_folder
from model.synthesis.followup_record import SyntheticLesion
from model.synthesis.followup_tables import write_followup_tables
from model.synthesis.settings import SynthesisSettings
from model.synthesis.source_scans import SourceScan, find_sources
from model.synthesis.synthesize import SynthesisRequest
from test.helpers.paths import CHECKOUT

from ...helpers.synthesis_phantom import BIG, GRID, scan


def _run(*options: object) -> None:
    parser = argparse.ArgumentParser()
    synthesize_command.add_arguments(parser)
    assert synthesize_command.run(parser.parse_args([str(option) for option in options])) == 0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("scan")
    baseline = scan(with_small=False)
    write_image(folder / "ct.nii.gz", baseline.ct.astype(np.float32), GRID)
    write_image(folder / "labels.mha", baseline.labels, GRID)
    return folder / "ct.nii.gz", folder / "labels.mha"


@pytest.fixture(scope="module")
def two(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("two")
    _run("--ct", files[0], "--labels", files[1], "-o", output, "--seed", 5, "--count", 2)
    return output


def _contents(output: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.suffix != ".csv"
    }


def test_each_followup_has_its_files(two: Path) -> None:
    names = sorted(_contents(two))
    assert names == [
        f"ct_baseline/followup-{n:03d}/{name}"
        for n in (1, 2)
        for name in ("ct.mha", "displacement.mha", "labels.mha", "propagated-points.json", "record.json")
    ]
    image = read_image(two / "ct_baseline/followup-001/ct.mha")
    assert image.array.dtype == np.int16 and image.geometry.same_grid(GRID)
    assert read_image(two / "ct_baseline/followup-001/labels.mha").array.dtype == np.uint16


def test_the_record_holds_everything_drawn_and_measured(two: Path) -> None:
    record = json.loads((two / "ct_baseline/followup-002/record.json").read_text())
    assert record["seed"] == 5 and record["number"] == 2
    assert record["settings"]["growth"]["amplitudes_mm2"] == [-22, -18, 15, 25]
    assert record["displacement"]["min_jacobian"] > 0
    assert record["drawn"]["motion"].keys() >= {"angles_deg", "translation_mm", "elastic_seed"}
    lesions = {lesion["lesion_id"]: lesion for lesion in record["lesions"]}
    assert lesions[BIG]["achieved_ratio"] == lesions[BIG]["followup_ml"] / lesions[BIG]["baseline_ml"]
    assert all(growth["stages"] for growth in record["growth"])


@pytest.mark.slow
def test_more_followups_and_more_workers_change_nothing(
    files: tuple[Path, Path], two: Path, tmp_path: Path
) -> None:
    _run("--ct", files[0], "--labels", files[1], "-o", tmp_path, "--seed", 5, "--count", 3, "--workers", 2)
    more = _contents(tmp_path)
    for name, content in _contents(two).items():
        assert more[name] == content, name
    firsts = {n: more[f"ct_baseline/followup-{n:03d}/ct.mha"] for n in (1, 2, 3)}
    assert len(set(firsts.values())) == 3


@pytest.mark.slow
def test_finished_followups_are_kept_and_damaged_ones_made_again(
    files: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = ("--ct", files[0], "--labels", files[1], "-o", tmp_path, "--count", 2)
    _run(*options)
    first, second = (tmp_path / "ct_baseline" / f"followup-{n:03d}" for n in (1, 2))
    before = _contents(tmp_path)
    times = (first / "ct.mha").stat().st_mtime_ns
    (second / POINTS).write_bytes(b"cut")
    caplog.clear()
    _run(*options)
    assert "(1 existed already)" in caplog.messages[-1]
    assert (first / "ct.mha").stat().st_mtime_ns == times
    assert _contents(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "has", "wants"),
    [
        (("--seed", 4), "seed=5", "seed=4"),
        (("--seed", 5, "--set", "events.p_vanish=0.2"), "events.p_vanish=0.1", "events.p_vanish=0.2"),
        (
            ("--seed", 0, "--set", "growth.sigma_mm=4,5", "--set", "voxel_mm=0.8"),
            "seed=5, growth.sigma_mm=4.0,5.5, voxel_mm=1.0",
            "seed=0, growth.sigma_mm=4.0,5.0, voxel_mm=0.8",
        ),
    ],
)
def test_followups_of_a_scan_have_one_seed_and_the_same_settings(
    files: tuple[Path, Path], two: Path, tmp_path: Path, options: tuple[object, ...], has: str, wants: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(two, out)
    shutil.rmtree(out / "ct_baseline" / "followup-001")  # also where it would not be overwritten
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as caught:
        _run("--ct", files[0], "--labels", files[1], "-o", out, *options)
    assert str(caught.value) == (
        f"{out / 'ct_baseline'}: holds follow-ups with {has} (followup-002), not {wants}; "
        "expected the same seed and settings, or another --output"
    )
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_followups_from_before_a_setting_existed_are_kept(
    files: tuple[Path, Path], two: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(two, out)
    for path in out.rglob("record.json"):
        record = json.loads(path.read_text())
        del record["settings"]["new"], record["settings"]["growth"]["p_any_ratio"]
        path.write_text(json.dumps(record))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("followup-*/*")}
    _run("--ct", files[0], "--labels", files[1], "-o", out, "--seed", 5, "--count", 2)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("followup-*/*")} == before
    with pytest.raises(InputError, match=r"growth\.p_any_ratio=0\.0 .* not growth\.p_any_ratio=1\.0"):
        _run("--ct", files[0], "--labels", files[1], "-o", out, "--seed", 5, "--set", "growth.p_any_ratio=1")


@pytest.mark.slow
def test_scans_of_other_seeds_and_settings_share_a_folder(files: tuple[Path, Path], tmp_path: Path) -> None:
    for patient, seed, p_vanish in (("one", 3, 0.1), ("other", 4, 0.2)):
        _run(
            "--ct",
            files[0],
            "--labels",
            files[1],
            "-o",
            tmp_path,
            "--patient",
            patient,
            "--seed",
            seed,
            "--set",
            f"events.p_vanish={p_vanish}",
        )
    cohort = read_manifest(tmp_path / "manifest.csv")
    assert len(cohort.pairs) == 2 and not cohort.problems


def test_tables_list_the_pairs(two: Path) -> None:
    cohort = read_manifest(two / "manifest.csv")
    assert not cohort.problems
    assert [scan.order for scan in cohort.scans] == [0, 1, 2]
    assert {pair.baseline for pair in cohort.pairs} == {"ct_baseline"} and len(cohort.pairs) == 2
    assert all(scan.image.is_file() and scan.labels and scan.labels.is_file() for scan in cohort.scans)
    assert len({scan.patient_id for scan in cohort.scans}) == 1
    rows = list(csv.DictReader((two / "lesions.csv").open()))
    assert {row["followup"] for row in rows} == {"baseline-synthetic-001", "baseline-synthetic-002"}
    for row in rows:
        is_absent = row["fate"] in ("vanished", "out-of-view")
        assert is_absent == (row["followup_ids"] == "")
        assert (row["fate"] == "new") == (row["baseline_id"] == "")
        if row["cog_fu"]:
            assert len(row["cog_fu"].split()) == 3


@pytest.mark.slow
def test_a_data_set_of_scans_with_and_without_lesions(files: tuple[Path, Path], tmp_path: Path) -> None:
    write_image(tmp_path / "later.mha", scan(with_lesions=False).ct, GRID)
    (tmp_path / "set.csv").write_text(
        "patient,timepoint,image,labels,order\n"
        f"A b,first,{files[0]},{files[1]},0\nA b,second,{files[0]},{files[1]},1\nB,only,later.mha,,0\n"
    )
    output = tmp_path / "out"
    _run("--manifest", tmp_path / "set.csv", "-o", output, "--set", "events.new_mean=9")
    cohort = read_manifest(output / "manifest.csv")
    assert [scan.scan_id for scan in cohort.scans] == [
        "A b_first",
        "A b_first-synthetic-001",
        "A b_second",
        "A b_second-synthetic-001",
        "B_only",
        "B_only-synthetic-001",
    ]
    assert not cohort.problems
    first, second = (read_image(cohort.scans[n].image).array for n in (1, 3))
    assert not np.array_equal(first, second)  # the scan's name is part of the seed


def test_the_manifest_keeps_the_baseline_of_every_scan(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Of three real scans, the last a follow-up of the first; points, links and pairs are kept."""
    for name in ("first", "second"):
        write_clicks(tmp_path / f"{name}.json", {BIG: (20, 20, 20)})
    (tmp_path / "set.csv").write_text(
        "patient,timepoint,image,labels,points,links,baseline\n"
        f"p,first,{files[0]},{files[1]},first.json,,\n"
        f"p,second,{files[0]},{files[1]},second.json,{BIG}>,\n"
        f"p,third,{files[0]},{files[1]},,,first\n"
    )
    before = read_manifest(tmp_path / "set.csv").pairs
    sources = _sources(_request(tmp_path / "set.csv", tmp_path / "out"))
    merged = {"lesion_id": 7, "followup_ids": [7, 8]}
    lesion = dict.fromkeys(SyntheticLesion.__dataclass_fields__) | {"fate": "merged"} | merged
    records = {(source.name, n): {"lesions": [lesion]} for source in sources for n in (1, 2)}
    for source in sources:
        for n in (1, 2):
            points = followup_folder(tmp_path / "out", source, n) / POINTS
            points.parent.mkdir(parents=True)
            write_clicks(points, {7: (1, 2, n)})
    write_followup_tables(tmp_path / "out", sources, records)
    cohort = read_manifest(tmp_path / "out" / "manifest.csv")
    assert not cohort.problems and [scan.order for scan in cohort.scans] == list(range(9))
    assert tuple(pair for pair in cohort.pairs if "synthetic" not in pair.followup) == before
    made = [pair for pair in cohort.pairs if "synthetic" in pair.followup]
    assert [(pair.baseline, pair.followup) for pair in made] == [
        (f"p_{name}", f"p_{name}-synthetic-00{n}") for name in ("first", "second", "third") for n in (1, 2)
    ]
    assert all(pair.renamed == ((7, (7, 8)),) for pair in made)
    assert made[1].propagated_points == ((7, (1.0, 2.0, 2.0)),) and made[0].baseline_points


def _write_ct(path: Path, shift: int, like: Path) -> Path:
    image = read_image(like)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, (image.array + shift).astype(np.int16), image.geometry)
    return path


@pytest.mark.slow
def test_runs_into_one_folder_add_up_but_never_mix_sources(files: tuple[Path, Path], tmp_path: Path) -> None:
    ct, labels = files
    out = tmp_path / "out"
    first, other = (_write_ct(tmp_path / name / "ct.mha", n, ct) for n, name in enumerate("ab"))
    _run("--ct", first, "--labels", labels, "-o", out, "--count", 2)
    before = _contents(out)
    with pytest.raises(
        InputError, match=r"ct_baseline: holds follow-ups of another CT, ct\.mha .* than .*b/ct"
    ):
        _run("--ct", other, "--labels", labels, "-o", out)
    assert _contents(out) == before
    _run("--ct", other, "--labels", labels, "-o", out, "--patient", "other")
    _run("--ct", first, "--labels", labels, "-o", out, "--count", 1)
    cohort = read_manifest(out / "manifest.csv")
    assert not cohort.problems
    assert {scan.scan_id for scan in cohort.scans} == {
        "ct_baseline",
        "ct_baseline-synthetic-001",
        "ct_baseline-synthetic-002",
        "other_baseline",
        "other_baseline-synthetic-001",
    }
    assert len(cohort.pairs) == 3
    rows = list(csv.DictReader((out / "lesions.csv").open()))
    assert len({(row["patient"], row["followup"]) for row in rows}) == 3
    # A follow-up that is no longer complete is no longer listed.
    (out / "other_baseline/followup-001/labels.mha").write_bytes(b"cut")
    _run("--ct", first, "--labels", labels, "-o", out, "--count", 1)
    assert len(read_manifest(out / "manifest.csv").pairs) == 2


def test_a_table_of_others_is_not_overwritten(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("name,age\nx,3\n")
    with pytest.raises(InputError, match=r"manifest\.csv: is not a table of train synthesize"):
        _run("--ct", files[0], "--labels", files[1], "-o", tmp_path)


@pytest.mark.slow
def test_a_bad_labelmap_does_not_stop_the_others(files: tuple[Path, Path], tmp_path: Path) -> None:
    wrong = read_image(files[1]).array.astype(np.float32)
    wrong[0, 0, 0] = 0.5
    write_image(tmp_path / "bad.mha", wrong, GRID)
    (tmp_path / "set.csv").write_text(
        f"patient,timepoint,image,labels\nA,t0,{files[0]},bad.mha\nB,t0,{files[0]},{files[1]}\n"
    )
    with pytest.raises(InputError, match=r"bad\.mha: holds values that are not whole.*1 of 2 follow-ups"):
        _run("--manifest", tmp_path / "set.csv", "-o", tmp_path / "out")
    pairs = read_manifest(tmp_path / "out" / "manifest.csv").pairs
    assert [pair.followup for pair in pairs] == ["B_t0-synthetic-001"]


@pytest.mark.slow
def test_propagated_points_outside_the_scan_are_not_clicks(files: tuple[Path, Path], tmp_path: Path) -> None:
    far = ("--set", "motion.translation_mm=60,60", "--set", "events.p_vanish=0", "--set", "events.new_mean=0")
    _run("--ct", files[0], "--labels", files[1], "-o", tmp_path, *far)
    folder = tmp_path / "ct_baseline" / "followup-001"
    lesions = json.loads((folder / "record.json").read_text())["lesions"]
    inside = {
        lesion["lesion_id"] for lesion in lesions if GRID.depth_mm(lesion["propagated_point_xyz"][::-1]) >= 0
    }
    assert set(read_clicks(folder / POINTS)) == inside and len(inside) < len(lesions)


def _sources(request: SynthesisRequest) -> tuple[SourceScan, ...]:
    return find_sources(request.manifest, request.ct, request.labels, request.patient)


def _request(manifest: Path, output: Path) -> SynthesisRequest:
    return SynthesisRequest(None, None, manifest, output, 0, 2, 1, SynthesisSettings())


def test_a_scan_has_the_name_of_its_file_or_of_its_patient(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[SynthesisRequest] = []
    monkeypatch.setattr("model.synthesis.synthesize.synthesize", requests.append)
    for options in ((), ("--patient", "Müller 7")):
        _run("--ct", files[0], "--labels", files[1], "-o", "out", *options)
    plain, named = (_sources(request)[0] for request in requests)
    assert (plain.patient, plain.name) == ("ct", "ct_baseline")
    assert (named.patient, named.name) == ("Müller 7", "Müller 7_baseline")
    assert named.folder.isascii() and named.ct == plain.ct


def test_invalid_options_and_files_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    ct, labels = files
    other = tmp_path / "other.mha"
    write_image(other, np.zeros((4, 4, 4), np.uint8), GRID.cropped(_box()))
    output = ("-o", tmp_path / "out")
    for options, words in (
        (("--ct", ct, "--labels", other, *output), "other.mha: lies on another grid"),
        (("--ct", tmp_path / "none.mha", "--labels", labels, *output), "none.mha: cannot be read"),
        (("--ct", ct, "--labels", labels, "--count", 0, *output), "--count: is 0; expected"),
        (("--ct", ct, "--labels", labels, "--workers", 0, *output), "--workers: is 0; expected"),
        (("--ct", ct, *output), "--labels: is missing"),
        (("--ct", ct, "--labels", labels, "--patient", " ", *output), "--patient: is ' '; expected a name"),
        (
            ("--manifest", tmp_path / "x.csv", "--patient", "P", *output),
            "--patient: given together with --manifest",
        ),
        (("--ct", ct, "--manifest", ct, *output), "--manifest: given together with"),
        (("--ct", ct, "--labels", labels, "--set", "growth.sigma=3", *output), "'sigma' is unknown"),
        (
            ("--ct", ct, "--labels", labels, "--set", "appearance.noise_variance=-1,-1", *output),
            "--set appearance.noise_variance: is -1,-1; expected two numbers from 0 to 100",
        ),
        (("--ct", ct, "--labels", ct, *output), "expected lesion ids from 1 to 65535"),
        (("--manifest", tmp_path / "none.csv", *output), "none.csv: cannot be read"),
    ):
        with pytest.raises(InputError, match=words.replace("(", r"\(")):
            _run(*options)


def _box() -> Box:
    return Box((0, 0, 0), (4, 4, 4))


def test_settings_are_changed_by_name() -> None:
    changed = SynthesisSettings().with_overrides(
        ["growth.amplitudes_mm2=25", "growth.is_per_lesion=true", "events.new_max=1", "voxel_mm=0.8"]
    )
    assert changed.growth.amplitudes_mm2 == (25.0,) and changed.growth.is_per_lesion
    assert changed.events.new_max == 1 and changed.voxel_mm == 0.8
    for wrong in (
        "growth=3",
        "voxel_mm",
        "motion.rotation_deg=5",
        "motion.rotation_deg=5,-5",
        "a.b.c=1",
        "events.new_max=x",
        "voxel_mm=nan",
    ):
        with pytest.raises(InputError, match="--set"):
            SynthesisSettings().with_overrides([wrong])


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys, model.cli.train_synthesize; "
        "print([name for name in ('torch', 'SimpleITK', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]", done.stderr
