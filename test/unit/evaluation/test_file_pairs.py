"""Pairing of files in plain folders, in the platform's layout and in folders of training data."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.case.case import Slot
from model.errors import InputError
from model.evaluation.file_pairs import Pairing, ScanKey, pair_evaluation_files
from model.evaluation.lesion_map import LesionMap, MappedLesion, PatientLesions

PRIMARY = "primary-followup-ct-tumor-lesion-seg"
SECONDARY = "secondary-followup-ct-tumor-lesion-seg"
BEFORE = "primary-baseline-ct-tumor-lesion-seg"


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _pair(reference: Path, *predictions: Path, baseline: Path | None = None) -> Pairing:
    return pair_evaluation_files(reference, predictions, baseline, None)


def test_folders_pair_by_relative_path_without_suffix(tmp_path: Path) -> None:
    reference = _touch(tmp_path / "ref", "a.nii.gz", "p/b.mha", "p/notes.txt", ".hidden.mha")
    prediction = _touch(tmp_path / "pred", "a.mha", "p/b.nrrd", "c.mha")
    first, second = (found := _pair(reference, prediction)).scans
    assert (first.key.scan, first.patient, first.predictions) == ("a", "a", (prediction / "a.mha",))
    assert (second.key.scan, second.patient) == ("p/b", "p")
    assert found.warnings == (f"{prediction / 'c.mha'}: has no reference; it is left out",)


def test_cases_pair_by_folder_and_socket(tmp_path: Path) -> None:
    reference = _touch(
        tmp_path / "ref",
        f"c1/images/{PRIMARY}/t.mha",
        f"c1/images/{SECONDARY}/t.mha",
        f"c2/{PRIMARY}/x.nii.gz",
    )
    prediction = _touch(
        tmp_path / "pred",
        f"c1/output/images/{PRIMARY}/segmentation.mha",
        f"c1/output/images/{SECONDARY}/segmentation.mha",
        f"c2/images/{PRIMARY}/segmentation.mha",
    )
    baseline = _touch(
        tmp_path / "in", f"c1/input/images/{BEFORE}/b.mha", "c1/input/images/primary-baseline-ct/b.mha"
    )
    found = _pair(reference, prediction, baseline=baseline)
    assert [scan.key for scan in found.scans] == [
        ScanKey("c1", Slot.PRIMARY),
        ScanKey("c1", Slot.SECONDARY),
        ScanKey("c2", Slot.PRIMARY),
    ]
    assert [scan.patient for scan in found.scans] == ["c1", "c1", "c2"]
    assert found.scans[1].predictions[0] == prediction / f"c1/output/images/{SECONDARY}/segmentation.mha"
    assert found.scans[1].baselines == ((Slot.PRIMARY, baseline / f"c1/input/images/{BEFORE}/b.mha"),)
    assert "no baseline" in found.warnings[0] and len(found.warnings) == 1


def test_a_plain_reference_is_the_cases_primary_scan(tmp_path: Path) -> None:
    reference = _touch(tmp_path / "ref", "c1.mha", "c2.mha")
    prediction = _touch(tmp_path / "pred", f"c1/images/{PRIMARY}/s.mha", f"c2/output/images/{PRIMARY}/s.mha")
    assert not _pair(reference, prediction).warnings


def test_a_single_case_or_file_pairs_under_any_name(tmp_path: Path) -> None:
    truth = _touch(tmp_path, "truth/lesions.mha") / "truth"
    output = _touch(tmp_path, f"run/output/images/{PRIMARY}/segmentation.mha") / "run/output"
    for given in (truth, truth / "lesions.mha"):
        for prediction in (output, output.parent, output / f"images/{PRIMARY}/segmentation.mha"):
            assert _pair(given, prediction).scans[0].predictions[0] is not None
    baseline = _touch(tmp_path, f"case/images/{BEFORE}/b.mha") / "case"
    (scan,) = _pair(truth, output, baseline=baseline).scans
    assert scan.baselines[0][1].name == "b.mha" and scan.patient == "lesions"


def test_missing_predictions_are_warned_of_by_step(tmp_path: Path) -> None:
    reference = _touch(tmp_path / "ref", "a.mha", "b.mha")
    one, two = _touch(tmp_path / "one", "a.mha", "b.mha"), _touch(tmp_path / "two", "b.mha")
    found = _pair(reference, one, two)
    assert found.scans[0].predictions == (one / "a.mha", None)
    (warning,) = found.warnings
    assert "MISSING prediction of step 2" in warning and str(reference / "a.mha") in warning
    (tmp_path / "none").mkdir()
    assert len(_pair(reference, tmp_path / "none").warnings) == 2


def test_folders_of_training_data_hold_the_baseline_too(tmp_path: Path) -> None:
    names = ("x_BL_img_00.mha", "x_FU_img_00.mha", "y_BL_img_00.mha", "y_FU_img_00.mha")
    reference = _touch(tmp_path / "labelsTr", *names)
    prediction = _touch(tmp_path / "pred", "x_FU_img_00.mha", "y_FU_img_00.mha")
    found = _pair(reference, prediction, baseline=reference)
    assert not found.warnings
    assert [(s.patient, s.baselines[0][1].name) for s in found.scans] == [("x", names[0]), ("y", names[2])]


def test_the_map_names_patients_and_baselines(tmp_path: Path) -> None:
    reference = _touch(tmp_path / "labelsTr", "x_t0.mha", "x_t1.mha")
    prediction = _touch(tmp_path / "pred", "x_t1.mha")
    lesion = MappedLesion((1,), (1,), "x_t0", "x_t1")
    lesion_map = LesionMap(tmp_path / "map", (PatientLesions("x", (lesion,)),))
    found = pair_evaluation_files(reference, [prediction], reference, lesion_map)
    (scan,) = found.scans
    assert (scan.patient, scan.key.scan, scan.baselines) == ("x", "x_t1", ((None, reference / "x_t0.mha"),))


def test_a_follow_up_is_not_its_own_baseline(tmp_path: Path) -> None:
    folder = _touch(tmp_path / "all", "p_BL_img_00.mha", "p_FU_img_01.mha")
    found = _pair(folder, _touch(tmp_path / "pred", "p_FU_img_01.mha"), baseline=folder)
    assert found.scans[0].baselines == () and "no baseline" in found.warnings[0]


def test_pairs_with_different_names_are_warned_of(tmp_path: Path) -> None:
    one, two = _touch(tmp_path / "a", "p1.mha"), _touch(tmp_path / "b", "p2.mha")
    warning = f"{two / 'p2.mha'}: paired with {one / 'p1.mha'} although the names differ"
    assert _pair(one / "p1.mha", two).warnings == (warning,)
    assert _pair(one / "p1.mha", one, baseline=two / "p2.mha").warnings == ()
    assert _pair(one, one, baseline=two / "p2.mha").warnings == (warning,)
    assert _pair(one / "p1.mha", two / "p2.mha").warnings == ()
    case = _touch(tmp_path / "c", f"A/{PRIMARY}/x.mha"), _touch(tmp_path / "d", f"B/{PRIMARY}/x.mha")
    assert "although the names differ" in _pair(*case).warnings[0]


def test_baseline_numbers_of_a_map_are_not_names_of_cases(tmp_path: Path) -> None:
    reference = _touch(tmp_path / "ref", "0.mha", "1.mha")
    lesions = (MappedLesion((1,), (1,), "0", "1"), MappedLesion((2,), (2,), "x_t0", "x_t1"))
    lesion_map = LesionMap(tmp_path / "map", (PatientLesions("x", lesions),))
    assert len(pair_evaluation_files(reference, [reference], None, lesion_map).scans) == 2
    named = _touch(tmp_path / "named", "x_t0.mha", "x_t1.mha")
    assert len(pair_evaluation_files(named, [named], None, lesion_map).scans) == 2  # both are predicted


def test_symbolic_links_that_lead_back_are_not_followed(tmp_path: Path) -> None:
    folder = _touch(tmp_path / "ref", "a.mha")
    (folder / "again").symlink_to(folder)
    (tmp_path / "twice").mkdir()
    for name in ("x", "y"):
        (tmp_path / "twice" / name).symlink_to(folder)
    assert [scan.key.scan for scan in _pair(folder, folder).scans] == ["a"]
    assert [s.key.scan for s in _pair(tmp_path / "twice", tmp_path / "twice").scans] == ["x/a", "y/a"]


def test_files_that_cannot_be_paired_are_refused(tmp_path: Path) -> None:
    reference = _touch(tmp_path / "ref", "a.mha", "b.mha")
    prediction = _touch(tmp_path / "pred", "q.mha", "r.mha")
    with pytest.raises(
        InputError, match=r"none of its labelmaps \(q, ...\) has the name of one .*\(a, ...\)"
    ):
        _pair(reference, prediction)
    with pytest.raises(InputError, match="one file for 2 references"):
        _pair(reference, prediction / "q.mha")
    with pytest.raises(InputError, match="does not exist"):
        _pair(reference, tmp_path / "nowhere")
    with pytest.raises(InputError, match="has the same name as .*a.mha"):
        _pair(_touch(reference, "a.nii.gz"), prediction)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no labelmap of a follow-up"):
        _pair(tmp_path / "empty", prediction)
