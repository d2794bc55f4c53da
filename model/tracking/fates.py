"""Assess the fate of each lesion in one scan: persistent, vanished, merged, split, new, not found, …

The rules are applied in this order: failed and out of view (as given), vanished or not found, merged, new,
split, persistent. A lesion that was given as new is never vanished: without a voxel it was not found, and has
not been seen at any time point. The same holds of a lesion that no time point so far has shown. Results are
not changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np

from ..case.case import LesionResult, MaskPrompt
from ..errors import InputError
from ..inference.combine import overlap_voxels
from ..measure.diameters import axial_diameters
from .fate_measures import lesion_volume_ml, piece_volumes_ml


class LesionFate(StrEnum):
    """Fate of a lesion at a time point."""

    NEW = "new"  # without a baseline
    PERSISTENT = "persistent"
    VANISHED = "vanished"
    MERGED = "merged"
    SPLIT = "split"
    NOT_FOUND = "not-found"  # without a voxel, and never seen
    OUT_OF_VIEW = "out-of-view"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FateOptions:
    """Criteria for vanished, merged and split lesions; None switches a criterion off.

    A lesion without any voxel has always vanished. The criteria that are on by default only catch what no
    reader would call a lesion; those that depend on the organ or on a trial's definitions are off.

    Args:
        min_probability: vanished if no voxel reaches it. All voxels of a result lie above one half; if none
            reaches 0.6, the result is doubtful.
        min_mean_probability: vanished if the mean over its voxels is lower. Off.
        min_volume_ml: vanished if smaller. 0.01 ml is a ball of 2.7 mm, two voxels of 1 x 1 x 5 mm.
        min_diameter_mm: vanished if its longest diameter within an axial slice (`measure.diameters`) is
            shorter. Off (RECIST calls 10 mm measurable).
        hu_window: vanished if the mean HU over its voxels lies outside (lowest, highest). Off, as lesions of
            lung, liver and bone differ by more than any window.
        merged_overlap: two lesions are merged if they share at least this fraction of the smaller one's
            voxels.
        min_piece_ml: minimum volume of a piece of a split lesion; 0.05 ml is a ball of 4.6 mm.
        min_piece_share: minimum fraction of the lesion's volume of a piece.
        reach_mm: maximum distance of a piece from the expected lesion, if that is known. 10 mm allow for the
            registration error.

    Raises:
        InputError: a value is out of range.
    """

    min_probability: float | None = 0.6
    min_mean_probability: float | None = None
    min_volume_ml: float | None = 0.01
    min_diameter_mm: float | None = None
    hu_window: tuple[float, float] | None = None
    merged_overlap: float | None = 0.5
    min_piece_ml: float = 0.05
    min_piece_share: float = 0.1
    reach_mm: float | None = 10.0

    def __post_init__(self) -> None:
        shares = {
            "min_probability": self.min_probability,
            "min_mean_probability": self.min_mean_probability,
            "merged_overlap": self.merged_overlap,
            "min_piece_share": self.min_piece_share,
        }
        for name, value in shares.items():
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name} {value:g}: expected 0 to 1")
        if self.merged_overlap == 0:
            raise InputError("merged_overlap 0: expected more than 0, or None")
        if self.hu_window is not None and not self.hu_window[0] < self.hu_window[1]:
            raise InputError(f"HU window {self.hu_window}: expected the lower value first")


@dataclass(frozen=True, slots=True)
class FateAssessment:
    """Fate of a lesion, with the reason in words.

    Attributes:
        merged_with: ids of the other lesions in its mass.
        pieces: number of pieces; 0 if it has no voxel.
    """

    fate: LesionFate
    reason: str
    merged_with: tuple[int, ...] = ()
    pieces: int = 1


def assess_fates(
    results: Sequence[LesionResult],
    options: FateOptions | None = None,
    *,
    expected: Mapping[int, MaskPrompt] | None = None,
    masses: Mapping[int, Sequence[int]] | None = None,
    unseen: Collection[int] = (),
    out_of_view: Mapping[int, str] | None = None,
    failed: Mapping[int, str] | None = None,
) -> dict[int, FateAssessment]:
    """Assess the fate of each lesion of one scan.

    Lesions are merged if their masks overlap; neighbours that only touch are not. Lesions that overlap in a
    chain are one mass. Lesions that were one mass before and are apart now are split, as are lesions in
    several pieces. A vanished lesion is neither merged nor split. A lesion given as new that is doubtful by
    the criteria of vanished ones is new, with the reason; without a voxel it was not found.

    Args:
        results: results on one scan's grid, at most one per lesion.
        expected: lesion id -> expected lesion in this scan (a propagated baseline mask); by default the
            prompt's ``followup_mask``.
        masses: lesion id -> ids of the other lesions with which it was one mass where it was seen last.
        unseen: ids of lesions that were given before, and that no time point so far has shown.
        out_of_view: lesion id -> reason, of lesions outside the scan's field of view.
        failed: lesion id -> reason, of lesions that could not be segmented.

    Returns:
        Lesion id -> fate.

    Raises:
        ValueError: a lesion id appears twice in the results.
    """
    options = options or FateOptions()
    assessments: dict[int, FateAssessment] = {}
    for lesion_id, reason in (out_of_view or {}).items():
        assessments[lesion_id] = FateAssessment(LesionFate.OUT_OF_VIEW, reason, pieces=0)
    for lesion_id, reason in (failed or {}).items():
        assessments[lesion_id] = FateAssessment(LesionFate.FAILED, reason, pieces=0)

    by_id = {result.prompt.lesion_id: result for result in results}
    if len(by_id) < len(results):
        raise ValueError("a lesion id appears twice in the results of one scan")
    reasons = {lesion_id: _vanished_reason(result, options) for lesion_id, result in by_id.items()}
    visible = {lesion_id: result for lesion_id, result in by_id.items() if reasons[lesion_id] is None}
    overlaps = _overlaps(visible, options.merged_overlap)
    for lesion_id, result in by_id.items():
        vanished_reason = reasons[lesion_id]
        if vanished_reason is not None:
            assessments[lesion_id] = _vanished(result, vanished_reason, lesion_id in unseen)
        else:
            expected_mask = (expected or {}).get(lesion_id, result.prompt.followup_mask)
            apart = [other for other in (masses or {}).get(lesion_id, ()) if other in visible]
            assessments[lesion_id] = _visible(result, overlaps, expected_mask, apart, options)
    return assessments


def _vanished(result: LesionResult, reason: str, is_unseen: bool) -> FateAssessment:
    if is_unseen:
        return FateAssessment(LesionFate.NOT_FOUND, f"{reason}, and no time point so far shows it", pieces=0)
    if result.prompt.is_new and not result.mask.any():
        return FateAssessment(LesionFate.NOT_FOUND, f"given as new here, but {reason}", pieces=0)
    if result.prompt.is_new:
        return FateAssessment(LesionFate.NEW, f"a new lesion, but doubtful: {reason}")
    return FateAssessment(LesionFate.VANISHED, reason, pieces=0)


def _visible(
    result: LesionResult,
    overlaps: Mapping[tuple[int, int], float],
    expected: MaskPrompt | None,
    mass_before: Sequence[int],
    options: FateOptions,
) -> FateAssessment:
    lesion_id = result.prompt.lesion_id
    volumes_ml = piece_volumes_ml(
        result, expected, options.min_piece_ml, options.min_piece_share, options.reach_mm
    )
    pieces = max(1, len(volumes_ml))
    others = _mass(lesion_id, overlaps)
    if others:
        return FateAssessment(LesionFate.MERGED, _merged_reason(lesion_id, others, overlaps), others, pieces)
    if result.prompt.is_new:
        return FateAssessment(
            LesionFate.NEW, f"no baseline shows it; {lesion_volume_ml(result):.3g} ml", pieces=pieces
        )
    reasons = []
    if mass_before:
        reasons.append(f"apart from {_listed(mass_before)}, with which it was one mass before")
    if pieces > 1:
        listed = ", ".join(f"{volume:.3g}" for volume in volumes_ml)
        reasons.append(f"{pieces} pieces of {listed} ml")
    if reasons:
        return FateAssessment(LesionFate.SPLIT, "; ".join(reasons), pieces=pieces)
    return FateAssessment(
        LesionFate.PERSISTENT, f"still there; {lesion_volume_ml(result):.3g} ml", pieces=pieces
    )


def _listed(lesion_ids: Sequence[int]) -> str:
    return f"lesion{'s' if len(lesion_ids) > 1 else ''} {', '.join(map(str, lesion_ids))}"


def _vanished_reason(result: LesionResult, options: FateOptions) -> str | None:
    """The first criterion that makes a lesion count as vanished, or None."""
    mask = result.mask
    if not mask.any():
        return "no voxel was found"
    values = result.probability[mask]
    highest, average = float(values.max()), float(values.mean(dtype=np.float64))
    if options.min_probability is not None and highest < options.min_probability:
        return f"its highest probability {highest:.2f} is below {options.min_probability:g}"
    if options.min_mean_probability is not None and average < options.min_mean_probability:
        return f"its mean probability {average:.2f} is below {options.min_mean_probability:g}"
    volume_ml = lesion_volume_ml(result)
    if options.min_volume_ml is not None and volume_ml < options.min_volume_ml:
        return f"its volume of {volume_ml:.2g} ml is below {options.min_volume_ml:g} ml"
    if options.min_diameter_mm is not None:
        axial = axial_diameters(mask, result.prompt.followup.geometry.spacing_zyx)
        diameter_mm = axial.long.length_mm if axial is not None else 0.0
        if diameter_mm < options.min_diameter_mm:
            return f"its longest diameter of {diameter_mm:.1f} mm is below {options.min_diameter_mm:g} mm"
    return _hu_reason(result, options.hu_window)


def _hu_reason(result: LesionResult, window: tuple[float, float] | None) -> str | None:
    if window is None:
        return None
    hu = result.prompt.followup.ct[result.box.slices][result.mask]
    finite = hu[np.isfinite(hu)]
    if not finite.size:
        return None
    average = float(finite.mean(dtype=np.float64))
    if window[0] <= average <= window[1]:
        return None
    return f"its mean of {average:.0f} HU lies outside of {window[0]:g} to {window[1]:g} HU"


def _overlaps(results: Mapping[int, LesionResult], least: float | None) -> dict[tuple[int, int], float]:
    """Pairs of merged lesions (lower id first) -> shared fraction of the smaller one."""
    if least is None:
        return {}
    sizes = {lesion_id: int(np.count_nonzero(result.mask)) for lesion_id, result in results.items()}
    shares = {
        (one, other): overlap_voxels(results[one], results[other]) / min(sizes[one], sizes[other])
        for one, other in combinations(sorted(results), 2)
    }
    return {pair: share for pair, share in shares.items() if share >= least}


def _mass(lesion_id: int, overlaps: Mapping[tuple[int, int], float]) -> tuple[int, ...]:
    """Ids of the other lesions connected with one by overlaps, in any number of steps, in ascending order."""
    mass, todo = {lesion_id}, [lesion_id]
    while todo:
        current = todo.pop()
        near = {other for pair in overlaps if current in pair for other in pair} - mass
        mass |= near
        todo.extend(near)
    return tuple(sorted(mass - {lesion_id}))


def _merged_reason(lesion_id: int, others: Sequence[int], overlaps: Mapping[tuple[int, int], float]) -> str:
    shares = {other: overlaps.get((min(lesion_id, other), max(lesion_id, other)), 0.0) for other in others}
    closest = max(shares, key=lambda other: shares[other])
    further = [str(other) for other in others if other != closest]
    text = f"it overlaps lesion {closest} ({100 * shares[closest]:.0f} % of the smaller one)"
    return f"{text}; one mass with {', '.join(further)}" if further else text
