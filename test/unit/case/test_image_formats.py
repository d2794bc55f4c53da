"""Every format and encoding is read as ITK reads it, whatever its name and the spelling of its header."""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from model.case.images import read_geometry, read_image
from model.errors import InputError

SHAPE = (3, 4, 5)
DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
DIRECTIONS = ((1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
DIRECTION = (0.0, 0.6, 0.8, -1.0, 0.0, 0.0, 0.0, -0.8, 0.6)


def voxels(dtype: str = "int16") -> np.ndarray:
    low = 0 if dtype.startswith("u") else -50
    return (np.arange(60).reshape(SHAPE) * 2 + low).astype(dtype)


def written(path: Path, array: np.ndarray, compressed: bool = False) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10.5, 20.25, -300.0))
    image.SetDirection(DIRECTION)
    sitk.WriteImage(image, str(path), compressed)
    return image


def assert_read_as_itk(path: Path, itk: sitk.Image) -> None:
    image = read_image(path)
    expected = sitk.GetArrayViewFromImage(itk)
    assert image.array.dtype == expected.dtype and np.array_equal(image.array, expected)
    assert not image.array.flags.writeable
    assert image.geometry.size_xyz == itk.GetSize()
    assert image.geometry.spacing_xyz == itk.GetSpacing()
    assert image.geometry.origin_xyz == itk.GetOrigin()
    assert repr(image.geometry.direction) == repr(itk.GetDirection())  # with the signs of zeros
    assert read_geometry(path) == image.geometry


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "compressed"),
    [
        *(("ct.mha", False), ("ct.mha", True), ("ct.mhd", False), ("ct.mhd", True)),
        *(("ct.nii", False), ("ct.nii.gz", True), ("ct.hdr", False)),
        *(("ct.nrrd", False), ("ct.nrrd", True), ("ct.nhdr", False), ("ct.nhdr", True)),
    ],
)
def test_formats_of_itk(tmp_path: Path, name: str, compressed: bool, dtype: str) -> None:
    path = tmp_path / name
    written(path, voxels(dtype), compressed)
    assert_read_as_itk(path, sitk.ReadImage(str(path)))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["ct.mha", "ct.nii.gz", "ct.nrrd"])
def test_directions_along_the_axes(tmp_path: Path, name: str, direction: tuple[float, ...]) -> None:
    image = written(tmp_path / name, voxels())
    image.SetDirection(direction)
    sitk.WriteImage(image, str(tmp_path / name))
    assert_read_as_itk(tmp_path / name, sitk.ReadImage(str(tmp_path / name)))


@pytest.mark.parametrize("name", ["CT.MHA", "Ct.Nii.Gz", "ct.NII", "CT.Nrrd", "ct", "ct.dat"])
def test_any_name(tmp_path: Path, name: str) -> None:
    suffix = next((s for s in (".mha", ".nii.gz", ".nii", ".nrrd") if name.lower().endswith(s)), ".mha")
    itk = written(tmp_path / f"plain{suffix}", voxels(), True)
    itk = sitk.ReadImage(str(tmp_path / f"plain{suffix}"))
    (tmp_path / f"plain{suffix}").rename(tmp_path / name)
    assert_read_as_itk(tmp_path / name, itk)


@pytest.mark.parametrize(("first", "second"), [("a.nii", "a.nii.gz"), ("a.nii.gz", "a.nii")])
def test_a_name_that_disagrees_about_gzip(tmp_path: Path, first: str, second: str) -> None:
    written(tmp_path / first, voxels())
    itk = sitk.ReadImage(str(tmp_path / first))
    (tmp_path / first).rename(tmp_path / second)
    assert_read_as_itk(tmp_path / second, itk)


def meta_file(tmp_path: Path, compressed: bool = True) -> tuple[list[bytes], bytes, sitk.Image]:
    """Header lines, voxels and image of a MetaImage."""
    itk = written(tmp_path / "whole.mha", voxels(), compressed)
    header, data = (tmp_path / "whole.mha").read_bytes().split(b"ElementDataFile = LOCAL\n", 1)
    return [*header.splitlines(), b"ElementDataFile = LOCAL"], data, itk


@pytest.mark.parametrize(
    "spelling",
    ["lower", "one", "tight", "wide", "colon", "windows", "late", "no size", "last counts", "blank"],
)
def test_spellings_of_a_meta_header(tmp_path: Path, spelling: str) -> None:
    lines, data, itk = meta_file(tmp_path)
    text = b"\n".join(lines) + b"\n"
    if spelling in ("lower", "one"):
        text = text.replace(
            b"CompressedData = True", b"CompressedData = " + {"lower": b"true", "one": b"1"}[spelling]
        )
    if spelling in ("tight", "wide", "colon"):
        text = text.replace(b" = ", {"tight": b"=", "wide": b"  \t=   ", "colon": b": "}[spelling])
    if spelling == "windows":
        text = text.replace(b"\n", b"\r\n")
    if spelling == "late":
        moved = [line for line in lines if not line.startswith(b"CompressedData")]
        tags = [b"Tag%03d = %s" % (n, b"v" * 90) for n in range(60)]
        text = b"\n".join([*moved[:-1], *tags, b"CompressedData = True", moved[-1], b""])
    if spelling == "no size":
        text = b"\n".join(line for line in lines if not line.startswith(b"CompressedDataSize")) + b"\n"
    if spelling == "last counts":
        text = b"CompressedData = False\n" + text
    if spelling == "blank":
        text = b"Comment = a = b: c\n" + text.replace(b"\nNDims", b"\n\nNDims")
    (tmp_path / "ct.mha").write_bytes(text + data)
    assert_read_as_itk(tmp_path / "ct.mha", itk)


def test_meta_gzip_stream_and_big_endian(tmp_path: Path) -> None:
    lines, _, itk = meta_file(tmp_path, compressed=False)
    raw = voxels().astype(">i2").tobytes()
    header = [line for line in lines if not line.startswith((b"Compressed", b"BinaryDataByteOrder"))]
    header = [*header[:-1], b"ElementByteOrderMSB = True", header[-1], b""]
    (tmp_path / "big.mha").write_bytes(b"\n".join(header) + raw)
    assert_read_as_itk(tmp_path / "big.mha", itk)
    (tmp_path / "packed.mha").write_bytes(
        b"CompressedData = True\n" + b"\n".join(header) + gzip.compress(raw)
    )
    assert_read_as_itk(tmp_path / "packed.mha", itk)


@pytest.mark.parametrize(
    "storage", ["list", "list 2", "pattern", "plain pattern", "packed", "offset", "end", "text"]
)
def test_meta_images_in_several_files(tmp_path: Path, storage: str) -> None:
    lines, _, itk = meta_file(tmp_path, compressed=False)
    header = [line for line in lines if not line.startswith(b"CompressedData")][:-1]
    names = [f"s{number}.raw" for number in (10, 12, 14)]
    array = voxels()
    for name, plane in zip(names, array, strict=True):
        (tmp_path / name).write_bytes(
            zlib.compress(plane.tobytes()) if storage == "packed" else plane.tobytes()
        )
    listed = "".join(f"{name}\n" for name in names)
    (tmp_path / "one.raw").write_bytes(b"HEAD" + array.tobytes())
    (tmp_path / "text.raw").write_text(" ".join(map(str, array.ravel())))
    last = {
        "list": f"ElementDataFile = LIST\n{listed}",
        "list 2": f"ElementDataFile = LIST 2\n{listed}",
        "pattern": "ElementDataFile = s%02d.raw 10 14 2\n",
        "plain pattern": "ElementDataFile = s%d.raw 10 14 2\n",
        "packed": f"CompressedData = True\nElementDataFile = LIST\n{listed}",
        "offset": "HeaderSize = 4\nElementDataFile = one.raw\n",
        "end": "HeaderSize = -1\nElementDataFile = one.raw\n",
        "text": "BinaryData = False\nElementDataFile = text.raw\n",
    }[storage]
    if storage == "text":
        header.remove(b"BinaryData = True")
    (tmp_path / "ct.mhd").write_bytes(b"\n".join([*header, last.encode()]))
    assert_read_as_itk(tmp_path / "ct.mhd", itk)


NRRD = (
    "NRRD0005\n# made by a test\nTYPE: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 5 4 3\n"
    "space directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)\nkinds: domain domain domain\nendian: little\n"
    "key:=value: x\n"
)


@pytest.mark.parametrize(
    "encoding", ["raw", "gzip", "gz", "bzip2", "bz2", "text", "ascii", "hex", "RAW", "members", "big"]
)
def test_nrrd_encodings(tmp_path: Path, encoding: str) -> None:
    raw = voxels().tobytes()
    data = {
        "raw": raw,
        "gz": gzip.compress(raw),
        "gzip": gzip.compress(raw) + b"\0" * 600,
        "members": gzip.compress(raw[:50]) + gzip.compress(raw[50:]),
        "bzip2": bz2.compress(raw),
        "bz2": bz2.compress(raw[:50]) + bz2.compress(raw[50:]),
        "text": ("\n".join(map(str, voxels().ravel())) + "\n").encode(),
        "ascii": ", ".join(map(str, voxels().ravel())).encode(),
        "hex": raw.hex("\n", 30).encode(),
        "RAW": raw,
        "big": voxels().astype(">i2").tobytes(),
    }[encoding]
    name = {"members": "gzip", "big": "raw"}.get(encoding, encoding)
    header = NRRD.replace("little", "big") if encoding == "big" else NRRD
    (tmp_path / "ct.nrrd").write_bytes(f"{header}encoding: {name}\n\n".encode() + data)
    image = read_image(tmp_path / "ct.nrrd")
    assert np.array_equal(image.array, voxels()) and image.array.dtype == np.int16
    assert image.geometry.spacing_xyz == (0.7, 0.8, 2.5)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["text", "hex"])
def test_text_is_parsed_in_parts(tmp_path: Path, encoding: str) -> None:
    """Of any length of words, and with little memory beside the voxels."""
    array = np.random.default_rng(0).integers(-30000, 30000, 300_000).astype("<i2")
    words = {"text": " ".join(map(str, array)), "hex": array.tobytes().hex("\n", 7)}[encoding]
    header = NRRD.replace("5 4 3", "1000 100 3")
    (tmp_path / "ct.nrrd").write_bytes(f"{header}encoding: {encoding}\n\n{words}".encode())
    tracemalloc.start()
    try:
        assert np.array_equal(read_image(tmp_path / "ct.nrrd").array.ravel(), array)
        assert tracemalloc.get_traced_memory()[1] < array.nbytes + 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "storage", ["one", "list", "list 2", "pattern", "lines", "bytes", "end", "packed bytes"]
)
def test_nrrd_in_several_files(tmp_path: Path, storage: str) -> None:
    raw = voxels().tobytes()
    names = [f"s{number}.raw" for number in (3, 4, 5)]
    for name, plane in zip(names, voxels(), strict=True):
        (tmp_path / name).write_bytes(plane.tobytes())
    (tmp_path / "one.raw").write_bytes(b"HEAD\nHEAD\n" + raw)
    (tmp_path / "just.raw").write_bytes(raw)
    (tmp_path / "one.gz").write_bytes(gzip.compress(b"HEAD" + raw))
    listed = "".join(f"{name}\n" for name in names)
    fields = {
        "one": "encoding: raw\ndata file: just.raw\n",
        "list": f"encoding: raw\ndata file: LIST\n{listed}",
        "list 2": f"encoding: raw\ndata file: LIST 2\n{listed}",
        "pattern": "encoding: raw\ndatafile: s%d.raw 3 5 1 2\n",
        "lines": "encoding: raw\nline skip: 2\ndata file: one.raw\n",
        "bytes": "encoding: raw\nlineskip: 1\nbyteskip: 5\ndata file: one.raw\n",
        "end": "encoding: raw\nbyte skip: -1\ndata file: one.raw\n\n",
        "packed bytes": "encoding: gzip\nbyte skip: 4\ndata file: one.gz\n",
    }[storage]
    (tmp_path / "ct.nhdr").write_text(NRRD + fields)
    assert np.array_equal(read_image(tmp_path / "ct.nhdr").array, voxels())


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize(
    ("slope", "intercept"), [(1.0, -1024.0), (0.1, 3.0), (np.nan, 0.0), (0.0, np.nan), (2.0, 0.0)]
)
def test_rescaled_nifti(tmp_path: Path, dtype: str, slope: float, intercept: float) -> None:
    path = tmp_path / "ct.nii"
    written(path, voxels(dtype))
    content = bytearray(path.read_bytes())
    struct.pack_into("<2f", content, 112, slope, intercept)
    path.write_bytes(content)
    assert_read_as_itk(path, sitk.ReadImage(str(path)))


def test_nifti_in_big_endian(tmp_path: Path) -> None:
    import nibabel  # brought along by acvl-utils

    image = nibabel.Nifti1Image(
        voxels().T, np.diag([0.5, 0.75, 2.0, 1.0]), nibabel.Nifti1Header(endianness=">")
    )
    nibabel.save(image, tmp_path / "ct.nii.gz")
    assert_read_as_itk(tmp_path / "ct.nii.gz", sitk.ReadImage(str(tmp_path / "ct.nii.gz")))


def test_last_axes_of_one_are_left_out(tmp_path: Path) -> None:
    array = voxels()[None]
    image = sitk.GetImageFromArray(array, isVector=False)
    assert image.GetDimension() == 4
    for name in ("ct.mha", "ct.nii.gz", "ct.nrrd"):
        sitk.WriteImage(image, str(tmp_path / name))
        assert np.array_equal(read_image(tmp_path / name).array, voxels()), name


@pytest.mark.parametrize(
    "name", [b"M\xfcller.mha", "Müller.mha".encode(), b"a\nb%d.mha", b"n" * 240 + b".mha"]
)
def test_names_of_any_bytes(tmp_path: Path, name: bytes) -> None:
    itk = written(tmp_path / "whole.mha", voxels(), True)
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    shutil.move(tmp_path / "whole.mha", path)
    assert_read_as_itk(path, itk)


@pytest.mark.parametrize("field", ["ElementSpacing", "Offset", "TransformMatrix"])
def test_a_meta_header_with_an_empty_field(tmp_path: Path, field: str) -> None:
    written(tmp_path / "ct.mha", voxels())
    head, _, rest = (tmp_path / "ct.mha").read_bytes().partition(f"{field} = ".encode())
    (tmp_path / "ct.mha").write_bytes(head + f"{field} = ".encode() + rest[rest.index(b"\n") :])
    with pytest.raises(InputError, match=f"'{field}' without a value"):
        read_image(tmp_path / "ct.mha")


def test_a_nrrd_header_with_an_unknown_field(tmp_path: Path) -> None:
    for other, says in (("pace directions:", "'pace directions'"), ("space directions", "'space directions")):
        text = NRRD.replace("space directions:", other) + "encoding: raw\n\n"
        (tmp_path / "ct.nrrd").write_bytes(text.encode() + voxels().tobytes())
        with pytest.raises(InputError, match=says):
            read_image(tmp_path / "ct.nrrd")


@pytest.mark.parametrize(("old", "new"), [(b"-10.5", b"1e300"), (b"Matrix = 0", b"Matrix = 1e300")])
def test_a_grid_that_no_scan_has(tmp_path: Path, old: bytes, new: bytes) -> None:
    written(tmp_path / "ct.mha", voxels())
    content = (tmp_path / "ct.mha").read_bytes()
    assert old in content
    (tmp_path / "ct.mha").write_bytes(content.replace(old, new, 1))
    with pytest.raises(InputError, match="origin or a direction that no scan has"):
        read_image(tmp_path / "ct.mha")


@pytest.mark.parametrize(
    ("position", "values", "says"),
    [
        (108, (176.0,), "'vox_offset' with 176"),
        (112, (2.0, np.inf), "'scl_inter'"),
        (256, (1.0, 0.5, 0.0), "quaternion"),
    ],
)
def test_numbers_of_a_nifti_header_that_libraries_mend(
    tmp_path: Path, position: int, values: tuple[float, ...], says: str
) -> None:
    written(tmp_path / "ct.nii", voxels())
    content = bytearray((tmp_path / "ct.nii").read_bytes())
    struct.pack_into(f"<{len(values)}f", content, position, *values)
    (tmp_path / "ct.nii").write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_image(tmp_path / "ct.nii")
