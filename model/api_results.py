"""Results of the Python API: segmented lesions, labelmaps and registrations in the caller's axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from .case.case import LesionPrompt, Scan, Slot, TimePointName
from .case.geometry import Array, FloatArray, Geometry, Vector
from .case.plausibility import PlausibilityNote
from .errors import InputError
from .propagation.confidence import PropagatedPoint, propagate_with_confidence
from .propagation.points import Direction, refine_near
from .propagation.register import Registration

if TYPE_CHECKING:  # torch and SimpleITK are imported by the functions that need them
    import SimpleITK as sitk

    from .inference.baseline_lesions import BaselineLesion
    from .inference.case_result import CaseResult, LesionOutcome
    from .tracking.series import TrackedLesion, TrackedTimePoint


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion in one scan.

    Attributes:
        lesion_id: its label in the labelmap.
        status: of `segment`: segmented, empty, out-of-view or failed; of `track`: source, persistent,
            vanished, merged, split, new, not-found, out-of-view or failed.
        volume_ml: volume in the labelmap; None if the lesion could not be segmented.
        point_zyx: point at which it was segmented, voxel index (z, y, x); None if it has none in the scan.
        point_source: given, clipped, mask, box or propagated; None without a point.
        confidence_mm: estimated error of a propagated point; None for the other sources.
        is_flagged: the point should be looked at.
        baseline_volume_ml: volume in the baseline mask, or as segmented there; of `segment` only, None if the
            lesion has no point in the follow-up, or neither is known.
        message: why the lesion has no voxels, or why its fate was assigned; None if there is nothing to say.
    """

    lesion_id: int
    status: str
    volume_ml: float | None
    point_zyx: Vector | None = None
    point_source: str | None = None
    confidence_mm: float | None = None
    is_flagged: bool = False
    baseline_volume_ml: float | None = None
    message: str | None = None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Segmented lesions of one scan.

    Attributes:
        labelmap: lesion ids (z, y, x), uint8 or uint16, on the grid and with the axes of the scan's array or
            file.
        lesions: lesion id -> lesion, also those without voxels.
        warnings: everything that was unusual, in sentences.
        notes: doubts about the scans (not in HU, masks or clicks outside of the body, …); their sentences are
            among the warnings.
        name: of the time point.
        baseline: of `segment` only, the lesions that were segmented in the baseline because it has no mask of
            them, on the baseline's grid, or None.
    """

    labelmap: Array = field(repr=False)
    lesions: Mapping[int, Lesion]
    warnings: tuple[str, ...] = ()
    name: str = "followup"
    notes: tuple[PlausibilityNote, ...] = ()
    _geometry: Geometry = field(default=Geometry((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), repr=False)
    baseline: Segmentation | None = field(default=None, repr=False)

    @property
    def spacing_zyx(self) -> Vector:
        """Voxel size in mm along the axes of ``labelmap``."""
        return self._geometry.spacing_zyx

    def mask(self, lesion_id: int) -> npt.NDArray[np.bool_]:
        """The voxels of one lesion.

        Args:
            lesion_id: label of the lesion.

        Returns:
            Boolean array (z, y, x) of the labelmap's shape; all False for a lesion without voxels.

        Raises:
            KeyError: there is no such lesion.
        """
        if lesion_id not in self.lesions:
            raise KeyError(lesion_id)
        return np.asarray(self.labelmap == lesion_id)

    def to_image(self) -> sitk.Image:
        """The labelmap as a SimpleITK image with the spacing, origin and direction of its scan."""
        from .case.images import to_sitk

        return to_sitk(self.labelmap, self._geometry)


@dataclass(frozen=True, eq=False, repr=False)
class PairRegistration:
    """Registration of two scans: maps points and labelmaps from the moving scan to the fixed one and back."""

    fixed: Scan
    moving: Scan
    _registration: Registration

    def __repr__(self) -> str:
        return f"PairRegistration(similarity={self.similarity:.3f}, is_reliable={self.is_reliable})"

    @property
    def similarity(self) -> float:
        """Correlation of the aligned HU inside the body, -1 to 1; NaN if nothing could be compared."""
        return self._registration.similarity

    @property
    def is_reliable(self) -> bool:
        """False if the transform is only a fall-back."""
        return self._registration.is_reliable

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reason for a fall-back, and other remarks."""
        return self._registration.warnings

    def points(
        self, points_zyx: npt.ArrayLike, *, to: Literal["fixed", "moving"] = "fixed"
    ) -> list[PropagatedPoint]:
        """Propagate points from one scan to the other.

        Args:
            points_zyx: (N, 3) voxel indices z, y, x on the scan to propagate from, fractions allowed.
            to: the scan to propagate to.

        Returns:
            One per point: ``point_zyx`` on the other scan (possibly outside of it), ``confidence_mm`` (its
            estimated error), ``in_view`` and ``is_flagged``.

        Raises:
            InputError: the points are not N triples of finite numbers.
        """
        points = _points(points_zyx)
        source, target = (self.moving, self.fixed) if to == "fixed" else (self.fixed, self.moving)
        axial = [source.file_grid.axial_point(point) for point in points]
        propagated = propagate_with_confidence(
            axial, source.geometry, target.geometry, self._registration, _direction(to)
        )
        return [replace(point, point_zyx=_array_point(target, point.point_zyx)) for point in propagated]

    def labelmap(self, *, to: Literal["fixed", "moving"] = "fixed") -> Array:
        """Propagate the mask of one scan to the grid of the other.

        Args:
            to: the scan to propagate to; the other one must have a mask.

        Returns:
            Lesion ids (z, y, x) with the axes of the target's array or file.

        Raises:
            InputError: the scan to propagate from has no mask.
        """
        from .case.labelmaps import label_regions
        from .propagation.shapes import propagate_labels

        source, target = (self.moving, self.fixed) if to == "fixed" else (self.fixed, self.moving)
        if source.mask is None:
            raise InputError(f"{source.name}: has no mask; expected one to propagate")
        centres = [region.centre_zyx for region in label_regions(source.mask).values()]
        near = refine_near(centres, source.geometry, target.geometry, self._registration, _direction(to))
        propagated = propagate_labels(
            source.mask, source.geometry, target.geometry, near.transform, _direction(to)
        )
        return target.file_grid.file_labels(propagated)


def segmentation_of_case(result: CaseResult) -> Segmentation:
    """The result of a case with one follow-up scan."""
    return Segmentation(
        result.labelmaps[Slot.PRIMARY],
        {outcome.lesion_id: _lesion(outcome) for outcome in result.outcomes},
        _case_warnings(result),
        str(TimePointName.FOLLOWUP),
        result.notes,
        result.geometry(Slot.PRIMARY),
        _baseline_of_case(result),
    )


def _baseline_of_case(result: CaseResult) -> Segmentation | None:
    if result.baseline is None:
        return None
    (scan,) = result.case.baseline.scans
    return Segmentation(
        result.baseline.labelmaps[scan.slot],
        {lesion.prompt.lesion_id: _baseline_lesion(lesion) for lesion in result.baseline.lesions},
        result.baseline.warnings,
        str(TimePointName.BASELINE),
        _geometry=scan.file_geometry,
    )


def _baseline_lesion(lesion: BaselineLesion) -> Lesion:
    status = "failed" if lesion.volume_ml is None else "segmented" if lesion.volume_ml else "empty"
    point_zyx, point_source = _prompt_point(lesion.prompt)
    return Lesion(
        lesion.prompt.lesion_id, status, lesion.volume_ml, point_zyx, point_source, message=lesion.message
    )


def _case_warnings(result: CaseResult) -> tuple[str, ...]:
    if result.outcomes:
        return result.warnings
    return (*result.warnings, "no lesion: the baseline has no lesion mask, and neither scan has a click")


def _lesion(outcome: LesionOutcome) -> Lesion:
    estimate = outcome.estimate if outcome.prompt is not None and not outcome.prompt.is_new else None
    point_zyx, point_source = _prompt_point(outcome.prompt)
    return Lesion(
        outcome.lesion_id,
        str(outcome.status),
        outcome.volume_followup_ml,
        point_zyx,
        point_source,
        estimate.confidence_mm if estimate is not None else None,
        estimate is not None and estimate.is_flagged,
        outcome.volume_baseline_ml,
        outcome.message,
    )


def _prompt_point(prompt: LesionPrompt | None) -> tuple[Vector | None, str | None]:
    """Point at which a lesion was segmented, on the caller's axes, and its source."""
    if prompt is None:
        return None, None
    point = prompt.followup_point
    return _array_point(prompt.followup, point.point_zyx), str(point.source)


def segmentation_of_time_point(tracked: TrackedTimePoint, messages: Sequence[str] = ()) -> Segmentation:
    """The result of a tracked time point with one scan; ``messages`` are warnings about the model."""
    (scan,) = tracked.time_point.scans
    lesion_warnings = [
        f"lesion {lesion.lesion_id}: {warning}" for lesion in tracked.lesions for warning in lesion.warnings
    ]
    return Segmentation(
        tracked.labelmaps[scan.slot],
        {lesion.lesion_id: _tracked_lesion(lesion) for lesion in tracked.lesions},
        (*scan.warnings, *tracked.warnings, *lesion_warnings, *messages),
        tracked.name,
        tracked.notes,
        scan.file_geometry,
    )


def _tracked_lesion(lesion: TrackedLesion) -> Lesion:
    point_zyx, _ = _prompt_point(lesion.prompt)
    return Lesion(
        lesion.lesion_id,
        "source" if lesion.fate is None else str(lesion.fate.fate),
        lesion.volume_ml,
        point_zyx,
        None if lesion.origin is None else str(lesion.origin),
        lesion.confidence_mm,
        lesion.is_flagged,
        message=None if lesion.fate is None else lesion.fate.reason,
    )


def _points(points_zyx: npt.ArrayLike) -> FloatArray:
    try:
        points = np.asarray(points_zyx, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("points_zyx: is no array of numbers; expected (N, 3) voxel indices") from error
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise InputError(
            f"points_zyx: has the shape {points.shape} or values that are not finite; expected (N, 3) indices"
        )
    return points


def _direction(to: str) -> Direction:
    if to not in ("fixed", "moving"):
        raise InputError(f"to: is {to!r}; expected fixed or moving")
    return Direction.TO_FOLLOWUP if to == "fixed" else Direction.TO_BASELINE


def _array_point(scan: Scan, point_zyx: Vector) -> Vector:
    """A voxel index of the axial array as one of the caller's array."""
    x, y, z = scan.file_point_xyz(point_zyx)
    return (z, y, x)
