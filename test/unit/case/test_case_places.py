"""A case as a user names its files: which files, where results go, and what is never overwritten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model.case.case import Slot
from model.case.case_places import PairPlaces
from model.case.pair_input import PairInput
from model.errors import InputError


def _places(folder: Path, baseline: str = "before.nii.gz", followup: str = "after.mhd") -> PairPlaces:
    pair = PairInput(folder / baseline, folder / followup, folder / "mask.nii.gz", folder / "clicks.json")
    return PairPlaces(pair, folder / "out")


def test_the_files_of_a_pair(tmp_path: Path) -> None:
    places = _places(tmp_path)
    files = places.find()
    assert not files.warnings
    ((baseline,), (followup,)) = (files.baseline, files.followup)
    pair = places.pair
    assert (baseline.ct, baseline.mask, baseline.clicks) == (
        pair.baseline,
        pair.baseline_mask,
        pair.baseline_clicks,
    )
    assert (followup.ct, followup.mask, followup.clicks) == (pair.followup, None, None)


def test_a_folder_with_one_image_is_that_image(tmp_path: Path) -> None:
    (tmp_path / "before.nii.gz").mkdir()
    (tmp_path / "before.nii.gz" / "ct.mha").touch()
    assert _places(tmp_path).find().baseline[0].ct == tmp_path / "before.nii.gz" / "ct.mha"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.mha", ".mha"),
        ("a.mhd", ".mha"),
        ("a.nii", ".nii.gz"),
        ("a.NII.GZ", ".nii.gz"),
        ("a.nrrd", ".nrrd"),
        ("a.nhdr", ".nrrd"),
        ("folder", ".mha"),
    ],
)
def test_results_have_the_format_of_their_scan(name: str, suffix: str, tmp_path: Path) -> None:
    places = _places(tmp_path, name, name)
    assert places.labelmap(Slot.PRIMARY) == tmp_path / "out" / f"followup_lesions{suffix}"
    assert places.baseline_name == f"baseline_lesions{suffix}"


def test_a_pair_without_lesions_is_refused(tmp_path: Path) -> None:
    places = _places(tmp_path)
    bare = replace(places, pair=PairInput(places.pair.baseline, places.pair.followup))
    with pytest.raises(InputError, match="without lesions; expected --baseline-mask or --baseline-clicks"):
        bare.find()
    with pytest.raises(InputError, match="comes without a mask"):
        bare.require_masks(places.find())
    places.require_masks(places.find())
    clicked = replace(bare, pair=replace(bare.pair, followup_clicks=tmp_path / "c.json"))
    assert clicked.find().followup[0].clicks == tmp_path / "c.json"


def test_results_of_an_earlier_run_are_deleted(tmp_path: Path) -> None:
    places = _places(tmp_path)
    places.output_dir.mkdir()
    stale = ["followup_lesions.nrrd", "followup_lesions.mha", "baseline_lesions.nii.gz", ".writing-x"]
    for name in (*stale, "mine.mha"):
        (places.output_dir / name).touch()
    places.remove_stale()
    assert [path.name for path in places.output_dir.iterdir()] == ["mine.mha"]


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    """The mask that an earlier run has written, taken from where the next one would write it."""
    places = _places(tmp_path)
    mask = places.output_dir / "baseline_lesions.nii.gz"
    mask.parent.mkdir()
    mask.touch()
    (tmp_path / "link").symlink_to(mask)
    for given in (mask, tmp_path / "link"):
        again = replace(places, pair=replace(places.pair, baseline_mask=given))
        with pytest.raises(InputError, match="is an input, too; expected another folder"):
            again.remove_stale()
        assert mask.exists()
