"""Files of a PET/CT's run: the platform's names, earlier results, and names that clash."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from model.case.pet_ct_outputs import (
    EXTRA_FILES,
    platform_mask,
    prepare_extras,
    prepare_mask,
    remove_stale_masks,
)
from model.errors import InputError, OutputError


def test_the_mask_is_named_as_the_ct(tmp_path: Path) -> None:
    masks = tmp_path / "images" / "tumor-lesion-segmentation"
    assert platform_mask(tmp_path, Path("ct/a1.nii.gz")) == masks / "a1.mha"
    assert platform_mask(tmp_path, Path("x.y.MHA")) == masks / "x.y.mha"


def test_masks_of_other_cts_are_deleted_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = platform_mask(tmp_path, Path("old.mha"))
    remove_stale_masks(tmp_path)  # there is no folder yet
    old.parent.mkdir(parents=True)
    partial = old.parent / ".writing-1.mha"
    others = [old.parent / "notes.txt", tmp_path / "images" / "other.mha"]
    for path in (old, partial, *others):
        path.touch()
    with caplog.at_level(logging.WARNING):
        remove_stale_masks(tmp_path)
    assert not old.exists() and not partial.exists() and all(path.exists() for path in others)
    assert [record.getMessage() for record in caplog.records if "old.mha" in record.getMessage()] == [
        f"{old}: is the mask of an earlier run; it is deleted"
    ]


def test_earlier_results_are_deleted_and_inputs_never_replaced(tmp_path: Path) -> None:
    ct, mask, extras = tmp_path / "ct.mha", tmp_path / "mask.nii", tmp_path / "extras"
    extras.mkdir()
    stale = [extras / name for name in EXTRA_FILES]
    for path in (ct, mask, *stale, extras / "mine.txt"):
        path.touch()
    prepare_mask(mask, (ct,))
    prepare_extras(extras, (mask, ct))
    assert not mask.exists() and list(extras.iterdir()) == [extras / "mine.txt"]
    with pytest.raises(InputError, match=r"ct.mha: is an input, too"):
        prepare_mask(ct, (ct,))
    lesions = tmp_path / "lesions.mha"
    with pytest.raises(InputError, match=r"lesions.mha: is a file of --extras, and the mask"):
        prepare_extras(tmp_path, (lesions, ct))  # the mask does not exist yet
    lesions.touch()
    with pytest.raises(InputError, match=r"lesions.mha: is a file of --extras"):
        prepare_extras(tmp_path, (mask, lesions))
    assert lesions.exists() and ct.exists()


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(OutputError, match=r"run.json: is a folder"):
        prepare_extras(tmp_path, ())
