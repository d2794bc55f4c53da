"""Checks of a data set: lists all problems at once and leaves out the parts that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..case.geometry import Geometry, Vector, flip_order
from ..case.raw_lesion import RawLesion
from .dataset import Cohort, Problem, RawScan
from .lesion_links import format_point, resolve_links
from .scan_survey import ScanSurvey, SurveyedLesion

# A point this far from its lesion's box is most likely wrong, e.g. with its axes in another order. The same
# distance bounds a match of lesions in CPM@25 [Rokuss2025].
_FAR_MM = 25.0
# A grid counts as tilted beyond this; a tenth of a degree is rounding of a header.
_TILT_DEGREES = 1.0


@dataclass(frozen=True, slots=True)
class CheckedCohort:
    """The usable part of a data set.

    Attributes:
        cohort: scans with readable files, lesions with resolved links. Each lesion has a baseline point, and
            a true or propagated follow-up point, inside of their scans.
        problems: everything that is wrong, notes last.
    """

    cohort: Cohort
    problems: tuple[Problem, ...]

    @property
    def faults(self) -> tuple[Problem, ...]:
        """The problems that are not notes; ``--strict`` stops for them."""
        return tuple(problem for problem in self.problems if not problem.is_note)


def check_cohort(cohort: Cohort, surveys: Mapping[str, ScanSurvey]) -> CheckedCohort:
    """Check a data set.

    Args:
        cohort: the data set as its reader returned it.
        surveys: surveys of all of its scans, by scan id.
    """
    problems = [*cohort.problems, *_broken_scans(cohort, surveys), *_orphans(cohort)]
    usable = cohort.with_scans(tuple(scan for scan in cohort.scans if not surveys[scan.scan_id].faults))
    lesions, link_problems = resolve_links(usable, surveys, cohort.lesions)
    problems += link_problems
    kept: list[RawLesion] = []
    for lesion in lesions:
        completed, point_problems = _with_points(usable, lesion, surveys)
        problems += point_problems
        if completed is not None:
            kept.append(completed)
    problems += _empty_masks(cohort, surveys, kept)
    problems += _orientations(usable, lesions, surveys)
    problems += _doubts(usable, surveys)
    used = {name for lesion in kept for name in (lesion.baseline, lesion.followup)}
    problems += _unused(usable, used)
    scans = tuple(scan for scan in usable.scans if scan.scan_id in used)
    problems.sort(key=lambda problem: (problem.is_note, str(problem.file), problem.text))
    return CheckedCohort(replace(usable, scans=scans, lesions=tuple(kept)), tuple(problems))


def _broken_scans(cohort: Cohort, surveys: Mapping[str, ScanSurvey]) -> Iterator[Problem]:
    for scan in cohort.scans:
        faults = surveys[scan.scan_id].faults
        if not faults:
            continue
        count = sum(scan.scan_id in (lesion.baseline, lesion.followup) for lesion in cohort.lesions)
        rest = f" with its {count} lesions" if count else ""
        for fault in faults:
            yield Problem(fault.file, fault.text, f"scan {scan.scan_id} is left out{rest}")


def _doubts(cohort: Cohort, surveys: Mapping[str, ScanSurvey]) -> Iterator[Problem]:
    """Notes on scans whose values do not look like HU, or whose spacing does not look like mm."""
    for scan in cohort.scans:
        for doubt in surveys[scan.scan_id].doubts:
            yield Problem(scan.image, doubt, "it is used as it is", is_note=True)


def _orphans(cohort: Cohort) -> Iterator[Problem]:
    """Lesions of scans that the data set does not have."""
    scan_ids = {scan.scan_id for scan in cohort.scans}
    for lesion in cohort.lesions:
        for name in {lesion.baseline, lesion.followup} - scan_ids:
            text = f"lesion {lesion.lesion_id} names it, but the data set has no such scan"
            yield Problem(Path(name), text, "the lesion is left out")


def _with_points(
    cohort: Cohort, lesion: RawLesion, surveys: Mapping[str, ScanSurvey]
) -> tuple[RawLesion | None, list[Problem]]:
    """A lesion with its given points or else the centres of its masks; None if points are missing."""
    baseline, followup = cohort.scan(lesion.baseline), cohort.scan(lesion.followup)
    before, after = surveys[lesion.baseline], surveys[lesion.followup]
    problems: list[Problem] = []
    own = before.by_id.get(lesion.lesion_id)
    targets = [after.by_id[number] for number in lesion.followup_ids]
    largest = max(targets, key=lambda target: target.voxels, default=None)
    inside = partial(_point_inside, lesion.lesion_id, problems)
    b = inside("baseline point", lesion.baseline_point_xyz, baseline, before.geometry, own)
    f = inside("follow-up point", lesion.followup_point_xyz, followup, after.geometry, largest)
    p = inside("propagated point", lesion.propagated_point_xyz, followup, after.geometry, None)
    if b is None and own is not None:
        b = centre_xyz(before.geometry, own)
    if f is None and largest is not None:
        f = centre_xyz(after.geometry, largest)
    if b is None:
        text = f"lesion {lesion.lesion_id} has neither a point nor voxels"
        problems.append(Problem(baseline.labels or baseline.image, text, "the lesion is left out"))
        return None, problems
    if f is None and p is None:
        text = f"lesion {lesion.lesion_id} of {lesion.baseline} has vanished, and has no propagated point"
        is_note = not cohort.lesions  # labelmaps alone cannot give one
        file = followup.labels or followup.image
        problems.append(Problem(file, text, "without a prompt it is left out", is_note))
        return None, problems
    if own is None:
        text = f"lesion {lesion.lesion_id} is followed from {lesion.baseline}, which does not show it"
        rest = "its baseline mask is empty, and its baseline point the propagated one"
        problems.append(Problem(baseline.labels or baseline.image, text, rest, is_note=True))
    return replace(lesion, baseline_point_xyz=b, followup_point_xyz=f, propagated_point_xyz=p), problems


def _point_inside(
    lesion_id: int,
    problems: list[Problem],
    noun: str,
    point: Vector | None,
    scan: RawScan,
    grid: Geometry,
    lesion: SurveyedLesion | None,
) -> Vector | None:
    """The point if it lies inside of its scan, otherwise None and a problem; None if none was given."""
    if point is None:
        return None
    file, subject = scan.labels or scan.image, f"the {noun} {format_point(point)} of lesion {lesion_id}"
    if grid.depth_mm(flip_order(point)) < 0:
        text = f"{subject} lies outside; expected it within the scan's {grid.size_xyz} voxels"
        problems.append(Problem(file, text, "the point is not used"))
        return None
    if lesion is not None and (distance := _distance_mm(grid, point, lesion)) > _FAR_MM:
        text = f"{subject} lies {distance:.0f} mm from its voxels; expected x, y, z in voxels"
        problems.append(Problem(file, text, "it is used as it is", is_note=True))
    return point


def _distance_mm(grid: Geometry, point_xyz: Vector, lesion: SurveyedLesion) -> float:
    """Distance from a point of the file to a lesion's bounding box."""
    axes = grid.axial_map()
    point = np.asarray(axes.point(flip_order(point_xyz), grid.shape_zyx))
    low, high = np.asarray(lesion.start_zyx), np.asarray(lesion.stop_zyx) - 1
    outside = np.maximum(np.maximum(low - point, point - high), 0) * axes.triple(grid.spacing_zyx)
    return float(np.linalg.norm(outside))


def centre_xyz(grid: Geometry, lesion: SurveyedLesion) -> Vector:
    """Convert a lesion's centre to the file's axes.

    Args:
        grid: geometry of the scan's file.
        lesion: the lesion, on the axial grid.

    Returns:
        Voxel index (x, y, z) of the file.
    """
    axes = grid.axial_map()
    z, y, x = axes.inverse().point(lesion.centre_zyx, axes.triple(grid.shape_zyx))
    return (x, y, z)


def _empty_masks(
    cohort: Cohort, surveys: Mapping[str, ScanSurvey], kept: Sequence[RawLesion]
) -> Iterator[Problem]:
    """Scans without lesions: a fault in a mere baseline; in a follow-up all lesions may have vanished."""
    linked = {(one.baseline, one.followup) for one in cohort.lesions}
    linked |= {(one.baseline, one.followup) for one in cohort.pairs}
    baselines, followups = {before for before, _ in linked}, {after for _, after in linked}
    for scan in cohort.scans:
        name = scan.scan_id
        if surveys[name].faults or surveys[name].lesions:
            continue
        vanished = sum(lesion.followup == name for lesion in kept)
        followed = sum(lesion.baseline == name for lesion in kept)
        rest = [f"{_count(vanished)} absent there"] if name in followups else []
        if followed:
            rest.append(f"{_count(followed)} followed from a propagated point")
        elif name in baselines:
            rest.append("it shows no lesion to follow")
        is_note = name in followups or name not in baselines
        consequence = ", and ".join(rest) or "no lesion is followed from or to it"
        yield Problem(scan.labels or scan.image, "is empty; expected lesions", consequence, is_note)


def _count(lesions: int) -> str:
    return "1 lesion is" if lesions == 1 else f"{lesions} lesions are"


def _orientations(
    cohort: Cohort, lesions: Sequence[RawLesion], surveys: Mapping[str, ScanSurvey]
) -> Iterator[Problem]:
    """Notes on grids that are turned or tilted; they are processed as at inference."""
    for scan in cohort.scans:
        grid = surveys[scan.scan_id].geometry
        axes = grid.axial_map()
        if not axes.is_identity:
            text = "its slices do not run along the patient's axis"
            yield Problem(scan.image, text, "its axes are reordered, as at inference", is_note=True)
        if (tilt := _tilt_degrees(grid.in_axial_order())) > _TILT_DEGREES:
            text = f"its grid is tilted by {tilt:.0f} degrees"
            yield Problem(scan.image, text, "its axes are taken as they are, as at inference", is_note=True)
    for before, after in sorted({(lesion.baseline, lesion.followup) for lesion in lesions}):
        one, other = (surveys[name].geometry for name in (before, after))
        if one.in_axial_order().axis_signs_zyx() != other.in_axial_order().axis_signs_zyx():
            text = f"its axes run against those of {after}"
            yield Problem(cohort.scan(before).image, text, "it is turned, as at inference", is_note=True)


def _tilt_degrees(grid: Geometry) -> float:
    """The largest angle between an axis of an axial grid and its world axis."""
    diagonal = np.abs(np.diag(np.asarray(grid.direction).reshape(3, 3)))
    return float(np.degrees(np.arccos(np.clip(diagonal.min(), 0, 1))))


def _unused(cohort: Cohort, used: set[str]) -> Iterator[Problem]:
    for scan in cohort.scans:
        if scan.scan_id not in used:
            text = f"scan {scan.scan_id} has no lesion with a counterpart in another scan"
            yield Problem(scan.image, text, "it is not prepared", is_note=True)
