"""Propagation of points, boxes and masks between scans in files: the work of the command ``propagate``."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..case.boxes import boxes_from_scan_grid, boxes_to_scan_grid, read_boxes, write_boxes
from ..case.case import PointSource, Scan, ScanFiles, Slot
from ..case.clicks import write_clicks
from ..case.geometry import Array, Box, Geometry, Vector
from ..case.images import write_image
from ..case.labelmaps import label_boxes, label_regions
from ..case.lesion_json import check_writable
from ..case.plausibility import check_scan, log_notes
from ..case.scans import ClickUnits, read_scans
from ..case.stored_image import IMAGE_SUFFIXES
from ..errors import InputError, LongilesionError, one_line
from .confidence import ConfidenceOptions, PropagatedPoint, is_estimated, propagate_with_confidence
from .pair_plausibility import pair_notes
from .pair_registrations import RegistrationCache
from .points import Direction, refine_near
from .register import DEFAULT_BACKEND, Registration, Transform, backend
from .register.stored import save_transform, transform_suffix
from .shapes import box_anchors, propagate_box, propagate_labels

log = logging.getLogger(__name__)

# An .mhd keeps its voxels in a second file, so that it cannot be replaced atomically.
_MASK_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix != ".mhd")
_LEFT_OUT = "lesion %d has no place in %s and is left out"
_FOLDER_NAMES = {"points": "points.json", "boxes": "boxes.json", "mask": "mask.nii.gz"}


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Inputs, outputs and settings of one call.

    Attributes:
        source: the CT on which the lesions are known.
        target: the CT to propagate them to.
        output: file for the result, or folder for several results.
        points: click JSON.
        boxes: box JSON.
        mask: labelmap on the grid of ``source``.
        units: units of points and boxes in all files: voxel index x, y, z or LPS mm.
        backend: name of the registration back end.
        device: for back ends that compute with torch: auto, cpu, cuda or cuda:N.
        is_backward: ``source`` is the follow-up (the fixed scan) instead of ``target``.
        there_and_back: register the pair in the opposite direction as well, for the confidence.
        save_transform: file for the transform.
        confidence: parameters of the estimated errors.
    """

    source: Path
    target: Path
    output: Path
    points: Path | None = None
    boxes: Path | None = None
    mask: Path | None = None
    units: ClickUnits = "voxel"
    backend: str = DEFAULT_BACKEND
    device: str = "auto"
    is_backward: bool = False
    there_and_back: bool = True
    save_transform: Path | None = None
    confidence: ConfidenceOptions = ConfidenceOptions()

    @property
    def direction(self) -> Direction:
        """Direction from ``source`` to ``target``."""
        return Direction.TO_BASELINE if self.is_backward else Direction.TO_FOLLOWUP

    def outputs(self) -> dict[str, Path]:
        """Map each kind of input (points, boxes, mask) to its output file.

        Raises:
            InputError: there is no input, ``output`` does not match it, or would replace an input.
            OutputError: a file cannot be written.
        """
        inputs = {"points": self.points, "boxes": self.boxes, "mask": self.mask}
        kinds = [kind for kind, path in inputs.items() if path is not None]
        if not kinds:
            raise InputError("--points, --boxes, --mask: none is given; expected at least one of them")
        outputs = _outputs(self.output, kinds)
        given = [self.source, self.target, *(path for path in inputs.values() if path is not None)]
        for path in (*outputs.values(), *([self.save_transform] if self.save_transform else [])):
            if path.resolve() in [other.resolve() for other in given]:
                raise InputError(f"{path}: is an input; expected another file to write to")
            check_writable(path)
        if self.save_transform is not None:
            transform_suffix(self.save_transform)
        return outputs


def _outputs(output: Path, kinds: list[str]) -> dict[str, Path]:
    name = output.name.lower()
    if not name.endswith((".json", *IMAGE_SUFFIXES)):
        if output.is_file():
            raise InputError(
                f"{output}: is a file; expected a folder, or a name that ends as the output does"
            )
        return {kind: output / _FOLDER_NAMES[kind] for kind in kinds}
    if len(kinds) > 1:
        raise InputError(f"{output}: is one file for {' and '.join(kinds)}; expected a folder")
    suffixes = _MASK_SUFFIXES if kinds == ["mask"] else (".json",)
    if not name.endswith(suffixes):
        raise InputError(f"{output}: is no name for {kinds[0]}; expected it to end in {', '.join(suffixes)}")
    return {kinds[0]: output}


def propagate_pair(options: PairOptions) -> None:
    """Register two scans, propagate the given lesions, and write the results.

    Each step is logged. A lesion that the mapping loses is left out, with a warning.

    Raises:
        InputError: a file cannot be used, or options contradict each other.
        OutputError: a file cannot be written.
    """
    outputs = options.outputs()
    registrations = RegistrationCache(backend(options.backend, options.device))
    log.info("reading %s and %s", options.source, options.target)
    lesions, target = _read(options)
    regions = label_regions(lesions.labels) if lesions.scan.mask is not None else {}
    log_notes([*check_scan(lesions.scan, regions), *check_scan(target, {})])
    pair = _register(lesions, target, options, registrations)
    log_notes(pair_notes(registrations.records))
    if options.save_transform is not None:
        save_transform(options.save_transform, pair.registration.transform, pair.fixed.geometry)
        log.info("%s: the transform", options.save_transform)
    write = {"points": _write_points, "boxes": _write_boxes, "mask": _write_mask}
    for kind, path in outputs.items():
        write[kind](path, lesions, pair)


@dataclass(frozen=True, eq=False)
class _SourceLesions:
    """Lesions on the source, in axial order; ``labels`` are uint8 if all ids fit, otherwise uint16."""

    scan: Scan
    points: Mapping[int, Vector]
    boxes: Mapping[int, Box]
    labels: Array

    def anchors(self) -> list[Vector]:
        """Points of all lesions near which to refine the registration, see `refine_near`."""
        boxes = [*self.boxes.values(), *label_boxes(self.labels).values()]
        return [*self.points.values(), *(p for box in boxes for p in box_anchors(box, self.scan.geometry))]


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two registered scans; ``reverse`` is the registration in the opposite direction, if there is one."""

    source: Scan
    target: Scan
    registration: Registration
    reverse: Registration | None
    options: PairOptions

    def propagate(self, points: Mapping[int, Vector]) -> dict[int, PropagatedPoint]:
        """Propagate points by lesion id, and log the estimated errors."""
        for lesion_id, point_zyx in points.items():
            outside_mm = -self.source.geometry.depth_mm(point_zyx)
            if outside_mm > 0:
                log.warning("lesion %d lies %.1f mm outside of its scan", lesion_id, outside_mm)
        propagated = propagate_with_confidence(
            list(points.values()),
            self.source.geometry,
            self.target.geometry,
            self.registration,
            self.options.direction,
            self.reverse,
            self.options.confidence,
        )
        for lesion_id, point in zip(points, propagated, strict=True):
            view = "" if point.in_view else ", out of view"
            flag = ", flagged" if point.is_flagged else ""
            log.info("lesion %d: typically within %.1f mm%s%s", lesion_id, point.confidence_mm, view, flag)
        return dict(zip(points, propagated, strict=True))

    @property
    def fixed(self) -> Scan:
        """The follow-up."""
        return self.source if self.options.is_backward else self.target

    @property
    def mapping(self) -> tuple[Geometry, Geometry, Transform, Direction]:
        """Arguments of `propagate_box` and `propagate_labels`."""
        return (
            self.source.geometry,
            self.target.geometry,
            self.registration.transform,
            self.options.direction,
        )


def _read(options: PairOptions) -> tuple[_SourceLesions, Scan]:
    # The names of the files are the names of the scans for back ends that read files.
    jobs = [
        (_stem(options.source), ScanFiles(Slot.PRIMARY, options.source, options.mask, options.points)),
        (_stem(options.target), ScanFiles(Slot.PRIMARY, options.target)),
    ]
    (source, target), warnings = read_scans(jobs, options.units)
    for warning in warnings:
        log.warning("%s", warning)
    boxes = boxes_to_scan_grid(read_boxes(options.boxes), source, options.units) if options.boxes else {}
    labels: Array = np.zeros((0, 0, 0), np.uint8)
    if source.mask is not None:
        labels = source.mask.astype(np.min_scalar_type(source.mask.max()))
    points = {click.lesion_id: click.point_zyx for click in source.clicks}
    return _SourceLesions(source, points, boxes, labels), target


def _stem(path: Path) -> str:
    name = path.name
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def _register(
    lesions: _SourceLesions, target: Scan, options: PairOptions, registrations: RegistrationCache
) -> _Pair:
    """Register the pair, refined near all lesions, and in the opposite direction if requested."""
    source, anchors = lesions.scan, lesions.anchors()
    fixed, moving = (source, target) if options.is_backward else (target, source)
    log.info("registering (%s)", options.backend)
    try:
        registration = registrations.get(fixed, moving)
    except (LongilesionError, MemoryError):
        raise
    except Exception as error:  # libraries may raise anything
        raise InputError(
            f"{options.source} and {options.target}: cannot be registered ({one_line(error)}); "
            "expected two CTs of one patient"
        ) from error
    _log_registration(registrations, registration)
    near = refine_near(anchors, source.geometry, target.geometry, registration, options.direction)
    reverse: Registration | None = None
    if anchors and options.there_and_back and is_estimated(options.backend):
        log.info("registering in the opposite direction")
        try:
            reverse = registrations.get(moving, fixed)
            _log_registration(registrations, reverse)
        except Exception as error:  # only the confidence depends on it
            log.debug("", exc_info=error)
            log.warning("inverse consistency is not measured: %s", one_line(error))
    return _Pair(source, target, near, reverse, options)


def _write_points(path: Path, lesions: _SourceLesions, pair: _Pair) -> None:
    target, written = pair.target, {}
    propagated = pair.propagate(lesions.points)
    for lesion_id, point in propagated.items():
        if not all(map(math.isfinite, point.point_zyx)):
            log.warning(_LEFT_OUT, lesion_id, path)
        elif pair.options.units == "world":
            written[lesion_id] = target.geometry.zyx_to_world(point.point_zyx)
        else:
            written[lesion_id] = target.file_point_xyz(point.point_zyx)
    write_clicks(path, written, {key: _extras(propagated[key]) for key in written})
    log.info("%s: %d clicks", path, len(written))


def _write_boxes(path: Path, lesions: _SourceLesions, pair: _Pair) -> None:
    written = {}
    centres = pair.propagate({lesion_id: _centre(box) for lesion_id, box in lesions.boxes.items()})
    for lesion_id, box in lesions.boxes.items():
        try:
            written[lesion_id] = propagate_box(box, *pair.mapping)
        except ValueError as error:
            log.debug("", exc_info=error)
            log.warning(_LEFT_OUT, lesion_id, path)
    corners = boxes_from_scan_grid(written, pair.target, pair.options.units)
    write_boxes(path, corners, {key: _extras(centres[key]) for key in written})
    log.info("%s: %d boxes", path, len(written))


def _write_mask(path: Path, lesions: _SourceLesions, pair: _Pair) -> None:
    boxes = label_boxes(lesions.labels)
    pair.propagate({lesion_id: _centre(box) for lesion_id, box in boxes.items()})
    labels = propagate_labels(lesions.labels, *pair.mapping)
    present = set(np.unique(labels).tolist()) - {0}
    for lesion_id in boxes.keys() - present:
        log.warning("lesion %d has no voxel in %s", lesion_id, path)
    write_image(path, pair.target.file_grid.file_labels(labels), pair.target.file_geometry)
    log.info("%s: %d lesions", path, len(present))


def _log_registration(registrations: RegistrationCache, registration: Registration) -> None:
    record = registrations.records[-1]
    log.info("registered in %.1f s, similarity %.2f", record.seconds, registration.similarity)
    for text in registration.warnings:
        log.warning("%s", text)


def _extras(point: PropagatedPoint) -> dict[str, Any]:
    return {
        "confidence_mm": point.confidence_mm,
        "source": str(PointSource.PROPAGATED),
        "in_view": point.in_view,
        "is_flagged": point.is_flagged,
    }


def _centre(box: Box) -> Vector:
    z, y, x = ((a + b - 1) / 2 for a, b in zip(box.start_zyx, box.stop_zyx, strict=True))
    return (z, y, x)
