"""Pairs of prepared scans: their lesions with points on the prepared grids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..case.geometry import Geometry, Vector
from ..case.raw_lesion import RawLesion
from ..errors import InputError
from ..network.patches import NetworkGrid
from .dataset import Cohort, Problem
from .prepared_grid import prepared_point
from .store import PairDocument, PreparedLesion, read_scan_document, scan_folder


def prepared_pairs(
    folder: Path, cohort: Cohort, geometries: Mapping[str, Geometry], grids: Mapping[str, NetworkGrid]
) -> tuple[tuple[PairDocument, ...], tuple[Problem, ...]]:
    """Collect all pairs of scans with their lesions, and the lesions lost in resampling.

    Args:
        folder: the prepared data set.
        cohort: a checked cohort, all of its scans prepared in the folder.
        geometries: geometries of the scans' files, by scan id.
        grids: grids that the scans were prepared on, by scan id.

    Returns:
        The pairs, and a problem for each lesion without a voxel left in its follow-up.
    """
    visible = {scan.scan_id: _visible_ids(folder, scan.scan_id) for scan in cohort.scans}
    by_pair: dict[tuple[str, str], list[PreparedLesion]] = {}
    problems: list[Problem] = []
    for lesion in cohort.lesions:
        ids = tuple(number for number in lesion.followup_ids if number in visible[lesion.followup])
        if lesion.followup_ids and not ids:
            scan = cohort.scan(lesion.followup)
            text = f"lesion {lesion.lesion_id} has no voxel left at the plan's spacing"
            problems.append(Problem(scan.labels or scan.image, text, "the lesion is left out"))
            continue
        baseline_point, followup_point, propagated_point = _prepared_points(lesion, geometries, grids)
        prepared = PreparedLesion(
            lesion_id=lesion.lesion_id,
            followup_ids=ids,
            baseline_point_zyx=baseline_point,
            followup_point_zyx=followup_point,
            propagated_point_zyx=propagated_point,
            has_baseline_mask=lesion.lesion_id in visible[lesion.baseline],
        )
        by_pair.setdefault((lesion.baseline, lesion.followup), []).append(prepared)
    pairs = tuple(
        _pair_document(cohort, baseline, followup, lesions)
        for (baseline, followup), lesions in sorted(by_pair.items())
    )
    return pairs, tuple(problems)


def _pair_document(
    cohort: Cohort, baseline: str, followup: str, lesions: list[PreparedLesion]
) -> PairDocument:
    return PairDocument(
        patient_id=cohort.scan(followup).patient_id,
        baseline=baseline,
        followup=followup,
        lesions=tuple(sorted(lesions, key=lambda lesion: lesion.lesion_id)),
    )


def _prepared_points(
    lesion: RawLesion, geometries: Mapping[str, Geometry], grids: Mapping[str, NetworkGrid]
) -> tuple[Vector, Vector | None, Vector | None]:
    """Baseline, true and propagated point (z, y, x) on the prepared grids."""

    def on_grid(scan_id: str, point: Vector | None) -> Vector | None:
        return None if point is None else prepared_point(point, geometries[scan_id], grids[scan_id])

    baseline = on_grid(lesion.baseline, lesion.baseline_point_xyz)
    if baseline is None:
        raise InputError(f"lesion {lesion.lesion_id} of {lesion.baseline}: has no point; expected one")
    true, propagated = lesion.followup_point_xyz, lesion.propagated_point_xyz
    return baseline, on_grid(lesion.followup, true), on_grid(lesion.followup, propagated)


def _visible_ids(folder: Path, scan_id: str) -> set[int]:
    document = read_scan_document(scan_folder(folder, scan_id))
    if document is None:
        raise InputError(f"{scan_folder(folder, scan_id)}: holds no prepared scan; expected one")
    return {lesion.lesion_id for lesion in document.lesions if lesion.voxels}
