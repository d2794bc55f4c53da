"""Files that are no images of the known formats are named for what they are."""

from __future__ import annotations

import io
import lzma
import tarfile

import pytest

from model.case.file_kinds import other_kind


def _tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("scan.nii"))
    return content.getvalue()


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"\x08\0\x16\0UI\x1a\0", "a DICOM file"),
        (b"\x02\0\0\0UL", "a DICOM file"),
        (_tar(), "a TAR archive"),
        (bytes(1000), "filled with zeros"),
        (b"../../.git/annex/objects/x/y/MD5E-s1.nii.gz\n", "a git-annex pointer"),
        (b"\n <!DOCTYPE HTML>", "a web page"),
        (b"\xef\xbb\xbf<HTML>", "a web page"),
        (b"<Error><Code>AccessDenied</Code></Error>", "an XML document"),
        (b"<VTKFile type='ImageData'>", "a VTK file"),
        (b"CDF\1", "a NetCDF file"),
        (lzma.compress(b"x", lzma.FORMAT_ALONE), "compressed by LZMA"),
        (lzma.compress(b"x"), "compressed by xz"),
    ],
)
def test_kinds(start: bytes, kind: str) -> None:
    assert str(other_kind(start)).startswith(kind)


@pytest.mark.parametrize("start", [b"", b"hello", bytes(100) + b"x", b"\xff" * 400])
def test_unknown_kinds(start: bytes) -> None:
    assert other_kind(start) is None
