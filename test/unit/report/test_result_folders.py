"""Folders of `track` and `segment` as sources of measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.case.case import Slot
from model.case.challenge import output_path
from model.case.images import read_image, write_image
from model.errors import InputError
from model.report.measure_run import measure_patients
from model.report.result_folders import segmented_case, tracked_patients, unjudged
from test.helpers.labelled_scans import LesionBoxes, cube, write_labelled_scan


def _lesion(lesion_id: int, fate: str, **more: Any) -> dict[str, Any]:
    return {"lesion_id": lesion_id, "fate": fate, "reason": "", **more}


def _tracked(folder: Path, name: str, lesions: LesionBoxes, entries: list[Any]) -> dict[str, Any]:
    """Write a time point into the folder of a tracked patient; returns its entry of the record."""
    ct, labels = write_labelled_scan(folder, name, lesions)
    return {
        "name": name,
        "when": name,
        "scans": {"primary": {"ct": str(ct), "labelmap": labels.name, "clicks": "c.json", "boxes": None}},
        "lesions": entries,
    }


def _record(folder: Path) -> Path:
    """A patient with a lesion that vanishes, one that fails, and one that merges and is propagated."""
    big, small = {1: cube((2, 4, 4), 8)}, {2: cube((2, 18, 18), 4), 3: cube((5, 18, 4), 4)}
    folder.mkdir(parents=True)
    document = {
        "patient": "Müller/7",
        "is_whole": True,
        "warnings": ["one network for all scans"],
        "time_points": [
            _tracked(folder, "2024-01-10", {**big, **small}, [_lesion(n, "source") for n in (1, 2, 3)]),
            _tracked(
                folder,
                "2024-03-10",
                big,
                [
                    _lesion(
                        *(1, "merged"),
                        point_source="propagated",
                        confidence_mm=14.2,
                        is_flagged=True,
                        merged_with=[4],
                    ),
                    _lesion(2, "vanished"),
                    _lesion(3, "failed", reason="out of memory"),
                ],
            ),
        ],
    }
    (folder / "tracking.json").write_text(json.dumps(document))
    return folder


def test_tracked_lesions(tmp_path: Path) -> None:
    folder = _record(tmp_path / "out" / "P7")
    (source,) = tracked_patients(tmp_path / "out")
    assert tracked_patients(folder)[0].patient == source.patient == "Müller/7"
    result = measure_patients([source], tmp_path / "measured")
    (patient,) = result.measurements.patients
    assert result.exit_code == 0 and [point.days for point in patient.time_points] == [0, 60]
    merged, vanished, failed = (lesion.findings[1] for lesion in patient.lesions)
    assert merged.flags == (
        "check: point propagated, may be 14 mm off",
        "check: merged with 4, measured without them",
    )
    assert (vanished.state, vanished.volume_ml) == ("absent", 0.0)
    assert (failed.state, failed.volume_ml, failed.reason) == ("unknown", None, "failed: out of memory")
    assert merged.mass is None  # the labelmap does not show lesion 4
    assert patient.burden[1].unknown == (3,)
    assert patient.burden[1].volume_ml == pytest.approx(0.512)


def test_a_ct_that_has_moved_is_the_failure_of_its_time_point(tmp_path: Path) -> None:
    folder = _record(tmp_path / "P7")
    (folder / "2024-01-10-ct.nii.gz").unlink()
    result = measure_patients(tracked_patients(folder), tmp_path / "measured")
    assert result.exit_code == 2 and "2024-01-10-ct.nii.gz: cannot be read" in str(result.message)
    assert result.measurements.patients[0].lesions[0].findings[1].volume_ml == pytest.approx(0.512)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "holds no tracking.json"), ("{", "tracking.json"), ('{"patient": "P"}', "time_points: Field")],
)
def test_folders_that_are_no_result_of_tracking(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "tracking.json").write_text(text)
    with pytest.raises(InputError, match=message):
        tracked_patients(tmp_path)


def _case(folder: Path) -> tuple[Path, Path, Path]:
    """A case with two lesions, of which one is empty in the follow-up; its folders."""
    case, output, extras = (folder / name for name in ("case", "output", "extras"))
    images = case / "images"
    baseline = write_labelled_scan(folder, "baseline", {1: cube((2, 4, 4), 8), 2: cube((2, 18, 18), 4)})
    followup = write_labelled_scan(folder, "followup", {1: cube((2, 4, 4), 10)})
    for source, target in (
        (baseline[0], images / "primary-baseline-ct" / "image.nii.gz"),
        (baseline[1], images / "primary-baseline-ct-tumor-lesion-seg" / "mask.nii.gz"),
        (followup[0], images / "primary-followup-ct" / "image.nii.gz"),
    ):
        target.parent.mkdir(parents=True)
        source.rename(target)
    _as_mha(followup[1], output_path(output, Slot.PRIMARY))
    extras.mkdir()
    point = {"source": "propagated", "confidence_mm": None, "is_flagged": True}
    folds = {"dice": 0.41, "volume_spread": 0.9}
    odd = {"fold": 4}
    lesions = [
        {"lesion_id": 1, "status": "segmented", "followup": point, "odd_fold": odd, "folds": folds},
        {"lesion_id": 2, "status": "out-of-view", "message": "not in the scan"},
    ]
    run = {"lesions": lesions, "warnings": ["demonstration weights"]}
    (extras / "run.json").write_text(json.dumps(run))
    return case, output, extras


def _as_mha(source: Path, target: Path) -> None:
    image = read_image(source)
    write_image(target, image.array, image.geometry, verify=False)


def test_a_segmented_case(tmp_path: Path) -> None:
    case, output, extras = _case(tmp_path)
    (patient,) = measure_patients(
        [segmented_case(case, output, extras)], tmp_path / "with"
    ).measurements.patients
    assert "demonstration weights" in patient.warnings
    grown, hidden = patient.lesions
    assert [finding.volume_ml for finding in grown.findings] == pytest.approx([0.512, 1.0])
    assert grown.findings[1].flags == (
        "check: point propagated, its error is not known",
        "check: folds disagree (Dice 0.41)",
        "check: fold 4 disagrees with all others",
    )
    assert (hidden.findings[1].state, hidden.findings[1].reason) == (
        "unknown",
        "out-of-view: not in the scan",
    )
    bare = measure_patients([segmented_case(case, output, None)], tmp_path / "without")
    (patient,) = bare.measurements.patients
    assert patient.lesions[1].findings[1].state == "absent"
    assert any("looks as if it had vanished" in warning for warning in patient.warnings)


def test_only_a_vanished_lesion_is_absent() -> None:
    entries = [
        *((1, "vanished", "no voxel was found"), (2, "merged", "with 3"), (4, "failed", "")),
        *((5, "empty", ""), (6, "empty", "other lesions claimed all of its voxels")),
        *((7, "out-of-view", "not in the primary scan"), (7, "vanished", "no voxel was found")),
    ]
    assert unjudged(entries) == {
        2: "merged: with 3",
        4: "failed",
        6: "empty: other lesions claimed all of its voxels",
    }


def test_a_baseline_that_was_segmented_in_the_run(tmp_path: Path) -> None:
    case, output, extras = _case(tmp_path)
    _, labels = write_labelled_scan(tmp_path, "more", {5: cube((6, 20, 4), 4)})
    (extras / "baseline").mkdir()
    _as_mha(labels, extras / "baseline" / "primary-baseline.mha")
    (patient,) = measure_patients(
        [segmented_case(case, output, extras)], tmp_path / "out"
    ).measurements.patients
    assert [lesion.lesion_id for lesion in patient.lesions] == [1, 2, 5]
    assert patient.burden[0].volume_ml == pytest.approx(0.512 + 0.064 + 0.064)
