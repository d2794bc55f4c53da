"""Names of any bytes: for libraries, which take plain ones, and for files that are written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from model.case.geometry import Geometry
from model.case.images import read_image, write_image
from model.case.input_files import is_regular_file, library_path, path_exists, plain_folder
from model.errors import InputError

ODD_NAMES = [b"M\xfcller.NII.gz", "Müller.nii.gz".encode(), b"a\nb.nii.gz", b"%s%n.nii.gz", b"plain.nii.gz"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_images_with_odd_names_are_written_and_read(tmp_path: Path, name: bytes) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name + b".folder"))
    path = folder / os.fsdecode(name)
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    write_image(path, array, Geometry((5, 4, 3), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0)))
    assert np.array_equal(read_image(path).array, array)
    assert os.listdir(os.fsencode(folder)) == [name]


def test_libraries_get_plain_names(tmp_path: Path) -> None:
    odd = tmp_path / "Müller.TFM"
    odd.write_text("content")
    with library_path(odd, ".tfm") as name:
        assert name.isascii() and name.endswith(".tfm") and Path(name).read_text() == "content"
    assert not Path(name).exists()
    plain = tmp_path / "plain.tfm"
    plain.write_text("")
    with library_path(plain, ".tfm") as name:
        assert name == str(plain)


def test_names_that_no_file_system_takes() -> None:
    for name in ("n" * 300, "zero\0byte", "\ud800"):
        assert not is_regular_file(Path(name)) and not path_exists(Path(name))


def test_temporary_folders_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with plain_folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_no_temporary_folder_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(InputError, match="expected a folder for temporary files"), plain_folder():
        pass
