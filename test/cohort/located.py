"""Points of the lesions of a pair of scans as step 1 of `segment` finds them: by registration alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import model as ll
from model.case.case import Case, TimePoint, TimePointName
from model.case.geometry import Vector
from model.inference.lazy_backend import LazyBackend
from model.inference.locate import Locator
from model.propagation.pair_registrations import RegistrationCache


def located(
    baseline: Path, followup: Path, clicks_xyz: Mapping[int, Sequence[float]], backend: str
) -> dict[int, Vector]:
    """Locate lesions in a follow-up in which none is clicked.

    Args:
        baseline: file of the CT in which the lesions are known.
        followup: file of the other CT.
        clicks_xyz: lesion -> voxel index (x, y, z) of the baseline's file.
        backend: registration back end.

    Returns:
        Lesion -> voxel index (x, y, z) of the follow-up's file, without those that it does not show.
    """
    clicks = {lesion: tuple(point)[::-1] for lesion, point in clicks_xyz.items()}
    before = _named(ll.read_scan(baseline, clicks=clicks), TimePointName.BASELINE)
    after = _named(ll.read_scan(followup), TimePointName.FOLLOWUP)
    case = Case(TimePoint(TimePointName.BASELINE, (before,)), TimePoint(TimePointName.FOLLOWUP, (after,)))
    prompts = Locator(case, RegistrationCache(LazyBackend(backend, "cpu"))).locate().prompts
    return {one.lesion_id: after.file_point_xyz(one.followup_point.point_zyx) for one in prompts}


def _named(scan: ll.Scan, name: TimePointName) -> ll.Scan:
    return replace(scan, time_point=name)
