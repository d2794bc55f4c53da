"""Checks of scans: voxels in Hounsfield units, labelmaps of lesion ids, grids and clicks."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .geometry import Array, Geometry, Index, Vector, flip_order
from .shear import check_independent_axes

log = logging.getLogger(__name__)

MAX_LESION_ID = 65_535

# The range that a CT scanner can store in 12 bits; padding values and metal lie beyond it.
_PLAUSIBLE_HU = (-1024, 3071)

_TOLERANCE_DIRECTION = 1e-2

# Labels that went through a header's slope and intercept are this close to whole numbers.
_ROUNDED_LABELS = 0.01


def hu_warnings(name: str, ct: Array) -> list[str]:
    """Describe unusual voxels of a CT that the plan's clipping takes care of.

    Args:
        name: the scan's, with which each warning begins.
        ct: HU, any shape and number type, at least one voxel.
    """
    warnings = []
    low, high = ct.min(), ct.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = ct[np.isfinite(ct)]
        count = ct.size - finite.size
        warnings.append(
            f"{name}: {count} voxels are NaN or infinite; they become the plan's lower clip value"
        )
        low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    if low < _PLAUSIBLE_HU[0] or high > _PLAUSIBLE_HU[1]:
        warnings.append(
            f"{name}: values from {low:g} to {high:g} HU exceed {_PLAUSIBLE_HU[0]} to {_PLAUSIBLE_HU[1]}; "
            "they are clipped to the plan's range"
        )
    return warnings


def lesion_labels(name: Path | str, labels: Array, warn: Callable[[str], None] = log.warning) -> Array:
    """Check that the voxels of an image are lesion ids, and convert floats to integers.

    Args:
        name: the file's or argument's, with which errors begin.
        labels: whole numbers of any type, any shape, at least one voxel; 0 is background. Rescaled ones
            may be off by 0.01.
        warn: called with a sentence if labels were rounded.

    Returns:
        The same array if its type is an integer one, otherwise a copy as uint16.

    Raises:
        InputError: there are other numbers, or ids out of range.
    """
    is_integer = np.issubdtype(labels.dtype, np.integer)
    if not is_integer:
        labels = _rounded(name, labels, warn)
    low, high = float(labels.min()), float(labels.max())
    if low < 0 or high > MAX_LESION_ID:
        raise InputError(
            f"{name}: holds labels from {low:g} to {high:g}; expected lesion ids from 1 to {MAX_LESION_ID}"
        )
    return labels if is_integer else labels.astype(np.uint16)


def _rounded(name: Path | str, labels: Array, warn: Callable[[str], None]) -> Array:
    whole = np.rint(labels)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        distance = float(np.abs(labels - whole).max())
    if not distance <= _ROUNDED_LABELS:  # NaN is no number of this kind either
        raise InputError(f"{name}: holds values that are not whole numbers; expected a labelmap of ids")
    if distance > 0:
        warn(
            f"{name}: labels are up to {distance:.2g} off whole numbers, as rescaling leaves them; "
            "they are rounded"
        )
    return whole


def checked_voxels(name: str, values: npt.ArrayLike) -> Array:
    """Check that an array contains the voxels of one image.

    Args:
        name: the argument's, with which errors begin.
        values: one number per voxel, (z, y, x).

    Returns:
        The values as an array, not copied if they are one.

    Raises:
        InputError: it is not three-dimensional, is empty, or does not hold native integers or floats.
    """
    array = np.asarray(values)
    if array.ndim != 3:
        raise InputError(f"{name}: has the shape {array.shape}; expected three axes (z, y, x)")
    if array.size == 0:
        raise InputError(f"{name}: has the shape {array.shape}; expected at least one voxel")
    if array.dtype.kind not in "biuf" or not array.dtype.isnative:
        raise InputError(f"{name}: has voxels of type {array.dtype}; expected integers or floats")
    return array


def checked_grid(
    shape_zyx: Index, spacing_zyx: Sequence[float], origin_xyz: Sequence[float], direction: npt.ArrayLike
) -> Geometry:
    """Check the grid of an array and make its geometry.

    Args:
        shape_zyx: of the array.
        spacing_zyx: mm between voxel centres along each axis of the array.
        origin_xyz: LPS mm of the first voxel's centre.
        direction: ITK's 3x3 matrix, also as nine numbers row by row: column k is the world direction of
            axis k (x, y, z).

    Raises:
        InputError: a number is not finite, a spacing not positive, or the direction has columns of another
            length than 1, or in one plane.
    """
    spacing = checked_triple("spacing_zyx", spacing_zyx, "three positive numbers of mm (z, y, x)")
    if min(spacing) <= 0:
        raise InputError(f"spacing_zyx: is {spacing}; expected three positive numbers of mm (z, y, x)")
    origin = checked_triple("origin_xyz", origin_xyz, "three finite numbers of mm (x, y, z)")
    try:
        matrix = np.asarray(direction, np.float64).reshape(3, 3)
    except (TypeError, ValueError) as error:
        raise InputError(f"direction: is {direction!r}; expected a 3x3 matrix of numbers") from error
    lengths = np.linalg.norm(matrix, axis=0)
    if not np.allclose(lengths**2, 1.0, rtol=0, atol=_TOLERANCE_DIRECTION):
        raise InputError(f"direction: is {matrix.tolist()}; expected a matrix with columns of length 1")
    grid = Geometry(flip_order(shape_zyx), flip_order(spacing), origin, tuple(matrix.ravel().tolist()))
    check_independent_axes("direction", grid)
    return grid


def checked_triple(name: str, values: Sequence[float], expected: str) -> Vector:
    """Check that three numbers are finite.

    Args:
        name: the argument's, with which errors begin.
        values: of three axes, e.g. a voxel index or mm, in any order.
        expected: what the argument should be, with which errors end.

    Returns:
        The values as floats.

    Raises:
        InputError: there are not three, or one is not finite.
    """
    try:
        a, b, c = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: is {values!r}; expected {expected}") from error
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        raise InputError(f"{name}: is {(a, b, c)}; expected {expected}")
    return (a, b, c)


def checked_lesion_id(name: str, lesion_id: object) -> int:
    """Check a lesion id and convert it to an int.

    Raises:
        InputError: it is not an integer from 1 to `MAX_LESION_ID`.
    """
    try:
        number = operator.index(lesion_id)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if not 0 < number <= MAX_LESION_ID:
        raise InputError(
            f"{name}: holds the lesion id {lesion_id!r}; expected whole numbers from 1 to {MAX_LESION_ID}"
        )
    return number
