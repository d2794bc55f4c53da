"""Damaged, contradictory and mistaken image files: one sentence that names the file, no library text."""

from __future__ import annotations

import bz2
import gzip
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from model.case.images import find_image, read_geometry, read_image
from model.errors import InputError

VOXELS = np.random.default_rng(0).integers(-1000, 1000, (6, 5, 4)).astype(np.int16)
RAW = VOXELS.tobytes()
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nElementSpacing = 1 1 2\nDimSize = 4 5 6\n"
    "ElementType = MET_SHORT\n"
)
LOCAL = "ElementDataFile = LOCAL\n"
PACKED = META + "CompressedData = True\n"
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 5 6\nendian: little\n"
STREAM = zlib.compress(RAW)


def nifti(*changes: tuple[Any, ...]) -> bytes:
    """A NIfTI file with fields (format, position, value) changed."""
    header = bytearray(352)
    for form, position, *values in (
        ("<i", 0, 348),
        ("<8h", 40, 3, 4, 5, 6, 1, 1, 1, 1),
        ("<2h", 70, 4, 16),
        ("<4f", 76, 1, 1, 1, 2),
        ("<f", 108, 352),
        ("<4s", 344, b"n+1\0"),
        ("<2h", 252, 0, 1),
        ("<4f", 280, 1, 0, 0, 0),
        ("<4f", 296, 0, 1, 0, 0),
        ("<4f", 312, 0, 0, 2, 0),
        *changes,
    ):
        struct.pack_into(form, header, position, *values)
    return bytes(header) + RAW


def flipped(stream: bytes) -> bytes:
    content = bytearray(stream)
    content[len(content) // 2] ^= 0x40
    return bytes(content)


def meta(fields: str, data: bytes = RAW) -> bytes:
    return (META + fields + LOCAL).encode() + data


def nrrd(encoding: str, data: bytes, fields: str = "") -> bytes:
    return f"{NRRD}{fields}encoding: {encoding}\n\n".encode() + data


def packed(data: bytes, size: int | None = None) -> bytes:
    length = "" if size is None else f"CompressedDataSize = {size}\n"
    return (PACKED + length + LOCAL).encode() + data


def sized(sizes: str, dims: int = 3, data: bytes = RAW) -> bytes:
    text = META.replace("DimSize = 4 5 6", f"DimSize = {sizes}").replace("NDims = 3", f"NDims = {dims}")
    return (text + LOCAL).encode() + data


WHOLE = {
    "raw.mha": meta(""),
    "packed.mha": packed(STREAM),
    "padded.mha": packed(STREAM + b"\n"),
    "raw.nii": nifti(),
    "packed.nii.gz": gzip.compress(nifti()),
    "members.nii.gz": gzip.compress(nifti()[:100]) + gzip.compress(nifti()[100:]) + b"\0" * 99,
    "raw.nrrd": nrrd("raw", RAW),
    "packed.nrrd": nrrd("gzip", gzip.compress(RAW)),
    "bzip2.nrrd": nrrd("bzip2", bz2.compress(RAW)),
    "offset.nii": nifti(("<f", 108, 0)),
    "comment.mha": b"// made by hand\n" + meta(""),
    "mark.mha": b"\xef\xbb\xbf" + meta(""),
    "array.mha": meta("").replace(b"MET_SHORT", b"MET_SHORT_ARRAY"),
    "newline.nii.gz": gzip.compress(nifti()) + b"\n",
    "symmetric matrix.nii": nifti(("<h", 68, 1005)),
    "displacements.nii": nifti(("<h", 68, 1006)),
    "vector of one.nii": nifti(("<h", 68, 1007), ("<8h", 40, 5, 4, 5, 6, 1, 1, 1, 1)),
    "no fourth axis.nii": nifti(("<8h", 40, 4, 4, 5, 6, 0, 0, 0, 0)),
    "list of one.nrrd": nrrd("raw", RAW, "kinds: domain domain domain list\n")
    .replace(b"dimension: 3", b"dimension: 4")
    .replace(b"4 5 6", b"4 5 6 1"),
    "key.nrrd": nrrd("raw", RAW, "any key: x:=y\n"),
    "text.nrrd": nrrd("text", b"77" + " ".join(map(str, VOXELS.ravel())).encode(), "byte skip: 2\n"),
    "no order.nrrd": nrrd("text", " ".join(map(str, VOXELS.ravel())).encode()).replace(
        b"endian: little\n", b""
    ),
    "meta.nii": meta(""),
}


NOTES = {
    "cm.mha": (meta("DistanceUnits = cm\n"), "lengths in cm"),
    "no spacing.mha": (meta("").replace(b"ElementSpacing = 1 1 2\n", b""), "no field 'ElementSpacing'"),
    "no spacing.nrrd": (nrrd("raw", RAW), "no field 'spacings'; a spacing of 1 mm"),
    "long axis.mha": (meta("TransformMatrix = 1 0 0 0 2 0 0 0 1\n"), "have the lengths 1, 2, 1"),
    "turned axes.mha": (meta("TransformMatrix = 0.6 0.8 0 -0.8 0.6 0 0 0 1\n"), None),
    "m.nrrd": (nrrd("raw", RAW, 'spacings: 1 1 2\nunits: "m" "m" "m"\n'), "lengths in m,"),
    "no position.nii": (nifti(("<2h", 252, 0, 0)), "orientation is unknown"),
    "two positions.nii": (nifti(("<2h", 252, 1, 1), ("<3f", 268, 0, 0, 9)), "two positions.*up to 9 mm"),
    "one position.nii": (nifti(("<2h", 252, 1, 1)), None),
    "turned.nii": (nifti(("<2h", 252, 1, 1), ("<f", 76, -1), ("<4f", 312, 0, 0, -2, 0)), None),
    "mm.nrrd": (nrrd("raw", RAW, 'spacings: 1 1 2\nunits: "mm" "mm" "mm"\n'), None),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_programs_read_differently_is_told(tmp_path: Path, name: str) -> None:
    content, says = NOTES[name]
    (tmp_path / name).write_bytes(content)
    told: list[str] = []
    assert np.array_equal(read_image(tmp_path / name, told.append).array, VOXELS)
    assert len(told) == (says is not None)
    assert says is None or re.search(says, told[0])


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WHOLE[name])
    assert np.array_equal(read_image(tmp_path / name).array, VOXELS)


DAMAGED = {
    # Raw voxels: exactly those of the header.
    "raw too few.mha": (meta("", RAW[:-1]), "is truncated, 239 bytes"),
    "raw too many.mha": (meta("", RAW + b"\0"), "holds more than the 240 bytes"),
    "raw too few.nii": (nifti()[:-1], "is truncated"),
    "raw too many.nii": (nifti() + RAW, "holds more than"),
    "raw too few.nrrd": (nrrd("raw", RAW[:-2]), "is truncated"),
    "raw too many.nrrd": (nrrd("raw", RAW + RAW), "holds more than"),
    "header only.mha": (meta("", b""), "is truncated, 0 bytes"),
    "part of a header.mha": (META.encode(), "format is unknown"),
    "part of a header.nii": (nifti()[:100], "is truncated, 100 bytes"),
    # Streams: to the end, with the checksum, to exactly the voxels.
    "cut.mha": (packed(STREAM[:-30]), "corrupt"),
    "no checksum.mha": (packed(STREAM[:-4]), "its end is missing"),
    "checksum.mha": (packed(STREAM[:-1] + b"x"), "incorrect data check"),
    "flipped.mha": (packed(flipped(STREAM)), "corrupt"),
    "garbage.mha": (packed(STREAM + b"more"), "other bytes follow"),
    "too few.mha": (packed(zlib.compress(RAW[:-2])), "is truncated, 238 bytes"),
    "too many.mha": (packed(zlib.compress(RAW + b"\0")), "holds more than"),
    "size too large.mha": (packed(STREAM, len(STREAM) + 1), "bytes, not the"),
    "size too small.mha": (packed(STREAM, len(STREAM) - 5), "bytes, not the"),
    "plain.mha": (packed(RAW), "corrupt"),
    "stored unpacked.mha": (meta("CompressedData = False\n", STREAM), "holds more than|is truncated"),
    "wrong capitals.mha": (meta("compresseddata = True\n", STREAM), "holds more than|is truncated"),
    "cut.nii.gz": (gzip.compress(nifti())[:-20], "corrupt"),
    "no trailer.nii.gz": (gzip.compress(nifti())[:-8], "its end is missing"),
    "checksum.nii.gz": (gzip.compress(nifti())[:-8] + b"\1\2\3\4" + struct.pack("<I", 592), "corrupt"),
    "length.nii.gz": (gzip.compress(nifti())[:-4] + b"\1\2\3\4", "corrupt"),
    "flipped.nii.gz": (flipped(gzip.compress(nifti())), "corrupt"),
    "garbage.nii.gz": (gzip.compress(nifti()) + b"more", "corrupt"),
    "second member cut.nii.gz": (gzip.compress(nifti()[:400]) + gzip.compress(nifti()[400:])[:-3], "corrupt"),
    "too few.nii.gz": (gzip.compress(nifti()[:-2]), "is truncated, 238 bytes"),
    "too many.nii.gz": (gzip.compress(nifti() + b"\0\0"), "holds more than"),
    "flipped.nrrd": (nrrd("gzip", flipped(gzip.compress(RAW))), "corrupt"),
    "cut bzip2.nrrd": (nrrd("bz2", bz2.compress(RAW)[:-4]), "its end is missing"),
    "flipped bzip2.nrrd": (nrrd("bz2", flipped(bz2.compress(RAW))), "corrupt"),
    "too many bzip2.nrrd": (nrrd("bz2", bz2.compress(RAW + b"\0")), "holds more than"),
    "hex.nrrd": (nrrd("hex", RAW.hex().encode()[:-2]), "is truncated"),
    "hex garbage.nrrd": (nrrd("hex", b"zz" * 240), "holds text that is no int16"),
    "text too few.nrrd": (nrrd("text", b"1 " * 119), "is truncated, 119 numbers"),
    "text too many.nrrd": (nrrd("text", b"1 " * 121), "more than its header promises; expected 120"),
    "hex too many.nrrd": (nrrd("hex", RAW.hex().encode() + b"0000"), "more than its header promises"),
    "hex odd.nrrd": (nrrd("hex", RAW.hex().encode()[:-1]), "holds text that is no int16"),
    "text without end.nrrd": (nrrd("text", b"1" * 200_000), "more than its header promises"),
    "long word.nrrd": (nrrd("text", b"1" * 5000), "holds text that is no int16"),
    "text fraction.nrrd": (nrrd("text", b"1.5 " * 120), "not whole"),
    "text too large.nrrd": (nrrd("text", b"70000 " * 120), "holds text that is no int16"),
    "text NaN.nrrd": (nrrd("text", b"nan " * 120), "holds text that is no int16"),
    # Sizes that cannot be there.
    "huge.mha": (sized("100000 100000 10000"), "is truncated"),
    "huge packed.mha": (packed(STREAM).replace(b"4 5 6", b"9999 9999 999"), "cannot hold the promised"),
    "overflow.mha": (sized("4294967296 4294967296 4294967296"), "no scan has"),
    "digits.mha": (sized("9" * 30 + " 5 6"), "expected a whole number"),
    "huge.nii.gz": (gzip.compress(nifti(("<8h", 40, 3, 32767, 32767, 32767, 1, 1, 1, 1))), "cannot hold"),
    "huge.nrrd": (nrrd("gzip", gzip.compress(RAW)).replace(b"4 5 6", b"9999 9999 999"), "cannot hold"),
    "huge bzip2.nrrd": (nrrd("bzip2", bz2.compress(RAW)).replace(b"4 5 6", b"9999 9999 999"), "cannot hold"),
    # Headers.
    "zero.mha": (sized("4 5 0"), "at least one voxel"),
    "negative.mha": (sized("4 5 -6"), "at least one voxel"),
    "two sizes.mha": (sized("4 5"), "3 dimensions but 2 sizes"),
    "no size.mha": (meta("").replace(b"DimSize", b"Dimsize"), "has no field 'DimSize'"),
    "text size.mha": (sized("4 5 six"), "expected a whole number"),
    "spacing zero.mha": (meta("").replace(b"1 1 2", b"1 0 2"), "expected positive numbers"),
    "spacing negative.mha": (meta("").replace(b"1 1 2", b"1 -1 2"), "expected positive numbers"),
    "spacing NaN.mha": (meta("").replace(b"1 1 2", b"1 nan 2"), "expected finite numbers"),
    "offset.mha": (meta("Offset = 0 inf 0\n"), "expected finite numbers"),
    "singular.mha": (meta("TransformMatrix = 1 0 0 1 0 0 0 0 1\n"), "expected"),
    "zero matrix.mha": (meta("TransformMatrix = 0 0 0 0 0 0 0 0 0\n"), "expected"),
    "type.mha": (meta("").replace(b"MET_SHORT", b"MET_STRING"), "'MET_STRING'"),
    "channels.mha": (meta("ElementNumberOfChannels = 3\n", RAW * 3), "3 values per voxel"),
    "two axes.mha": (sized("24 5", dims=2, data=RAW), "2-dimensional"),
    "series.mha": (sized("4 5 3 2", dims=4).replace(b"1 1 2", b"1 1 2 1"), "4-dimensional series"),
    "zero.nii": (nifti(("<8h", 40, 3, 4, 0, 6, 1, 1, 1, 1)), "at least one voxel"),
    "negative.nii": (nifti(("<8h", 40, 3, 4, -5, 6, 1, 1, 1, 1)), "at least one voxel"),
    "series.nii": (nifti(("<8h", 40, 4, 4, 5, 3, 2, 1, 1, 1)), "4-dimensional series"),
    "two axes.nii": (nifti(("<8h", 40, 2, 24, 5, 1, 1, 1, 1, 1)), "2-dimensional"),
    "dimensions.nii": (nifti(("<8h", 40, 9, 4, 5, 6, 1, 1, 1, 1)), "9 dimensions"),
    "sform NaN.nii": (nifti(("<f", 284, np.nan)), "NaN or infinite in the field 'srow'"),
    "sform inf.nii": (nifti(("<f", 292, np.inf)), "NaN or infinite in the field 'srow'"),
    "sform singular.nii": (nifti(("<4f", 296, 1, 0, 0, 0)), "without an inverse"),
    "sform zero.nii": (nifti(("<4f", 296, 0, 0, 0, 0)), "without an inverse"),
    "quaternion.nii": (nifti(("<2h", 252, 1, 0), ("<f", 256, np.nan)), "in the field 'quatern'"),
    "pixdim zero.nii": (nifti(("<f", 80, 0)), "expected positive numbers"),
    "pixdim negative.nii": (nifti(("<f", 80, -1)), "expected positive numbers"),
    "pixdim NaN.nii": (nifti(("<f", 80, np.nan)), "NaN or infinite in the field 'pixdim'"),
    "vox_offset.nii": (nifti(("<f", 108, np.nan)), "'vox_offset'"),
    "vox_offset too large.nii": (nifti(("<f", 108, 400)), "is truncated"),
    "sizeof_hdr.nii": (nifti(("<i", 0, 349)), "'sizeof_hdr' with 349"),
    "NIfTI-2.nii": (struct.pack("<i", 540) + b"n+2\0" + bytes(540), "NIfTI-2"),
    "NIfTI-2.nii.gz": (gzip.compress(struct.pack("<i", 540) + b"n+2\0" + bytes(540)), "NIfTI-2"),
    "analyze.hdr": (nifti(("<4s", 344, b"\0\0\0\0"))[:348], "Analyze 7.5"),
    "alone.hdr": (nifti(("<4s", 344, b"ni1\0"))[:348], "alone.img"),
    "rgb.nii": (nifti(("<2h", 70, 128, 24)), "RGB"),
    "complex.nii": (nifti(("<2h", 70, 32, 64)), "complex"),
    "unknown type.nii": (nifti(("<2h", 70, 99, 16)), "unknown type 99"),
    "intercept.nii": (nifti(("<2f", 112, 0, 5)), "scl_inter"),
    "no type.nrrd": (NRRD.replace("type: short\n", "").encode() + b"encoding: raw\n\n" + RAW, "field 'type'"),
    "twice.nrrd": (nrrd("raw", RAW, "type: short\n"), "twice"),
    "no order.nrrd": (NRRD.replace("endian: little\n", "").encode() + b"encoding: raw\n\n" + RAW, "'endian'"),
    "encoding.nrrd": (nrrd("zrl", RAW), "'zrl'"),
    "zero.nrrd": (nrrd("raw", RAW).replace(b"4 5 6", b"4 0 6"), "at least one voxel"),
    "spacing.nrrd": (nrrd("raw", RAW, "spacings: 1 0 2\n"), "expected positive numbers"),
    "direction.nrrd": (
        nrrd("raw", RAW, "space: LPS\nspace directions: (1,0,0) (0,nan,0) (0,0,1)\n"),
        "expected finite numbers",
    ),
    "origin.nrrd": (
        nrrd("raw", RAW, "space: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,inf,0)\n"),
        "expected finite numbers",
    ),
    "block.nrrd": (nrrd("raw", RAW).replace(b"short", b"block"), "'block'"),
    # Contradictions, and fields that are not there.
    "two orders.mha": (
        meta("BinaryDataByteOrderMSB = False\nElementByteOrderMSB = True\n"),
        "two byte orders",
    ),
    "twice.mha": (meta("DimSize = 4 6 5\n"), "'DimSize' twice"),
    "spacing of Python.mha": (meta("").replace(b"1 1 2", b"1_0 1 2"), "with '1_0 1 2'; expected finite"),
    "few spacings.mha": (meta("").replace(b"1 1 2", b"1 1"), "2 numbers in the field 'ElementSpacing'"),
    "few directions.mha": (meta("TransformMatrix = 1 0 0 0 1 0 0 0\n"), "8 numbers"),
    "length.mha": (packed(STREAM, -5), "'CompressedDataSize' with -5"),
    "slope.mha": (meta("ElementToIntensityFunctionSlope = nan\n"), "'ElementToIntensityFunctionSlope'"),
    "no line break.mha": (meta("")[:-1] + RAW, "no line break"),
    "binary as text.mha": (
        meta("").replace(b"BinaryData = True", b"BinaryData = False"),
        "no int16.{,99}numbers$",
    ),
    "two spacings.nii": (nifti(("<4f", 280, 0.7, 0, 0, 0)), r"\(1, 1, 2\) in 'pixdim' but \(0.7, 1, 2\)"),
    "magic.nii": (nifti(("<4s", 344, b"N+1\0")), "'magic' with 'N.1'"),
    "unknown.nrrd": (nrrd("raw", RAW, "spacing: 1 1 2\n"), "unknown field 'spacing'"),
    "no colon.nrrd": (nrrd("raw", RAW, "spacings 1 1 2\n"), "unknown field 'spacings 1 1 2'"),
    "few directions.nrrd": (
        nrrd("raw", RAW, "space: LPS\nspace directions: (1,0,0) (0,1,0)\n"),
        "SpaceVector",
    ),
    "blanks.nii.gz": (gzip.compress(nifti()) + b" " * 600, "other bytes follow"),
    # Other kinds of files.
    "packed twice.nii.gz": (gzip.compress(gzip.compress(nifti())), "by gzip twice"),
    "dicom.nii.gz.nii.gz": (gzip.compress(bytes(128) + b"DICM" + bytes(99)), "DICOM file.*within gzip"),
    "newlines.mha": (b"\n" * 1_000_000, "format is unknown"),
    "slice.dcm": (bytes(128) + b"DICM" + bytes(99), "DICOM"),
    "dicom.nii.gz": (bytes(128) + b"DICM" + bytes(999), "DICOM"),
    "picture.mha": (b"\x89PNG\r\n\x1a\n" + bytes(99), "PNG"),
    "page.nii.gz": (b"<!DOCTYPE html><html></html>" + b" " * 999, "web page"),
    "archive.nii.gz": (b"PK\x03\x04" + bytes(999), "ZIP"),
    "text.mha": (b"hello", "format is unknown"),
    "packed twice.mha": (gzip.compress(meta("")), "gzip"),
    "pointer.nrrd": (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
    "empty.nii": (b"", "empty file"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    content, says = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        read_image(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ") and "expected" in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_headers_alone_tell_impossible_sizes(tmp_path: Path) -> None:
    for name in ("raw too few.mha", "huge.mha", "huge.nii.gz", "huge.nrrd", "sform NaN.nii"):
        (tmp_path / name).write_bytes(DAMAGED[name][0])
        with pytest.raises(InputError):
            read_geometry(tmp_path / name)


_FIVE = "ElementDataFile = LIST\n" + "".join(f"slice{number}.raw\n" for number in range(5))
PARTS = {
    "missing": "ElementDataFile = gone.raw\n",
    "folder": "ElementDataFile = folder\n",
    "pipe": "ElementDataFile = pipe\n",
    "listed too few": "ElementDataFile = LIST\nslice0.raw\n",
    "listed too many": _FIVE + "slice5.raw\nwhole.raw\n",
    "one listed is missing": _FIVE + "gone.raw\n",
    "one listed is short": _FIVE + "short.raw\n",
    "one listed is long": _FIVE + "whole.raw\n",
    "one listed twice": _FIVE + "slice0.raw\n",
    "pattern too few": "ElementDataFile = s%d.raw 1 5 1\n",
    "pattern without files": "ElementDataFile = s%d.raw 1 6 1\n",
    "pattern with two numbers": "ElementDataFile = s%d%d.raw 1 6 1\n",
    "pattern of text": "ElementDataFile = s%s.raw 1 6 1\n",
    "pattern that writes": "ElementDataFile = s%n.raw 1 6 1\n",
    "offset": "HeaderSize = 2\nElementDataFile = whole.raw\n",
    "offset from the end": "HeaderSize = -1\nElementDataFile = short.raw\n",
    "loop": "ElementDataFile = loop\n",
}


@pytest.mark.parametrize("part", PARTS)
def test_parts_in_other_files(tmp_path: Path, part: str) -> None:
    (tmp_path / "whole.raw").write_bytes(RAW)
    for number in range(6):
        (tmp_path / f"slice{number}.raw").write_bytes(RAW[:40])
    (tmp_path / "short.raw").write_bytes(RAW[:38])
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "ct.mhd").write_text(META + PARTS[part])
    with pytest.raises(InputError, match=f"^{tmp_path}/.*expected"):
        read_image(tmp_path / "ct.mhd")


def test_a_slice_that_a_nrrd_lists_twice(tmp_path: Path) -> None:
    fields = "type: short\ndimension: 3\nsizes: 4 5 2\nspacings: 1 1 1\nendian: little\nencoding: raw\n"
    (tmp_path / "slice.raw").write_bytes(RAW[:40])
    (tmp_path / "ct.nhdr").write_text(f"NRRD0004\n{fields}data file: LIST\nslice.raw\nslice.raw\n")
    with pytest.raises(InputError, match=r"ct\.nhdr: lists the file 'slice\.raw' twice; expected each once"):
        read_image(tmp_path / "ct.nhdr")


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _dangling(path: Path) -> None:
    path.symlink_to("gone")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_folder, "a folder"),
        (os.mkfifo, "a pipe"),
        (_device, "a device"),
        (_loop, "symbolic links"),
        (_dangling, "No such file"),
    ],
)
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    make(tmp_path / "x.nii.gz")
    for read in (read_image, read_geometry):
        with pytest.raises(InputError, match=says):
            read(tmp_path / "x.nii.gz")


def test_names_that_no_file_system_takes(tmp_path: Path) -> None:
    for name in ("n" * 300 + ".mha", "zero\0byte.mha"):
        with pytest.raises(InputError, match="cannot be read"):
            read_image(tmp_path / name)


def test_a_folder_named_like_an_image_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "ct.MHA").write_bytes(WHOLE["raw.mha"])
    (tmp_path / "voxels.raw").write_bytes(b"")
    assert find_image(tmp_path) == tmp_path / "ct.MHA"


def test_pairs_of_nifti(tmp_path: Path) -> None:
    header = nifti(("<4s", 344, b"ni1\0"), ("<f", 108, 0))[:348]
    (tmp_path / "ct.hdr").write_bytes(header)
    (tmp_path / "ct.img").write_bytes(RAW)
    for name in ("ct.hdr", "ct.img"):
        assert np.array_equal(read_image(tmp_path / name).array, VOXELS), name
    (tmp_path / "ct.img").write_bytes(RAW[:-1])
    with pytest.raises(InputError, match="ct.img: is truncated"):
        read_image(tmp_path / "ct.hdr")


def test_an_intensity_function_is_told(tmp_path: Path) -> None:
    (tmp_path / "ct.mha").write_bytes(meta("ElementToIntensityFunctionOffset = -1024\n"))
    told: list[str] = []
    image = read_image(tmp_path / "ct.mha", told.append)
    assert np.array_equal(image.array, VOXELS)  # as ITK reads it
    assert np.array_equal(image.array, sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "ct.mha"))))
    assert "offset -1024" in told[0] and image.notes[0] in told[0]
