"""Readers of PET/CT data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.formats.pet_ct_sets import is_pet_ct_set, read_pet_ct_cohort
from model.errors import InputError

from ....helpers.data_sets import manifest_of_pairs, write_manifest

CASES = ("fdg_0a1b_05-26-2002-NA-PET CT-12345", "fdg_0a1b_2003", "psma_77ff_2018-04-22", "other_1_2")


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_the_layout_of_the_challenge_is_read_with_its_patients(tmp_path: Path) -> None:
    for case in CASES:
        names = (f"imagesTr/{case}_0000", f"imagesTr/{case}_0001", f"labelsTr/{case}")
        _touch(tmp_path, *(f"{name}.nii.gz" for name in names))
    _touch(tmp_path, f"organsTr/{CASES[1]}.nii.gz")
    assert is_pet_ct_set(tmp_path, "auto") and not is_pet_ct_set(tmp_path, "longiseg")
    cohort = read_pet_ct_cohort(tmp_path)
    assert [study.patient_id for study in cohort.studies] == [
        "fdg_0a1b",
        "fdg_0a1b",
        "other_1_2",
        "psma_77ff",
    ]
    assert cohort.patients == ("fdg_0a1b", "other_1_2", "psma_77ff") and not cohort.problems
    second = cohort.studies[1]
    assert second.scan_id == CASES[1] and second.pet.name == f"{CASES[1]}_0001.nii.gz"
    assert second.organs is not None and cohort.studies[0].organs is None
    assert len(cohort.without_patients(frozenset(["fdg_0a1b"])).studies) == 2


def test_a_case_without_pet_or_labelmap_is_a_problem(tmp_path: Path) -> None:
    _touch(tmp_path, "imagesTr/a_0000.mha", "imagesTr/b_0000.mha", "imagesTr/b_0001.mha")
    _touch(tmp_path, "imagesTr/c_0000.mha", "imagesTr/c_0001.mha", "labelsTr/c.nii.gz", "labelsTr/a.mha")
    cohort = read_pet_ct_cohort(tmp_path)
    assert [study.scan_id for study in cohort.studies] == ["c"]
    assert [problem.text.split(";")[0] for problem in cohort.problems] == [
        "has no PET a_0001",
        "has no labelmap labelsTr/b",
    ]
    (tmp_path / "labelsTr" / "c.nii.gz").unlink()
    with pytest.raises(InputError, match=r"lists no study .*has no PET a_0001.*expected imagesTr"):
        read_pet_ct_cohort(tmp_path)


def test_a_manifest_with_a_column_for_the_pet_is_read(tmp_path: Path) -> None:
    row = {
        "patient": "p1",
        "timepoint": "t0",
        "image": "ct.mha",
        "pet": "pet.mha",
        "labels": "l.mha",
        "organs": "",
    }
    rows = [row, {**row, "timepoint": "t1", "organs": "o.mha"}, row, {**row, "patient": "p2", "pet": ""}]
    manifest = write_manifest(tmp_path, rows)
    assert is_pet_ct_set(manifest, "auto") and is_pet_ct_set(tmp_path, "manifest")
    cohort = read_pet_ct_cohort(tmp_path)
    assert [study.scan_id for study in cohort.studies] == ["p1_t0", "p1_t1"]
    assert cohort.studies[0].organs is None and cohort.studies[1].organs == tmp_path / "o.mha"
    assert [str(one.text) for one in cohort.problems] == [
        "row 4: patient and time point p1_t0 are listed twice",
        "row 5: pet is empty; expected a value",
    ]


def test_columns_of_other_manifests_are_refused_beside_a_pet(tmp_path: Path) -> None:
    row = {"patient": "p", "timepoint": "t", "image": "c", "pet": "p", "labels": "l", "links": "1>2"}
    with pytest.raises(InputError, match="'links' is unknown beside PET/CT"):
        read_pet_ct_cohort(write_manifest(tmp_path, [row]))


def test_data_sets_of_ct_alone_are_no_pet_ct(tmp_path: Path) -> None:
    manifest = manifest_of_pairs(tmp_path / "pairs", {"p": [{1: ((4, 5, 5), 2)}]})
    assert not is_pet_ct_set(manifest, "auto")
    _touch(tmp_path / "longiseg", "imagesTr/a_0000.mha", "imagesTr/a_0001.mha", "patientsTr.json")
    assert not is_pet_ct_set(tmp_path / "longiseg", "auto")
    with pytest.raises(InputError, match="is missing; expected imagesTr"):
        read_pet_ct_cohort(tmp_path / "gone")
