"""Python API: arrays, files or SimpleITK images in, results out.

Import it as ``import longilesion as ll`` (in a checkout: ``import model as ll``). Nothing here prints, writes
files or keeps state. Arrays are (z, y, x) and points are voxel indices in the same order, both with the axes
of the caller's arrays or files. docs/python_api.md has examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from .api_results import PairRegistration, Segmentation, segmentation_of_case, segmentation_of_time_point
from .case.case import Case, Scan, ScanFiles, Slot, TimePoint, TimePointName, make_clicks
from .errors import InputError
from .inference.options import (
    DEFAULT_BOOST,
    DEFAULT_FOLDS,
    CaseOptions,
    ModelOptions,
    OverlapRule,
    PointRounding,
    Precision,
)
from .propagation.register import DEFAULT_BACKEND

if TYPE_CHECKING:  # torch and SimpleITK are imported by the functions that need them
    import SimpleITK as sitk

    from .evaluation.evaluate_arrays import ArrayEvaluation
    from .inference.load import LoadedModel
    from .inference.robust import RobustSegmenter
    from .inference.user_segmenter import SegmentRequest
    from .tracking.series import TrackedTimePoint

Progress = Callable[[int, int], None]
"""Called with the number of lesions (or time points) that are done, and their total."""


def load_model(
    folder: str | Path | None = None,
    *,
    device: str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    folds: Sequence[int | str] = DEFAULT_FOLDS,
    tta: bool = False,
    deterministic: bool = False,
    point_rounding: PointRounding = "truncate",
) -> LoadedModel:
    """Load the folds of a longitudinal model.

    Args:
        folder: a model in the published layout, or packed; None takes the default one of the command line.
        device: ``auto`` (the first usable GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` is bf16 if the GPU supports it, fp16 on other GPUs, fp32 on the CPU.
        folds: numbers of the folds; "all" is the name of a fold trained on all patients.
        tta: average over the mirrored views that the checkpoint allows.
        deterministic: bit-for-bit reproducible results on the same machine (sets torch for the process).
        point_rounding: network voxel of a point: ``truncate`` as published, ``round`` to the nearest one.

    Returns:
        The model, for any number of calls of `segment` and `track`.

    Raises:
        WeightsError: weights that are missing, corrupt, unsafe, or do not fit their plan.
        InputError: the GPU does not exist.
    """
    from .inference.load import load_model as load

    options = ModelOptions(device, precision, tuple(folds), tta, deterministic, point_rounding=point_rounding)
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
        (scan,), warnings = read_scans([("scan", files)])
        prefix = f"{scan.name}-"
        scan = replace(scan, warnings=tuple(warning.removeprefix(prefix) for warning in warnings))
        if clicks is None or isinstance(clicks, str | Path):
            return scan
        return replace(scan, clicks=make_clicks(clicks, scan.file_grid))
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
    segment_baseline: bool = False,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment every lesion of a baseline in its follow-up.

    Lesions are those of the baseline's mask and of the clicks of both scans. The point of a lesion without a
    click in the follow-up is propagated by registration.

    Args:
        model: from `load_model`; or your own function of one `SegmentRequest` that returns booleans or
            probabilities of the request's image.
        baseline: scan with a mask, clicks, or both.
        followup: scan with any number of clicks, or none.
        overlap: assign a voxel that several lesions claim to the more probable one, or to the highest id
            (``max-id``).
        backend: registration back end for propagated lesions, a name or ``module:function``.
        boost: repeated prompting of propagated lesions, ``none`` for a single prompt.
        segment_baseline: segment clicked baseline lesions that have no mask first, and give them to the
            network as its mask; with networks that take no mask the former is always done.
        progress: called after each lesion of the follow-up.

    Returns:
        Labelmap on the follow-up's grid, and one entry per lesion; ``baseline`` holds the lesions that were
        segmented in the baseline.

    Raises:
        InputError: an option that does not exist, or an argument of another type.
        AllLesionsFailedError: there are lesions, and none of them could be segmented.
        MemoryExhaustedError: out of memory after every smaller way of computing.
    """
    from .inference.segment_case import segment_case

    before, after = _named(baseline, TimePointName.BASELINE), _named(followup, TimePointName.FOLLOWUP)
    case = Case(
        TimePoint(TimePointName.BASELINE, (before,)),
        TimePoint(TimePointName.FOLLOWUP, (after,)),
        tuple(f"{scan.time_point}: {warning}" for scan in (before, after) for warning in scan.warnings),
    )
    options = CaseOptions(overlap, backend, boost, segment_baseline=segment_baseline)
    on_lesion = None if progress is None else lambda _lesion, done, total: progress(done, total)
    segmenter = _segmenter(model, boost)
    return segmentation_of_case(segment_case(case, segmenter, options, on_lesion=on_lesion))


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
        scans: one scan per time point, the earliest first; their ``time_point`` names stay if they differ.
            Of a single scan the lesions are segmented, the scan being its own baseline.
        topology: ``star``, ``chain``, ``recentre`` or ``recentre-mask``, see docs/tracking.md.
        source: index of the scan to start from; None takes the first with a mask, otherwise with a click.
        backend: registration back end, a name or ``module:function``.
        boost: repeated prompting of propagated lesions, ``none`` for a single prompt.
        progress: called after each time point.

    Returns:
        One segmentation per scan, in the order of ``scans``.

    Raises:
        InputError: no scan, no lesion in any of them, or an option that does not exist.
        MemoryExhaustedError: out of memory after every smaller way of computing.
    """
    from .propagation.register import backend as load_backend
    from .tracking.series import make_series
    from .tracking.tracker import track_series

    if not scans:
        raise InputError("scans: is empty; expected one scan or more")
    names = [scan.time_point if isinstance(scan, Scan) else "" for scan in scans]
    if len(set(names)) < len(names):
        names = [str(index) for index in range(len(scans))]
    named = [_named(scan, name) for scan, name in zip(scans, names, strict=True)]
    if source is not None and not 0 <= source < len(scans):
        raise InputError(f"source: is {source}; expected an index from 0 to {len(scans) - 1}")
    series = make_series("patient", named, None if source is None else names[source])
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
    messages = () if callable(model) else (*model.warnings, *model.ensemble.notes)
    return [segmentation_of_time_point(point, messages) for point in result.time_points]


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
    from .propagation.pair_registrations import with_ambiguity
    from .propagation.register import RegistrationImage
    from .propagation.register import backend as load_backend

    fixed, moving = _named(fixed, TimePointName.FOLLOWUP), _named(moving, TimePointName.BASELINE)
    images = [RegistrationImage(scan.ct, scan.geometry, scan.name) for scan in (fixed, moving)]
    registration = load_backend(backend, device).register(*images)
    return PairRegistration(fixed, moving, with_ambiguity(registration, *images))


def evaluate(
    reference: npt.ArrayLike,
    prediction: npt.ArrayLike,
    *,
    spacing_zyx: Sequence[float],
    definition: str = "challenge",
) -> ArrayEvaluation:
    """Compare a predicted labelmap with the true one, lesion by lesion.

    Args:
        reference: true lesion ids (z, y, x).
        prediction: predicted lesion ids (z, y, x) of the same shape.
        spacing_zyx: voxel size in mm.
        definition: ``challenge``, ``longitudinal`` or ``tracking``, see docs/evaluation.md.

    Returns:
        Scores of each lesion and of all of them as one foreground, and their means.

    Raises:
        InputError: arrays or a spacing that cannot be compared.
    """
    from .evaluation.evaluate_arrays import evaluate_arrays

    return evaluate_arrays(reference, prediction, spacing_zyx=spacing_zyx, definition=definition)


def _named(scan: Scan, time_point: str) -> Scan:
    """The scan as the primary one of a time point."""
    if not isinstance(scan, Scan):
        raise InputError(f"{time_point}: is a {type(scan).__name__}; expected a Scan, e.g. from read_scan")
    return replace(scan, time_point=time_point, slot=Slot.PRIMARY)


def _segmenter(
    model: LoadedModel | Callable[[SegmentRequest], Any], boost: str
) -> LoadedModel | RobustSegmenter:
    """The model, or a robust segmenter around a user's function."""
    if not callable(model):
        _device(model)  # refuses anything else
        return model
    from .inference.boost_options import Boosting, BoostOptions
    from .inference.robust import RobustOptions, function_segmenter

    return function_segmenter(model, RobustOptions(BoostOptions(Boosting(boost))))


def _series_segmenter(model: LoadedModel | Callable[[SegmentRequest], Any], boost: str) -> RobustSegmenter:
    from .inference.boost_options import Boosting, BoostOptions
    from .inference.robust import ComponentRule, RobustOptions, function_segmenter, longitudinal_segmenter

    options = RobustOptions(BoostOptions(Boosting(CaseOptions(boost=boost).boost)), ComponentRule.ALL)
    if callable(model):
        return function_segmenter(model, options)
    _device(model)  # refuses anything else
    return longitudinal_segmenter(model, options)


def _device(model: LoadedModel | Callable[[SegmentRequest], Any]) -> str:
    """Device of registrations; raises InputError for anything that is no model."""
    if callable(model):
        return "auto"
    if not hasattr(model, "ensemble"):
        raise InputError(f"model: is a {type(model).__name__}; expected one from load_model, or a function")
    return model.ensemble.options.registration_device


def _tracking_options(topology: str, backend: str) -> Any:
    from .propagation.confidence import is_estimated
    from .tracking.series import DEFAULT_CONFIDENCE, ConfidenceRule, Topology, TrackingOptions

    if topology not in list(Topology):
        raise InputError(f"topology: is {topology!r}; expected one of {', '.join(Topology)}")
    confidence = DEFAULT_CONFIDENCE if is_estimated(backend) else ConfidenceRule.SPREAD
    return TrackingOptions(Topology(topology), confidence=confidence)
