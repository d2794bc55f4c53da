"""Python API: arrays, files or SimpleITK images in, results out.

Import it as ``import longilesion as ll`` (in a checkout: ``import model as ll``). Nothing here prints, writes files or
keeps state. Arrays are (z, y, x) and points are voxel indices in the same order, both as the caller's arrays
or files have their axes. docs/python_api.md has examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from .case.case import Case, LesionPrompt, Scan, ScanFiles, Slot, TimePoint, TimePointName
from .case.geometry import Array, FloatArray, Geometry, Vector
from .errors import InputError
from .inference.options import DEFAULT_BOOST, DEFAULT_FOLDS, CaseOptions, ModelOptions, OverlapRule, Precision
from .propagation.confidence import PropagatedPoint, propagate_with_confidence
from .propagation.points import Direction, refine_near
from .propagation.register import DEFAULT_BACKEND, Registration

if TYPE_CHECKING:  # torch and SimpleITK are imported by the functions that need them
    import SimpleITK as sitk

    from .evaluation.evaluate_arrays import ArrayEvaluation
    from .inference.case_result import CaseResult, LesionOutcome
    from .inference.load import LoadedModel
    from .inference.robust import RobustSegmenter
    from .inference.user_segmenter import SegmentRequest
    from .tracking.series import TrackedLesion, TrackedTimePoint

Progress = Callable[[int, int], None]
"""Called with the number of lesions (or time points) that are done, and their total."""


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion in one scan.

    Attributes:
        lesion_id: its label in the labelmap.
        status: of `segment`: segmented, empty, out-of-view or failed; of `track`: source, persistent, vanished,
            merged, split, new, out-of-view or failed.
        volume_ml: volume in the labelmap; None if the lesion could not be segmented.
        point_zyx: point at which it was segmented, voxel index (z, y, x); None if it has none in the scan.
        point_source: given, clipped, mask, box or propagated; None without a point.
        confidence_mm: estimated error of a propagated point; None for the other sources.
        is_flagged: the point should be looked at.
        baseline_volume_ml: volume in the baseline mask; of `segment` only.
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
        labelmap: lesion ids (z, y, x), uint8 or uint16, on the grid and with the axes of the scan's array or file.
        lesions: lesion id -> lesion, also those without voxels.
        warnings: everything that was unusual, in sentences.
        name: of the time point.
    """

    labelmap: Array
    lesions: Mapping[int, Lesion]
    warnings: tuple[str, ...] = ()
    name: str = TimePointName.FOLLOWUP
    _geometry: Geometry = field(default=Geometry((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), repr=False)

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
        """
        return np.asarray(self.labelmap == lesion_id)

    def to_image(self) -> sitk.Image:
        """The labelmap as a SimpleITK image with the spacing, origin and direction of its scan."""
        from .case.images import to_sitk

        return to_sitk(self.labelmap, self._geometry)


@dataclass(frozen=True, eq=False)
class PairRegistration:
    """Registration of two scans; maps points and labelmaps from the moving scan (baseline) to the fixed one.

    Attributes:
        similarity: correlation of the aligned HU inside the body, -1 to 1; NaN if nothing could be compared.
        is_reliable: False if the transform is only a fall-back.
        warnings: why it is a fall-back, and the like.
    """

    fixed: Scan = field(repr=False)
    moving: Scan = field(repr=False)
    _registration: Registration = field(repr=False)

    @property
    def similarity(self) -> float:
        return self._registration.similarity

    @property
    def is_reliable(self) -> bool:
        return self._registration.is_reliable

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._registration.warnings

    def points(self, points_zyx: npt.ArrayLike, *, to: Literal["fixed", "moving"] = "fixed") -> list[PropagatedPoint]:
        """Propagate points from one scan to the other.

        Args:
            points_zyx: (N, 3) voxel indices z, y, x on the scan to propagate from, fractions allowed.
            to: the scan to propagate to.

        Returns:
            One per point: ``point_zyx`` on the other scan (possibly outside of it), ``confidence_mm`` (its estimated
            error), ``in_view`` and ``is_flagged``.

        Raises:
            InputError: the points are not N triples of finite numbers.
        """
        points = _points(points_zyx)
        source, target = (self.moving, self.fixed) if to == "fixed" else (self.fixed, self.moving)
        axial = [source.axes.point(point, source.file_geometry.shape_zyx) for point in points]
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
        return target.axes.inverse().array(propagated)


def load_model(
    folder: str | Path | None = None,
    *,
    device: str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    folds: Sequence[int] = DEFAULT_FOLDS,
    tta: bool = False,
    deterministic: bool = False,
) -> LoadedModel:
    """Load the folds of a longitudinal model.

    Args:
        folder: a model in the published layout, or packed; None takes the default one of the command line.
        device: ``auto`` (the first usable GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` is bf16 if the GPU supports it, fp16 on other GPUs, fp32 on the CPU.
        folds: numbers of the folds.
        tta: average over the mirrored views that the checkpoint allows.
        deterministic: bit-for-bit reproducible results on the same machine (a setting of torch for the process).

    Returns:
        The model, for any number of calls of `segment` and `track`.

    Raises:
        WeightsError: weights that are missing, corrupt, unsafe, or do not fit their plan.
        InputError: the GPU does not exist.
    """
    from .inference.load import load_model as load

    options = ModelOptions(device, precision, tuple(folds), tta, deterministic)
    return load(Path(folder) if folder is not None else None, options)


def read_scan(
    ct: str | Path | sitk.Image,
    *,
    mask: str | Path | sitk.Image | None = None,
    clicks: str | Path | Mapping[int, Sequence[float]] | None = None,
) -> Scan:
    """Read a scan from files, or take it from SimpleITK images.

    Args:
        ct: CT in HU: a path (.mha, .mhd, .nii, .nii.gz, .nrrd), or a SimpleITK image.
        mask: labelmap of lesion ids on the CT's grid, given like the CT.
        clicks: a click file, or lesion id -> voxel index (z, y, x) on the file's axes.

    Returns:
        The scan; files and images keep their orientation.

    Raises:
        InputError: anything that cannot be used, with the name of the file or argument.
    """
    from .case.scans import read_scans, scan_from_image

    if isinstance(ct, str | Path):
        if not isinstance(mask, str | Path | None):
            raise InputError("mask: is an image, but the CT is a file; expected a file as well")
        click_file = Path(clicks) if isinstance(clicks, str | Path) else None
        files = ScanFiles(Slot.PRIMARY, Path(ct), Path(mask) if mask is not None else None, click_file)
        (scan,), _ = read_scans([("scan", files)])
        return scan if clicks is None or click_file is not None else _with_clicks(scan, clicks)
    if isinstance(mask, str | Path) or isinstance(clicks, str | Path):
        raise InputError("mask, clicks: are files, but the CT is an image; expected an image and a mapping")
    return scan_from_image(ct, mask=mask, clicks=clicks)


def segment(
    model: LoadedModel | Callable[[SegmentRequest], Any],
    baseline: Scan,
    followup: Scan,
    *,
    overlap: OverlapRule = "probability",
    backend: str = DEFAULT_BACKEND,
    boost: str = DEFAULT_BOOST,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment every lesion of a baseline in its follow-up.

    Lesions are those of the baseline's mask and of the clicks of both scans. A lesion without a click in the follow-up
    is propagated by registration.

    Args:
        model: from `load_model`; or your own function of one `SegmentRequest` that returns booleans or
            probabilities of the request's image.
        baseline: scan with a mask and, optionally, clicks.
        followup: scan with any number of clicks, or none.
        overlap: assign a voxel that several lesions claim to the more probable one, or to the highest id (``max-id``).
        backend: registration back end for propagated lesions, a name or ``module:function``.
        boost: repeated prompting of propagated lesions, ``none`` for a single prompt.
        progress: called after each lesion.

    Returns:
        Labelmap on the follow-up's grid, and one entry per lesion.

    Raises:
        InputError: an option that does not exist.
        AllLesionsFailedError: there are lesions, and none of them could be segmented.
        MemoryExhaustedError: out of memory after every smaller way of computing.
    """
    from .inference.segment_case import segment_case

    case = Case(
        TimePoint(TimePointName.BASELINE, (replace(baseline, time_point="baseline", slot=Slot.PRIMARY),)),
        TimePoint(TimePointName.FOLLOWUP, (replace(followup, time_point="followup", slot=Slot.PRIMARY),)),
    )
    options = CaseOptions(overlap, backend, _checked_boost(boost))
    on_lesion = None if progress is None else lambda _lesion, done, total: progress(done, total)
    return _segmentation(segment_case(case, _segmenter(model, boost), options, on_lesion=on_lesion))


def track(
    model: LoadedModel | Callable[[SegmentRequest], Any],
    scans: Sequence[Scan],
    *,
    topology: str = "star",
    source: int | None = None,
    backend: str = DEFAULT_BACKEND,
    boost: str = DEFAULT_BOOST,
    progress: Progress | None = None,
) -> list[Segmentation]:
    """Track lesions over the scans of a patient, forward and backward in time.

    Args:
        model: as for `segment`.
        scans: one scan per time point, the earliest first.
        topology: ``star``, ``chain``, ``recentre`` or ``recentre-mask``, see docs/tracking.md.
        source: index of the scan to start from; None takes the first with a mask, else the first with a click.
        backend: registration back end, a name or ``module:function``.
        boost: repeated prompting of propagated lesions, ``none`` for a single prompt.
        progress: called after each time point.

    Returns:
        One segmentation per scan, in the order of ``scans``.

    Raises:
        InputError: fewer than two scans, no lesion in any of them, or an option that does not exist.
        MemoryExhaustedError: out of memory after every smaller way of computing.
    """
    from .propagation.register import backend as load_backend
    from .tracking.series import make_series
    from .tracking.tracker import track_series

    if len(scans) < 2:
        raise InputError(f"scans: has {len(scans)} of them; expected two or more")
    named = [replace(scan, time_point=str(index), slot=Slot.PRIMARY) for index, scan in enumerate(scans)]
    series = make_series("patient", named, None if source is None else str(source))
    done: list[str] = []

    def on_time_point(tracked: TrackedTimePoint) -> None:
        done.append(tracked.name)
        if progress is not None:
            progress(len(done), len(scans))

    result = track_series(
        series,
        _series_segmenter(model, boost),
        load_backend(backend, _device(model)),
        _tracking_options(topology, backend),
        on_time_point,
    )
    return [_tracked(point) for point in result.time_points]


def register(
    fixed: Scan, moving: Scan, *, backend: str = DEFAULT_BACKEND, device: str = "auto"
) -> PairRegistration:
    """Register two scans of one patient.

    Args:
        fixed: the follow-up.
        moving: the baseline, which is aligned to it.
        backend: registration back end, a name or ``module:function``.
        device: where it computes, if it can use a GPU.

    Returns:
        The registration; scans that cannot be aligned give a fall-back that is not reliable.

    Raises:
        InputError: the back end does not exist.
    """
    from .propagation.register import RegistrationImage
    from .propagation.register import backend as load_backend

    images = [RegistrationImage(scan.ct, scan.geometry, scan.name) for scan in (fixed, moving)]
    return PairRegistration(fixed, moving, load_backend(backend, device).register(*images))


def evaluate(
    reference: npt.ArrayLike,
    prediction: npt.ArrayLike,
    *,
    spacing_zyx: Sequence[float],
    definition: str | None = None,
) -> ArrayEvaluation:
    """Compare a predicted labelmap with the true one, lesion by lesion.

    Args:
        reference: true lesion ids (z, y, x).
        prediction: predicted lesion ids (z, y, x) of the same shape.
        spacing_zyx: voxel size in mm.
        definition: what counts and how it is averaged, see docs/evaluation.md; None takes the default.

    Returns:
        One record per lesion, and the scores.

    Raises:
        InputError: arrays or a spacing that cannot be compared.
    """
    from .evaluation.evaluate_arrays import evaluate_arrays

    options = {} if definition is None else {"definition": definition}
    return evaluate_arrays(reference, prediction, spacing_zyx=spacing_zyx, **options)


def _points(points_zyx: npt.ArrayLike) -> FloatArray:
    points = np.asarray(points_zyx, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise InputError(
            f"points_zyx: has the shape {points.shape}, or values that are not finite; expected (N, 3) voxel indices"
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


def _with_clicks(scan: Scan, clicks: Mapping[int, Sequence[float]]) -> Scan:
    """A scan that was read from files, with clicks on the file's axes."""
    from .case.case import checked_clicks

    points = checked_clicks(clicks, scan.axes, scan.file_geometry.shape_zyx)
    return replace(scan, clicks=points)


def _checked_boost(boost: str) -> str:
    from .inference.options import BOOSTS

    if boost not in BOOSTS:
        raise InputError(f"boost: is {boost!r}; expected one of {', '.join(BOOSTS)}")
    return boost


def _segmenter(
    model: LoadedModel | Callable[[SegmentRequest], Any], boost: str
) -> LoadedModel | RobustSegmenter:
    """The segmenter of a case: the model, or a user's function with boosting and the component rule around it."""
    if not callable(model):
        return model
    from .inference.boost_options import Boosting, BoostOptions
    from .inference.robust import RobustOptions, function_segmenter

    return function_segmenter(model, RobustOptions(BoostOptions(Boosting(boost))))


def _series_segmenter(
    model: LoadedModel | Callable[[SegmentRequest], Any], boost: str
) -> RobustSegmenter:
    from .inference.boost_options import Boosting, BoostOptions
    from .inference.robust import ComponentRule, RobustOptions, function_segmenter, longitudinal_segmenter

    options = RobustOptions(BoostOptions(Boosting(_checked_boost(boost))), ComponentRule.ALL)
    return function_segmenter(model, options) if callable(model) else longitudinal_segmenter(model, options)


def _device(model: LoadedModel | Callable[[SegmentRequest], Any]) -> str:
    return "auto" if callable(model) else model.ensemble.options.registration_device


def _tracking_options(topology: str, backend: str) -> Any:
    from .propagation.confidence import is_estimated
    from .tracking.series import DEFAULT_CONFIDENCE, ConfidenceRule, Topology, TrackingOptions

    if topology not in list(Topology):
        raise InputError(f"topology: is {topology!r}; expected one of {', '.join(Topology)}")
    confidence = DEFAULT_CONFIDENCE if is_estimated(backend) else ConfidenceRule.SPREAD
    return TrackingOptions(Topology(topology), confidence=confidence)


def _segmentation(result: CaseResult) -> Segmentation:
    return Segmentation(
        result.labelmaps[Slot.PRIMARY],
        {outcome.lesion_id: _lesion(outcome) for outcome in result.outcomes},
        result.warnings,
        TimePointName.FOLLOWUP,
        result.geometry(Slot.PRIMARY),
    )


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
    """Where a lesion was segmented, on the caller's axes, and the source of that point."""
    if prompt is None:
        return None, None
    point = prompt.followup_point
    return _array_point(prompt.followup, point.point_zyx), str(point.source)


def _tracked(tracked: TrackedTimePoint) -> Segmentation:
    (scan,) = tracked.time_point.scans
    return Segmentation(
        tracked.labelmaps[scan.slot],
        {lesion.lesion_id: _tracked_lesion(lesion) for lesion in tracked.lesions},
        (*tracked.warnings, *(f"lesion {one.lesion_id}: {text}" for one in tracked.lesions for text in one.warnings)),
        tracked.name,
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
