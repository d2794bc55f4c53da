"""Binary transforms are read in a process of their own first."""

from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK as sitk

from model.errors import InputError
from model.propagation.register import stored, trial_read
from model.propagation.register.trial_read import check_readable
from test.helpers.linked_transforms import KINDS, linked_transform


@pytest.fixture
def transform(tmp_path: Path) -> Path:
    path = tmp_path / "affine.h5"
    sitk.WriteTransform(sitk.TranslationTransform(3, (1, 2, 3)), str(path))
    return path


def test_a_sound_file_passes(transform: Path) -> None:
    check_readable(str(transform))


def test_what_itk_reports_is_left_to_the_caller(tmp_path: Path) -> None:
    (tmp_path / "no.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    check_readable(str(tmp_path / "no.h5"))


def test_a_crash_is_an_error_of_the_file(transform: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_read, "_LIMITED_PROGRAM", "import os; os.abort()")
    with pytest.raises(InputError, match=r"affine\.h5: is damaged: it crashes ITK's reader \(signal 6\)"):
        stored.read_transform(transform)


def test_reading_without_end_is_an_error_of_the_file(
    transform: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_read, "_LIMITED_PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(trial_read, "_SECONDS", 0.2)
    with pytest.raises(InputError, match="ITK does not come to an end with it"):
        stored.read_transform(transform)


@pytest.mark.parametrize("name", ["affine.h5", "affine.tfm"])  # ITK goes by the content
@pytest.mark.parametrize("kind", KINDS)
def test_content_of_other_files_is_refused(
    tmp_path: Path, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = linked_transform(tmp_path, kind).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)  # data beside the file are looked for in the current folder, too
    assert sitk.ReadTransform(str(path)).GetParameters()[9:] == (7.0, 8.0, 9.0)  # ITK takes them
    with pytest.raises(InputError, match=rf"{name}: takes parts from other files; expected"):
        stored.read_transform(path)


def test_hdf5_behind_other_bytes_is_refused(transform: Path) -> None:
    path = transform.with_suffix(".tfm")
    path.write_bytes(bytes(512) + transform.read_bytes())
    with pytest.raises(InputError, match=r"affine\.tfm: holds an HDF5 file; expected"):
        stored.read_transform(path)
