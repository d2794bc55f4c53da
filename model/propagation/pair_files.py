"""What the command ``propagate`` does: one pair of scans, registered, and all that is known carried over."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..case.boxes import boxes_of_scan, boxes_on_scan, read_boxes, write_boxes
from ..case.case import PointSource, Scan, ScanFiles, Slot
from ..case.clicks import write_clicks
from ..case.geometry import Array, Box, Geometry, Vector
from ..case.images import IMAGE_SUFFIXES, write_image
from ..case.labelmaps import label_boxes
from ..case.lesion_json import check_writable
from ..case.scans import ClickUnits, read_scans
from ..errors import InputError, LongilesionError, one_line
from .confidence import ConfidenceOptions, PropagatedPoint, is_estimated, propagate_with_confidence
from .pair_registrations import RegistrationCache
from .points import Direction, refine_near
from .register import DEFAULT_BACKEND, Registration, Transform, backend
from .register.stored import save_transform, transform_suffix
from .shapes import box_anchors, propagate_box, propagate_labels

log = logging.getLogger(__name__)

# An .mhd keeps its voxels in a second file, which cannot be put in place in one step.
_MASK_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix != ".mhd")
_LEFT_OUT = "warning: lesion %d has no place in %s and is left out"
_FOLDER_NAMES = {"points": "points.json", "boxes": "boxes.json", "mask": "mask.nii.gz"}


@dataclass(frozen=True, slots=True)
class PairOptions:
    """All choices of a run; see `command.add_arguments` for what each does."""

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
        return Direction.TO_BASELINE if self.is_backward else Direction.TO_FOLLOWUP

    def outputs(self) -> dict[str, Path]:
        """The file for each kind that is asked for.

        Raises:
            InputError: nothing is asked for, ``output`` does not suit it, or it would replace an input.
            OutputError: a file that cannot be written.
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
    """Read, register, carry over, write; what is being done is logged, line by line.

    A lesion that the mapping loses is told in a warning and left out, and takes no other with it.

    Raises:
        InputError: a file that cannot be used, or options that clash.
        OutputError: a file cannot be written.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    outputs = options.outputs()
    registrations = RegistrationCache(backend(options.backend, options.device))
    log.info("reading %s and %s", options.source, options.target)
    known, target = _read(options)
    pair = _register(known, target, options, registrations)
    if options.save_transform is not None:
        save_transform(options.save_transform, pair.registration.transform, pair.fixed.geometry)
        log.info("%s: the transform", options.save_transform)
    write = {"points": _write_points, "boxes": _write_boxes, "mask": _write_mask}
    for kind, path in outputs.items():
        write[kind](path, known, pair)


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known on the source, in axial order. ``labels`` are uint8 while all ids fit, else uint16."""

    scan: Scan
    points: Mapping[int, Vector]
    boxes: Mapping[int, Box]
    labels: Array

    def anchors(self) -> list[Vector]:
        """Points for `refined_near`, of all that is known."""
        boxes = [*self.boxes.values(), *label_boxes(self.labels).values()]
        return [*self.points.values(), *(p for box in boxes for p in box_anchors(box, self.scan.geometry))]


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two registered scans; ``reverse`` is the registration the other way round, where there is one."""

    source: Scan
    target: Scan
    registration: Registration
    reverse: Registration | None
    options: PairOptions

    def judged(self, points: Mapping[int, Vector]) -> dict[int, PropagatedPoint]:
        """Points by lesion id, carried over and told of."""
        for lesion_id, point in points.items():
            outside_mm = -self.source.geometry.depth_mm(point)
            if outside_mm > 0:
                log.warning("warning: lesion %d lies %.1f mm outside of its scan", lesion_id, outside_mm)
        answers = propagate_with_confidence(
            list(points.values()),
            self.source.geometry,
            self.target.geometry,
            self.registration,
            self.options.direction,
            self.reverse,
            self.options.confidence,
        )
        for lesion_id, answer in zip(points, answers, strict=True):
            where = "" if answer.in_view else ", out of view"
            flag = ", flagged" if answer.is_flagged else ""
            log.info("lesion %d: within about %.1f mm%s%s", lesion_id, answer.confidence_mm, where, flag)
        return dict(zip(points, answers, strict=True))

    @property
    def fixed(self) -> Scan:
        """The follow-up."""
        return self.source if self.options.is_backward else self.target

    @property
    def way(self) -> tuple[Geometry, Geometry, Transform, Direction]:
        """What boxes and masks are carried by."""
        return (
            self.source.geometry,
            self.target.geometry,
            self.registration.transform,
            self.options.direction,
        )


def _read(options: PairOptions) -> tuple[_Known, Scan]:
    # Scans are known to registrations by their files' names.
    jobs = [
        (_stem(options.source), ScanFiles(Slot.PRIMARY, options.source, options.mask, options.points)),
        (_stem(options.target), ScanFiles(Slot.PRIMARY, options.target)),
    ]
    (source, target), warnings = read_scans(jobs, options.units)
    for warning in warnings:
        log.warning("warning: %s", warning)
    boxes = boxes_on_scan(read_boxes(options.boxes), source, options.units) if options.boxes else {}
    labels: Array = np.zeros((0, 0, 0), np.uint8)
    if source.mask is not None:
        labels = source.mask.astype(np.min_scalar_type(source.mask.max()))
    points = {click.lesion_id: click.point_zyx for click in source.clicks}
    return _Known(source, points, boxes, labels), target


def _stem(path: Path) -> str:
    name = path.name
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def _register(known: _Known, target: Scan, options: PairOptions, registrations: RegistrationCache) -> _Pair:
    """The registration near all that is known, and its like the other way round."""
    source, anchors = known.scan, known.anchors()
    fixed, moving = (source, target) if options.is_backward else (target, source)
    log.info("registering (%s)", options.backend)
    try:
        found = registrations.get(fixed, moving)
    except (LongilesionError, MemoryError):
        raise
    except Exception as error:  # libraries may fail in any way
        raise InputError(
            f"{options.source} and {options.target}: cannot be registered ({one_line(error)}); "
            "expected two CTs of one patient"
        ) from error
    _say(registrations, found)
    near = refine_near(anchors, source.geometry, target.geometry, found, options.direction)
    reverse: Registration | None = None
    if anchors and options.there_and_back and is_estimated(options.backend):
        log.info("registering the other way round")
        try:
            reverse = registrations.get(moving, fixed)
            _say(registrations, reverse)
        except Exception as error:  # it only adds to what is known of the points
            log.debug("", exc_info=error)
            log.warning("warning: the way there and back is not measured: %s", one_line(error))
    return _Pair(source, target, near, reverse, options)


def _write_points(path: Path, known: _Known, pair: _Pair) -> None:
    target, written = pair.target, {}
    judged = pair.judged(known.points)
    for lesion_id, answer in judged.items():
        if not all(map(math.isfinite, answer.point_zyx)):
            log.warning(_LEFT_OUT, lesion_id, path)
        elif pair.options.units == "world":
            written[lesion_id] = target.geometry.zyx_to_world(answer.point_zyx)
        else:
            written[lesion_id] = target.file_point_xyz(answer.point_zyx)
    write_clicks(path, written, {key: _extras(judged[key]) for key in written})
    log.info("%s: %d clicks", path, len(written))


def _write_boxes(path: Path, known: _Known, pair: _Pair) -> None:
    written = {}
    judged = pair.judged({lesion_id: _middle(box) for lesion_id, box in known.boxes.items()})
    for lesion_id, box in known.boxes.items():
        try:
            written[lesion_id] = propagate_box(box, *pair.way)
        except ValueError as error:
            log.debug("", exc_info=error)
            log.warning(_LEFT_OUT, lesion_id, path)
    corners = boxes_of_scan(written, pair.target, pair.options.units)
    write_boxes(path, corners, {key: _extras(judged[key]) for key in written})
    log.info("%s: %d boxes", path, len(written))


def _write_mask(path: Path, known: _Known, pair: _Pair) -> None:
    lesions = label_boxes(known.labels)
    pair.judged({lesion_id: _middle(box) for lesion_id, box in lesions.items()})
    moved = propagate_labels(known.labels, *pair.way)
    found = set(np.unique(moved).tolist()) - {0}
    for lesion_id in lesions.keys() - found:
        log.warning("warning: lesion %d has no voxel in %s", lesion_id, path)
    write_image(path, pair.target.axes.inverse().array(moved), pair.target.file_geometry)
    log.info("%s: %d lesions", path, len(found))


def _say(registrations: RegistrationCache, registration: Registration) -> None:
    record = registrations.records[-1]
    log.info("registered in %.1f s, similarity %.2f", record.seconds, registration.similarity)
    for text in registration.warnings:
        log.warning("warning: %s", text)


def _extras(point: PropagatedPoint) -> dict[str, Any]:
    return {
        "confidence_mm": point.confidence_mm,
        "source": str(PointSource.PROPAGATED),
        "in_view": point.in_view,
        "is_flagged": point.is_flagged,
    }


def _middle(box: Box) -> Vector:
    z, y, x = ((a + b - 1) / 2 for a, b in zip(box.start_zyx, box.stop_zyx, strict=True))
    return (z, y, x)
