"""Random values of one synthetic follow-up: drawn by `random_draws`, written to its record.json."""

from __future__ import annotations

from dataclasses import dataclass

from ..case.geometry import Vector


@dataclass(frozen=True, slots=True)
class GrowthDraw:
    """Change of one lesion: A0 in mm², target volume ratio, and seed of the random field r."""

    lesion_id: int
    amplitude_mm2: float
    target_ratio: float
    modulation_seed: int


@dataclass(frozen=True, slots=True)
class VanishDraw:
    """A lesion that disappears, and the seed of the texture that replaces it."""

    lesion_id: int
    texture_seed: int


@dataclass(frozen=True, slots=True)
class MergeDraw:
    """Two lesion ids to join across a gap of ``gap_mm``."""

    first: int
    second: int
    gap_mm: float
    texture_seed: int


@dataclass(frozen=True, slots=True)
class SplitDraw:
    """A cut through one lesion.

    ``tilt`` (z, y, x) is added to the unit vector of the lesion's long axis to get the normal of the cut;
    ``offset`` shifts the cut along the normal, as a share of the lesion's half length.
    """

    lesion_id: int
    tilt: Vector
    offset: float
    gap_mm: float
    texture_seed: int


@dataclass(frozen=True, slots=True)
class NewDraw:
    """A new lesion: a copy of lesion ``donor``, mirrored along some axes, or an ellipsoid if that is None.

    ``place_seed`` shuffles the candidate positions. ``contrast_hu`` is relative to the surrounding soft
    tissue, ``lung_hu`` the absolute value in lung. ``mirrored`` and ``radii_mm`` are (z, y, x).
    """

    lesion_id: int
    donor: int | None
    mirrored: tuple[bool, bool, bool]
    radii_mm: Vector
    contrast_hu: float
    lung_hu: float
    place_seed: int
    texture_seed: int


@dataclass(frozen=True, slots=True)
class MotionDraw:
    """Motion of the patient, all vectors (z, y, x); angles in degrees about these axes.

    The elastic values are those of `MotionSettings`.
    """

    angles_deg: Vector
    scaling: float
    translation_mm: Vector
    elastic_scale: Vector
    elastic_magnitude: Vector
    elastic_seed: int


@dataclass(frozen=True, slots=True)
class AppearanceDraw:
    """Changes of intensity; None for each that is not applied. See `AppearanceSettings`."""

    noise_variance: float | None
    noise_seed: int
    blur_mm: Vector | None
    brightness: float | None
    contrast: float | None


@dataclass(frozen=True, slots=True)
class FollowupDraw:
    """Everything drawn for follow-up ``number`` of the scan with the name ``scan``."""

    seed: int
    scan: str
    number: int
    growth: tuple[GrowthDraw, ...]
    vanishing: tuple[VanishDraw, ...]
    merging: tuple[MergeDraw, ...]
    splitting: tuple[SplitDraw, ...]
    new: tuple[NewDraw, ...]
    motion: MotionDraw
    appearance: AppearanceDraw
