"""Headers of NRRD files (.nrrd, and .nhdr with their voxels in other files), as Teem's library reads them."""

from __future__ import annotations

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
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": (
        "longlong",
        "long long",
        "long long int",
        "signed long long",
        "signed long long int",
        "int64",
        "int64_t",
    ),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPE_OF = {name: code for code, names in _TYPES.items() for name in names}
_ENCODINGS = {
    "raw": Encoding.RAW,
    "txt": Encoding.TEXT,
    "text": Encoding.TEXT,
    "ascii": Encoding.TEXT,
    "hex": Encoding.HEX,
    "gz": Encoding.GZIP,
    "gzip": Encoding.GZIP,
    "bz2": Encoding.BZIP2,
    "bzip2": Encoding.BZIP2,
}
_PACKED = (Encoding.GZIP, Encoding.BZIP2)
_ALIASES = {
    "datafile": "data file",
    "lineskip": "line skip",
    "byteskip": "byte skip",
    "axismins": "axis mins",
    "axismaxs": "axis maxs",
    "centers": "centerings",
}
# The fields that ITK needs for the grid; the others say where the voxels are, or are of no use here.
_GRID_FIELDS = (
    "type",
    "dimension",
    "space",
    "space dimension",
    "sizes",
    "spacings",
    "space directions",
    "kinds",
    "centerings",
    "endian",
    "space units",
    "space origin",
    "measurement frame",
    "axis mins",
    "axis maxs",
)
_FIELDS = (
    *_GRID_FIELDS,
    "encoding",
    "data file",
    "line skip",
    "byte skip",
    "content",
    "number",
    "block size",
    "blocksize",
    "thicknesses",
    "labels",
    "units",
    "min",
    "max",
    "old min",
    "oldmin",
    "old max",
    "oldmax",
    "sample units",
    "sampleunits",
)
_PATTERN = re.compile(r"%0?[0-9]*[dux]")


def is_nrrd(start: bytes) -> bool:
    """Recognise a NRRD file by its first bytes."""
    return start.startswith(b"NRRD00")


def read_nrrd_header(path: Path, start: bytes) -> StoredImage:
    """Read the header of a NRRD file.

    Args:
        path: the file.
        start: its first bytes: at most `HEADER_BYTES`, at least the header.

    Raises:
        HeaderFault: a field is missing or cannot be used.
    """
    fields, end = _fields(start)
    for name in ("type", "dimension", "sizes", "encoding"):
        if name not in fields:
            raise HeaderFault(f"has no field {name!r}; expected a NRRD header")
    sizes = _sizes(fields)
    code = _TYPE_OF.get(fields["type"].lower())
    if code is None:
        raise HeaderFault(f"has voxels of type {fields['type'][:40]!r}; expected one number per voxel")
    encoding = _ENCODINGS.get(fields["encoding"].lower())
    if encoding is None:
        raise HeaderFault(f"has the encoding {fields['encoding'][:40]!r}; expected {', '.join(_ENCODINGS)}")
    parts = _parts(path, fields, start, end, sizes, encoding)
    skip = whole_number("byte skip", fields.get("byte skip", "0"))
    is_packed = encoding in _PACKED
    order = _order(fields, code, encoding)
    fields.setdefault("endian", "little")  # of text and single bytes, where it changes nothing
    return StoredImage(
        sizes=sizes,
        dtype=np.dtype(order + code),
        encoding=encoding,
        parts=parts,
        header=_grid_header(start, fields),
        suffix=".nrrd",
        lead=max(0, skip) if is_packed else 0,
        notes=_notes(fields),
    )


def _fields(start: bytes) -> tuple[dict[str, str], int]:
    """The fields, their names in small letters, and the position of the first byte after the header."""
    fields: dict[str, str] = {}
    position = start.find(b"\n") + 1
    while 0 < position < len(start):
        end = start.find(b"\n", position)
        end = len(start) if end < 0 else end
        line = os.fsdecode(start[position:end]).rstrip("\r")
        position = end + 1
        if not line.strip():
            return fields, min(position, len(start))
        name, sign, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):
            continue  # a comment, or a pair of key and value
        name = name.strip().lower()
        name = _ALIASES.get(name, name)
        if not sign or name not in _FIELDS:
            if ":=" in value:
                continue
            raise HeaderFault(f"has the unknown field {name[:40]!r}; expected those of the NRRD format")
        if name in fields:
            raise HeaderFault(f"has the field {name!r} twice; expected it once")
        fields[name] = value.strip()
        if name == "data file" and value.split()[:1] == ["LIST"]:
            return fields, min(position, len(start))
    if "data file" not in fields and len(start) >= HEADER_BYTES:
        raise HeaderFault(
            f"has no end of the header in its first {HEADER_BYTES} bytes; expected an empty line"
        )
    return fields, len(start)


def _notes(fields: dict[str, str]) -> tuple[str, ...]:
    notes = unit_notes(re.findall(r'"([^"]*)"', fields.get("space units", fields.get("units", ""))))
    if not any(fields.get(name) for name in ("spacings", "space directions")):
        notes += (no_spacing_note("spacings"),)
    return notes


def _sizes(fields: dict[str, str]) -> tuple[int, ...]:
    """Check the fields of the grid; the sizes of the axes, the fastest first."""
    dimension = whole_number("dimension", fields["dimension"])
    sizes = whole_numbers("sizes", fields["sizes"])
    if not 1 <= dimension <= 16 or len(sizes) != dimension:
        raise HeaderFault(f"has {dimension} dimensions but {len(sizes)} sizes; expected three of each")
    check_sizes(sizes)
    # The axis of a voxel's values has no spacing, which is written as NaN or "none".
    spacings = re.sub(r"(?i)\bnan\b", "", fields.get("spacings", ""))
    check_spacing("spacings", tuple(abs(value) for value in finite_numbers("spacings", spacings)))
    for name in ("space directions", "space origin", "measurement frame"):
        finite_numbers(name, re.sub(r"[(),]|\bnone\b", " ", fields.get(name, "")))
    return sizes


def _order(fields: dict[str, str], code: str, encoding: Encoding) -> str:
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower())
    if order is None and code[1:] != "1" and encoding is not Encoding.TEXT:
        raise HeaderFault(f"has the field 'endian' with {fields.get('endian', '')!r}; expected little or big")
    return order or "<"


def _parts(
    path: Path, fields: dict[str, str], start: bytes, end: int, sizes: tuple[int, ...], encoding: Encoding
) -> tuple[VoxelPart, ...]:
    lines = whole_number("line skip", fields.get("line skip", "0"))
    skip = whole_number("byte skip", fields.get("byte skip", "0"))
    if lines < 0 or skip < -1 or (skip == -1 and encoding is not Encoding.RAW):
        raise HeaderFault(f"skips {lines} lines and {skip} bytes; expected numbers from 0 on")
    offset = 0 if encoding in _PACKED else max(0, skip)
    name = fields.get("data file")
    if name is None:
        return (VoxelPart(path, None if skip == -1 else end, lines, skip=offset),)
    words = name.split()
    if words[:1] == ["LIST"]:
        count = _file_count(words[1:], sizes)
        names = [line for line in (os.fsdecode(line).strip() for line in start[end:].splitlines()) if line]
        if len(names) != count:
            raise HeaderFault(f"lists {len(names)} files of voxels; expected {count}")
        check_names(names)
    elif len(words) in (4, 5) and len(_PATTERN.findall(words[0])) == words[0].count("%") == 1:
        first, last, step = (whole_number("data file", word) for word in words[1:4])
        count = _file_count(words[4:], sizes)
        numbers = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
        if len(numbers) != count:
            raise HeaderFault(f"names {len(numbers)} files of voxels ({name[:80]}); expected {count}")
        names = [words[0] % number for number in numbers]
    else:
        names = [name]
    beginning = None if skip == -1 else 0
    return tuple(VoxelPart(path.parent / part, beginning, lines, skip=offset) for part in names)


def _file_count(words: list[str], sizes: tuple[int, ...]) -> int:
    """Number of files, each with the first axes (by default all but one)."""
    axes = whole_number("data file", words[0]) if words else len(sizes) - 1
    if not 0 < axes <= len(sizes):
        raise HeaderFault(f"has the field 'data file' with files of {axes} axes; expected 1 to {len(sizes)}")
    return int(np.prod(sizes[axes:], dtype=object)) if axes < len(sizes) else 1


def _grid_header(start: bytes, fields: dict[str, str]) -> bytes:
    magic = os.fsdecode(start[:8])
    if not re.fullmatch("NRRD000[1-5]", magic):
        raise HeaderFault(f"begins with {magic!r}; expected NRRD0001 to NRRD0005")
    lines = [f"{name}: {fields[name]}" for name in fields if name in _GRID_FIELDS]
    return os.fsencode("\n".join([magic, *lines, "encoding: raw", "", ""]))
