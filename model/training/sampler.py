"""Draw training samples: a lesion, its two points and the two patches around them.

No image is read here, and a draw depends on nothing but the generator passed in. See docs/model_recipe.md,
Sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..case.geometry import Box, Index, Vector
from ..data.point_tables import LesionVoxels
from ..errors import InputError
from .config import TrainingConfig
from .data_source import LesionPair, Patients, ScanPair

# Of lesions that the plan's spacing has lost, or whose voxels are not stored.
_LEAST_RADIUS_MM = 1.0


@dataclass(frozen=True, eq=False)
class Draw:
    """A drawn lesion with its points and patches.

    Attributes:
        pair: the scans.
        lesion: the lesion; of the baseline's labels only its own is shown to the network.
        followup_point: voxel (z, y, x) of the prepared follow-up.
        baseline_point: voxel (z, y, x) of the prepared baseline.
        followup_patch: voxels of the follow-up; may reach beyond the image.
        baseline_patch: voxels of the baseline; the baseline point has the same place in it as the follow-up
            point in its patch. May reach beyond the image.
    """

    pair: ScanPair
    lesion: LesionPair
    followup_point: Index
    baseline_point: Index
    followup_patch: Box
    baseline_patch: Box

    @property
    def target_ids(self) -> tuple[int, ...]:
        """Labels of the follow-up that make up the target; empty for a vanished lesion."""
        return self.lesion.followup_ids

    @property
    def point_in_patch(self) -> Index:
        """The point's voxel (z, y, x) in its patch, the same in both patches."""
        z, y, x = (p - s for p, s in zip(self.followup_point, self.followup_patch.start_zyx, strict=True))
        return (z, y, x)


class Sampler:
    """Draws a patient, then one of its scan pairs, then one of the pair's lesions, each uniformly.

    With ``draw=pairs`` the pair is drawn first, so that patients with many pairs are drawn more often.
    """

    def __init__(self, patients: Patients, patch_size: Index, config: TrainingConfig) -> None:
        """Keep the lesions that the configured way of sampling can use.

        Args:
            patients: of a fold, to train or to validate on.
            patch_size: voxels (z, y, x) of the network's input.
            config: how to sample.

        Raises:
            InputError: no lesion has the points that it needs.
        """
        is_usable = _is_pretrainable if config.sampling == "pretraining" else _is_promptable
        usable = (
            [(pair, lesions) for pair in pairs if (lesions := tuple(filter(is_usable, pair.lesions)))]
            for pairs in patients.pairs
        )
        self._patients = [pairs for pairs in usable if pairs]
        if config.draw == "pairs":
            self._patients = [[pair] for pairs in self._patients for pair in pairs]
        self._patch_size, self._config = patch_size, config
        if not self._patients:
            raise InputError(
                f"training data: no lesion of {len(patients.names)} patients has the points that "
                f"sampling={config.sampling} needs; expected one or more"
            )

    def draw(self, rng: np.random.Generator) -> Draw:
        """Draw a lesion with its points and patches."""
        pairs = self._patients[int(rng.integers(len(self._patients)))]
        pair, lesions = pairs[int(rng.integers(len(pairs)))]
        lesion = lesions[_drawn_lesion(lesions, self._config.radius_exponent, rng)]
        if self._config.sampling == "pretraining":
            followup, baseline = _points_inside_lesion(lesion, rng)
        else:
            points = _drawn_points if self._config.drawn_points else _stored_points
            followup, baseline = points(lesion, self._config.propagated_fraction, rng)
        shift = self._config.shift_voxels
        return _with_patches(
            pair,
            lesion,
            _shifted(followup, shift, pair.followup.shape_zyx, rng),
            _shifted(baseline, shift, pair.baseline.shape_zyx, rng),
            self._patch_size,
            rng,
        )


def _drawn_lesion(lesions: Sequence[LesionPair], exponent: float, rng: np.random.Generator) -> int:
    """The number of a lesion, drawn uniformly or by inner radius."""
    if not exponent:
        return int(rng.integers(len(lesions)))
    radii = [
        max(float(np.sqrt(lesion.baseline_table.weights.max(initial=0))), _LEAST_RADIUS_MM)
        if lesion.baseline_table is not None
        else _LEAST_RADIUS_MM
        for lesion in lesions
    ]
    shares = np.cumsum(np.power(radii, exponent))
    return min(int(np.searchsorted(shares, rng.random() * shares[-1], side="right")), len(lesions) - 1)


def _is_promptable(lesion: LesionPair) -> bool:
    has_followup_point = (
        _finite(lesion.propagated_point_zyx) is not None or _true_followup_point(lesion) is not None
    )
    return _finite(lesion.baseline_point_zyx) is not None and has_followup_point


def _is_pretrainable(lesion: LesionPair) -> bool:
    """True if both scans have voxels to draw points from; a vanished lesion needs a propagated point instead.

    The published pretraining has no vanished lesions. Generators that produce some provide that point.
    """
    if lesion.baseline_table is None or lesion.baseline_table.is_empty:
        return False
    if not lesion.followup_ids:
        return _finite(lesion.propagated_point_zyx) is not None
    return lesion.followup_table is not None and not lesion.followup_table.is_empty


def _finite(point: Vector | None) -> Vector | None:
    """The point, or None if it is missing or NaN."""
    return point if point is not None and np.isfinite(point).all() else None


def _true_followup_point(lesion: LesionPair) -> Vector | None:
    """The lesion's own point in the follow-up; None if it vanished, even if a file lists one."""
    return _finite(lesion.followup_point_zyx) if lesion.followup_ids else None


def _stored_points(
    lesion: LesionPair, propagated_fraction: float, rng: np.random.Generator
) -> tuple[Vector, Vector]:
    """The follow-up point, propagated or true (the other one if it is missing), and the baseline point."""
    prefers_propagated = bool(rng.random() < propagated_fraction)
    propagated, true = _finite(lesion.propagated_point_zyx), _true_followup_point(lesion)
    followup = (propagated or true) if prefers_propagated else (true or propagated)
    assert followup is not None and lesion.baseline_point_zyx is not None, "the lesion is not promptable"
    return followup, lesion.baseline_point_zyx


def _drawn_points(
    lesion: LesionPair, propagated_fraction: float, rng: np.random.Generator
) -> tuple[Vector, Vector]:
    """The follow-up point, propagated or drawn inside the lesion, and a baseline point drawn inside it.

    A lesion without voxels to draw, as one that has vanished, gets the propagated point (the true one if that
    is missing), and its stored point in the baseline.
    """
    is_propagated = bool(rng.random() < propagated_fraction)
    drawn = None if is_propagated else _drawn_voxel(lesion.followup_table, rng)
    followup = drawn or _finite(lesion.propagated_point_zyx) or _true_followup_point(lesion)
    baseline = _drawn_voxel(lesion.baseline_table, rng) or lesion.baseline_point_zyx
    assert followup is not None and baseline is not None, "the lesion is not promptable"
    return followup, baseline


def _drawn_voxel(table: LesionVoxels | None, rng: np.random.Generator) -> Vector | None:
    """Draw a voxel of the lesion, deep ones more often; None if the lesion has no voxel."""
    return None if table is None or table.is_empty else _weighted_voxel(table, rng)


def _points_inside_lesion(lesion: LesionPair, rng: np.random.Generator) -> tuple[Vector, Vector]:
    """A follow-up and a baseline point, drawn independently of each other, deep voxels more often."""
    assert lesion.baseline_table is not None, "the lesion is not pretrainable"
    baseline = _weighted_voxel(lesion.baseline_table, rng)
    if not lesion.followup_ids or lesion.followup_table is None:
        assert lesion.propagated_point_zyx is not None, "the lesion is not pretrainable"
        return lesion.propagated_point_zyx, baseline
    return _weighted_voxel(lesion.followup_table, rng), baseline


def _weighted_voxel(table: LesionVoxels, rng: np.random.Generator) -> Vector:
    cumulative = np.cumsum(table.weights, dtype=np.float64)
    row = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    z, y, x = (float(v) for v in table.voxels_zyx[min(row, len(cumulative) - 1)])
    return (z, y, x)


def _shifted(point: Vector, shift: int, shape: Index, rng: np.random.Generator) -> Index:
    """The point's voxel, shifted by up to ``shift`` voxels along each axis and clipped to the image.

    All steps from -shift to +shift are equally likely; the published code draws -4 to +3, because it
    truncates. The voxel that contains a point is found as at inference (`resample.resampled_index`).
    """
    steps = rng.integers(-shift, shift + 1, 3).tolist()
    z, y, x = (min(max(int(p) + step, 0), n - 1) for p, step, n in zip(point, steps, shape, strict=True))
    return (z, y, x)


def _with_patches(
    pair: ScanPair,
    lesion: LesionPair,
    followup: Index,
    baseline: Index,
    patch: Index,
    rng: np.random.Generator,
) -> Draw:
    """Draw the patches: the follow-up's centre lies within a quarter of a patch of the point.

    The follow-up's patch stays inside the image; an image smaller than the patch is centred in it, as at
    inference (`patches.place_patches`). The baseline's patch puts its point at the same place and may leave
    its image.
    """
    start = []
    for point, size, n in zip(followup, patch, pair.followup.shape_zyx, strict=True):
        centre = int(rng.integers(point - size // 4, point + size // 4 + 1))
        start.append((n - size) // 2 if n < size else min(max(centre - size // 2, 0), n - size))
    box = Box.of_shape(patch, start)
    step = [b - f for b, f in zip(baseline, followup, strict=True)]
    return Draw(pair, lesion, followup, baseline, box, box.shifted(step))
