"""Models out of archives: what is unpacked, and everything that is refused before it can do harm."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from model.errors import OutputError
from model.network import weights_archive
from model.network.checksums import CHECKSUM_FILE, read_checksums
from model.network.pack import pack_weights
from model.network.weights import inspect_weights, load_folds
from model.network.weights_import import import_weights

from ...helpers.checkpoints import refusal, small_model

Members = dict[str, bytes]


def _members(model: Path, prefix: str = "") -> Members:
    """A model's files as they lie in an archive, with others beside them."""
    files = {
        f"{prefix}{path.relative_to(model)}": path.read_bytes() for path in model.rglob("*") if path.is_file()
    }
    return files | {f"{prefix}fold_0/progress.png": b"\x89PNG", f"{prefix}fold_0/checkpoint_best.pth": b"x"}


def _zip(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _tar(path: Path, members: Members, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # a mode in words
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed model, whose files are small."""
    root = tmp_path_factory.mktemp("weights")
    pack_weights(small_model(root / "published"), root / "packed")
    (root / "packed" / CHECKSUM_FILE).unlink()
    return root / "packed"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_model_is_imported(kind: str, model: Path, tmp_path: Path) -> None:
    members = _members(model, "deep/Dataset1/") | {"deep/LICENSE": b"CC BY 4.0", "deep/log.txt": b"..."}
    archive = tmp_path / f"download.{kind}"
    if kind == "zip":
        _zip(archive, members)
    else:
        _tar(archive, members, "w:gz" if kind == "tar.gz" else "w")
    (folder,) = import_weights(archive, tmp_path / "new" / "model")
    assert folder == tmp_path / "new" / "model"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    weights = {f"fold_{fold}/checkpoint_final.safetensors" for fold in (0, 1)}
    assert names == weights | {"plans.json", "dataset.json", "LICENSE", CHECKSUM_FILE}
    assert (read_checksums(folder) or {}).keys() == names - {CHECKSUM_FILE}
    assert len(list(load_folds(inspect_weights(folder, (0, 1))))) == 2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]  # nothing temporary is left
    assert folder.stat().st_mode & 0o055 == 0o055


def test_several_models_keep_their_folders(model: Path, tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", _members(model, "top/first/") | _members(model, "top/second/"))
    folders = import_weights(archive, tmp_path / "models")
    assert folders == [tmp_path / "models" / "first", tmp_path / "models" / "second"]


def test_an_existing_folder_is_not_touched(model: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("")
    with pytest.raises(OutputError, match="exists already; expected a new folder"):
        import_weights(_zip(tmp_path / "a.zip", _members(model)), tmp_path / "there")


def _link(mode: int) -> Callable[[Path, Members], Path]:
    def write(path: Path, members: Members) -> Path:
        _zip(path, members)
        with zipfile.ZipFile(path, "a") as archive:
            link = zipfile.ZipInfo("fold_2")
            link.external_attr = (mode | 0o777) << 16
            archive.writestr(link, "/etc")
        return path

    return write


def _tar_member(**fields: object) -> Callable[[Path, Members], Path]:
    def write(path: Path, members: Members) -> Path:
        _tar(path, members, "w")
        with tarfile.open(path, "a") as archive:
            member = tarfile.TarInfo("fold_2")
            for name, value in fields.items():
                setattr(member, name, value)
            archive.addfile(member)
        return path

    return write


def _bomb(path: Path, members: Members) -> Path:
    return _zip(path, {"plans.json": b"{}", "fold_2/checkpoint_final.safetensors": bytes(3 << 20)})


def _tar_bomb(path: Path, members: Members) -> Path:
    """A header of an extension that says it has a gigabyte, of zeros."""
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    with gzip.open(path, "wb", 1) as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        file.write(bytes(3 << 20))
    return path


def _overlapping(path: Path, members: Members) -> Path:
    """A size below zero, which would lead back to the header itself, without end."""
    header = bytearray(tarfile.TarInfo("plans.json").tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = (-1024).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    path.write_bytes(bytes(header) + bytes(4096))
    return path


def _cut(path: Path, members: Members) -> Path:
    content = _tar(path, members).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def _damaged(path: Path, members: Members) -> Path:
    content = bytearray(_zip(path, members).read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    return path


def _named(name: str) -> Callable[[Path, Members], Path]:
    return lambda path, members: _zip(path, members | {name: b"{}"})


HOSTILE: dict[str, tuple[Callable[[Path, Members], Path], str]] = {
    "a path out of the folder": (_named("../plans.json"), "leads out of the folder"),
    "an absolute path": (_named("/tmp/plans.json"), "leads out of the folder"),
    "a path of Windows": (_named("..\\plans.json"), "leads out of the folder"),
    "a TAR path out of the folder": (lambda p, m: _tar(p, m | {"a/../../b": b""}), "leads out of the folder"),
    "a link": (_link(stat.S_IFLNK), "is a link"),
    "a TAR link": (_tar_member(type=tarfile.SYMTYPE, linkname="/etc"), "is a link"),
    "a hard link": (_tar_member(type=tarfile.LNKTYPE, linkname="plans.json"), "is a link"),
    "a pipe": (_tar_member(type=tarfile.FIFOTYPE), "is a device or pipe"),
    "a device": (_tar_member(type=tarfile.CHRTYPE), "is a device or pipe"),
    "far more contents than its size": (_bomb, "more than 20 times its size"),
    "a huge header": (_tar_bomb, "more than 20 times its size"),
    "members that overlap": (_overlapping, "damaged"),
    "half of it": (_cut, "damaged"),
    "a changed byte": (_damaged, "damaged"),
    "no plan": (lambda p, m: _zip(p, {k: v for k, v in m.items() if k != "plans.json"}), "no plans.json"),
    "no folds": (lambda p, m: _zip(p, {"plans.json": m["plans.json"]}), "holds no folds"),
    "a plan that is none": (lambda p, m: _zip(p, m | {"plans.json": b"{}"}), "plans.json"),
    "a huge data set": (lambda p, m: _zip(p, m | {"dataset.json": bytes(9 << 20)}), "no text of a model"),
    "a fold of text": (
        lambda p, m: _zip(p, m | {"fold_1/checkpoint_final.safetensors": b"<html>"}),
        "fold_1/checkpoint_final.safetensors: is corrupt",
    ),
    "a web page": (lambda p, m: _written(p, b"<!DOCTYPE html>"), "is a web page"),
    "xz": (lambda p, m: _written(p, b"\xfd7zXZ\0"), "is compressed by xz"),
}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused(
    kind: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_archive, "_ALLOWANCE_BYTES", 2 << 20)
    write, part = HOSTILE[kind]
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = write(tmp_path / "archive", _members(model))
    message = refusal(lambda: import_weights(archive, inner / "model"), str(archive), part)
    assert ".writing-" not in message  # of the temporary folder
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "inner"} and not list(inner.iterdir())


def test_a_name_that_is_there_twice_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        archive = _zip(tmp_path / "a.zip", _members(model))
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr("plans.json", "{}")
    refusal(lambda: import_weights(archive, tmp_path / "m"), "holds 'plans.json' twice")


def test_too_many_files_are_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_archive, "_MOST_FILES", 3)
    for write in (_zip, _tar):
        archive = write(tmp_path / "a", _members(model))
        refusal(partial(import_weights, archive, tmp_path / "m"), "more than 3 files")


def test_gzip_is_unpacked_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that fill their TAR blocks: the reader goes back one byte, and must not begin again."""
    members = _members(model) | {"README.md": b"x" * 51200, "logs/NOTICE": b"y" * 102400}
    archive = _tar(tmp_path / "a.tar.gz", members)

    def rewind(self: object) -> None:
        raise AssertionError("unpacked a second time")

    monkeypatch.setattr(gzip._GzipReader, "_rewind", rewind)
    (folder,) = import_weights(archive, tmp_path / "m")
    assert (folder / "README.md").read_bytes() == members["README.md"]
