"""All parameters of the generator, with the defaults of LesionLocator ([Rokuss2025], section 7).

Published lengths are in voxels, those below in mm: a published voxel counts as ``voxel_mm``, which is 1 mm by
default and multiplies the lengths when they are drawn. Values are uniform over their ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, get_type_hints

from ..errors import InputError

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


@dataclass(frozen=True, slots=True)
class EventSettings:
    """Events, which [Rokuss2025] does not have.

    Probabilities are per lesion; for merging, per pair of close lesions. ``new_mean`` is the mean number of
    new lesions of a follow-up (Poisson), ``new_max`` the largest.
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
class SynthesisSettings:
    """All settings.

    ``voxel_mm`` is mm per published voxel, ``field_spacing_mm`` the spacing of the saved displacements.
    """

    growth: GrowthSettings = field(default_factory=GrowthSettings)
    events: EventSettings = field(default_factory=EventSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
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


_HU = (-32768.0, 32767.0)  # range of int16
_PROBABILITY = (0.0, 1.0)

# Limits of a value (of both ends of a range): beyond them the generator makes no sense or does not end. They
# are not recommendations: most of the values allowed are far from any patient.
LIMITS: dict[str, tuple[float, float]] = {
    "growth.amplitudes_mm2": (-1000, 1000),
    "growth.sigma_mm": (0.1, 50),
    "growth.sigma_radii_mm": (0, 1000),
    "growth.modulation": (-100, 100),
    "growth.modulation_sigma_mm": (0.1, 50),
    "growth.modulation_gain": (0, 100),
    "growth.growth_ratio": (1, 100),
    "growth.shrinkage_ratio": (0.001, 1),
    "growth.step": (0.001, 1),
    "growth.max_stages": (0, 1000),
    "growth.ratio_tolerance": (0.001, 0.5),
    "growth.min_jacobian": (0, 0.9),
    "events.p_vanish": _PROBABILITY,
    "events.vanish_max_ml": (0, 1e6),
    "events.p_merge": _PROBABILITY,
    "events.merge_max_gap_mm": (0, 1000),
    "events.p_split": _PROBABILITY,
    "events.split_min_radius_mm": (0, 1000),
    "events.split_gap_mm": (0, 1000),
    "events.new_mean": (0, 1000),
    "events.new_max": (0, 1000),
    "events.p_new_copied": _PROBABILITY,
    "events.new_max_ml": (0, 1e6),
    "events.new_radius_mm": (0.1, 100),
    "events.new_lung_hu": _HU,
    "events.new_contrast_hu": (0, _HU[1]),
    "motion.p_elastic": _PROBABILITY,
    "motion.elastic_scale": (0.001, 1),
    "motion.elastic_magnitude": (0, 10),
    "motion.p_rotation": _PROBABILITY,
    "motion.rotation_deg": (-180, 180),
    "motion.p_scaling": _PROBABILITY,
    "motion.scaling": (0.1, 10),
    "motion.p_translation": _PROBABILITY,
    "motion.translation_mm": (-1000, 1000),
    "motion.min_jacobian": (0, 0.9),
    "appearance.mean_hu": _HU,
    "appearance.std_hu": (1, _HU[1]),
    "appearance.clip_hu": _HU,
    "appearance.p_noise": _PROBABILITY,
    "appearance.noise_variance": (0, 100),
    "appearance.p_blur": _PROBABILITY,
    "appearance.blur_mm": (0, 100),
    "appearance.p_brightness": _PROBABILITY,
    "appearance.brightness": (0.01, 100),
    "appearance.p_contrast": _PROBABILITY,
    "appearance.contrast": (0.01, 100),
    "voxel_mm": (0.01, 100),
    "field_spacing_mm": (0.1, 1000),
}

# Values whose sign has a meaning.
_NOT_ZERO = frozenset({"growth.amplitudes_mm2"})


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
    expected = f"from {low:g} to {high:g}" + (", none of them 0" if key in _NOT_ZERO else "")
    try:
        numbers = tuple(int(part) if kind is int else float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    # Comparisons with NaN are false.
    fits = bool(numbers) and all(low <= n <= high and (n or key not in _NOT_ZERO) for n in numbers)
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
