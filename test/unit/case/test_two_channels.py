"""Images of PET/CT by their names in nnU-Net's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.case.two_channels import CT_ENDING, PET_ENDING, case_of_channel, find_named_image
from model.errors import InputError


def test_the_case_of_a_channel() -> None:
    assert case_of_channel(Path("a/fdg_1_0000.nii.gz"), CT_ENDING) == "fdg_1"
    assert case_of_channel(Path("a/fdg_1_0001.mha"), PET_ENDING) == "fdg_1"
    assert case_of_channel(Path("a/fdg_1_0001.mha"), CT_ENDING) is None
    assert case_of_channel(Path("a/_0000.mha"), CT_ENDING) is None
    assert case_of_channel(Path("a/fdg_1_0000.txt"), CT_ENDING) is None


def test_an_image_in_two_formats_is_refused(tmp_path: Path) -> None:
    assert find_named_image(tmp_path, "x_0000") is None
    (tmp_path / "x_0000.mha").touch()
    assert find_named_image(tmp_path, "x_0000") == tmp_path / "x_0000.mha"
    (tmp_path / "x_0000.nii.gz").touch()
    with pytest.raises(InputError, match=r"x_0000\.\S+ and x_0000\.\S+; expected one"):
        find_named_image(tmp_path, "x_0000")
