"""Kinds of files that are often mistaken for images, recognised by their first bytes."""

from __future__ import annotations

_KINDS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF file"),
    (b"MM\0*", "a TIFF file"),
    (b"II+\0", "a TIFF file"),
    (b"MM\0+", "a TIFF file"),
    (b"\x89HDF", "an HDF5 file (as MINC 2 is)"),
    (b"CDF\1", "a NetCDF file (as MINC 1 is)"),
    (b"CDF\2", "a NetCDF file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\2", "a Python pickle"),
    (b"\x80\3", "a Python pickle"),
    (b"\x80\4", "a Python pickle"),
    (b"\x80\5", "a Python pickle"),
    (b"PK\3\4", "a ZIP archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1f\x8b", "compressed by gzip twice"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"\x5d\0\0", "compressed by LZMA"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard"),
    (b"\x04\x22\x4d\x18", "compressed by LZ4"),
    (b"%pdf", "a PDF document"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<vtkfile", "a VTK file"),
    (b"# vtk", "a VTK file"),
    (b"<", "an XML document"),
    (b"{", "a JSON document"),
)
_GIT_ANNEX = b"/annex/objects/"
_POINTER_BYTES = 1000


def other_kind(start: bytes) -> str | None:
    """Name the kind of a file that is no image of the known formats.

    Args:
        start: its first bytes, a few hundred at least, unpacked if it is compressed by gzip.

    Returns:
        A noun with its article, or a participle; None for an unknown kind.
    """
    if start[128:132] == b"DICM" or (start[:2] in (b"\x08\0", b"\2\0") and start[4:6].isalpha()):
        return "a DICOM file, one slice of a series"
    if start[257:262] == b"ustar":
        return "a TAR archive"
    if start and not start.strip(b"\0"):
        return "filled with zeros, as by a download that was broken off"
    if _GIT_ANNEX in start[:200] and len(start) < _POINTER_BYTES:
        return "a git-annex pointer, not the image itself (run 'git annex get')"
    text = start[:200].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((kind for sign, kind in _KINDS if start.startswith(sign) or text.startswith(sign)), None)
