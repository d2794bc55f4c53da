"""Transforms that are saved and given back, and those of other programs.

Files are ITK's, so that other programs read them: a transform of any kind (``.h5``, ``.tfm`` ...), or an
image of displacements (``.nii.gz``, ``.mha`` ..., three values x, y, z per voxel). All are in LPS mm and take
points of the fixed scan (the follow-up) to the moving one (the baseline), as ITK resamples.

A folder holds one file per pair, named ``FIXED_to_MOVING`` by the scans' names (see `names.scan_keys`), as in
``week12_to_week00.h5``; a pair of which only the other direction is there gets its inverse.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import SimpleITK as sitk

from ...case.atomic_files import written_whole
from ...case.geometry import Geometry
from ...case.images import IMAGE_SUFFIXES
from ...errors import InputError
from . import Registration, RegistrationImage, Transform
from .itk import InverseTransform, from_field, from_itk, to_field, to_itk
from .names import scan_keys
from .similarity import given_registration

READ_SUFFIXES = (".h5", ".hdf5", ".hdf", ".tfm", ".txt", ".xfm", ".mat")
WRITTEN_SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt")

# An .mhd keeps its voxels in a second file, which cannot be put in place in one step.
_FIELD_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix != ".mhd")
_EXPECTED = (
    f"an ITK transform ({', '.join(READ_SUFFIXES)}) or an image of displacements in LPS mm "
    f"({', '.join(IMAGE_SUFFIXES)})"
)
_LINK = "_to_"


class StoredBackend:
    """Gives back the transform of a file, or of each pair's own file in a folder; nothing is searched for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            raise InputError(f"{path}: is not there; expected {_EXPECTED}, or a folder of them")

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """The stored transform, and how alike it makes the scans; see `Backend.register`.

        A single file is taken for any pair, as it says nothing of scans.

        Raises:
            InputError: no file for this pair, or one that cannot be used.
        """
        if not self._path.is_dir():
            return given_registration(read_transform(self._path), fixed, moving)
        found = _file_of(self._path, fixed.name, moving.name)
        if found is not None:
            return given_registration(read_transform(found), fixed, moving)
        found = _file_of(self._path, moving.name, fixed.name)
        if found is not None:
            return given_registration(InverseTransform(read_transform(found)), fixed, moving)
        raise InputError(
            f"{self._path}: has no transform of the scans {fixed.name!r} and {moving.name!r}; expected one "
            f"named {pair_name(fixed.name, moving.name)}{WRITTEN_SUFFIXES[0]}"
        )


def pair_name(fixed_name: str, moving_name: str) -> str:
    """What the file of two scans is called in a folder of transforms, without its suffix."""
    return _LINK.join((scan_keys(name) or ("",))[-1] for name in (fixed_name, moving_name))


def _file_of(folder: Path, fixed_name: str, moving_name: str) -> Path | None:
    """The file of a pair, or None; InputError where there are several."""
    names = [_LINK.join(keys) for keys in product(scan_keys(fixed_name), scan_keys(moving_name))]
    for name in names:
        paths = [folder / f"{name}{suffix}" for suffix in (*READ_SUFFIXES, *IMAGE_SUFFIXES)]
        there = [path for path in paths if path.is_file()]
        if len(there) > 1:
            shown = ", ".join(path.name for path in there)
            raise InputError(f"{folder}: has several transforms of one pair ({shown}); expected one")
        if there:
            return there[0]
    return None


def read_transform(path: Path) -> Transform:
    """The transform of a file, fixed to moving.

    Raises:
        InputError: it cannot be read, or is no invertible map of three dimensions.
    """
    try:
        if path.name.lower().endswith(IMAGE_SUFFIXES):
            return from_field(sitk.ReadImage(str(path)))
        return from_itk(sitk.ReadTransform(str(path)))
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)}); expected {_EXPECTED}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def save_transform(path: Path, transform: Transform, fixed: Geometry | None = None) -> None:
    """Write a transform so that ``transform:FILE`` gives it back, and that ITK's programs can read it.

    Linear transforms, fields and their compositions become the same in ITK. Others (splines, users' own), and
    all but fields where an image is asked for, are sampled every few mm over the ``fixed`` scan's grid.
    A file that was there before is replaced once the new one is whole.

    Raises:
        InputError: a suffix that is none of these, or no ``fixed`` where it is needed.
        OutputError: it cannot be written.
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
    """What a file's name ends in, which says how a transform is written to it.

    Raises:
        InputError: in none of what can be written.
    """
    wanted = (*WRITTEN_SUFFIXES, *_FIELD_SUFFIXES)
    suffix = next((suffix for suffix in wanted if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise InputError(f"{path}: is no name for a transform; expected it to end in {', '.join(wanted)}")
    return suffix


def _put(path: Path, suffix: str, content: sitk.Transform | sitk.Image) -> None:
    """Write under a temporary name of the same kind, and only then give the file its own."""
    with written_whole(path, suffix, _reason) as temporary:
        if isinstance(content, sitk.Image):
            sitk.WriteImage(content, str(temporary), useCompression=True)
        else:
            sitk.WriteTransform(content, str(temporary))


def _reason(error: Exception) -> str:
    """The last of ITK's many lines, which says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].split("): ")[-1][:160] if lines else type(error).__name__
