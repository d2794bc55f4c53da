"""Cases of the protocol in both layouts, and what is missing in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from model.errors import InputError
from model.protocol.protocol_cases import find_protocol_cases
from test.helpers.golden_pet_ct import PET_CT
from test.helpers.protocol_cases_on_disk import write_protocol_case


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_channels_and_labels_of_nnunet_make_a_case(tmp_path: Path) -> None:
    images, labels = tmp_path / "imagesTr", tmp_path / "labelsTr"
    _touch(images / "psma_b_0000.nii.gz", images / "psma_b_0001.nii.gz", labels / "psma_b.nii.gz")
    _touch(images / "fdg_a_0000.mha", images / "fdg_a_0001.nii.gz", labels / "fdg_a.nrrd")
    _touch(images / "no_pet_0000.mha", labels / "no_pet.mha", images / "no_label_0000.mha")
    _touch(images / "no_label_0001.mha", images / "dataset.json", images / "_0000.mha")
    found = find_protocol_cases(tmp_path)
    assert [case.name for case in found.cases] == ["fdg_a", "psma_b"]
    first = found.cases[0]
    assert first.paths == (images / "fdg_a_0000.mha", images / "fdg_a_0001.nii.gz", labels / "fdg_a.nrrd")
    assert "no_pet_0001" in str(found.faults["no_pet"]) and "labelsTr" in str(found.faults["no_label"])


def test_folders_of_the_platform_make_cases() -> None:
    found = find_protocol_cases(PET_CT / "series", PET_CT / "series")
    (case,) = found.cases
    assert case.name == "p3_three_three_oblique" and not found.faults
    assert case.files.clicks == PET_CT / "series" / "p3_three_three_oblique.json"


def test_given_clicks_must_be_there_for_each_case(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_protocol_case(tmp_path, name)
    _touch(tmp_path / "clicks" / "one_clicks.json")
    found = find_protocol_cases(tmp_path, tmp_path / "clicks")
    assert [case.name for case in found.cases] == ["one"]
    assert "two.json or two_clicks.json" in str(found.faults["two"])


def test_folders_without_a_case_or_with_two_sets_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="holds no case; expected imagesTr/CASE_0000"):
            find_protocol_cases(folder)
    write_protocol_case(tmp_path, "one")
    for part in ("images", "labels"):
        shutil.copytree(tmp_path / f"{part}Tr", tmp_path / f"{part}Ts")
    with pytest.raises(InputError, match="imagesTs and imagesTr; expected one of them"):
        find_protocol_cases(tmp_path)
