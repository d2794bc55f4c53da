"""All that is random about a follow-up, drawn before anything is computed.

What is drawn here is all that the pure functions of the other modules need besides the scan; where they
need a field of random numbers, its seed is drawn. Each lesion and each kind of change has a generator of its
own, so that more lesions, more follow-ups or other settings of one kind leave the others as they are.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from ..case.geometry import Vector
from ..case.voxel_checks import MAX_LESION_ID
from .scan_lesions import LabelledLesion, ScanLesions
from .settings import AppearanceSettings, EventSettings, GrowthSettings, MotionSettings, SynthesisSettings

_MAX_SEED = 2**63


@dataclass(frozen=True, slots=True)
class GrowthDraw:
    """How a lesion changes: A0 in mm², the volume ratio to reach, the seed of the random field r."""

    lesion_id: int
    amplitude_mm2: float
    target_ratio: float
    modulation_seed: int


@dataclass(frozen=True, slots=True)
class VanishDraw:
    lesion_id: int
    texture_seed: int


@dataclass(frozen=True, slots=True)
class MergeDraw:
    first: int
    second: int
    gap_mm: float
    texture_seed: int


@dataclass(frozen=True, slots=True)
class SplitDraw:
    """``tilt`` is added to the lesion's long axis (unit vectors, z, y, x) to get the normal of the cut;
    ``offset`` moves it along that, as a share of the lesion's half length."""

    lesion_id: int
    tilt: Vector
    offset: float
    gap_mm: float
    texture_seed: int


@dataclass(frozen=True, slots=True)
class NewDraw:
    """A new lesion: a copy of lesion ``donor`` mirrored along some axes, or a ball-like one where it is None.

    ``place_seed`` orders the places that are tried; ``contrast_hu`` is towards soft tissue round it,
    ``lung_hu`` the value in lung.
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
    """Values along z, y, x; angles in degrees round them. Elastic ones as in `MotionSettings`."""

    angles_deg: Vector
    scaling: float
    translation_mm: Vector
    elastic_scale: Vector
    elastic_magnitude: Vector
    elastic_seed: int


@dataclass(frozen=True, slots=True)
class AppearanceDraw:
    """None where a change is not made; see `AppearanceSettings`."""

    noise_variance: float | None
    noise_seed: int
    blur_mm: Vector | None
    brightness: float | None
    contrast: float | None


@dataclass(frozen=True, slots=True)
class FollowupDraw:
    """Everything drawn for one follow-up."""

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


@dataclass(frozen=True, slots=True)
class _Source:
    """Generators of one follow-up, one for each name and number."""

    seed: int
    scan: str
    number: int

    def __call__(self, name: str, item: int = 0) -> np.random.Generator:
        keys = (zlib.crc32(self.scan.encode()), self.number, zlib.crc32(name.encode()), item)
        return np.random.default_rng([self.seed, *keys])


def draw_followup(
    facts: ScanLesions, settings: SynthesisSettings, seed: int, scan: str, number: int
) -> FollowupDraw:
    """Draw follow-up ``number`` (from 1 on) of the scan of that name."""
    source = _Source(seed, scan, number)
    vanishing = _vanishing(facts, settings.events, source)
    gone = {draw.lesion_id for draw in vanishing}
    merging = _merging(facts, settings.events, source, gone)
    busy = gone | {lesion for draw in merging for lesion in (draw.first, draw.second)}
    return FollowupDraw(
        seed,
        scan,
        number,
        growth=_growth(facts, settings, source, gone),
        vanishing=vanishing,
        merging=merging,
        splitting=_splitting(facts, settings.events, source, busy),
        new=_new(facts, settings.events, source),
        motion=_motion(settings.motion, settings.voxel_mm, source("motion")),
        appearance=_appearance(settings.appearance, settings.voxel_mm, source("appearance")),
    )


def weaken(draw: FollowupDraw, share: float) -> FollowupDraw:
    """The same follow-up with so much of its growth (in the logarithm) and of its elastic deformation."""
    z, y, x = (value * share for value in draw.motion.elastic_magnitude)
    return replace(
        draw,
        growth=tuple(replace(growth, target_ratio=growth.target_ratio**share) for growth in draw.growth),
        motion=replace(draw.motion, elastic_magnitude=(z, y, x)),
    )


def _growth(
    facts: ScanLesions, settings: SynthesisSettings, source: _Source, gone: set[int]
) -> tuple[GrowthDraw, ...]:
    growth = settings.growth
    of_image = float(source("amplitude").choice(growth.amplitudes_mm2))
    draws = []
    for lesion in facts.lesions:
        rng = source("growth", lesion.lesion_id)
        own, log_share = float(rng.choice(growth.amplitudes_mm2)), rng.random()
        modulation_seed = _seed(rng)
        if lesion.lesion_id in gone:
            continue
        amplitude = (own if growth.is_per_lesion else of_image) * settings.voxel_mm**2
        if lesion.voxels < 2:  # a single voxel cannot shrink
            amplitude = abs(amplitude)
        ratio = _target(lesion, growth, amplitude > 0, log_share)
        draws.append(GrowthDraw(lesion.lesion_id, amplitude, ratio, modulation_seed))
    return tuple(draws)


def _target(lesion: LabelledLesion, growth: GrowthSettings, grows: bool, share: float) -> float:
    """A volume ratio, uniform in its logarithm, that changes at least one voxel and leaves at least one."""
    low, high = growth.growth_ratio if grows else growth.shrinkage_ratio
    ratio = float(low * (high / low) ** share)
    if grows:
        return max(ratio, 1 + 1 / lesion.voxels)
    return min(max(ratio, 1 / lesion.voxels), 1 - 1 / lesion.voxels)


def _vanishing(facts: ScanLesions, events: EventSettings, source: _Source) -> tuple[VanishDraw, ...]:
    draws = []
    for lesion in facts.lesions:
        rng = source("vanish", lesion.lesion_id)
        if rng.random() < events.p_vanish and lesion.volume_ml <= events.vanish_max_ml:
            draws.append(VanishDraw(lesion.lesion_id, _seed(rng)))
    return tuple(draws)


def _merging(
    facts: ScanLesions, events: EventSettings, source: _Source, busy: set[int]
) -> tuple[MergeDraw, ...]:
    """Pairs; a lesion merges with one other at most, the nearest first."""
    draws: list[MergeDraw] = []
    taken = set(busy)
    for pair in sorted(facts.pairs, key=lambda pair: pair.gap_mm):
        rng = source("merge", pair.first * (MAX_LESION_ID + 1) + pair.second)
        wanted, seed = rng.random() < events.p_merge, _seed(rng)
        if wanted and pair.gap_mm <= events.merge_max_gap_mm and not taken & {pair.first, pair.second}:
            draws.append(MergeDraw(pair.first, pair.second, pair.gap_mm, seed))
            taken |= {pair.first, pair.second}
    return tuple(draws)


def _splitting(
    facts: ScanLesions, events: EventSettings, source: _Source, busy: set[int]
) -> tuple[SplitDraw, ...]:
    draws = []
    for lesion in facts.lesions:
        rng = source("split", lesion.lesion_id)
        wanted = rng.random() < events.p_split
        tilt, offset = _triple(rng.normal(0, 0.2, 3)), float(rng.uniform(-0.25, 0.25))
        gap, seed = float(rng.uniform(*events.split_gap_mm)), _seed(rng)
        if wanted and lesion.lesion_id not in busy and lesion.radius_mm >= events.split_min_radius_mm:
            draws.append(SplitDraw(lesion.lesion_id, tilt, offset, gap, seed))
    return tuple(draws)


def _new(facts: ScanLesions, events: EventSettings, source: _Source) -> tuple[NewDraw, ...]:
    count = min(int(source("new").poisson(events.new_mean)), events.new_max)
    donors = [lesion.lesion_id for lesion in facts.lesions if lesion.volume_ml <= events.new_max_ml]
    fresh = _fresh_ids(facts, (source.number - 1) * events.new_max, count)
    draws = []
    for item, lesion_id in enumerate(fresh, start=1):
        rng = source("new", item)
        copied, chosen = rng.random() < events.p_new_copied, rng.random()
        sign = 1.0 if rng.random() < 0.5 else -1.0
        radius, flips = rng.uniform(*events.new_radius_mm), rng.random(3) < 0.5
        draws.append(
            NewDraw(
                lesion_id,
                donors[int(chosen * len(donors))] if copied and donors else None,
                mirrored=(bool(flips[0]), bool(flips[1]), bool(flips[2])),
                radii_mm=_triple(radius * rng.uniform(0.8, 1.25, 3)),
                contrast_hu=sign * float(rng.uniform(*events.new_contrast_hu)),
                lung_hu=float(rng.uniform(*events.new_lung_hu)),
                place_seed=_seed(rng),
                texture_seed=_seed(rng),
            )
        )
    return tuple(draws)


def _fresh_ids(facts: ScanLesions, skipped: int, count: int) -> list[int]:
    """Ids that no scan of the patient and no other follow-up has, above all others as long as there are any.

    Follow-ups may be paired with each other, so that each has ids of its own: those of others are skipped.
    """
    used = {lesion.lesion_id for lesion in facts.lesions} | facts.patient_ids
    highest = max(used | {facts.highest_id})
    above = list(range(highest + 1, MAX_LESION_ID + 1))
    below = sorted(set(range(1, highest)) - used)
    return (above + below)[skipped : skipped + count]


def _motion(settings: MotionSettings, voxel_mm: float, rng: np.random.Generator) -> MotionDraw:
    is_elastic, is_turned, is_scaled, is_shifted = rng.random(4) < (
        settings.p_elastic,
        settings.p_rotation,
        settings.p_scaling,
        settings.p_translation,
    )
    scale, magnitude = rng.uniform(*settings.elastic_scale, 3), rng.uniform(*settings.elastic_magnitude, 3)
    angles, scaling = rng.uniform(*settings.rotation_deg, 3), float(rng.uniform(*settings.scaling))
    translation = rng.uniform(*settings.translation_mm, 3) * voxel_mm
    return MotionDraw(
        _triple(angles * is_turned),
        scaling if is_scaled else 1.0,
        _triple(translation * is_shifted),
        _triple(scale),
        _triple(magnitude * is_elastic),
        _seed(rng),
    )


def _appearance(settings: AppearanceSettings, voxel_mm: float, rng: np.random.Generator) -> AppearanceDraw:
    is_noisy, is_blurred, is_brighter, is_contrasted = rng.random(4) < (
        settings.p_noise,
        settings.p_blur,
        settings.p_brightness,
        settings.p_contrast,
    )
    variance, blur = float(rng.uniform(*settings.noise_variance)), rng.uniform(*settings.blur_mm, 3)
    brightness, contrast = float(rng.uniform(*settings.brightness)), float(rng.uniform(*settings.contrast))
    return AppearanceDraw(
        variance if is_noisy else None,
        _seed(rng),
        _triple(blur * voxel_mm) if is_blurred else None,
        brightness if is_brighter else None,
        contrast if is_contrasted else None,
    )


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(_MAX_SEED))


def _triple(values: np.ndarray) -> Vector:
    a, b, c = (float(value) for value in values)
    return (a, b, c)
