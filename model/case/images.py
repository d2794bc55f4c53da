"""Reading images with checks of their headers, and writing them atomically with verification."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, OutputError
from .atomic_files import atomic_write
from .geometry import Array, Geometry

# Our own errors describe unusable files; ITK's warnings would follow them on stderr, whose last line is shown
# to the user.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

IMAGE_SUFFIXES = (".mha", ".mhd", ".nii.gz", ".nii", ".nrrd")
_EXPECTED = "one 3-D image (" + ", ".join(IMAGE_SUFFIXES) + ")"
_NIFTI_HEADER_BYTES = 352
_VOXEL_BYTES = {
    sitk.sitkInt8: 1,
    sitk.sitkUInt8: 1,
    sitk.sitkInt16: 2,
    sitk.sitkUInt16: 2,
    sitk.sitkInt32: 4,
    sitk.sitkUInt32: 4,
    sitk.sitkInt64: 8,
    sitk.sitkUInt64: 8,
    sitk.sitkFloat32: 4,
    sitk.sitkFloat64: 8,
}
_LFS_POINTER = b"version https://git-lfs.github.com/spec"


@dataclass(frozen=True, eq=False)
class Image:
    """An array (z, y, x) in the file's number type, and its geometry.

    The array is a read-only view of ITK's buffer, which is kept as long as any view of it.
    """

    array: Array
    geometry: Geometry


def find_image(folder: Path) -> Path:
    """Find the only image of a folder (an ``.mhd`` with its raw file counts as one).

    Raises:
        InputError: no such folder, no image in it, or several.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: the folder is missing; expected {_EXPECTED} in it")
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be read ({error.strerror}); expected {_EXPECTED} in it"
        ) from error
    images = [
        entry
        for entry in entries
        if entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith(".")
    ]
    if not images:
        raise InputError(f"{folder}: holds no image; expected {_EXPECTED}")
    if len(images) > 1:
        names = ", ".join(entry.name for entry in images[:4])
        raise InputError(f"{folder}: holds {len(images)} images ({names}); expected exactly one")
    return images[0]


def read_geometry(path: Path) -> Geometry:
    """Read the geometry of an image from its header; raises InputError as `read_image` does."""
    return _geometry(_read_header(path))


def read_image(path: Path) -> Image:
    """Read a scalar 3-D image.

    Raises:
        InputError: not an image, a git-lfs pointer, truncated, not three-dimensional or not scalar.
    """
    header = _read_header(path)
    _check_raw_size(path, header)
    try:
        image = header.Execute()
    except RuntimeError as error:
        raise InputError(
            f"{path}: the image data cannot be read, the file is truncated or corrupt ({_reason(error)}); "
            f"expected {_EXPECTED}"
        ) from error
    return Image(np.asarray(_Buffer(image)), _geometry(image))


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
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetPixelID() not in _VOXEL_BYTES:
        raise InputError(
            f"{name}: has voxels of type {image.GetPixelIDTypeAsString()}; expected one number per voxel"
        )
    return Image(np.asarray(_Buffer(image)), _geometry(image))


def _read_header(path: Path) -> sitk.ImageFileReader:
    _refuse_lfs_pointer(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(
            f"{path}: cannot be read as an image ({_reason(error)}); expected {_EXPECTED}"
        ) from error
    size = reader.GetSize()
    if reader.GetDimension() != 3:
        raise InputError(
            f"{path}: is {reader.GetDimension()}-dimensional (size {'x'.join(map(str, size))}); "
            f"expected {_EXPECTED}"
        )
    if reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"{path}: has {reader.GetNumberOfComponents()} values per voxel; expected {_EXPECTED}"
        )
    return reader


def _refuse_lfs_pointer(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {_EXPECTED}") from error
    if start == _LFS_POINTER:
        raise InputError(
            f"{path}: is a git-lfs pointer, not the image itself; expected {_EXPECTED} (run 'git lfs pull')"
        )
    if not start:
        raise InputError(f"{path}: is an empty file; expected {_EXPECTED}")


def _check_raw_size(path: Path, header: sitk.ImageFileReader) -> None:
    """Refuse an uncompressed file that is too short: some of ITK's readers would pad it with zeros."""
    voxel_bytes = _VOXEL_BYTES.get(header.GetPixelID())
    if voxel_bytes is None:
        kind = sitk.GetPixelIDValueAsString(header.GetPixelID())
        raise InputError(f"{path}: has voxels of type {kind}; expected one number per voxel")
    needed = int(np.prod(header.GetSize(), dtype=np.int64)) * voxel_bytes
    name = path.name.lower()
    if name.endswith(".gz"):
        _check_gzip(path, needed)
    elif name.endswith((".mha", ".nii")) and not _says_compressed(path) and path.stat().st_size < needed:
        raise InputError(
            f"{path}: is truncated, {path.stat().st_size} bytes; expected at least {needed} bytes of voxels"
        )


def _check_gzip(path: Path, needed: int) -> None:
    """Refuse a truncated .nii.gz, which ITK would silently pad with zeros.

    The trailer of the stream holds the unpacked size; if that is the usual header plus the voxels, the file
    is complete. Anything else (extensions, several members, truncation) is unpacked once to find out.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4))
        trailer = int.from_bytes(file.read(4), "little")
    if trailer == (_NIFTI_HEADER_BYTES + needed) % 2**32:
        return
    unpacked = 0
    try:
        with gzip.open(path) as stream:
            while block := stream.read(1 << 24):
                unpacked += len(block)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path}: is truncated or corrupt ({error}); expected {_EXPECTED}") from error
    if unpacked < needed:
        raise InputError(
            f"{path}: is truncated, {unpacked} bytes unpacked; expected at least {needed} bytes of voxels"
        )


def _says_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return b"CompressedData = True" in file.read(4096)


def _geometry(image: sitk.Image | sitk.ImageFileReader) -> Geometry:
    size, spacing, origin = image.GetSize(), image.GetSpacing(), image.GetOrigin()
    return Geometry(
        (size[0], size[1], size[2]),
        (spacing[0], spacing[1], spacing[2]),
        (origin[0], origin[1], origin[2]),
        tuple(image.GetDirection()),
    )


def _reason(error: Exception) -> str:
    """The line of ITK's error message that names the problem."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    chosen = next((line for line in reversed(lines) if "ERROR" in line or "Error" in line), lines[-1])
    return chosen.split("): ")[-1][:160]


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
    image = to_sitk(array, geometry)
    with atomic_write(path, "".join(path.suffixes[-2:]), _reason) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)
        del image  # before the file is read back: one copy less at peak memory
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
