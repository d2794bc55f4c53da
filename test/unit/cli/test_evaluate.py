"""Command `evaluate`, from files to tables."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.case.geometry import Geometry
from model.case.images import write_image
from model.errors import InputError, OutputError
from model.evaluation.records import read_records
from test.helpers.paths import CHECKOUT

from ...helpers.evaluation_cases import GRID, block, command, labels, write

PRIMARY = "images/primary-followup-ct-tumor-lesion-seg/segmentation.mha"
SECONDARY = "images/secondary-followup-ct-tumor-lesion-seg/segmentation.mha"


def _summary(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    command(*arguments, "--json")
    summary: dict[str, Any] = json.loads(capsys.readouterr().out)
    return summary


def _metrics(summary: dict[str, Any], scope: str = "lesion", step: int = 1) -> dict[str, Any]:
    found = next(s for s in summary["steps"] if s["scope"] == scope and s["step"] == step)
    return {name: entry["mean"] for name, entry in found["metrics"].items()}


def test_metrics_of_a_hand_made_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lesion 1 of 16 voxels, half of it found; lesion 300 missed; label 65 535 is a false positive."""
    reference = write(tmp_path / "ref/p.mha", block(1), block(300, z=8))
    prediction = write(tmp_path / "pred/p.nii.gz", block(1, x=4), block(65535, z=8, y=10))
    summary = _summary(
        capsys, "--reference", reference.parent, "--prediction", prediction.parent, "-o", tmp_path / "out"
    )
    metrics = _metrics(summary)
    assert metrics["dice"] == pytest.approx((0.5 + 0) / 2)
    assert metrics["recall"] == pytest.approx(0.25) and metrics["precision"] == pytest.approx(0.25)
    assert metrics["fn_volume_voxels"] == pytest.approx((0 + 16) / 2)
    assert metrics["fn_volume_ml"] == pytest.approx(8 * 0.005)
    assert metrics["fp_volume_voxels"] == pytest.approx((0 + 0 + 16) / 3)
    assert metrics["med_mm"] == pytest.approx(2.0) and metrics["cpm_25"] == 0.5
    assert metrics["dice_25"] == pytest.approx(0.5)
    records = read_records(tmp_path / "out/lesions.csv")
    assert [r.lesion for r in records] == ["1", "300", "65535", "all"]
    assert records[0].hd95_mm is not None and records[0].hd95_mm <= 2.0 and records[0].nsd_2mm == 1.0
    assert "no lesion map" in summary["notes"][0]
    assert any("65535" in warning for warning in summary["warnings"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "lesions.csv",
        "per_lesion.csv",
        "per_scan.csv",
        "per_patient.csv",
        "summary.json",
        "summary.md",
    }
    assert json.loads((tmp_path / "out/summary.json").read_text()) == summary


def test_the_challenge_scores_the_foreground_of_a_scan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids are swapped: nothing is wrong with the foreground, everything with the lesions."""
    reference = write(tmp_path / "ref.mha", block(1), block(2, z=8))
    prediction = write(tmp_path / "pred.mha", block(2), block(1, z=8))
    given = ("--reference", reference, "--prediction", prediction, "--definition", "challenge")
    summary = _summary(capsys, *given)
    assert _metrics(summary, "scan")["dice"] == 1.0 and _metrics(summary, "scan")["fn_volume_ml"] == 0
    assert _metrics(summary)["dice"] == 0 and _metrics(summary)["fn_volume_ml"] == pytest.approx(0.08)
    assert "med_mm" not in _metrics(summary, "scan")


@pytest.mark.parametrize(("reference_value", "prediction_value"), [(1, 1), (1, 255), (255, 1), (255, 255)])
def test_binary_masks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reference_value: int, prediction_value: int
) -> None:
    reference = write(tmp_path / "ref.mha", block(reference_value), dtype=np.uint8)
    prediction = write(tmp_path / "pred.mha", block(prediction_value), dtype=np.float32)
    summary = _summary(capsys, "--reference", reference, "--prediction", prediction)
    assert _metrics(summary)["dice"] == 1.0 and not summary["warnings"]


def test_the_platforms_layout_with_two_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lesion 2 lies in the secondary scan alone; lesion 3 has vanished and is counted once."""
    for root, folder in ((tmp_path / "ref", "case"), (tmp_path / "pred", "case/output")):
        write(root / folder / PRIMARY, block(1))
        write(root / folder / SECONDARY, block(2))
    before = "case/input/images/{}-baseline-ct-tumor-lesion-seg/b.mha"
    write(tmp_path / "in" / before.format("primary"), block(1), block(2, z=8))
    write(tmp_path / "in" / before.format("secondary"), block(3))
    command(
        "--reference",
        tmp_path / "ref",
        "--prediction",
        tmp_path / "pred",
        "--baseline",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        "--definition",
        "tracking",
    )
    records = read_records(tmp_path / "out/lesions.csv")
    found: list[Any] = [(r.scan, r.lesion, r.existed, r.baseline_ml) for r in records if r.lesion != "all"]
    assert found == [
        ("case/primary", "1", True, pytest.approx(0.08)),
        ("case/secondary", "2", True, pytest.approx(0.08)),
        ("case/secondary", "3", True, pytest.approx(0.08)),
    ]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert _metrics(summary)["dice"] == 1.0 and not summary["warnings"]
    assert (
        summary["steps"][0]["vanished"] | {"sensitivity": 1.0, "found": 1, "kept": 2, "lost": 0}
        == (summary["steps"][0]["vanished"])
    )
    assert "1 of 1 left empty" in capsys.readouterr().out


def test_a_false_mask_in_the_other_scan_has_not_vanished(tmp_path: Path) -> None:
    write(tmp_path / "ref/case" / PRIMARY, block(1))
    write(tmp_path / "ref/case" / SECONDARY, block(2))
    write(tmp_path / "pred/case" / PRIMARY, block(1))
    write(tmp_path / "pred/case" / SECONDARY, block(2), block(1, z=8))
    baseline = write(
        tmp_path / "in/case/images/primary-baseline-ct-tumor-lesion-seg/b.mha", block(1), block(2, z=8)
    )
    command(
        "--reference",
        tmp_path / "ref",
        "--prediction",
        tmp_path / "pred",
        "--baseline",
        baseline.parents[3],
        "-o",
        tmp_path / "out",
        "--definition",
        "tracking",
    )
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["steps"][0]["vanished"]["missed"] == 0
    assert _metrics(summary)["dice"] == pytest.approx((1 + 0.5) / 2)


def test_the_area_under_the_curve_over_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = write(tmp_path / "ref.mha", block(1))
    steps = [write(tmp_path / f"step{x}.mha", block(1, x=x)) for x in (6, 4, 2)]  # Dice 0, 0.5, 1
    given = [part for step in steps for part in ("--prediction", step)]
    summary = _summary(capsys, "--reference", reference, *given, "--definition", "challenge")
    assert [_metrics(summary, step=n)["dice"] for n in (1, 2, 3)] == [0, 0.5, 1]
    for curve in summary["auc"]:
        assert curve["metrics"]["dice"]["mean"] == pytest.approx(0.25 + 0.75)
        assert curve["metrics"]["fn_volume_voxels"]["mean"] == pytest.approx(8)


def test_missing_predictions_are_scored_and_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"ref/{name}.mha", block(1))
    write(tmp_path / "pred/a.mha", block(1))
    command("--reference", tmp_path / "ref", "--prediction", tmp_path / "pred", "-o", tmp_path / "out")
    printed = capsys.readouterr()
    assert "warning:" in printed.err and "MISSING" in printed.err and "b.mha" in printed.err
    assert "FPvol, volume change, Dice@25 and MED are left out" in printed.err
    assert "| fp_volume_voxels | 0 | – | 0 | 0 | 0 | 1 | 1 |" in printed.out
    assert "MISSING predictions, counted with the worst score: 1" in printed.out
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["missing_predictions"] == [{"patient": "b", "scan": "b", "step": 1}]
    metrics = _metrics(summary)
    assert metrics["dice"] == 0.5 and metrics["fn_volume_voxels"] == 8 and metrics["fp_volume_voxels"] == 0
    assert metrics["hd95_mm"] == pytest.approx(np.linalg.norm((20, 32, 30)) / 2)


def test_a_missing_prediction_does_not_count_as_a_found_vanished_lesion(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"ref/{name}.mha")
        write(tmp_path / f"bl/{name}.mha", block(1))
    write(tmp_path / "pred/a.mha")
    command(
        "--reference",
        tmp_path / "ref",
        "--prediction",
        tmp_path / "pred",
        "--baseline",
        tmp_path / "bl",
        "--definition",
        "tracking",
        "-o",
        tmp_path / "out",
    )
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert _metrics(summary)["dice"] == 0.5
    vanished = summary["steps"][0]["vanished"]
    assert (vanished["found"], vanished["missed"], vanished["sensitivity"]) == (1, 1, 0.5)


def test_merged_lesions_of_a_tracking_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lesions 1 and 2 are one in the reference, the prediction separates them; lesion 3 has vanished."""
    lesion = {"bl_point": [1, 1, 1], "img_bl": 0, "img_fu": 0}
    ids = {"1": [1], "2": [1], "3": [0]}
    document = {"p": {name: lesion | {"merged_lesions": merged} for name, merged in ids.items()}}
    (tmp_path / "tracking.json").write_text(json.dumps(document))
    write(tmp_path / "ref/p_FU_img_00.mha", block(1, width=8))
    write(tmp_path / "ref/p_BL_img_00.mha", block(1), block(2, z=6), block(3, z=9))
    write(tmp_path / "pred/p_FU_img_00.mha", block(1), block(2, x=6))
    summary = _summary(
        capsys,
        "--reference",
        tmp_path / "ref",
        "--prediction",
        tmp_path / "pred",
        "--lesion-map",
        tmp_path / "tracking.json",
        "--baseline",
        tmp_path / "ref",
        "-o",
        tmp_path / "out",
    )
    assert _metrics(summary)["dice"] == 1.0 and not summary["warnings"]
    records = read_records(tmp_path / "out/lesions.csv")
    found: list[Any] = [(r.lesion, r.patient, r.baseline_ml) for r in records[:2]]
    assert found == [("1+2", "p", pytest.approx(0.16)), ("3", "p", pytest.approx(0.08))]
    assert summary["steps"][0]["vanished"]["found"] == 1
    assert "tracking.json" in summary["notes"][0]


def test_a_tracking_file_of_three_time_points_with_free_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As LongiSeg 2.0 has it: two lesions merge into one, which then vanishes; all labels in one folder."""
    points = {"bl_point": [1, 2, 3], "fu_point": float("nan"), "fu_point_prop": [1, 2, 3]}
    first = {"img_bl": "early", "img_fu": "middle", "merged_lesions": [1], **points}
    second = {"img_bl": "middle", "img_fu": "late", "merged_lesions": [0], **points}
    tracking = {"P": [{"1": first, "2": first}, {"1": second}]}
    (tmp_path / "trackingTr.json").write_text(json.dumps(tracking))
    labels_tr, predicted = tmp_path / "labelsTr", tmp_path / "predicted"
    write(labels_tr / "early.nii.gz", block(1), block(2, x=6))
    write(labels_tr / "middle.nii.gz", block(1), block(1, x=6))
    write(labels_tr / "late.nii.gz")
    write(predicted / "middle.nii.gz", block(1), block(2, x=6))
    write(predicted / "late.nii.gz", block(1))
    files = ("--reference", labels_tr, "--prediction", predicted, "--baseline", labels_tr)
    summary = _summary(capsys, *files, "--lesion-map", tmp_path / "trackingTr.json", "-o", tmp_path / "out")
    records = [one for one in read_records(tmp_path / "out/lesions.csv") if one.lesion != "all"]
    assert [(one.patient, one.scan, one.lesion) for one in records] == [
        ("P", "late", "1"),
        ("P", "middle", "1+2"),
    ]
    assert records[1].common_voxels == records[1].reference_voxels == records[1].prediction_voxels > 0
    assert records[0].existed and records[0].reference_voxels == 0 and records[0].prediction_voxels > 0
    assert _metrics(summary)["dice"] == 1 and not summary["warnings"]


def test_lesions_only_in_map_or_masks_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = write(tmp_path / "ref.mha", block(1), block(5, z=8))
    (tmp_path / "map.csv").write_text("baseline_id,followup_ids\n1,1\n2,2\n")
    given = ("--reference", reference, "--prediction", reference, "--lesion-map", tmp_path / "map.csv")
    first, second = _summary(capsys, *given)["warnings"]
    assert "lacks labels that the lesion map lists (2)" in first
    assert "does not list (5)" in second
    (tmp_path / "map.csv").write_text("patient,baseline_id,followup_ids\nother,1,1\n")
    assert "does not list ref" in _summary(capsys, *given)["warnings"][0]


def test_255_is_read_as_1_if_all_masks_are_binary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, one = write(tmp_path / "ref.mha"), write(tmp_path / "one.mha", block(1))
    high = write(tmp_path / "pred.mha", block(255), dtype=np.uint8)
    summary = _summary(capsys, "--reference", empty, "--prediction", high, "--baseline", one)
    assert summary["steps"][0]["vanished"]["missed"] == 1 and not summary["warnings"]
    assert any("binary masks of 1 and of 255" in note for note in summary["notes"])
    summary = _summary(capsys, "--reference", one, "--prediction", one, "--baseline", high)
    assert summary["steps"][0]["vanished"]["kept"] == 1
    ids = write(tmp_path / "ids.mha", block(1), block(2, z=8))
    assert "holds 255 alone" in _summary(capsys, "--reference", high, "--prediction", ids)["warnings"][0]


def test_lesions_with_the_same_id_get_different_names(tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("baseline_id,followup_ids\n3,5\n,3\n")
    reference = write(tmp_path / "ref.mha", block(5), block(3, z=8))
    prediction, empty = write(tmp_path / "pred.mha", block(3)), write(tmp_path / "empty.mha")
    given = ("--reference", reference, "--lesion-map", tmp_path / "map.csv", "--baseline", prediction)
    command(*given, "--prediction", empty, "-o", tmp_path / "old")
    command(*given, "--prediction", prediction, "-o", tmp_path / "new", "--compare", tmp_path / "old")
    records = read_records(tmp_path / "new/lesions.csv")
    assert [(r.lesion, r.baseline_ml) for r in records[:2]] == [("3", pytest.approx(0.08)), ("new 3", 0)]
    summary = json.loads((tmp_path / "new/summary.json").read_text())
    dice = next(e for e in summary["comparison"]["metrics"] if e["metric"] == "dice")["difference"]
    assert (dice["mean"], dice["lesions"]) == (0.5, 2)


def test_a_lesion_without_a_scan_vanishes_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "0123456789.csv"
    path.write_text("lesion_id,img_id_fu,cog_bl,cog_fu\n1,0,1 1 1,2 2 2\n2,1,1 1 5,2 2 2\n3,,9 9 9,\n")
    for number in (0, 1):
        write(tmp_path / f"ref/0123456789_FU_img_0{number}.mha", block(number + 1))
    folder = tmp_path / "ref"
    summary = _summary(capsys, "--reference", folder, "--prediction", folder, "--lesion-map", path)
    assert summary["steps"][0]["vanished"]["found"] == 1 and not summary["warnings"]
    assert any("all 2 scans are of one patient" in note for note in summary["notes"])


def test_labels_of_the_other_scan_are_not_lacking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "ref/case" / PRIMARY, block(1))
    write(tmp_path / "ref/case" / SECONDARY, block(11))
    (tmp_path / "map.csv").write_text("baseline_id,followup_ids\n1,1\n2,1\n11,11\n5,6\n9,6\n,8\n")
    given = ("--reference", tmp_path / "ref", "--prediction", tmp_path / "ref")
    warnings = _summary(capsys, *given, "--lesion-map", tmp_path / "map.csv")["warnings"]
    assert all("(6); they count as vanished" in w or "(8); they are new" in w for w in warnings) and warnings


def test_a_baseline_lesion_whose_id_the_map_reuses_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "map.csv").write_text("baseline_id,followup_ids\n2,4\n")
    reference, before = (
        write(tmp_path / "r.mha", block(4)),
        write(tmp_path / "b.mha", block(2), block(4, z=9)),
    )
    (warning,) = _summary(
        capsys,
        "--reference",
        reference,
        "--prediction",
        reference,
        "--baseline",
        before,
        "--lesion-map",
        tmp_path / "map.csv",
    )["warnings"]
    assert "(4); they are not counted" in warning


@pytest.mark.slow
def test_two_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        write(tmp_path / f"ref/p{number}.mha", block(1))
        write(tmp_path / f"one/p{number}.mha", block(1, x=4))
        write(tmp_path / f"two/p{number}.mha", block(1, x=3))
    command("--reference", tmp_path / "ref", "--prediction", tmp_path / "one", "-o", tmp_path / "run1")
    command(
        "--reference",
        tmp_path / "ref",
        "--prediction",
        tmp_path / "two",
        "-o",
        tmp_path / "run2",
        "--compare",
        tmp_path / "run1",
    )
    assert "This run less" in capsys.readouterr().out
    compared = json.loads((tmp_path / "run2/summary.json").read_text())["comparison"]["metrics"]
    dice = next(entry for entry in compared if entry["metric"] == "dice")
    assert dice["difference"]["mean"] == pytest.approx(0.25) and dice["difference"]["low"] == pytest.approx(
        0.25
    )
    assert dice["better"] == 6 and dice["p_wilcoxon_lesions"] == pytest.approx(2 / 2**6)
    rows = list(csv.DictReader((tmp_path / "run2/comparison.csv").open()))
    assert {row["difference"] for row in rows if row["metric"] == "dice"} == {"0.25"}
    with pytest.raises(InputError, match=r"holds no lesions.csv"):
        command(
            "--reference", tmp_path / "ref", "--prediction", tmp_path / "two", "--compare", tmp_path / "ref"
        )


def test_tables_derive_from_the_records(tmp_path: Path) -> None:
    for name, x in (("p/a", 2), ("p/b", 4), ("q/a", 6)):
        write(tmp_path / f"ref/{name}.mha", block(1))
        write(tmp_path / f"pred/{name}.mha", block(1, x=x))
    command(
        "--reference",
        tmp_path / "ref",
        "--prediction",
        tmp_path / "pred",
        "-o",
        tmp_path / "out",
        "--definition",
        "tracking",
    )
    scans = list(csv.DictReader((tmp_path / "out/per_scan.csv").open()))
    assert [(row["scan"], float(row["dice"])) for row in scans] == [("p/a", 1), ("p/b", 0.5), ("q/a", 0)]
    patients = list(csv.DictReader((tmp_path / "out/per_patient.csv").open()))
    assert [(row["patient"], float(row["dice"])) for row in patients] == [("p", 0.75), ("q", 0)]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    dice = summary["steps"][0]["metrics"]["dice"]
    assert dice["mean"] == pytest.approx(0.375) and dice["mean_of_scans"] == pytest.approx(0.5)
    assert 0 <= dice["low"] <= dice["mean"] <= dice["high"] <= 0.75


def test_another_grid_names_both_files(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref.mha", block(1))
    other = Geometry(GRID.size_xyz, (1.0, 2.0, 2.6), GRID.origin_xyz)
    prediction = write(tmp_path / "pred.mha", block(1), grid=other)
    with pytest.raises(
        InputError, match=f"{prediction}: lies on another grid than its reference {reference}"
    ):
        command("--reference", reference, "--prediction", prediction)


@pytest.mark.parametrize("value", [0.5, float("nan"), -1.0, 70_000.0])
def test_values_that_are_not_lesion_ids_are_refused(tmp_path: Path, value: float) -> None:
    reference = write(tmp_path / "ref.mha", block(1))
    array = labels(block(1)).astype(np.float32)
    array[0, 0, 0] = value
    write_image(tmp_path / "pred.mha", array, GRID, verify=False)
    with pytest.raises(InputError, match="pred.mha: holds"):
        command("--reference", reference, "--prediction", tmp_path / "pred.mha")


def test_empty_labelmaps_have_no_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = write(tmp_path / "ref.mha")
    for definition in ("challenge", "longitudinal", "tracking"):
        summary = _summary(capsys, "--reference", empty, "--prediction", empty, "--definition", definition)
        assert _metrics(summary)["dice"] is None
    command("--reference", empty, "--prediction", empty)
    assert "| dice | – |" in capsys.readouterr().out


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref.mha", block(1))
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="no folder"):
        command("--reference", reference, "--prediction", reference, "-o", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("model.cli.evaluate", ("torch", "SimpleITK", "numpy")),
        ("model.evaluation.evaluate_files", ("torch", "pandas", "matplotlib")),
    ],
)
def test_heavy_libraries_are_not_imported(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_challenges_release_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two patients, each with a CSV beside the masks; two lesions of the first have merged into mask 1."""
    release = tmp_path / "release"
    for patient in ("aaaaaaaaaa", "bbbbbbbbbb"):
        write(release / f"{patient}_BL_mask_BL_img_00.nii.gz", block(1), block(2, z=8))
        write(tmp_path / "out" / f"{patient}_FU_mask_FU_img_00.nii.gz", block(1), block(2, z=8))
    write(release / "aaaaaaaaaa_FU_mask_FU_img_00.nii.gz", block(1), block(1, z=8))
    write(release / "bbbbbbbbbb_FU_mask_FU_img_00.nii.gz", block(1), block(2, z=8))
    header = "lesion_id,img_id_bl,img_id_fu,cog_bl,cog_fu,cog_propagated\n"
    (release / "aaaaaaaaaa.csv").write_text(header + "1,0,0,3 2 2,3 2 5,\n2,0,0,3 2 8,3 2 5,\n")
    (release / "bbbbbbbbbb.csv").write_text(header + "1,0,0,3 2 2,3 2 2,\n2,0,0,3 2 8,3 2 8,\n")
    given = ("--reference", release, "--prediction", tmp_path / "out", "--lesion-map", release)
    summary = _summary(capsys, *given, "--baseline", release, "-o", tmp_path / "evaluation")
    assert _metrics(summary)["dice"] == 1.0 and not summary["warnings"]
    assert f"lesions pair by {release}" in summary["notes"]
    records = read_records(tmp_path / "evaluation" / "lesions.csv")
    assert [(r.patient, r.lesion, r.existed) for r in records if r.lesion != "all"] == [
        ("aaaaaaaaaa", "1+2", True),
        ("bbbbbbbbbb", "1", True),
        ("bbbbbbbbbb", "2", True),
    ]
