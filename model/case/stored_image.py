"""The voxels that an image file's header promises: their number, type and place in the file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .text_files import written_number

IMAGE_SUFFIXES = (".mha", ".mhd", ".nii.gz", ".nii", ".nrrd")
READ_SUFFIXES = (*IMAGE_SUFFIXES, ".nhdr", ".hdr")
EXPECTED_IMAGE = "one 3-D image (" + ", ".join(IMAGE_SUFFIXES) + ")"

# Text headers end within this many bytes; a longer one is no header.
HEADER_BYTES = 1 << 20
_LARGEST_SIZE = 2**31 - 1
_MILLIMETRES = ("", "?", "???", "mm", "millimeter", "millimeters", "millimetre", "millimetres")


class HeaderFault(ValueError):
    """A header that cannot be used; the text completes a sentence that begins with the file's name."""


class Encoding(StrEnum):
    """How voxels are stored."""

    RAW = "raw"
    ZLIB = "zlib"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    TEXT = "text"
    HEX = "hexadecimal"


@dataclass(frozen=True, slots=True)
class VoxelPart:
    """A file, or a part of one, that holds an equal share of the voxels.

    Attributes:
        path: the file, which may be the one with the header.
        start: bytes before the (encoded) voxels; None: they are the last ones of the file.
        lines: lines after ``start`` that are skipped, too.
        skip: bytes after those lines that are skipped, too.
        length: bytes of the encoded voxels if the header states it.
    """

    path: Path
    start: int | None = 0
    lines: int = 0
    skip: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The promises of a header.

    Attributes:
        sizes: numbers along the axes in the order of the file, the fastest first, with values per voxel.
        dtype: type and byte order of a number in the file, before any rescaling.
        encoding: of every part.
        parts: where the numbers are, in order.
        channels: values per voxel, if the header distinguishes them from other axes.
        lead: decoded bytes in front of the numbers of every part.
        header: the fields that determine the grid, as a file of its own for ITK.
        suffix: by which ITK knows the format of ``header``.
        rescale: slope and intercept by which the reading library changes the numbers, or None.
        notes: peculiarities that the user is warned of.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype[np.generic]
    encoding: Encoding
    parts: tuple[VoxelPart, ...]
    header: bytes
    suffix: str
    channels: int = 1
    lead: int = 0
    rescale: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Numbers in the file."""
        return math.prod(self.sizes)

    @property
    def byte_count(self) -> int:
        """Bytes of the decoded numbers."""
        return self.count * self.dtype.itemsize

    @property
    def value_type(self) -> npt.DTypeLike:
        """Type of a voxel as the reading library gives it: rescaled integers become floats."""
        if self.rescale is None or self.dtype.kind == "f":
            return self.dtype.newbyteorder("=")
        return np.dtype(np.float32)


def no_spacing_note(field: str) -> str:
    """A note about a header without a spacing, in the named field."""
    return f"the header has no field {field!r}; a spacing of 1 mm is taken, as ITK does"


def unit_notes(units: Sequence[str]) -> tuple[str, ...]:
    """Notes about the units of length that a header names, which ITK does not convert.

    Args:
        units: of the axes; ``?`` and nothing are unknown.
    """
    others = sorted({unit for unit in units if unit.lower() not in _MILLIMETRES})
    if not others:
        return ()
    return (
        f"the header gives lengths in {', '.join(others)[:40]}, which ITK and other programs take for mm; "
        "so does this one",
    )


def whole_number(field: str, text: str) -> int:
    """Parse a whole number of a header.

    Raises:
        HeaderFault: it is not a number, or has more digits than any real one.
    """
    stripped = text.strip()
    digits = stripped.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise HeaderFault(f"has the field {field!r} with {text[:40]!r}; expected a whole number")
    return int(stripped)


def whole_numbers(field: str, text: str) -> tuple[int, ...]:
    """Parse whole numbers separated by blanks; raises as `whole_number` does."""
    return tuple(whole_number(field, part) for part in text.split())


def finite_numbers(field: str, text: str) -> tuple[float, ...]:
    """Parse finite numbers separated by blanks.

    Raises:
        HeaderFault: one is no number, NaN or infinite.
    """
    try:
        values = tuple(written_number(part) for part in text.split())
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise HeaderFault(f"has the field {field!r} with {text[:60]!r}; expected finite numbers")
    return values


def check_sizes(sizes: tuple[int, ...]) -> None:
    """Check the sizes of an image's axes.

    Raises:
        HeaderFault: the sizes are missing, not positive, or too large for the libraries.
    """
    if not sizes or min(sizes) < 1:
        shown = "x".join(map(str, sizes)) or "none"
        raise HeaderFault(f"has the size {shown}; expected at least one voxel along each axis")
    if max(sizes) > _LARGEST_SIZE:
        raise HeaderFault(f"has the size {'x'.join(map(str, sizes))}, which no scan has; expected less")


def check_names(names: Sequence[str]) -> None:
    """Check the names of the files that a header lists, each of which has its own slices.

    Raises:
        HeaderFault: one is there twice.
    """
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise HeaderFault(f"lists the file {twice[:80]!r} twice; expected each once")


def check_spacing(field: str, spacing: tuple[float, ...]) -> None:
    """Check the spacing of an image's axes.

    Raises:
        HeaderFault: a value is not positive.
    """
    if any(value <= 0 for value in spacing):
        shown = ", ".join(f"{value:g}" for value in spacing)
        raise HeaderFault(f"has the spacing ({shown}) in {field!r}; expected positive numbers of mm")
