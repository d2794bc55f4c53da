"""Atomic writing: a file is complete, or unchanged if writing fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.case.atomic_files import (
    TEMPORARY_PREFIX,
    atomic_write,
    discard_unfinished_files,
    remove_partial_files,
    write_text,
)
from model.errors import OutputError


def test_written_text_is_readable_by_everyone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.csv"
    write_text(path, "one\r\ntwo\n")
    assert path.read_bytes() == b"one\r\ntwo\n" and path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in path.parent.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("no\nway"), KeyError("x")]
)
def test_a_failed_write_keeps_the_existing_file(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    expected = KeyError if isinstance(error, KeyError) else OutputError
    with pytest.raises(expected) as raised, atomic_write(path, ".x") as temporary:
        assert temporary.suffix == ".x" and temporary.parent == tmp_path
        temporary.write_text("half")
        raise error
    assert path.read_text() == "before" and [file.name for file in tmp_path.iterdir()] == ["a"]
    if expected is OutputError:
        reason = "No space left on device" if isinstance(error, OSError) else "no way"
        assert str(raised.value) == f"{path}: cannot be written ({reason}); expected a writable folder"


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path / "file" / "a", "")


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "mine.txt", tmp_path / "output.txt"
    target.write_text("mine")
    link.symlink_to(target)
    write_text(link, "new")
    assert target.read_text() == "mine" and not link.is_symlink() and link.read_text() == "new"


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}abc.mha").touch()
    (tmp_path / "kept.mha").touch()
    remove_partial_files(tmp_path, tmp_path / "missing")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.mha"]


def test_a_signal_removes_what_is_being_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        discard_unfinished_files()
        assert not temporary.exists()
    assert list(tmp_path.iterdir()) == []
