"""All parameters of the generator, with the defaults of LesionLocator ([Rokuss2025], section 7).

Published lengths are in voxels, those below in mm: a published voxel counts as ``voxel_mm``, which is 1 mm by
default and multiplies the lengths when they are drawn. Values are uniform over their ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, get_type_hints

from ..errors import InputError
from .setting_limits import LIMITS, NOT_ZERO

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class GrowthSettings:
    """Growth and shrinkage of lesions ([Rokuss2025], section 7.1).

    Attributes:
        amplitudes_mm2: values of A0, of which one is drawn per image; negative values shrink.
        is_per_lesion: draw A0 per lesion instead.
        sigma_mm: blur of the lesion at the smallest and the largest of ``sigma_radii_mm``.
        sigma_radii_mm: equivalent radii of the lesion between which ``sigma_mm`` is linear.
        modulation: range of the random field r.
        modulation_sigma_mm: smoothing of r.
        modulation_gain: weight of the smoothed r in the factor 1 + gain * r (see `growth`).
        p_any_ratio: share of lesions whose ratio is drawn from ``any_ratio``, evenly in its logarithm; the
            sign of A0 follows from it, its magnitude is one of ``amplitudes_mm2``.
        any_ratio: target volume ratios of those lesions.
        growth_ratio: target volume ratios of lesions that grow.
        shrinkage_ratio: target volume ratios of lesions that shrink.
        step: smallest and largest shift of a lesion's surface in one stage, as a share of its inner radius.
        max_stages: largest number of stages.
        ratio_tolerance: relative tolerance of the target ratio.
        min_jacobian: smallest Jacobian determinant of a stage.
    """

    amplitudes_mm2: tuple[float, ...] = (-22.0, -18.0, 15.0, 25.0)
    is_per_lesion: bool = False
    sigma_mm: Range = (4.0, 5.5)
    sigma_radii_mm: Range = (5.0, 30.0)
    modulation: Range = (-3.5, 3.5)
    modulation_sigma_mm: float = 3.0
    modulation_gain: float = 4.0
    growth_ratio: Range = (1.2, 3.0)
    shrinkage_ratio: Range = (0.3, 0.8)
    step: Range = (0.06, 0.15)
    max_stages: int = 40
    ratio_tolerance: float = 0.03
    min_jacobian: float = 0.3
    p_any_ratio: float = 0.0
    any_ratio: Range = (0.1, 4.0)


@dataclass(frozen=True, slots=True)
class EventSettings:
    """Events, which [Rokuss2025] does not have.

    Probabilities are per lesion; for merging, per pair of close lesions. ``new_mean`` is the mean number of
    new lesions of a follow-up (Poisson), ``new_max`` the largest. Of vanished lesions, ``p_patch_filling``
    are filled with patches of neighbouring tissue instead of a smooth field, and ``p_residue`` leave a
    residue: ``residue_hu`` denser or less dense, of ``residue_size`` of the lesion's radius. ``p_gas`` is the
    share of follow-ups in which pockets of gas (bowel) are redrawn.
    """

    p_vanish: float = 0.1
    vanish_max_ml: float = 10.0
    p_merge: float = 0.25
    merge_max_gap_mm: float = 10.0
    p_split: float = 0.05
    split_min_radius_mm: float = 6.0
    split_gap_mm: Range = (4.0, 7.0)
    new_mean: float = 0.3
    new_max: int = 3
    p_new_copied: float = 0.5
    new_max_ml: float = 5.0
    new_radius_mm: Range = (2.5, 8.0)
    new_lung_hu: Range = (-50.0, 60.0)
    new_contrast_hu: Range = (25.0, 60.0)
    p_patch_filling: float = 0.0
    p_residue: float = 0.0
    residue_hu: Range = (8.0, 30.0)
    residue_size: Range = (0.3, 0.8)
    p_gas: float = 0.0


@dataclass(frozen=True, slots=True)
class NewStyleSettings:
    """Looks and places of new lesions that are no copies; without any probability, all are plain ellipsoids.

    Attributes:
        p_by_tissue: share for which the kind of tissue is drawn first: lung, fat, soft tissue, inside of an
            organ, bone, as far as the scan has them.
        p_close: share that may lie beside vessels and borders of organs, ``close_clearance_mm`` from others.
        p_rough: share with a rough surface; ``roughness`` is its standard deviation as a share of the radius.
        p_spiculated: share with ``spicules`` of ``spicule_length`` (share of the radius).
        p_rim: share with a rim of ``rim_mm`` that is ``rim_hu`` brighter or darker than the lesion.
        p_core: share with a necrotic core of ``core_hu`` (absolute) and ``core_share`` of the radius.
        p_sclerotic: share of those in bone that have ``sclerotic_hu``, others have ``lytic_hu``.
        unevenness: standard deviation of slow variation within a lesion, as a share of its contrast.
    """

    p_by_tissue: float = 0.0
    p_close: float = 0.0
    close_clearance_mm: float = 1.0
    p_rough: float = 0.0
    roughness: Range = (0.08, 0.25)
    p_spiculated: float = 0.0
    spicules: Range = (4, 14)
    spicule_length: Range = (0.3, 0.9)
    p_rim: float = 0.0
    rim_mm: Range = (0.8, 2.5)
    rim_hu: Range = (20.0, 60.0)
    p_core: float = 0.0
    core_share: Range = (0.4, 0.75)
    core_hu: Range = (0.0, 25.0)
    p_sclerotic: float = 0.5
    lytic_hu: Range = (20.0, 90.0)
    sclerotic_hu: Range = (450.0, 900.0)
    unevenness: Range = (0.0, 0.2)

    @property
    def is_plain(self) -> bool:
        """No lesion has any style."""
        looks = self.p_rough, self.p_spiculated, self.p_rim, self.p_core
        return not any((self.p_by_tissue, self.p_close, *looks))


@dataclass(frozen=True, slots=True)
class MotionSettings:
    """Motion of the patient ([Rokuss2025], section 7.2), named as in batchgeneratorsv2.

    ``elastic_scale`` is the smoothing length as a share of the scan's extent along each axis;
    ``elastic_magnitude`` is the largest displacement as a share of that length. batchgeneratorsv2 takes it in
    voxels, where the published 0.05 would have no effect.
    """

    p_elastic: float = 1.0
    elastic_scale: Range = (0.05, 0.05)
    elastic_magnitude: Range = (0.05, 0.05)
    p_rotation: float = 1.0
    rotation_deg: Range = (-5.0, 5.0)
    p_scaling: float = 0.5
    scaling: Range = (0.95, 1.05)
    p_translation: float = 1.0
    translation_mm: Range = (-5.0, 5.0)
    min_jacobian: float = 0.3


@dataclass(frozen=True, slots=True)
class AppearanceSettings:
    """Changes of intensity ([Rokuss2025], section 7.2) in LesionLocator's CT units, (HU - mean) / std."""

    mean_hu: float = -63.007
    std_hu: float = 282.36
    clip_hu: Range = (-918.0, 723.0)
    p_noise: float = 1.0
    noise_variance: Range = (0.0, 0.05)
    p_blur: float = 0.1
    blur_mm: Range = (0.1, 0.2)
    p_brightness: float = 0.15
    brightness: Range = (0.75, 1.25)
    p_contrast: float = 0.15
    contrast: Range = (0.75, 1.25)


@dataclass(frozen=True, slots=True)
class ReconstructionSettings:
    """Another scanner and contrast phase; nothing of it in [Rokuss2025].

    Attributes:
        p_noise: share with noise of ``noise_hu``, correlated within slices as that of a scanner.
        p_kernel: share with another kernel: of these ``p_sharp`` by an unsharp mask of ``kernel_mm``, others
            by a blur, both within slices.
        p_slices: share with slices of ``slice_mm``, sampled back to the grid of the baseline.
        p_tissue: share with a smooth field of up to ``tissue_hu``, of either sign, added to soft tissue.
        p_vessels: share in which tissue of about 100 to 250 HU is enhanced by ``vessel_factor`` (above blood
            without contrast agent).
    """

    p_noise: float = 0.0
    noise_hu: Range = (5.0, 25.0)
    p_kernel: float = 0.0
    p_sharp: float = 0.5
    kernel_mm: Range = (0.5, 1.0)
    p_slices: float = 0.0
    slice_mm: Range = (2.0, 5.0)
    p_tissue: float = 0.0
    tissue_hu: Range = (5.0, 30.0)
    p_vessels: float = 0.0
    vessel_factor: Range = (0.4, 1.5)


@dataclass(frozen=True, slots=True)
class DensitySettings:
    """Changes of a lesion's own density, each with its probability per lesion.

    A shift of all of it by ``shift_hu``; necrosis of the inner ``necrosis_share`` of its radius, of
    ``necrosis_hu``; specks of ``calcified_hu``.
    """

    p_shift: float = 0.0
    shift_hu: Range = (-30.0, 40.0)
    p_necrosis: float = 0.0
    necrosis_hu: Range = (0.0, 25.0)
    necrosis_share: Range = (0.3, 0.8)
    p_calcified: float = 0.0
    calcified_hu: Range = (150.0, 500.0)


@dataclass(frozen=True, slots=True)
class SynthesisSettings:
    """All settings.

    ``voxel_mm`` is mm per published voxel, ``field_spacing_mm`` the spacing of the saved displacements.
    """

    growth: GrowthSettings = field(default_factory=GrowthSettings)
    events: EventSettings = field(default_factory=EventSettings)

    motion: MotionSettings = field(default_factory=MotionSettings)
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    new: NewStyleSettings = field(default_factory=NewStyleSettings)
    density: DensitySettings = field(default_factory=DensitySettings)
    reconstruction: ReconstructionSettings = field(default_factory=ReconstructionSettings)
    voxel_mm: float = 1.0
    field_spacing_mm: float = 2.0

    def with_overrides(self, overrides: list[str]) -> SynthesisSettings:
        """Return the settings with changes of the form ``GROUP.NAME=VALUE[,VALUE ...]`` or ``NAME=VALUE``.

        Raises:
            InputError: unknown setting, or a value of the wrong type or out of range.
        """
        settings = self
        for text in overrides:
            key, equals, value = text.partition("=")
            path = key.strip().split(".")
            if not equals or not 1 <= len(path) <= 2:
                raise InputError(f"--set {text}: is not a setting; expected GROUP.NAME=VALUE")
            settings = _replaced(settings, path, value, text)
        return settings


def _replaced(group: Any, path: list[str], value: str, text: str) -> Any:
    names = {entry.name for entry in fields(group)}
    if path[0] not in names:
        raise InputError(f"--set {text}: {path[0]!r} is unknown; expected one of: {', '.join(sorted(names))}")
    current = getattr(group, path[0])
    if is_dataclass(current) != (len(path) == 2):
        raise InputError(f"--set {text}: is not a setting; expected GROUP.NAME=VALUE")
    if is_dataclass(current):
        return replace(group, **{path[0]: _replaced(current, path[1:], value, text)})
    key = text.partition("=")[0].strip()
    return replace(group, **{path[0]: _parsed(key, get_type_hints(type(group))[path[0]], value.strip())})


def _parsed(key: str, kind: Any, value: str) -> Any:
    """Parse a value as the type of its setting, within its limits."""
    if kind is bool:
        values = {"true": True, "1": True, "false": False, "0": False}
        if value.lower() not in values:
            raise InputError(f"--set {key}: is {value!r}; expected true or false")
        return values[value.lower()]
    low, high = LIMITS[key]
    expected = f"from {low:g} to {high:g}" + (", none of them 0" if key in NOT_ZERO else "")
    try:
        numbers = tuple(int(part) if kind is int else float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    # Comparisons with NaN are false.
    fits = bool(numbers) and all(low <= n <= high and (n or key not in NOT_ZERO) for n in numbers)
    if kind == Range:
        expected = f"two numbers {expected}, the lower one first"
        fits = fits and len(numbers) == 2 and numbers[0] <= numbers[1]
    elif kind in (int, float):
        expected = f"a {'whole ' if kind is int else ''}number {expected}"
        fits = fits and len(numbers) == 1
    else:
        expected = f"numbers {expected}"
    if not fits:
        raise InputError(f"--set {key}: is {value}; expected {expected}")
    return numbers[0] if kind in (int, float) else numbers
