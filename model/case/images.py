"""Reading images with checks of their headers, and writing them atomically with verification."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, OutputError
from .atomic_files import atomic_write
from .geometry import Array, Geometry
from .image_header import check_grid, itk_reason, read_header, read_stored
from .input_files import plain_folder, plain_output
from .library_text import captured_library_text
from .nifti_affine import is_sheared_nifti, write_sheared_nifti
from .shear import check_independent_axes
from .stored_image import EXPECTED_IMAGE, IMAGE_SUFFIXES, READ_SUFFIXES, StoredImage
from .voxel_stream import check_promise, decode_voxels

log = logging.getLogger(__name__)

# Our own errors describe unusable files; ITK's warnings would follow them on stderr, whose last line is shown
# to the user.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

_SCALAR_TYPES = (
    *(sitk.sitkInt8, sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkInt32, sitk.sitkUInt32),
    *(sitk.sitkInt64, sitk.sitkUInt64, sitk.sitkFloat32, sitk.sitkFloat64),
)
_RESCALED_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class Image:
    """An array (z, y, x) in the file's number type, and its geometry.

    The array is read-only; of a SimpleITK image it is a view, which keeps the image. ``notes`` are what
    the user should know about the file.
    """

    array: Array
    geometry: Geometry
    notes: tuple[str, ...] = ()


def find_image(folder: Path) -> Path:
    """Find the only image of a folder (an ``.mhd`` with its raw file counts as one).

    Raises:
        InputError: no such folder, no image in it, or several.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: the folder is missing; expected {EXPECTED_IMAGE} in it")
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be read ({error.strerror}); expected {EXPECTED_IMAGE} in it"
        ) from error
    images = [
        entry
        for entry in entries
        if entry.name.lower().endswith(READ_SUFFIXES) and not entry.name.startswith(".")
    ]
    if not images:
        raise InputError(f"{folder}: holds no image; expected {EXPECTED_IMAGE}")
    if len(images) > 1:
        names = ", ".join(entry.name for entry in images[:4])
        raise InputError(f"{folder}: holds {len(images)} images ({names}); expected exactly one")
    return images[0]


def read_geometry(path: Path) -> Geometry:
    """Read the geometry of an image from its header; raises InputError as `read_image` does."""
    header = read_header(path)
    check_promise(path, header.stored)
    return header.geometry


def read_image(path: Path, warn: Callable[[str], None] = log.warning) -> Image:
    """Read a scalar 3-D image, with proof that its voxels are whole.

    Args:
        path: the file.
        warn: called with a sentence for each peculiarity; they are also the image's ``notes``.

    Raises:
        InputError: not an image, a git-lfs pointer, truncated, corrupt, not three-dimensional or not scalar.
    """
    header = read_header(path)
    values = _rescaled(path, header.stored, decode_voxels(path, header.stored))
    values.flags.writeable = False
    for note in header.stored.notes:
        warn(f"{path}: {note}")
    return Image(values.reshape(header.geometry.shape_zyx), header.geometry, header.stored.notes)


def read_vectors(path: Path) -> sitk.Image:
    """Read an image with several values per voxel, with proof that they are whole.

    Raises:
        InputError: as `read_image`, but for the number of values and dimensions.
    """
    stored = read_stored(path)
    with plain_folder() as folder, captured_library_text():
        # ITK gets the voxels that are proved, and nothing of the file that it may read differently.
        copy = folder / f"vectors{stored.suffix}"
        with copy.open("wb") as file:
            file.write(stored.header)
            file.write(decode_voxels(path, stored).astype(stored.dtype, copy=False).data)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(copy))
        try:
            reader.ReadImageInformation()
            if reader.GetDimension() == 3:
                check_grid(path, _geometry(reader))  # ITK inverts any direction, some without end
            image: sitk.Image = reader.Execute()
            return image
        except RuntimeError as error:
            raise InputError(
                f"{path}: cannot be read as an image ({itk_reason(error)}); expected an image"
            ) from error


def _rescaled(path: Path, stored: StoredImage, values: Array) -> Array:
    """Apply a header's slope and intercept as ITK does: in double precision, to floats."""
    if stored.rescale is None:
        return values
    slope, intercept = stored.rescale
    log.info(
        "%s: %s values are rescaled by its header, times %g plus %g", path, values.dtype, slope, intercept
    )
    floats = values.astype(stored.value_type, copy=False)
    for start in range(0, floats.size, _RESCALED_AT_ONCE):
        part = floats[start : start + _RESCALED_AT_ONCE]
        with np.errstate(over="ignore"):  # to infinity, which is reported with the voxels
            part[:] = part.astype(np.float64) * slope + intercept
    return floats


class _Buffer:
    """Exposes an image's voxels to numpy, which keeps this object, and so the image, as base of its views.

    SimpleITK's own view does not keep the image: its memory is freed when only the view is left.
    """

    def __init__(self, image: sitk.Image) -> None:
        self._image = image
        self.__array_interface__ = sitk.GetArrayViewFromImage(image).__array_interface__


def image_of(name: str, image: sitk.Image) -> Image:
    """View a scalar 3-D SimpleITK image as an array with its geometry, without a copy of its voxels.

    Args:
        name: the argument's, with which errors begin.
        image: one number per voxel.

    Returns:
        A read-only array (z, y, x) in the image's number type.

    Raises:
        InputError: it is not an image, not three-dimensional, or has several values per voxel.
    """
    if not isinstance(image, sitk.Image):
        raise InputError(f"{name}: is a {type(image).__name__}; expected a SimpleITK image")
    if image.GetDimension() != 3:
        raise InputError(f"{name}: is {image.GetDimension()}-dimensional; expected three dimensions")
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetPixelID() not in _SCALAR_TYPES:
        raise InputError(
            f"{name}: has voxels of type {image.GetPixelIDTypeAsString()}; expected one number per voxel"
        )
    geometry = _geometry(image).with_unit_axes()
    check_independent_axes(name, geometry)
    return Image(np.asarray(_Buffer(image)), geometry)


def _geometry(image: sitk.Image | sitk.ImageFileReader) -> Geometry:
    (nx, ny, nz), (sx, sy, sz), (x, y, z) = image.GetSize(), image.GetSpacing(), image.GetOrigin()
    return Geometry((nx, ny, nz), (sx, sy, sz), (x, y, z), tuple(image.GetDirection()))


def write_image(path: Path, array: Array, geometry: Geometry, verify: bool = True) -> None:
    """Write a compressed image atomically, and verify it before it gets its final name.

    Args:
        path: the file; its suffix gives the format.
        array: voxels (z, y, x) of any number type.
        geometry: of the array.
        verify: read the file back and compare it; False saves time.

    Raises:
        OutputError: it cannot be written, or does not read back with the same grid and voxels.
    """
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    with atomic_write(path, suffix, itk_reason) as temporary:
        with plain_output(temporary) as name, captured_library_text():
            if is_sheared_nifti(path, geometry):
                write_sheared_nifti(Path(name), array, geometry)
            else:  # the copy is freed before the file is read back
                sitk.WriteImage(to_sitk(array, geometry), name, useCompression=True)
        if verify:
            _verify(temporary, path, array, geometry)


def to_sitk(array: Array, geometry: Geometry) -> sitk.Image:
    """Make a SimpleITK image of an array.

    Args:
        array: voxels (z, y, x) with the axes of the grid.
        geometry: spacing, origin and direction of the image.

    Returns:
        An image with voxels of its own.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(geometry.spacing_xyz)
    image.SetOrigin(geometry.origin_xyz)
    image.SetDirection(geometry.direction)
    return image


def _verify(temporary: Path, path: Path, array: Array, geometry: Geometry) -> None:
    """Compare the file written for ``path`` with its array and geometry."""
    try:
        written = read_image(temporary)
    except InputError as error:
        raise OutputError(f"{path}: the written file does not read back: {error}") from error
    same_voxels = written.array.shape == array.shape and all(map(np.array_equal, written.array, array))
    if written.array.dtype != array.dtype or not same_voxels:
        raise OutputError(f"{path}: the written voxels differ from the result; expected the same voxels")
    if not written.geometry.same_grid(geometry):
        raise OutputError(
            f"{path}: the written grid is {written.geometry.describe()}; expected {geometry.describe()}"
        )
