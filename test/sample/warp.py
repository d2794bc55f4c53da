"""The known deformation between the two scans of the sample case.

All points are arrays (..., 3) of world coordinates, x, y, z in mm (LPS). Maps go from the follow-up to the
baseline, which is the direction in which an image is resampled: `to_baseline(q)` says where in the baseline
the tissue at q came from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

# Patient lies elsewhere on the couch and slightly turned; the scanner's world does not move with the patient.
COUCH_XYZ_MM = (17.0, -14.0, 29.0)
TURN_XYZ_DEGREES = (1.5, -2.0, 3.5)

# Deeper breath: (offset of the centre from the nodule, reach, pull), each x, y, z in mm. The first takes the
# nodule down and forward. The other two, elsewhere and with other directions, keep an affine map from
# explaining the first.
BREATH_XYZ_MM = (
    ((4.0, 4.0, -8.0), (42.0, 42.0, 42.0), (2.5, 3.6, 8.9)),
    ((125.0, 25.0, -35.0), (40.0, 45.0, 40.0), (-2.0, -3.5, -4.0)),
    ((40.0, 60.0, -80.0), (60.0, 55.0, 35.0), (1.0, 2.5, -4.5)),
)

# Growth: uniform scaling up to the inner radius (the whole lesion, so that its shape and HU stay), fading to
# none at the outer.
GROWTH_SCALE = 1.29
GROWTH_INNER_MM = 13.0
GROWTH_OUTER_MM = 33.0


@dataclass(frozen=True)
class Warp:
    """Follow-up to baseline: undo the couch (rigid), then the breath (smooth), then the growth (radial)."""

    nodule_xyz_mm: Points  # centre of the nodule in the baseline
    turn_about_xyz_mm: Points  # centre of rotation, in the baseline

    def couch(self, points_xyz_mm: Points) -> Points:
        """Baseline-frame points to where the couch offset and the turn put them in the follow-up's world."""
        about = self.turn_about_xyz_mm
        turned = (points_xyz_mm - about) @ rotation(TURN_XYZ_DEGREES).T
        return turned + about + np.asarray(COUCH_XYZ_MM, np.float64)

    def undo_couch(self, points_xyz_mm: Points) -> Points:
        """Inverse of `couch`."""
        about = self.turn_about_xyz_mm
        offset = points_xyz_mm - about - np.asarray(COUCH_XYZ_MM, np.float64)
        return offset @ rotation(TURN_XYZ_DEGREES) + about

    def breath(self, points_xyz_mm: Points) -> Points:
        """Points with the couch undone -> points with the breath undone: a sum of Gaussian pulls."""
        moved = points_xyz_mm.copy()
        for offset, reach, pull in BREATH_XYZ_MM:
            centre = self.nodule_xyz_mm + np.asarray(offset)
            distance2 = (((points_xyz_mm - centre) / np.asarray(reach)) ** 2).sum(axis=-1)
            moved += np.exp(-0.5 * distance2)[..., None] * np.asarray(pull)
        return moved

    def growth(self, points_xyz_mm: Points) -> Points:
        """Points with the breath undone -> baseline points: drawn in towards the nodule's centre."""
        arm = points_xyz_mm - self.nodule_xyz_mm
        radius = np.sqrt((arm**2).sum(axis=-1))
        fade = np.clip((radius - GROWTH_INNER_MM) / (GROWTH_OUTER_MM - GROWTH_INNER_MM), 0.0, 1.0)
        # Quintic step: two continuous derivatives, so that neither end shows as an edge in the image.
        strength: Points = 1.0 - fade**3 * (fade * (6.0 * fade - 15.0) + 10.0)
        return self.nodule_xyz_mm + arm * (1.0 - (1.0 - 1.0 / GROWTH_SCALE) * strength)[..., None]

    def to_baseline(self, points_xyz_mm: Points) -> Points:
        """Follow-up points to baseline points."""
        return self.growth(self.breath(self.undo_couch(points_xyz_mm)))

    def nodule_without_couch(self) -> Points:
        """Position of the nodule without the couch offset, (3,) LPS mm: `breath` maps it to the centre."""
        point = self.nodule_xyz_mm.copy()
        for _ in range(100):  # a contraction, as the breath's gradient stays far below one
            point = point - (self.breath(point) - self.nodule_xyz_mm)
        return point

    def nodule_in_followup(self) -> Points:
        """Centre of the nodule in the follow-up, (3,) LPS mm."""
        return self.couch(self.nodule_without_couch())


def rotation(angles_xyz_degrees: tuple[float, float, float]) -> Points:
    """Rotation matrix (3, 3) about x, then y, then z."""
    a, b, c = np.radians(angles_xyz_degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    matrix: Points = about_z @ about_y @ about_x
    return matrix


def jacobian_determinant(mapped_xyz_mm: Points, spacing_xyz_mm: tuple[float, float, float]) -> Points:
    """Determinant of a map's derivative, (z, y, x), from a grid's mapped points (z, y, x, 3)."""
    columns = [np.gradient(mapped_xyz_mm, spacing_xyz_mm[k], axis=2 - k) for k in range(3)]
    x, y, z = columns
    return np.asarray((np.cross(x, y) * z).sum(axis=-1))


def beyond_linear_mm(warp: Warp, points_xyz_mm: Points, *, affine: bool) -> float:
    """Error (mm) at the nodule of the best rigid or affine map, fitted to all the points (n, 3)."""
    target = warp.to_baseline(points_xyz_mm)
    mean, target_mean = points_xyz_mm.mean(axis=0), target.mean(axis=0)
    if affine:
        linear, *_ = np.linalg.lstsq(points_xyz_mm - mean, target - target_mean, rcond=None)
    else:  # Kabsch
        u, _, vt = np.linalg.svd((points_xyz_mm - mean).T @ (target - target_mean))
        linear = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    guess = (warp.nodule_in_followup() - mean) @ linear + target_mean
    return float(np.linalg.norm(guess - warp.nodule_xyz_mm))
