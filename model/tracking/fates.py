"""What became of each lesion in one scan: there, gone, grown into another, fallen apart, out of sight.

The rules are asked in this order: failed and out of the field of view (as told), vanished, merged, new,
split, persistent; what is new has never vanished. They judge; they do not change the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree
from scipy.spatial.distance import pdist

from ..case.case import LesionResult, MaskPrompt
from ..case.geometry import Box, FloatArray, Vector
from ..errors import InputError
from ..inference.combine import overlap_voxels
from ..inference.components import BoolArray, label_components


class LesionFate(StrEnum):
    """One word for each lesion of a time point."""

    NEW = "new"  # it has no baseline
    PERSISTENT = "persistent"
    VANISHED = "vanished"
    MERGED = "merged"
    SPLIT = "split"
    OUT_OF_VIEW = "out-of-view"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FateOptions:
    """When a lesion is gone, merged or split. A rule that is None is not asked.

    An answer without any voxel has always vanished. The rules that are on by default only catch what no
    reader would call a lesion; those that depend on the organ or on a trial's criteria are off.

    Args:
        min_probability: vanished if no voxel reaches it. Every answered voxel lies above one half; one whose
            surest voxel stays below 0.6 is an answer on the edge.
        min_mean_probability: vanished if the mean over its voxels is lower. Off.
        min_volume_ml: vanished if smaller. 0.01 ml is a ball of 2.7 mm, two voxels of 1 x 1 x 5 mm.
        min_diameter_mm: vanished if its longest diameter within an axial slice is shorter, measured over
            the voxels' outer corners. Off (10 mm is what RECIST calls measurable).
        hu_window: vanished if the mean HU over its voxels lies outside of (lowest, highest). Off, since a
            lesion of the lung, the liver and the bone differ by more than any window.
        merged_overlap: two lesions are merged if they share at least this much of the smaller one's voxels.
        min_piece_ml: the least volume of a piece that counts when a lesion falls apart; 0.05 ml is a ball of
            4.6 mm.
        min_piece_share: the least share of the lesion's volume that a piece must have.
        reach_mm: a piece counts only if it begins no further from where the lesion is expected, if that is
            known. 10 mm allow for the error of registration.

    Raises:
        InputError: a value out of its range.
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
            raise InputError("merged_overlap 0: expected more than 0, or none")
        if self.hu_window is not None and not self.hu_window[0] < self.hu_window[1]:
            raise InputError(f"HU window {self.hu_window}: expected the lower value first")


@dataclass(frozen=True, slots=True)
class FateAssessment:
    """What became of a lesion, with a short sentence of why.

    ``merged_with`` holds the ids of the other lesions in its mass, ``pieces`` in how many pieces it is seen
    (0 when it is not).
    """

    fate: LesionFate
    reason: str
    merged_with: tuple[int, ...] = ()
    pieces: int = 1


def fates(
    results: Sequence[LesionResult],
    options: FateOptions | None = None,
    *,
    expected: Mapping[int, MaskPrompt] | None = None,
    out_of_view: Mapping[int, str] | None = None,
    failed: Mapping[int, str] | None = None,
) -> dict[int, FateAssessment]:
    """The fate of each lesion of one scan, by lesion id.

    Lesions are merged when their masks overlap; neighbours that only touch each other are not, however broad
    the contact: each was given voxels of its own. What overlaps in a chain is one mass. A lesion that has
    vanished is neither merged nor split. A new lesion without a voxel is still called new, with the reason.

    Args:
        results: the answers on one scan's grid, each lesion once.
        expected: where lesions are expected in this scan (a baseline mask carried over); for those without
            it is the prompt's own ``followup_mask``.
        out_of_view: reasons of lesions whose point no part of the scan shows.
        failed: reasons of lesions that could not be computed.

    Raises:
        ValueError: a lesion id stands twice in the results.
    """
    options = options or FateOptions()
    found: dict[int, FateAssessment] = {}
    for lesion_id, reason in (out_of_view or {}).items():
        found[lesion_id] = FateAssessment(LesionFate.OUT_OF_VIEW, reason, pieces=0)
    for lesion_id, reason in (failed or {}).items():
        found[lesion_id] = FateAssessment(LesionFate.FAILED, reason, pieces=0)

    by_id = {result.prompt.lesion_id: result for result in results}
    if len(by_id) < len(results):
        raise ValueError("a lesion id stands twice in the results of one scan")
    gone = {lesion_id: _why_vanished(result, options) for lesion_id, result in by_id.items()}
    seen = {lesion_id: result for lesion_id, result in by_id.items() if gone[lesion_id] is None}
    overlaps = _overlaps(seen, options.merged_overlap)
    for lesion_id, result in by_id.items():
        why = gone[lesion_id]
        if why is not None:
            found[lesion_id] = _unseen(result, why)
        else:
            place = (expected or {}).get(lesion_id, result.prompt.followup_mask)
            found[lesion_id] = _seen(result, overlaps, place, options)
    return found


def _unseen(result: LesionResult, reason: str) -> FateAssessment:
    if result.prompt.is_new:
        return FateAssessment(LesionFate.NEW, f"a new lesion, but {reason}", pieces=0)
    return FateAssessment(LesionFate.VANISHED, reason, pieces=0)


def _seen(
    result: LesionResult,
    overlaps: Mapping[tuple[int, int], float],
    expected: MaskPrompt | None,
    options: FateOptions,
) -> FateAssessment:
    lesion_id = result.prompt.lesion_id
    volumes_ml = _pieces_ml(result, expected, options)
    pieces = max(1, len(volumes_ml))
    others = _mass(lesion_id, overlaps)
    if others:
        return FateAssessment(LesionFate.MERGED, _why_merged(lesion_id, others, overlaps), others, pieces)
    if result.prompt.is_new:
        return FateAssessment(
            LesionFate.NEW, f"no baseline shows it; {_volume_ml(result):.3g} ml", pieces=pieces
        )
    if pieces > 1:
        listed = ", ".join(f"{volume:.3g}" for volume in volumes_ml)
        return FateAssessment(LesionFate.SPLIT, f"{pieces} pieces of {listed} ml", pieces=pieces)
    return FateAssessment(LesionFate.PERSISTENT, f"still there; {_volume_ml(result):.3g} ml", pieces=pieces)


def _why_vanished(result: LesionResult, options: FateOptions) -> str | None:
    """The first rule by which a lesion is gone; None while it is there."""
    mask = result.mask
    if not mask.any():
        return "no voxel was found"
    values = result.probability[mask]
    highest, average = float(values.max()), float(values.mean(dtype=np.float64))
    if options.min_probability is not None and highest < options.min_probability:
        return f"its highest probability {highest:.2f} is below {options.min_probability:g}"
    if options.min_mean_probability is not None and average < options.min_mean_probability:
        return f"its mean probability {average:.2f} is below {options.min_mean_probability:g}"
    volume_ml = _volume_ml(result)
    if options.min_volume_ml is not None and volume_ml < options.min_volume_ml:
        return f"its volume of {volume_ml:.2g} ml is below {options.min_volume_ml:g} ml"
    if options.min_diameter_mm is not None:
        diameter_mm = longest_diameter_mm(mask, result.prompt.followup.geometry.spacing_zyx)
        if diameter_mm < options.min_diameter_mm:
            return f"its longest diameter of {diameter_mm:.1f} mm is below {options.min_diameter_mm:g} mm"
    return _why_not_by_hu(result, options.hu_window)


def _why_not_by_hu(result: LesionResult, window: tuple[float, float] | None) -> str | None:
    if window is None:
        return None
    hu = result.prompt.followup.ct[result.box.slices][result.mask]
    finite = hu[np.isfinite(hu)]
    if not finite.size:
        return None  # nothing to judge by
    average = float(finite.mean(dtype=np.float64))
    if window[0] <= average <= window[1]:
        return None
    return f"its mean of {average:.0f} HU lies outside of {window[0]:g} to {window[1]:g} HU"


def longest_diameter_mm(mask: BoolArray, spacing_zyx: Vector) -> float:
    """The longest distance within an axial slice between outer corners of a mask's voxels; 0 when empty.

    Args:
        mask: booleans (z, y, x).
    """
    return max((_slice_diameter_mm(plane, spacing_zyx) for plane in mask if plane.any()), default=0.0)


def _slice_diameter_mm(plane: npt.NDArray[np.bool_], spacing_zyx: Vector) -> float:
    """Only the ends of each row can be the ends of the longest line."""
    rows = np.flatnonzero(plane.any(axis=1))
    first = plane[rows].argmax(axis=1)
    last = plane.shape[1] - plane[rows][:, ::-1].argmax(axis=1)
    corners = [np.stack([rows + edge, ends], axis=1) for edge in (0, 1) for ends in (first, last)]
    points = np.unique(np.concatenate(corners), axis=0) * np.asarray(spacing_zyx[1:])
    return float(pdist(points).max())


def _volume_ml(result: LesionResult) -> float:
    return int(np.count_nonzero(result.mask)) * result.prompt.followup.geometry.voxel_volume_ml


def _overlaps(results: Mapping[int, LesionResult], least: float | None) -> dict[tuple[int, int], float]:
    """Of each two lesions that are merged (lower id first): the shared part of the smaller one."""
    if least is None:
        return {}
    sizes = {lesion_id: int(np.count_nonzero(result.mask)) for lesion_id, result in results.items()}
    shares = {
        (one, other): overlap_voxels(results[one], results[other]) / min(sizes[one], sizes[other])
        for one, other in combinations(sorted(results), 2)
    }
    return {pair: share for pair, share in shares.items() if share >= least}


def _mass(lesion_id: int, overlaps: Mapping[tuple[int, int], float]) -> tuple[int, ...]:
    """The other lesions that hang together with one, over any number of steps; ids rising."""
    mass, todo = {lesion_id}, [lesion_id]
    while todo:
        current = todo.pop()
        near = {other for pair in overlaps if current in pair for other in pair} - mass
        mass |= near
        todo.extend(near)
    return tuple(sorted(mass - {lesion_id}))


def _why_merged(lesion_id: int, others: Sequence[int], overlaps: Mapping[tuple[int, int], float]) -> str:
    shares = {other: overlaps.get((min(lesion_id, other), max(lesion_id, other)), 0.0) for other in others}
    closest = max(shares, key=lambda other: shares[other])
    further = [str(other) for other in others if other != closest]
    text = f"it overlaps lesion {closest} ({100 * shares[closest]:.0f} % of the smaller one)"
    return f"{text}; one mass with {', '.join(further)}" if further else text


def _pieces_ml(result: LesionResult, expected: MaskPrompt | None, options: FateOptions) -> list[float]:
    """The volumes of the pieces that count, the largest first."""
    labels, count = label_components(result.mask)
    voxel_ml = result.prompt.followup.geometry.voxel_volume_ml
    volumes_ml = np.bincount(labels.ravel(), minlength=count + 1) * voxel_ml
    volumes_ml[0] = 0.0
    least_ml = max(options.min_piece_ml, options.min_piece_share * float(volumes_ml.sum()))
    large = [int(label) for label in np.flatnonzero(volumes_ml >= least_ml) if label]
    if len(large) > 1 and expected is not None and options.reach_mm is not None and expected.voxels.any():
        spacing = result.prompt.followup.geometry.spacing_zyx
        target = KDTree(_surface_mm(expected.voxels, expected.box, spacing))
        large = [
            label
            for label in large
            if _is_near(labels == label, result.box, expected, target, spacing, options.reach_mm)
        ]
    return sorted((float(volumes_ml[label]) for label in large), reverse=True)


def _is_near(
    piece: BoolArray, box: Box, expected: MaskPrompt, target: KDTree, spacing_zyx: Vector, reach_mm: float
) -> bool:
    """Whether a piece overlaps the expected mask or comes within reach of it."""
    common = box.intersection(expected.box)
    if not common.is_empty:
        mine = piece[common.relative_to(box).slices]
        if (mine & expected.voxels[common.relative_to(expected.box).slices]).any():
            return True
    distances, _ = target.query(_surface_mm(piece, box, spacing_zyx), distance_upper_bound=2 * reach_mm + 1)
    return bool(np.min(distances) <= reach_mm)


def _surface_mm(mask: BoolArray, box: Box, spacing_zyx: Vector) -> FloatArray:
    """The voxels (N, 3) at a mask's surface, in mm along the axes of the grid."""
    padded = np.pad(mask, 1)
    surface = np.argwhere((padded & ~binary_erosion(padded))[1:-1, 1:-1, 1:-1])
    return np.asarray((surface + np.asarray(box.start_zyx)) * np.asarray(spacing_zyx), np.float64)
