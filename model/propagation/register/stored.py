"""Stored transforms: saved by this package or by other programs.

Files are in ITK's formats: a transform of any kind (``.h5``, ``.tfm`` ...), or an image of displacements
(``.nii.gz``, ``.mha`` ..., three values x, y, z per voxel). They map points of the fixed scan (the
follow-up) to the moving one (the baseline), in LPS mm, as ITK does for resampling.

A folder holds one file per pair, named ``FIXED_to_MOVING`` by the scans' names (see `names.scan_keys`), e.g.
``week12_to_week00.h5``; if only the opposite direction exists, it is inverted.
"""

from __future__ import annotations

import logging
import math
import re
from itertools import product
from pathlib import Path

import SimpleITK as sitk

from ...case.atomic_files import atomic_write
from ...case.geometry import Geometry
from ...case.images import read_vectors
from ...case.input_files import is_regular_file, library_path, open_input, path_exists, plain_output
from ...case.library_text import captured_library_text
from ...case.stored_image import IMAGE_SUFFIXES
from ...errors import InputError
from . import Registration, RegistrationImage, Transform
from .itk import InverseTransform, from_field, from_itk, to_field, to_itk
from .names import scan_keys
from .similarity import given_registration
from .trial_read import check_not_virtual, check_readable

log = logging.getLogger(__name__)

READ_SUFFIXES = (".h5", ".hdf5", ".hdf", ".tfm", ".txt", ".xfm", ".mat")
WRITTEN_SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt")

# An .mhd keeps its voxels in a second file, which cannot be put in place in one step.
_FIELD_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix != ".mhd")
_EXPECTED = (
    f"an ITK transform ({', '.join(READ_SUFFIXES)}) or an image of displacements in LPS mm "
    f"({', '.join(IMAGE_SUFFIXES)})"
)
_LINK = "_to_"
_TEXT_SUFFIXES = (".tfm", ".txt")
_TEXT_FIELDS = ("FixedParameters", "Parameters")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
_BINARY_SUFFIXES = (*_HDF5_SUFFIXES, ".mat")
# What a file has once per transform.
_TRANSFORM_SIGNS = {
    ".xfm": b"Transform_Type",
    ".mat": b"\0fixed\0",
    **dict.fromkeys(_HDF5_SUFFIXES, b"TransformType"),
}


class StoredBackend:
    """Reads the transform from a file, or from the pair's file in a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path_exists(path):
            raise InputError(f"{path}: is not there; expected {_EXPECTED}, or a folder of them")

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Return the stored transform with the similarity under it; see `Backend.register`.

        A single file is used for any pair, as it does not name its scans.

        Raises:
            InputError: the pair has no file, or the file cannot be used.
        """
        if not self._path.is_dir():
            return given_registration(read_transform(self._path), fixed, moving)
        path = _file_of(self._path, fixed.name, moving.name)
        if path is not None:
            return given_registration(read_transform(path), fixed, moving)
        path = _file_of(self._path, moving.name, fixed.name)
        if path is not None:
            return given_registration(InverseTransform(read_transform(path)), fixed, moving)
        raise InputError(
            f"{self._path}: has no transform of the scans {fixed.name!r} and {moving.name!r}; expected one "
            f"named {pair_name(fixed.name, moving.name)}{WRITTEN_SUFFIXES[0]}"
        )


def pair_name(fixed_name: str, moving_name: str) -> str:
    """Name of a pair's file in a folder of transforms, without suffix."""
    return _LINK.join((scan_keys(name) or ("",))[-1] for name in (fixed_name, moving_name))


def _file_of(folder: Path, fixed_name: str, moving_name: str) -> Path | None:
    """The file of a pair, or None; raises InputError if there are several."""
    names = [_LINK.join(keys) for keys in product(scan_keys(fixed_name), scan_keys(moving_name))]
    for name in names:
        paths = [folder / f"{name}{suffix}" for suffix in (*READ_SUFFIXES, *IMAGE_SUFFIXES)]
        existing = [path for path in paths if is_regular_file(path)]
        if len(existing) > 1:
            listed = ", ".join(path.name for path in existing)
            raise InputError(f"{folder}: has several transforms of one pair ({listed}); expected one")
        if existing:
            return existing[0]
    return None


def read_transform(path: Path) -> Transform:
    """Read a transform, fixed to moving.

    Raises:
        InputError: the file cannot be read, or is no invertible map of three dimensions.
    """
    try:
        if path.name.lower().endswith(IMAGE_SUFFIXES):
            return from_field(read_vectors(path))
        is_binary = _check_content(path)
        with library_path(path, path.suffix.lower()) as name, captured_library_text():
            if is_binary:
                check_readable(name)
            return from_itk(_read_itk(name))
    except (RuntimeError, UnicodeDecodeError) as error:  # the latter: ITK's message quotes damaged names
        raise InputError(f"{path}: cannot be read ({_reason(error)}); expected {_EXPECTED}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _check_content(path: Path) -> bool:
    """Check the content of a file that is no image; returns True if it is binary."""
    with open_input(path, _EXPECTED) as file:  # no folder, pipe or device
        content = file.read()
    suffix = path.suffix.lower()
    if content.startswith(_HDF5):  # which ITK reads under any name
        suffix = _HDF5_SUFFIXES[0]
        check_not_virtual(content)
    elif suffix in _HDF5_SUFFIXES:
        raise InputError(f"{path}: is no HDF5 file; expected {_EXPECTED}")
    elif _HDF5 in content:  # with other bytes in front, which ITK passes over
        raise InputError(f"{path}: holds an HDF5 file; expected {_EXPECTED}")
    elif suffix in _TEXT_SUFFIXES:
        _check_text(content)
    _check_single(suffix, content)
    if suffix == ".xfm" and b"%ITK" not in content[:200]:
        log.warning("%s: is taken in LPS mm, as ITK reads it; MINC's own programs write RAS mm", path)
    return suffix in _BINARY_SUFFIXES


def _read_itk(name: str) -> sitk.Transform:
    try:
        transform: sitk.Transform = sitk.ReadTransform(name)
    except KeyError as error:  # SimpleITK has no name for some of ITK's classes
        raise ValueError("has a transform of a class that SimpleITK lacks; expected another one") from error
    return transform


def _check_single(suffix: str, content: bytes) -> None:
    """Check that a file holds a single transform: of several, SimpleITK silently takes the first.

    Raises:
        ValueError: there are several, and no composition of them.
    """
    sign = _TRANSFORM_SIGNS.get(suffix, b"Transform:")
    if content.count(sign) > 1 and b"CompositeTransform" not in content:
        raise ValueError(
            "holds several transforms, and does not say that they follow each other; expected one, or a "
            "composite transform"
        )


def _check_text(content: bytes) -> None:
    """Check the fields of ITK's text format, which ITK reads up to the first word that is no number.

    Raises:
        ValueError: a word is no finite number, or a transform does not have each of its fields once.
    """
    fields: list[list[str]] = []
    for line in content.decode("utf-8", "replace").split("\n"):
        name, _, values = line.strip().partition(":")
        if name == "Transform":
            fields.append([])
        elif name in _TEXT_FIELDS and fields:
            fields[-1].append(name)
            if wrong := next((word for word in values.split(" ") if word and not _is_number(word)), None):
                raise ValueError(f"has {wrong[:40]!r} in its {name}; expected finite numbers")
    for names in fields:
        if names and sorted(names) != sorted(_TEXT_FIELDS):
            wanted = " and ".join(_TEXT_FIELDS)
            raise ValueError(f"has a transform with {' and '.join(names)}; expected one {wanted} each")


def _is_number(word: str) -> bool:
    try:
        return word.isascii() and "_" not in word and math.isfinite(float(word))
    except ValueError:
        return False


def save_transform(path: Path, transform: Transform, fixed: Geometry | None = None) -> None:
    """Write a transform for the back end ``transform:FILE`` and for other ITK programs.

    Linear transforms, fields and their compositions are written exactly. Others (splines, user-defined ones),
    and all but fields in the case of an image, are sampled every few mm over the ``fixed`` scan's grid. An
    existing file is replaced atomically.

    Raises:
        InputError: the suffix is unknown, or ``fixed`` is None although it is needed.
        OutputError: the file cannot be written.
    """
    suffix = transform_suffix(path)
    try:
        if suffix in WRITTEN_SUFFIXES:
            _put(path, suffix, to_itk(transform, fixed))
        else:
            _put(path, suffix, to_field(transform, fixed))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def transform_suffix(path: Path) -> str:
    """Suffix of a file to be written, which determines its format.

    Raises:
        InputError: files with this suffix cannot be written.
    """
    allowed = (*WRITTEN_SUFFIXES, *_FIELD_SUFFIXES)
    suffix = next((suffix for suffix in allowed if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise InputError(f"{path}: is no name for a transform; expected it to end in {', '.join(allowed)}")
    return suffix


def _put(path: Path, suffix: str, content: sitk.Transform | sitk.Image) -> None:
    """Write under a temporary name with the same suffix, then rename."""
    with (
        atomic_write(path, suffix, _reason) as temporary,
        plain_output(temporary) as name,
        captured_library_text(),
    ):
        if isinstance(content, sitk.Image):
            sitk.WriteImage(content, name, useCompression=True)
        else:
            sitk.WriteTransform(content, name)


def _reason(error: Exception) -> str:
    """The line of ITK's message that holds the cause, mostly the last one."""
    text = str(error)
    if unknown := re.search(r"instance of \"?(\w+)", text):
        return f"ITK knows no transform of the class {unknown[1]}"
    if "Could not create Transform IO" in text:
        return "it is damaged, or no transform of the kind of its suffix"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].split("): ")[-1][:160] if lines else type(error).__name__
