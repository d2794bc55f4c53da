"""Positions in NIfTI files: those that programs read differently, and sheared ones, which SimpleITK refuses.

A NIfTI header holds up to two positions: the sform, any affine, and the qform, a rotation. SimpleITK 2.5
passes over a sheared sform: it reads the qform if there is one, and fails otherwise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .axes import Array, FloatArray, to_vector
from .geometry import Geometry
from .stored_image import StoredImage

_HEADER = np.dtype(
    {
        "names": ["size", "dim", "pixdim", "units", "qform", "sform", "quaternion", "offset", "rows"],
        "formats": ["i4", "8i2", "8f4", "u1", "i2", "i2", "3f4", "3f4", "(3,4)f4"],
        "offsets": [0, 40, 76, 123, 252, 254, 256, 268, 280],
        "itemsize": 348,
    }
)
_CODES_START, _CODES_STOP = 252, 256  # those of qform and sform
_SCANNER = 1  # code of a position in the scanner; larger ones are those of other scans or of an atlas
_MM_PER_UNIT = {1: 1e3, 3: 1e-3}  # metres and microns; everything else is mm, as in SimpleITK
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
# SimpleITK refuses less than this; what is finer is rounding of 32-bit numbers.
ORTHOGONAL_COSINE = 1e-4
# Of the smallest spacing: closer positions are one, written twice.
_SAME_POSITION = 0.5
_UNITS = {1: "metres", 3: "micrometres"}
_NO_POSITION = (
    "has neither qform nor sform, so that its orientation is unknown; its axes are taken for those of LPS, "
    "as by ITK, while other programs take them for those of RAS or LAS"
)


def is_sheared_nifti(path: Path, geometry: Geometry) -> bool:
    """True if SimpleITK cannot write this grid to a file of this name."""
    is_nifti_name = path.name.lower().endswith((".nii", ".nii.gz"))
    return is_nifti_name and geometry.largest_cosine > ORTHOGONAL_COSINE


def sheared_nifti_grid(stored: StoredImage) -> tuple[Geometry | None, tuple[str, ...]]:
    """Read the grid of a NIfTI file whose sform is sheared.

    Args:
        stored: the promises of a file of any format.

    Returns:
        The grid with the sheared axes, None if SimpleITK reads the grid rightly; and notes for the user, also
        about positions and units that programs read differently.
    """
    header = _header(stored)
    if header is None:
        return None, ()
    grid, notes = _sheared_grid(header)
    return grid, (*_unit_notes(header), *notes)


def _unit_notes(header: np.void) -> tuple[str, ...]:
    """A note about another unit than mm, which some programs convert and others do not."""
    unit = _UNITS.get(int(header["units"]) & 7)
    if unit is None:
        return ()
    return (f"the header gives lengths in {unit}; they are converted to mm, as by ITK; others may not do so",)


def _sheared_grid(header: np.void) -> tuple[Geometry | None, tuple[str, ...]]:
    """The grid of a sheared sform, or None, and notes about positions."""
    if header["sform"] <= 0:
        return None, () if header["qform"] > 0 else (_NO_POSITION,)
    affine = np.asarray(header["rows"], np.float64) * _MM_PER_UNIT.get(int(header["units"]) & 7, 1.0)
    step = _RAS_TO_LPS @ affine[:, :3]
    spacing = np.linalg.norm(step, axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        return None, ()
    direction = step / spacing
    nx, ny, nz = (int(n) for n in header["dim"][1:4])
    origin = to_vector(_RAS_TO_LPS @ affine[:, 3])
    grid = Geometry((nx, ny, nz), to_vector(spacing), origin, tuple(direction.ravel().tolist()))
    if grid.largest_cosine <= ORTHOGONAL_COSINE:
        return None, _two_positions(header)
    if header["sform"] > _SCANNER and header["qform"] > 0 and not _is_unsheared(header, direction):
        note = "holds a sheared affine to another space beside its position; the position (qform) is used"
        return None, (note,)
    return grid, ()


def without_position(header: bytes) -> bytes:
    """A NIfTI header without qform and sform, whose grid SimpleITK reads whatever they were.

    Args:
        header: of a NIfTI-1 file.
    """
    return header[:_CODES_START] + bytes(_CODES_STOP - _CODES_START) + header[_CODES_STOP:]


def write_sheared_nifti(path: Path, array: Array, geometry: Geometry) -> None:
    """Write a NIfTI file with a sheared sform and no qform.

    Args:
        path: ends in .nii or .nii.gz.
        array: voxels (z, y, x).
        geometry: its sheared grid.
    """
    import nibabel  # takes long to import, and few scans are sheared

    affine = np.eye(4)
    affine[:3, :3] = _RAS_TO_LPS @ (np.reshape(geometry.direction, (3, 3)) * geometry.spacing_xyz)
    affine[:3, 3] = _RAS_TO_LPS @ geometry.origin_xyz
    image = nibabel.Nifti1Image(np.asarray(array).transpose(2, 1, 0), affine, dtype=array.dtype)
    image.set_qform(None, code=0)
    image.set_sform(affine, code=_SCANNER)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _header(stored: StoredImage) -> np.void | None:
    """The fields of a NIfTI-1 header; None for any other format."""
    if stored.suffix != ".nii" or len(stored.header) < _HEADER.itemsize:
        return None
    for kind in (_HEADER.newbyteorder("<"), _HEADER.newbyteorder(">")):
        header: np.void = np.frombuffer(stored.header, kind, count=1)[0]
        if header["size"] == _HEADER.itemsize:
            return header
    return None


def _two_positions(header: np.void) -> tuple[str, ...]:
    """A note if qform and sform are two positions."""
    if header["qform"] <= 0:
        return ()
    pixdim, rows = header["pixdim"][1:4].astype(np.float64), header["rows"].astype(np.float64)
    corners = np.array(list(np.ndindex(2, 2, 2))) * (header["dim"][1:4] - 1.0)
    by_qform = corners @ (_rotation(header) * pixdim).T + header["offset"]
    apart = float(np.linalg.norm(by_qform - corners @ rows[:, :3].T - rows[:, 3], axis=1).max())
    if apart <= _SAME_POSITION * pixdim.min():
        return ()
    return (
        f"holds two positions, qform and sform, up to {apart:.3g} mm apart, of which programs choose "
        "differently; the one that ITK chooses is used",
    )


def _rotation(header: np.void) -> FloatArray:
    """The axes of the qform, RAS, as columns of length 1."""
    b, c, d = (float(value) for value in header["quaternion"])
    a = max(0.0, 1.0 - b * b - c * c - d * d) ** 0.5
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    if header["pixdim"][0] < 0:
        rotation[:, 2] *= -1
    return rotation


def _is_unsheared(header: np.void, direction: FloatArray) -> bool:
    """True if the qform is the rotation nearest to the sform: one position, written twice."""
    u, _, vt = np.linalg.svd(direction)
    return bool(np.allclose(_RAS_TO_LPS @ _rotation(header), u @ vt, rtol=0, atol=1e-2))
