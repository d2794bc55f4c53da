"""A lesion of two scans as data sets and tracking files list it, before any image is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from .geometry import Vector


@dataclass(frozen=True, slots=True)
class RawLesion:
    """A lesion of a baseline and its counterpart in a follow-up.

    Points are voxel indices (x, y, z) of the scan's own file, None if not given.

    Attributes:
        lesion_id: id in the baseline's labelmap.
        baseline: scan id of the baseline.
        followup: scan id of the follow-up.
        followup_ids: ids in the follow-up's labelmap: its own as a rule, several if it has split, that of
            another lesion if both have merged, () if it has vanished.
        baseline_point_xyz: its point in the baseline.
        followup_point_xyz: its true point in the follow-up.
        propagated_point_xyz: its baseline point as a registration propagated it to the follow-up.
    """

    lesion_id: int
    baseline: str
    followup: str
    followup_ids: tuple[int, ...]
    baseline_point_xyz: Vector | None = None
    followup_point_xyz: Vector | None = None
    propagated_point_xyz: Vector | None = None

    @property
    def points_xyz(self) -> tuple[Vector | None, Vector | None, Vector | None]:
        """Baseline, true and propagated follow-up point, voxel indices (x, y, z)."""
        return (self.baseline_point_xyz, self.followup_point_xyz, self.propagated_point_xyz)
