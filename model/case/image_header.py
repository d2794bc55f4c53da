"""Reading the header of an image file: its format by its content, its promises, and its grid by ITK.

The name of a file does not decide: its suffix may be in capitals, or missing its ``.gz``. ITK gets the fields
of the grid as a small file of its own, so that it opens no file of the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from zlib_ng import zlib_ng

from ..errors import InputError
from .file_kinds import other_kind
from .geometry import Geometry
from .input_files import open_input, plain_folder
from .library_text import captured_library_text
from .meta_header import is_meta_image, read_meta_header
from .nifti_affine import sheared_nifti_grid, without_position
from .nifti_header import NIFTI_BYTES, is_nifti, read_nifti_header
from .nrrd_header import is_nrrd, read_nrrd_header
from .shear import check_independent_axes
from .stored_image import EXPECTED_IMAGE, HEADER_BYTES, HeaderFault, StoredImage
from .voxel_stream import InflateError

_GZIP = b"\x1f\x8b"
_LFS_POINTER = b"version https://git-lfs.github.com/spec"
_SMALLEST_DETERMINANT = 1e-3
_LARGEST_SPACING_MM = 1e5
_LARGEST_ORIGIN_MM = 1e7
_LARGEST_DIRECTION = 1e3  # its columns have a length of about one

_COMPONENT_TYPES = {
    sitk.sitkInt8: np.int8,
    sitk.sitkUInt8: np.uint8,
    sitk.sitkInt16: np.int16,
    sitk.sitkUInt16: np.uint16,
    sitk.sitkInt32: np.int32,
    sitk.sitkUInt32: np.uint32,
    sitk.sitkInt64: np.int64,
    sitk.sitkUInt64: np.uint64,
    sitk.sitkFloat32: np.float32,
    sitk.sitkFloat64: np.float64,
    # One number per voxel, which some programs store as a vector of one.
    sitk.sitkVectorInt8: np.int8,
    sitk.sitkVectorUInt8: np.uint8,
    sitk.sitkVectorInt16: np.int16,
    sitk.sitkVectorUInt16: np.uint16,
    sitk.sitkVectorInt32: np.int32,
    sitk.sitkVectorUInt32: np.uint32,
    sitk.sitkVectorInt64: np.int64,
    sitk.sitkVectorUInt64: np.uint64,
    sitk.sitkVectorFloat32: np.float32,
    sitk.sitkVectorFloat64: np.float64,
}


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The content of a header: type and number of the voxels, and their grid."""

    stored: StoredImage
    geometry: Geometry


def read_header(path: Path) -> ImageHeader:
    """Read the header of a scalar 3-D image; last axes of one voxel are left out.

    Raises:
        InputError: it cannot be used; the message names the file, and its kind if it is another one.
    """
    stored = read_stored(path)
    grid, notes = sheared_nifti_grid(stored)
    stored = replace(stored, notes=(*stored.notes, *notes))
    if grid is None:
        return ImageHeader(stored, _grid(path, stored))
    _grid(path, replace(stored, header=without_position(stored.header)))
    check_independent_axes(path, grid)
    return ImageHeader(stored, grid)


def read_stored(path: Path) -> StoredImage:
    """Read what the header of an image file promises.

    Raises:
        InputError: it is no image file, or its header cannot be used.
    """
    with open_input(path, EXPECTED_IMAGE) as file:
        start, size = file.read(HEADER_BYTES), file.seek(0, 2)
    if start.startswith(_LFS_POINTER):
        raise InputError(
            f"{path}: is a git-lfs pointer, not the image itself; expected {EXPECTED_IMAGE} "
            "(run 'git lfs pull')"
        )
    if not start:
        raise InputError(f"{path}: is an empty file; expected {EXPECTED_IMAGE}")
    try:
        return _promises(path, start, size)
    except HeaderFault as fault:
        raise InputError(f"{path}: {fault}") from fault


def _promises(path: Path, start: bytes, size: int) -> StoredImage:
    gzipped = start.startswith(_GZIP)
    content = _unpacked(start) if gzipped else start
    if is_nrrd(content) and not gzipped:
        return read_nrrd_header(path, content)
    if is_nifti(content):
        return read_nifti_header(path, content, gzipped, size)
    if path.suffix.lower() == ".img" and (header := _header_of(path)) is not None:
        return read_stored(header)
    if is_meta_image(content) and not gzipped:
        return read_meta_header(path, content)
    if gzipped and not content:
        raise HeaderFault(f"is empty, truncated or corrupt within gzip; expected {EXPECTED_IMAGE}")
    if gzipped and (is_nrrd(content) or is_meta_image(content)):
        raise HeaderFault(f"is compressed by gzip as a whole; expected it unpacked, {EXPECTED_IMAGE}")
    if kind := other_kind(content):
        within = " within gzip" if gzipped and not content.startswith(_GZIP) else ""
        raise HeaderFault(f"is {kind}{within}; expected {EXPECTED_IMAGE}")
    raise HeaderFault(f"cannot be read as an image (its format is unknown); expected {EXPECTED_IMAGE}")


def _unpacked(start: bytes) -> bytes:
    """The first bytes of a gzip stream, up to a damage: that shows when its voxels are read."""
    content, data, inflater = b"", start, zlib_ng.decompressobj(31)
    try:
        while data and len(content) < HEADER_BYTES:
            content += inflater.decompress(data, NIFTI_BYTES if len(content) < NIFTI_BYTES else HEADER_BYTES)
            data = inflater.unconsumed_tail
            if inflater.eof:
                data, inflater = inflater.unused_data, zlib_ng.decompressobj(31)
    except InflateError:
        pass
    return content


def _header_of(path: Path) -> Path | None:
    """The .hdr beside an .img."""
    candidates = (path.with_suffix(ending) for ending in (".hdr", ".HDR"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _grid(path: Path, stored: StoredImage) -> Geometry:
    """Let ITK read the grid, and compare what it reads with our own reading."""
    if stored.suffix != ".nrrd":  # there ITK distinguishes the axes of space from others
        _checked_size(path, stored.sizes if stored.channels == 1 else stored.sizes[1:])
    reader = sitk.ImageFileReader()
    with plain_folder() as folder, captured_library_text():
        file = folder / f"header{stored.suffix}"
        file.write_bytes(stored.header)
        reader.SetFileName(str(file))
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise InputError(
                f"{path}: cannot be read as an image ({itk_reason(error)}); expected {EXPECTED_IMAGE}"
            ) from error
    size = _checked_size(path, reader.GetSize())
    if reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"{path}: has {reader.GetNumberOfComponents()} values per voxel; expected {EXPECTED_IMAGE}"
        )
    kind = _COMPONENT_TYPES.get(reader.GetPixelID())
    if kind is None:
        name = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        raise InputError(f"{path}: has voxels of type {name}; expected one number per voxel")
    if np.dtype(kind) != np.dtype(stored.value_type) or size[0] * size[1] * size[2] != stored.count:
        raise InputError(
            f"{path}: has a header that can be read in two ways, as {size} voxels of {np.dtype(kind).name} "
            f"or as {stored.sizes} of {np.dtype(stored.value_type).name}; expected {EXPECTED_IMAGE}"
        )
    return _checked_geometry(path, size, reader)


def _checked_size(path: Path, sizes: Sequence[int]) -> tuple[int, int, int]:
    size = tuple(sizes)
    while len(size) > 3 and size[-1] == 1:
        size = size[:-1]
    if len(size) != 3:
        kind = "a 4-dimensional series" if len(size) == 4 else f"{len(size)}-dimensional"
        raise InputError(f"{path}: is {kind} (size {'x'.join(map(str, size))}); expected {EXPECTED_IMAGE}")
    x, y, z = size
    return (x, y, z)


def _checked_geometry(path: Path, size: tuple[int, int, int], reader: sitk.ImageFileReader) -> Geometry:
    n = reader.GetDimension()
    x, y, z = reader.GetSpacing()[:3]
    ox, oy, oz = (value + 0.0 for value in reader.GetOrigin()[:3])
    matrix = np.asarray(reader.GetDirection(), np.float64).reshape(n, n)[:3, :3]
    # As in an image that ITK has read: -0.0 is 0.0 beside the diagonal.
    matrix = np.where(matrix == np.eye(3), np.eye(3), matrix)
    geometry = Geometry(size, (x, y, z), (ox, oy, oz), tuple(matrix.ravel().tolist()))
    check_grid(path, geometry)
    check_independent_axes(path, geometry)
    return geometry.with_unit_axes()


def check_grid(path: Path, grid: Geometry) -> None:
    """Check the grid of a file.

    Raises:
        InputError: a number is not finite, a spacing not positive, or the direction has no inverse.
    """
    spacing, direction = grid.spacing_xyz, np.asarray(grid.direction).reshape(3, 3)
    if not np.isfinite([*spacing, *grid.origin_xyz, *grid.direction]).all():
        fault = "has a grid with numbers that are NaN or infinite"
    elif min(spacing) <= 0 or max(spacing) > _LARGEST_SPACING_MM:
        fault = "has a spacing that no scan has"
    elif max(map(abs, grid.origin_xyz)) > _LARGEST_ORIGIN_MM or np.abs(direction).max() > _LARGEST_DIRECTION:
        fault = "has an origin or a direction that no scan has"
    elif abs(np.linalg.det(direction)) < _SMALLEST_DETERMINANT:
        fault = "has a direction matrix without an inverse"
    else:
        return
    raise InputError(f"{path}: {fault} ({grid.describe()}); expected a grid in mm")


def itk_reason(error: Exception) -> str:
    """The line of ITK's error message that names the problem."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    signs = ("[nrrd]", "ERROR", "Error")  # the first one that is there names the cause
    chosen = next((line for sign in signs for line in reversed(lines) if sign in line), lines[-1])
    return chosen.split("): ")[-1][:160]
