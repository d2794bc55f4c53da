"""Headers of MetaImage files (.mha, .mhd), as MetaIO reads them.

A field is ``Name = value`` (or ``Name: value``) with any blanks around the sign, in any order, ended by
``ElementDataFile``; names are case-sensitive, and the last of equal ones counts, unless fields of the grid
contradict each other.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np

from .stored_image import (
    HEADER_BYTES,
    Encoding,
    HeaderFault,
    StoredImage,
    VoxelPart,
    check_names,
    check_sizes,
    check_spacing,
    finite_numbers,
    no_spacing_note,
    unit_notes,
    whole_number,
    whole_numbers,
)

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_LAST_FIELD = "ElementDataFile"
_POSITIONS = ("Offset", "Position", "Origin")
_DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
_SPACINGS = ("ElementSpacing", "ElementSize")
_BYTE_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
# The fields that ITK needs for the grid; the others say where the voxels are.
_GRID_FIELDS = (
    "ObjectType",
    "ObjectSubType",
    "NDims",
    "BinaryData",
    *_BYTE_ORDERS,
    *_DIRECTIONS,
    *_POSITIONS,
    "AnatomicalOrientation",
    "DistanceUnits",
    *_SPACINGS,
    "DimSize",
    "ElementNumberOfChannels",
    "ElementType",
)
# Which ITK ignores, with the values that change nothing.
_INTENSITY = {"ElementToIntensityFunctionSlope": "1", "ElementToIntensityFunctionOffset": "0"}
_UNIT_TOLERANCE = 0.01  # of the length of an axis
_LONGEST_VALUE = 400  # MetaIO has room for 500
_PATTERN = re.compile(r"%0?[0-9]*[diu]")


def is_meta_image(start: bytes) -> bool:
    """Recognise a MetaImage by the first bytes of its file: at most `HEADER_BYTES`, at least the header.

    As MetaIO, it takes any text for the lines in front of the field ``NDims``.
    """
    size = re.search(rb"(?m)^[ \t]*NDims[ \t]*[=:]", start)
    return size is not None and b"\0" not in start[: size.start()] and _LAST_FIELD.encode() in start


def read_meta_header(path: Path, start: bytes) -> StoredImage:
    """Read the header of a MetaImage.

    Args:
        path: the file.
        start: its first bytes: at most `HEADER_BYTES`, at least the header.

    Raises:
        HeaderFault: a field is missing or cannot be used.
    """
    fields, end = _fields(start)
    for name in ("NDims", "DimSize", "ElementType"):
        if name not in fields:
            raise HeaderFault(f"has no field {name!r}; expected a MetaImage header")
    sizes = _sizes(fields)
    stored_type = fields["ElementType"]
    code = _TYPES.get(stored_type.removesuffix("_ARRAY"))  # which older programs append
    if code is None:
        raise HeaderFault(f"has voxels of type {stored_type[:40]!r}; expected one number per voxel")
    channels = whole_number("ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"))
    check_sizes((channels,))
    encoding = Encoding.RAW
    if not _is_true(fields, "BinaryData", default=True):
        encoding = Encoding.TEXT
    elif _is_true(fields, "CompressedData"):
        encoding = Encoding.ZLIB
    return StoredImage(
        sizes=(channels, *sizes) if channels > 1 else sizes,
        channels=channels,
        dtype=np.dtype(_order(fields) + code),
        encoding=encoding,
        parts=_parts(path, fields, start, end, sizes, encoding),
        header=_grid_header(fields),
        suffix=".mha",
        notes=_notes(fields),
    )


def _fields(start: bytes) -> tuple[dict[str, str], int]:
    """The fields up to the last one, and the position of the first byte after it."""
    fields: dict[str, str] = {}
    position = 0
    while position < len(start):
        end = start.find(b"\n", position)
        end = len(start) if end < 0 else end
        line = os.fsdecode(start[position:end])
        position = end + 1
        sign = re.search("[=:]", line)
        if sign is None:
            continue
        name, value = line[: sign.start()].strip(), line[sign.end() :].strip()
        if name in _GRID_FIELDS and fields.get(name, value) != value:
            raise HeaderFault(f"has the field {name!r} twice; expected it once")
        fields[name] = value
        if name == _LAST_FIELD:
            if "\0" in value:
                raise HeaderFault(f"has no line break after the field {_LAST_FIELD!r}; expected a MetaImage")
            return fields, min(position, len(start))
    raise HeaderFault(f"has no field {_LAST_FIELD!r} in its first {HEADER_BYTES} bytes; expected a MetaImage")


def _is_true(fields: dict[str, str], name: str, default: bool = False) -> bool:
    return fields[name][:1] in ("T", "t", "1") if name in fields else default


def _order(fields: dict[str, str]) -> str:
    """Byte order of the voxels, as numpy writes it."""
    orders = {_is_true(fields, name) for name in _BYTE_ORDERS if name in fields}
    if len(orders) > 1:
        raise HeaderFault(f"has two byte orders in {' and '.join(map(repr, _BYTE_ORDERS))}; expected one")
    return ">" if True in orders else "<"


def _sizes(fields: dict[str, str]) -> tuple[int, ...]:
    """Check the fields of the grid; the sizes of the axes, the fastest first."""
    dimension = whole_number("NDims", fields["NDims"])
    sizes = whole_numbers("DimSize", fields["DimSize"])
    if not 1 <= dimension <= 10 or len(sizes) != dimension:
        raise HeaderFault(f"has {dimension} dimensions but {len(sizes)} sizes; expected three of each")
    check_sizes(sizes)
    if name := next((name for name in _GRID_FIELDS if len(fields.get(name, "")) > _LONGEST_VALUE), None):
        raise HeaderFault(f"has the field {name!r} with {len(fields[name])} characters; expected less")
    for name in (*_SPACINGS, *_POSITIONS, *_DIRECTIONS):
        if name not in fields:
            continue
        values = finite_numbers(name, fields[name])
        count = dimension * dimension if name in _DIRECTIONS else dimension
        if not values:
            raise HeaderFault(f"has the field {name!r} without a value; expected numbers")
        if len(values) < count:
            raise HeaderFault(f"has {len(values)} numbers in the field {name!r}; expected {count}")
        if name in _SPACINGS:
            check_spacing(name, values)
    return sizes


def _parts(
    path: Path, fields: dict[str, str], start: bytes, end: int, sizes: tuple[int, ...], encoding: Encoding
) -> tuple[VoxelPart, ...]:
    header_size = whole_number("HeaderSize", fields.get("HeaderSize", "0"))
    length = whole_number("CompressedDataSize", fields.get("CompressedDataSize", "0")) or None
    if (length or 1) < 0:
        raise HeaderFault(f"has the field 'CompressedDataSize' with {length}; expected a number of bytes")
    if header_size < -1 or (header_size == -1 and encoding is not Encoding.RAW):
        raise HeaderFault(f"has the field 'HeaderSize' with {header_size}; expected a number of bytes")
    offset = None if header_size == -1 else header_size
    name = fields[_LAST_FIELD]
    if name in ("LOCAL", "Local", "local"):
        return (VoxelPart(path, offset if header_size else end, length=_of(encoding, length)),)
    if name.split()[:1] == ["LIST"]:
        names = _listed(name, start[end:], sizes)
    elif "%" in name:
        names = _numbered(name, sizes[-1])
    else:
        return (VoxelPart(path.parent / name, offset, length=_of(encoding, length)),)
    return tuple(VoxelPart(path.parent / part, offset) for part in names)


def _of(encoding: Encoding, length: int | None) -> int | None:
    return length if encoding is Encoding.ZLIB else None


def _listed(text: str, rest: bytes, sizes: tuple[int, ...]) -> list[str]:
    """Names of the files that are listed after the header, each with the first axes (all but one)."""
    words = text.split()
    axes = whole_number(_LAST_FIELD, words[1].removesuffix("D")) if len(words) > 1 else len(sizes) - 1
    if not 0 < axes <= len(sizes):
        axes = len(sizes) - 1
    count = int(np.prod(sizes[axes:], dtype=object)) if axes < len(sizes) else 1
    names = [os.fsdecode(line).strip() for line in rest.splitlines()]
    names = [name for name in names if name]
    if len(names) != count:
        raise HeaderFault(f"lists {len(names)} files of voxels; expected {count}")
    check_names(names)
    return names


def _numbered(text: str, count: int) -> list[str]:
    """Names of a pattern such as ``slice%03d.raw 1 20 1``: first number, last number, step."""
    pattern, *rest = text.split()
    numbers = [whole_number(_LAST_FIELD, word) for word in rest[:3]]
    first = numbers[0] if numbers else 1
    last = numbers[1] if len(numbers) > 1 else first + count - 1
    step = numbers[2] if len(numbers) > 2 else max(1, (last - first + 1) // count)
    if len(_PATTERN.findall(pattern)) != 1 or pattern.count("%") != 1:
        raise HeaderFault(
            f"has the pattern {pattern[:80]!r}; expected one number in it, as in 'slice%03d.raw'"
        )
    if step < 1 or (last - first) // step + 1 != count:
        raise HeaderFault(
            f"has the pattern {text[:80]!r}, which names other than {count} files; expected one each"
        )
    return [pattern % number for number in range(first, last + 1, step)]


def _grid_header(fields: dict[str, str]) -> bytes:
    binary = {"BinaryData": "True"}  # as numbers that are text are, once they are parsed
    grid = {name: value for name, value in fields.items() if name in _GRID_FIELDS and value}
    lines = [f"{name} = {value}" for name, value in (grid | binary).items()]
    return os.fsencode("\n".join([*lines, f"{_LAST_FIELD} = LOCAL", ""]))


def _axis_note(fields: dict[str, str]) -> tuple[str, ...]:
    """A note about axes that are not of length one: ITK scales positions by them, but not the spacing."""
    name = next((name for name in _DIRECTIONS if name in fields), None)
    if name is None:
        return ()
    values, dimension = finite_numbers(name, fields[name]), whole_number("NDims", fields["NDims"])
    lengths = [math.hypot(*values[n : n + dimension]) for n in range(0, dimension**2, dimension)]
    if all(abs(length - 1.0) <= _UNIT_TOLERANCE for length in lengths):
        return ()
    shown = ", ".join(f"{length:g}" for length in lengths)
    return (f"the axes of the field {name!r} have the lengths {shown}; the spacing is taken times these",)


def _notes(fields: dict[str, str]) -> tuple[str, ...]:
    (slope, *_), (offset, *_) = (
        finite_numbers(name, fields.get(name, "") or default) for name, default in _INTENSITY.items()
    )
    notes = unit_notes(fields.get("DistanceUnits", "").split()) + _axis_note(fields)
    if not any(fields.get(name) for name in _SPACINGS):
        notes += (no_spacing_note(_SPACINGS[0]),)
    if (slope, offset) != (1.0, 0.0):
        notes += (
            f"the header has an intensity function (slope {slope:g}, offset {offset:g}), which ITK and "
            "other programs ignore; the stored values are taken",
        )
    return notes
