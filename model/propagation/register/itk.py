"""Conversion of transforms to ITK and back; both map points of the fixed scan to the moving one, LPS mm.

Invalid transforms raise a ValueError, whose message completes a sentence that begins with the file's name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from ...case.geometry import FloatArray, Geometry
from . import Transform
from .field import (
    FADE_MM,
    Composition,
    FieldTransform,
    coarser_grid,
    compose_transforms,
    invert_displacement,
    sample_on_grid,
    voxel_centres_mm,
)
from .grids import to_image
from .linear import LinearTransform
from .similarity import image_geometry

# Transforms without a counterpart in ITK are sampled at this spacing.
_SAMPLED_MM = 4.0
# Displacements at the border of a field below this count as faded to zero.
_STILL_MM = 1e-3
# A matrix that shrinks volumes below this share has no useful inverse.
_MIN_DETERMINANT = 1e-3
# Numbers beyond this are in no transform between two scans, and overflow where they are multiplied.
_LARGEST = 1e6
# Of ITK's three-dimensional transforms.
_PARAMETERS = {
    "AffineTransform": 12,
    "ComposeScaleSkewVersor3DTransform": 12,
    "Euler3DTransform": 6,
    "ScaleSkewVersor3DTransform": 15,
    "ScaleTransform": 3,
    "ScaleVersor3DTransform": 9,
    "Similarity3DTransform": 7,
    "TranslationTransform": 3,
    "VersorRigid3DTransform": 6,
    "VersorTransform": 3,
}


@dataclass(frozen=True, eq=False)
class InverseTransform:
    """The inverse of a transform."""

    transform: Transform

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the follow-up, LPS mm, to the baseline.

        Returns:
            (N, 3) points of the baseline, LPS mm.
        """
        return self.transform.moving_to_fixed(points_mm)

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the baseline, LPS mm, to the follow-up.

        Returns:
            (N, 3) points of the follow-up, LPS mm.
        """
        return self.transform.fixed_to_moving(points_mm)


@dataclass(frozen=True, eq=False)
class ItkTransform:
    """Any ITK transform (e.g. a B-spline), evaluated by ITK point by point and inverted by iteration."""

    itk: sitk.Transform

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the follow-up, LPS mm, to the baseline.

        Returns:
            (N, 3) points of the baseline, LPS mm.
        """
        points = np.asarray(points_mm, np.float64).reshape(-1, 3)
        mapped = [self.itk.TransformPoint(point) for point in points.tolist()]
        return np.asarray(mapped, np.float64).reshape(-1, 3)

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the baseline, LPS mm, to the follow-up, to 0.01 mm.

        Returns:
            (N, 3) points of the follow-up, LPS mm.
        """
        points = np.asarray(points_mm, np.float64).reshape(-1, 3)
        return invert_displacement(lambda fixed_mm: self.fixed_to_moving(fixed_mm) - fixed_mm, points)


def from_itk(itk: sitk.Transform) -> Transform:
    """Convert a three-dimensional ITK transform.

    A field followed by a linear transform becomes one `FieldTransform`.

    Raises:
        ValueError: the dimension is not three, values are not finite, or a matrix has no inverse.
    """
    if itk.GetDimension() != 3:
        raise ValueError(f"is a transform of {itk.GetDimension()} dimensions; expected three")
    itk = itk.Downcast()
    if isinstance(itk, sitk.CompositeTransform):
        if _is_wrapped(itk):
            return _linear(itk) if itk.IsLinear() else ItkTransform(itk)
        total: Transform | None = None
        # ITK applies the last transform of a list first.
        for n in reversed(range(itk.GetNumberOfTransforms())):
            part = from_itk(itk.GetNthTransform(n))
            total = part if total is None else _merged(total, part)
        return LinearTransform.identity() if total is None else total
    if isinstance(itk, sitk.DisplacementFieldTransform):
        return from_field(itk.GetDisplacementField())
    _check_parameters(itk)
    return _linear(itk) if itk.IsLinear() else ItkTransform(itk)


def _check_parameters(itk: sitk.Transform) -> None:
    """Check a transform before anything is done with it: ITK reads beyond the end of too few parameters.

    Raises:
        ValueError: it has another number of parameters than its class, or they are not finite.
    """
    expected, given = _PARAMETERS.get(itk.GetName()), itk.GetNumberOfParameters()
    if expected is not None and given != expected:
        raise ValueError(f"has a {itk.GetName()} with {given} parameters; expected {expected}")
    _check_numbers("parameters", [*itk.GetParameters(), *itk.GetFixedParameters()])
    itk.TransformPoint((0.0, 0.0, 0.0))  # ITK refuses the grid of a spline only now


def _check_numbers(name: str, values: npt.ArrayLike) -> None:
    """Check numbers of a transform, in mm or without unit.

    Raises:
        ValueError: one is NaN or infinite, or beyond any scan.
    """
    numbers = np.asarray(values)
    if not np.isfinite(numbers).all():
        raise ValueError(f"has {name} that are NaN or infinite; expected finite ones")
    if numbers.size and (largest := float(max(numbers.max(), -numbers.min()))) > _LARGEST:
        raise ValueError(f"has {name} up to {largest:.3g}; expected at most {_LARGEST:g}")


def _is_wrapped(itk: sitk.CompositeTransform) -> bool:
    """True for a transform of a class that SimpleITK lacks, which it hands out as a composition of itself."""
    return itk.GetNumberOfTransforms() == 1 and isinstance(itk.GetNthTransform(0), sitk.CompositeTransform)


def from_field(image: sitk.Image) -> FieldTransform:
    """Convert an image of displacements x, y, z in LPS mm, on any grid of the fixed scan.

    Raises:
        ValueError: the image is of another kind, or displacements are not finite.
    """
    values = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() != 3 or values != 3:
        size = "x".join(map(str, image.GetSize()))
        raise ValueError(
            f"has {values} values per voxel (size {size}); expected a 3-D image of displacements, "
            "three values x, y, z in LPS mm per voxel"
        )
    with np.errstate(over="ignore"):  # what exceeds float32 becomes infinite, and is refused
        u = sitk.GetArrayFromImage(image).astype(np.float32)
    _check_numbers("displacements", u)
    return FieldTransform(LinearTransform.identity(), u, image_geometry(image))


def _merged(first: Transform, second: Transform) -> Transform:
    """Compose first, then second; a field and a linear transform after it are merged."""
    if isinstance(first, FieldTransform) and isinstance(second, LinearTransform):
        linear = compose_transforms(first.linear, second)
        assert isinstance(linear, LinearTransform)
        return FieldTransform(linear, first.displacement_mm, first.geometry)
    return compose_transforms(first, second)


def _linear(itk: sitk.Transform) -> LinearTransform:
    """The linear transform that maps the origin and the unit vectors as ITK's does."""
    offset, *ends = (np.asarray(itk.TransformPoint(p)) for p in ((0.0,) * 3, *np.eye(3).tolist()))
    _check_numbers("parameters", [offset, *ends])
    matrix = np.stack([end - offset for end in ends], axis=1)
    if abs(np.linalg.det(matrix)) < _MIN_DETERMINANT:
        raise ValueError("has a matrix without an inverse; expected a map between two scans")
    return LinearTransform(matrix, offset)


def to_itk(transform: Transform, fixed: Geometry | None = None) -> sitk.CompositeTransform:
    """Convert a transform to ITK; splines and user-defined ones are sampled over the ``fixed`` scan's grid.

    Raises:
        ValueError: ``fixed`` is None although it is needed.
    """
    return sitk.CompositeTransform(_parts(transform, fixed)[::-1])


def _parts(transform: Transform, fixed: Geometry | None) -> list[sitk.Transform]:
    """ITK transforms in order of application."""
    if isinstance(transform, LinearTransform):
        return [sitk.AffineTransform(transform.matrix.ravel().tolist(), transform.offset_mm.tolist())]
    if isinstance(transform, FieldTransform):
        faded = _faded(transform)
        u = _vector_image(faded.displacement_mm.astype(np.float64), faded.geometry)
        return [sitk.DisplacementFieldTransform(u), *_parts(transform.linear, fixed)]
    if isinstance(transform, Composition):
        return [*_parts(transform.first, fixed), *_parts(transform.second, fixed)]
    if isinstance(transform, ItkTransform):
        return [transform.itk]
    return _parts(_over_scan(transform, fixed), fixed)


def to_field(transform: Transform, fixed: Geometry | None = None) -> sitk.Image:
    """moving - fixed, x, y, z in mm, float32, on the transform's own grid or else over the ``fixed`` scan.

    Raises:
        ValueError: no ``fixed`` where it is needed.
    """
    if isinstance(transform, FieldTransform):
        grid = transform.geometry
    else:
        grid = coarser_grid(_needed(transform, fixed), _SAMPLED_MM)
    return _vector_image(sample_on_grid(transform, grid, LinearTransform.identity()).displacement_mm, grid)


def _over_scan(transform: Transform, fixed: Geometry | None) -> FieldTransform:
    """The best-fitting linear transform over a scan, with a field of the remaining displacements."""
    fixed = _needed(transform, fixed)
    points = voxel_centres_mm(coarser_grid(fixed, 8 * _SAMPLED_MM))
    columns = np.column_stack([points, np.ones(len(points))])
    solution = np.asarray(
        np.linalg.lstsq(columns, transform.fixed_to_moving(points), rcond=None)[0], np.float64
    )
    linear = LinearTransform(np.ascontiguousarray(solution[:3].T), solution[3])
    return sample_on_grid(transform, coarser_grid(fixed, _SAMPLED_MM), linear)


def _needed(transform: Transform, fixed: Geometry | None) -> Geometry:
    if fixed is None:
        kind = type(transform).__name__
        raise ValueError(f"cannot hold a {kind} without a grid; expected the fixed scan's geometry")
    return fixed


def _faded(field: FieldTransform) -> FieldTransform:
    """The field on a larger grid on which it fades to zero, as ITK has no displacements outside of a grid."""
    u = field.displacement_mm
    borders = (np.take(u, end, axis=axis) for axis in range(3) for end in (0, -1))
    if max(float(np.abs(border).max()) for border in borders) <= _STILL_MM:
        return field
    g = field.geometry
    margins = [int(np.ceil(FADE_MM / spacing)) for spacing in g.spacing_xyz]
    nx, ny, nz = (n + 2 * margin for n, margin in zip(g.size_xyz, margins, strict=True))
    x, y, z = (float(value) for value in g.voxel_to_world(np.negative(margins)))
    larger = Geometry((nx, ny, nz), g.spacing_xyz, (x, y, z), g.direction)
    values = field.displacement(voxel_centres_mm(larger)).astype(np.float32)
    return FieldTransform(field.linear, values.reshape(nz, ny, nx, 3), larger)


def _vector_image(values: npt.NDArray[np.floating], geometry: Geometry) -> sitk.Image:
    image = sitk.GetImageFromArray(values, isVector=True)
    image.CopyInformation(to_image(np.empty(geometry.shape_zyx, np.uint8), geometry))
    return image
