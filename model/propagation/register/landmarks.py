"""Registration by landmarks marked in both scans: rigid, or a thin-plate spline.

Two forms of files, all positions in LPS mm:

- ``FILE``: one CSV for all scans, with the columns ``scan,name,x,y,z``; ``scan`` is a scan's name (see
  `names.scan_keys`), so that any pair of a series finds its landmarks.
- ``BASELINE_FILE,FOLLOWUP_FILE``: for one pair, the moving scan's first; each a CSV with the columns
  ``name,x,y,z``, or a JSON of the platform's click format (in mm).

Landmarks of two scans are matched by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy.interpolate import RBFInterpolator

from ...case.geometry import FloatArray
from ...case.lesion_json import Triple, read_document
from ...case.text_files import read_table, written_number
from ...errors import InputError
from . import Registration, RegistrationImage, Transform
from .field import coarser_grid, folding_share, invert_displacement, sample_on_grid
from .linear import LinearTransform
from .names import scan_keys
from .similarity import given_registration

_MIN_RIGID, _MIN_SPLINE = 3, 4
# Points that spread less than this share of their extent lie on a line or in a plane, outside of which a
# spline is undetermined.
_FLAT = 0.02
_FOLDING_GRID_MM = 20.0
_EXAMPLE = '{"points": [{"name": "carina", "point": [x, y, z]}]}, in LPS mm'

_Points = dict[str, FloatArray]
"""Landmark name -> position (3,), LPS mm."""


class LandmarkBackend:
    """Aligns by landmarks of the same name; reads its files again for each pair.

    Args:
        files: FILE, or BASELINE_FILE,FOLLOWUP_FILE.
        rigid: fit a rigid transform instead of a spline.
        smoothing: 0 maps each landmark exactly to its partner; larger values (lambda of the penalised fit)
            give a smoother deformation for noisy landmarks.
    """

    def __init__(self, files: str, rigid: bool = False, smoothing: float = 0.0) -> None:
        self._files, self._rigid, self._smoothing = _paths(files), rigid, smoothing

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Align the baseline (moving) to the follow-up (fixed); see `Backend.register`.

        Raises:
            InputError: a file cannot be read, or the scans have too few landmarks in common.
        """
        moving_points, fixed_points = self._landmarks(fixed, moving)
        common = sorted(moving_points.keys() & fixed_points.keys())
        needed = _MIN_RIGID if self._rigid else _MIN_SPLINE
        if len(common) < needed:
            raise InputError(
                f"{self._names}: scans {fixed.name!r} and {moving.name!r} have {len(common)} landmarks in "
                f"common; expected at least {needed} of the same names in both"
            )
        ends = [np.stack([points[name] for name in common]) for points in (fixed_points, moving_points)]
        transform, warnings = self._aligned(*ends)
        if isinstance(transform, SplineTransform) and _folds(transform, fixed):
            warnings = (f"{self._names}: the landmarks contradict each other, the spline through them folds",)
        return given_registration(transform, fixed, moving, warnings)

    @property
    def _names(self) -> str:
        return ",".join(map(str, self._files))

    def _landmarks(self, fixed: RegistrationImage, moving: RegistrationImage) -> tuple[_Points, _Points]:
        """Landmarks of the moving and of the fixed scan."""
        if len(self._files) == 2:
            return _points_of_one(self._files[0]), _points_of_one(self._files[1])
        if fixed.name == moving.name:
            raise InputError(
                f"{self._names}: both scans are called {fixed.name!r}; expected BASELINE_FILE,FOLLOWUP_FILE"
            )
        scans = _points_of_many(self._files[0])
        return _points_of_scan(self._files[0], scans, moving), _points_of_scan(self._files[0], scans, fixed)

    def _aligned(self, fixed_mm: FloatArray, moving_mm: FloatArray) -> tuple[Transform, tuple[str, ...]]:
        thinness = min(_thickness(fixed_mm, 1), _thickness(moving_mm, 1))
        if thinness < _FLAT:
            raise InputError(
                f"{self._names}: all common landmarks lie on one line; expected three that do not"
            )
        rigid = rigid_fit(fixed_mm, moving_mm)
        if self._rigid:
            return rigid, ()
        if min(_thickness(fixed_mm, 2), _thickness(moving_mm, 2)) < _FLAT:
            return rigid, (f"{self._names}: all common landmarks lie in one plane; aligned rigidly instead",)
        try:
            return spline_fit(fixed_mm, moving_mm, rigid, self._smoothing), ()
        except np.linalg.LinAlgError as error:
            raise InputError(
                f"{self._names}: no spline passes through the landmarks; expected no two at one place"
            ) from error


@dataclass(frozen=True, eq=False)
class SplineTransform:
    """moving = linear(fixed + spline(fixed)), in LPS mm; inverted by iteration."""

    linear: LinearTransform
    spline: RBFInterpolator

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the follow-up, LPS mm, to the baseline.

        Returns:
            (N, 3) points of the baseline, LPS mm.
        """
        points = np.asarray(points_mm, np.float64).reshape(-1, 3)
        return self.linear.fixed_to_moving(points + self._displacement(points))

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (N, 3) of the baseline, LPS mm, to the follow-up, to 0.01 mm.

        Returns:
            (N, 3) points of the follow-up, LPS mm.
        """
        goal_mm = self.linear.moving_to_fixed(np.asarray(points_mm, np.float64).reshape(-1, 3))
        return invert_displacement(self._displacement, goal_mm)

    def _displacement(self, points_mm: FloatArray) -> FloatArray:
        return np.asarray(self.spline(points_mm)) if len(points_mm) else np.empty((0, 3))


def rigid_fit(fixed_mm: FloatArray, moving_mm: FloatArray) -> LinearTransform:
    """Fit rotation and translation by least squares, excluding reflections (Kabsch; Umeyama 1991).

    Args:
        fixed_mm: (N, 3) landmarks of the follow-up, LPS mm.
        moving_mm: (N, 3) the same landmarks in the baseline, LPS mm.
    """
    fixed_centre, moving_centre = fixed_mm.mean(axis=0), moving_mm.mean(axis=0)
    left, _, right = np.linalg.svd((moving_mm - moving_centre).T @ (fixed_mm - fixed_centre))
    signs = np.asarray([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * signs) @ right
    return LinearTransform(rotation, moving_centre - rotation @ fixed_centre)


def spline_fit(
    fixed_mm: FloatArray, moving_mm: FloatArray, linear: LinearTransform, smoothing: float = 0.0
) -> SplineTransform:
    """Fit a thin-plate spline (with its affine part) before the given linear transform.

    Args:
        fixed_mm: (N, 3) landmarks of the follow-up, LPS mm.
        moving_mm: (N, 3) the same landmarks in the baseline, LPS mm.
        linear: follow-up to baseline.
        smoothing: lambda of the penalised fit, 0 for an exact one.
    """
    residuals_mm = linear.moving_to_fixed(moving_mm) - fixed_mm
    spline = RBFInterpolator(
        fixed_mm, residuals_mm, smoothing=smoothing, kernel="thin_plate_spline", degree=1
    )
    return SplineTransform(linear, spline)


def _folds(transform: SplineTransform, scan: RegistrationImage) -> bool:
    grid = coarser_grid(scan.geometry, _FOLDING_GRID_MM)
    return folding_share(sample_on_grid(transform, grid, transform.linear)) > 0


def _thickness(points_mm: FloatArray, axis: int) -> float:
    """Extent of a cloud along its second (1) or third (2) principal axis as a share of the first."""
    extents = np.linalg.svd(points_mm - points_mm.mean(axis=0), compute_uv=False)
    return float(extents[axis] / extents[0]) if extents[0] > 0 else 0.0


def _paths(files: str) -> tuple[Path, ...]:
    if Path(files).exists():
        return (Path(files),)
    paths = tuple(Path(part.strip()) for part in files.split(","))
    if len(paths) > 2 or not all(part.strip() for part in files.split(",")):
        raise InputError(f"{files}: names {len(paths)} landmark files; expected one, or BASELINE,FOLLOWUP")
    return paths


def _points_of_scan(path: Path, scans: dict[str, _Points], scan: RegistrationImage) -> _Points:
    key = next((key for key in scan_keys(scan.name) if key in scans), None)
    if key is None:
        listed = ", ".join(list(scans)[:6])
        raise InputError(f"{path}: has no landmarks of scan {scan.name!r}; it has those of: {listed}")
    return scans[key]


def _points_of_many(path: Path) -> dict[str, _Points]:
    scans: dict[str, list[tuple[str, FloatArray]]] = {}
    for scan, name, point in _rows(path, ("scan", "name", "x", "y", "z")):
        scans.setdefault(scan, []).append((name, point))
    return {scan: _unique(path, entries) for scan, entries in scans.items()}


def _points_of_one(path: Path) -> _Points:
    if path.suffix.lower() == ".json":
        document = read_document(path, _PointFile, "landmark", _EXAMPLE)
        return _unique(path, ((entry.name, np.asarray(entry.point)) for entry in document.points))
    return _unique(path, ((name, point) for _, name, point in _rows(path, ("name", "x", "y", "z"))))


class _Point(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    point: Triple


class _PointFile(BaseModel):
    points: list[_Point]


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, str, FloatArray]]:
    """(scan or "", name, position) of each row of a CSV."""
    expected = f"a CSV with the columns {','.join(columns)}"
    names, rows = read_table(path, expected)
    missing = [name for name in columns if name not in [name.lower() for name in names]]
    if missing:
        raise InputError(
            f"{path}: the column {', '.join(map(repr, missing))} is missing; expected {expected}"
        )
    for line, row in ((row.line, {key.lower(): cell for key, cell in row.cells.items()}) for row in rows):
        try:
            point = np.asarray([written_number(row[axis]) for axis in "xyz"])
        except (KeyError, ValueError):
            point = np.full(3, np.nan)
        if not np.isfinite(point).all():
            raise InputError(
                f"{path}: line {line} has a position that is not three finite numbers; expected {expected}"
            )
        yield row.get("scan", ""), row.get("name", ""), point


def _unique(path: Path, entries: Iterable[tuple[str, FloatArray]]) -> _Points:
    points: _Points = {}
    for name, point in entries:
        if name in points:
            raise InputError(f"{path}: the landmark {name!r} is there twice; expected each once per scan")
        points[name] = point
    return points
