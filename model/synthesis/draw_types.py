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
class ResidueDraw:
    """What is left of a vanished lesion: a change of density, and its extent as a share of the lesion's."""

    hu: float
    size: float
    seed: int


@dataclass(frozen=True, slots=True)
class VanishDraw:
    """A lesion that disappears, and the seed of the texture that replaces it.

    ``patch_seed`` is the seed of the patches of neighbouring tissue that it is filled with, None for a smooth
    filling; ``residue`` is None if nothing is left.
    """

    lesion_id: int
    texture_seed: int
    patch_seed: int | None = None
    residue: ResidueDraw | None = None


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
class NewStyleDraw:
    """Looks and place of a new lesion that is no copy; see `NewStyleSettings`.

    ``tissue`` is a `TissueKind`, None for soft tissue or lung. ``roughness`` and ``spicule_length`` are
    shares of the radius, ``rim_mm`` and ``core_share`` 0 without rim or core. ``rim_hu`` is relative to the
    lesion, ``core_hu`` and ``bone_hu`` (of a lesion in bone) are absolute; ``unevenness`` is the standard
    deviation of its slow variation, as a share of its contrast.
    """

    tissue: str | None
    is_close: bool
    clearance_mm: float
    roughness: float
    spicules: int
    spicule_length: float
    rim_mm: float
    rim_hu: float
    core_share: float
    core_hu: float
    bone_hu: float
    unevenness: float


@dataclass(frozen=True, slots=True)
class NewDraw:
    """A new lesion: a copy of lesion ``donor``, mirrored along some axes, or an ellipsoid if that is None.

    ``place_seed`` shuffles the candidate positions. ``contrast_hu`` is relative to the surrounding soft
    tissue, ``lung_hu`` the absolute value in lung. ``mirrored`` and ``radii_mm`` are (z, y, x). ``style`` is
    None for copies, and for plain ellipsoids.
    """

    lesion_id: int
    donor: int | None
    mirrored: tuple[bool, bool, bool]
    radii_mm: Vector
    contrast_hu: float
    lung_hu: float
    place_seed: int
    texture_seed: int
    style: NewStyleDraw | None = None


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
class ReconstructionDraw:
    """Changes by another scanner and phase; None for each that is not applied. See `ReconstructionSettings`.

    ``kernel_mm`` is the width of a blur within slices if it is positive, of an unsharp mask there if it
    is negative.
    """

    tissue_hu: float | None = None
    vessel_factor: float | None = None
    kernel_mm: float | None = None
    slice_mm: float | None = None
    noise_hu: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DensityDraw:
    """Change of one lesion's density; None for each that is not applied. See `DensitySettings`."""

    lesion_id: int
    shift_hu: float | None
    necrosis_hu: float | None
    necrosis_share: float
    calcified_hu: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class FollowupDraw:
    """Everything drawn for follow-up ``number`` of the scan ``scan``; gas is redrawn if it has a seed."""

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
    density: tuple[DensityDraw, ...] = ()
    reconstruction: ReconstructionDraw = ReconstructionDraw()
    gas_seed: int | None = None
