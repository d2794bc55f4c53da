"""One training sample: which lesion, which points, which patches (facts A2).

Nothing of an image is read here. What is drawn depends on the generator that is handed in alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..case.geometry import Box, Index, Vector
from ..data.point_tables import LesionVoxels
from ..errors import InputError
from .config import TrainingConfig
from .data_source import LesionPair, Patients, ScanPair


@dataclass(frozen=True, eq=False)
class Draw:
    """A lesion with its points (voxels zyx) and patches; both points have the same place in their patches.

    Patches may reach beyond the images. ``target_ids`` are labels of the follow-up, none for a vanished
    lesion; of the baseline's only ``lesion_id`` is shown.
    """

    pair: ScanPair
    lesion: LesionPair
    followup_point: Index
    baseline_point: Index
    followup_patch: Box
    baseline_patch: Box

    @property
    def target_ids(self) -> tuple[int, ...]:
        return self.lesion.followup_ids

    @property
    def point_in_patch(self) -> Index:
        z, y, x = (p - s for p, s in zip(self.followup_point, self.followup_patch.start_zyx, strict=True))
        return (z, y, x)


class Sampler:
    """Draws lesions: a patient, one of its pairs, one of the pair's lesions, each uniformly.

    With ``draw=pairs`` it begins with the pair, so that patients count by how many they have.
    """

    def __init__(self, patients: Patients, patch_size: Index, config: TrainingConfig) -> None:
        """Raises InputError when no lesion has the points that the way of sampling needs."""
        usable = _pretrainable if config.sampling == "pretraining" else _promptable
        kept = (
            [(pair, lesions) for pair in pairs if (lesions := tuple(filter(usable, pair.lesions)))]
            for pairs in patients.pairs
        )
        self._patients = [pairs for pairs in kept if pairs]
        if config.draw == "pairs":
            self._patients = [[pair] for pairs in self._patients for pair in pairs]
        self._patch_size, self._config = patch_size, config
        if not self._patients:
            raise InputError(
                f"training data: no lesion of {len(patients.names)} patients has the points that "
                f"sampling={config.sampling} needs; expected one or more"
            )

    def draw(self, rng: np.random.Generator) -> Draw:
        """The next lesion of a generator."""
        pairs = self._patients[int(rng.integers(len(self._patients)))]
        pair, lesions = pairs[int(rng.integers(len(pairs)))]
        lesion = lesions[int(rng.integers(len(lesions)))]
        if self._config.sampling == "pretraining":
            followup, baseline = _drawn_points(lesion, rng)
        else:
            followup, baseline = _given_points(lesion, self._config.propagated_fraction, rng)
        shift = self._config.shift_voxels
        return _placed(
            pair,
            lesion,
            _shifted(followup, shift, pair.followup.shape_zyx, rng),
            _shifted(baseline, shift, pair.baseline.shape_zyx, rng),
            self._patch_size,
            rng,
        )


def _promptable(lesion: LesionPair) -> bool:
    known = _known(lesion.propagated_point_zyx) is not None or _true_point(lesion) is not None
    return _known(lesion.baseline_point_zyx) is not None and known


def _pretrainable(lesion: LesionPair) -> bool:
    """With voxels to draw from in both scans. A vanished one needs a point to look at in the follow-up.

    The published pretraining has no vanished lesions; a generator that makes some gives them such a point.
    """
    if lesion.baseline_table is None or lesion.baseline_table.is_empty:
        return False
    if not lesion.followup_ids:
        return _known(lesion.propagated_point_zyx) is not None
    return lesion.followup_table is not None and not lesion.followup_table.is_empty


def _known(point: Vector | None) -> Vector | None:
    """A point; None also for one that is NaN in the file."""
    return point if point is not None and np.isfinite(point).all() else None


def _true_point(lesion: LesionPair) -> Vector | None:
    """The lesion's own point in the follow-up; one that has vanished has none, whatever a file says."""
    return _known(lesion.followup_point_zyx) if lesion.followup_ids else None


def _given_points(
    lesion: LesionPair, propagated_fraction: float, rng: np.random.Generator
) -> tuple[Vector, Vector]:
    """The follow-up's point, propagated or true (where one is missing the other), and the baseline's."""
    wants_propagated = bool(rng.random() < propagated_fraction)
    propagated, true = _known(lesion.propagated_point_zyx), _true_point(lesion)
    followup = (propagated or true) if wants_propagated else (true or propagated)
    assert followup is not None and lesion.baseline_point_zyx is not None, "the lesion is not promptable"
    return followup, lesion.baseline_point_zyx


def _drawn_points(lesion: LesionPair, rng: np.random.Generator) -> tuple[Vector, Vector]:
    """Points inside the lesion, each drawn for itself, the deeper the likelier."""
    assert lesion.baseline_table is not None, "the lesion is not pretrainable"
    baseline = _drawn_voxel(lesion.baseline_table, rng)
    if not lesion.followup_ids or lesion.followup_table is None:
        assert lesion.propagated_point_zyx is not None, "the lesion is not pretrainable"
        return lesion.propagated_point_zyx, baseline
    return _drawn_voxel(lesion.followup_table, rng), baseline


def _drawn_voxel(table: LesionVoxels, rng: np.random.Generator) -> Vector:
    reach = np.cumsum(table.weights, dtype=np.float64)
    row = int(np.searchsorted(reach, rng.random() * reach[-1], side="right"))
    z, y, x = (float(v) for v in table.voxels_zyx[min(row, len(reach) - 1)])
    return (z, y, x)


def _shifted(point: Vector, shift: int, shape: Index, rng: np.random.Generator) -> Index:
    """A point's voxel, moved by up to ``shift`` voxels on each axis, and kept in the image.

    Every step from -shift to +shift is as likely. The published code draws -4 to +3, as it cuts off
    decimals (A2). The voxel of a point is found as at inference (`resample.resampled_index`).
    """
    steps = rng.integers(-shift, shift + 1, 3).tolist()
    z, y, x = (min(max(int(p) + step, 0), n - 1) for p, step, n in zip(point, steps, shape, strict=True))
    return (z, y, x)


def _placed(
    pair: ScanPair,
    lesion: LesionPair,
    followup: Index,
    baseline: Index,
    patch: Index,
    rng: np.random.Generator,
) -> Draw:
    """The follow-up's patch with its centre within a quarter of a patch from the point, inside the image.

    An image that is smaller than the patch is centred in it, as at inference (`patches.place_patches`). The
    baseline's patch goes where its point has the same place, and is not kept inside.
    """
    start = []
    for point, size, n in zip(followup, patch, pair.followup.shape_zyx, strict=True):
        centre = int(rng.integers(point - size // 4, point + size // 4 + 1))
        start.append((n - size) // 2 if n < size else min(max(centre - size // 2, 0), n - size))
    box = Box.of_shape(patch, start)
    step = [b - f for b, f in zip(baseline, followup, strict=True)]
    return Draw(pair, lesion, followup, baseline, box, box.shifted(step))
