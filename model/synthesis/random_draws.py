"""Draws all random values of a follow-up before anything is computed.

The pure functions of the other modules need nothing else besides the scan; for a field of random numbers its
seed is drawn. Each lesion and each kind of change has its own generator, so that further lesions, further
follow-ups or other settings of one kind leave all other values unchanged.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from ..case.geometry import Vector
from ..case.voxel_checks import MAX_LESION_ID
from .draw_types import (
    AppearanceDraw,
    FollowupDraw,
    GrowthDraw,
    MergeDraw,
    MotionDraw,
    NewDraw,
    SplitDraw,
    VanishDraw,
)
from .optional_draws import (
    draw_density,
    draw_filling,
    draw_gas_seed,
    draw_reconstruction,
    draw_seed,
    draw_style,
)
from .scan_lesions import LabelledLesion, ScanLesions
from .settings import AppearanceSettings, EventSettings, GrowthSettings, MotionSettings, SynthesisSettings


@dataclass(frozen=True, slots=True)
class _RandomStreams:
    """Independent random generators of one follow-up, one for each name and item."""

    seed: int
    scan: str
    number: int

    def __call__(self, name: str, item: int = 0) -> np.random.Generator:
        keys = (zlib.crc32(self.scan.encode()), self.number, zlib.crc32(name.encode()), item)
        return np.random.default_rng([self.seed, *keys])


def draw_followup(
    scan: ScanLesions, settings: SynthesisSettings, seed: int, scan_name: str, number: int
) -> FollowupDraw:
    """Draw all random values of one follow-up.

    Args:
        scan: lesions of the baseline, from `find_scan_lesions`.
        settings: parameters of the generator.
        seed: seed of the data set.
        scan_name: name of the scan, part of the seed.
        number: number of the follow-up, from 1 on.
    """
    streams = _RandomStreams(seed, scan_name, number)
    vanishing = _vanishing(scan, settings.events, streams)
    gone = {draw.lesion_id for draw in vanishing}
    merging = _merging(scan, settings.events, streams, gone)
    busy = gone | {lesion for draw in merging for lesion in (draw.first, draw.second)}
    return FollowupDraw(
        seed,
        scan_name,
        number,
        growth=_growth(scan, settings, streams, gone),
        vanishing=vanishing,
        merging=merging,
        splitting=_splitting(scan, settings.events, streams, busy),
        new=_new(scan, settings, streams),
        motion=_motion(settings.motion, settings.voxel_mm, streams("motion")),
        appearance=_appearance(settings.appearance, settings.voxel_mm, streams("appearance")),
        density=draw_density(scan, settings.density, streams, gone),
        reconstruction=draw_reconstruction(settings.reconstruction, streams("reconstruction")),
        gas_seed=draw_gas_seed(settings.events, streams("gas")),
    )


def weaken(draw: FollowupDraw, share: float) -> FollowupDraw:
    """Reduce the drawn growth (in the logarithm) and elastic deformation to a share."""
    z, y, x = (value * share for value in draw.motion.elastic_magnitude)
    return replace(
        draw,
        growth=tuple(replace(growth, target_ratio=growth.target_ratio**share) for growth in draw.growth),
        motion=replace(draw.motion, elastic_magnitude=(z, y, x)),
    )


def _growth(
    scan: ScanLesions, settings: SynthesisSettings, streams: _RandomStreams, gone: set[int]
) -> tuple[GrowthDraw, ...]:
    growth = settings.growth
    image_amplitude = float(streams("amplitude").choice(growth.amplitudes_mm2))
    draws = []
    for lesion in scan.lesions:
        rng = streams("growth", lesion.lesion_id)
        lesion_amplitude, log_share = float(rng.choice(growth.amplitudes_mm2)), rng.random()
        modulation_seed = draw_seed(rng)
        if lesion.lesion_id in gone:
            continue
        amplitude = (lesion_amplitude if growth.is_per_lesion else image_amplitude) * settings.voxel_mm**2
        any_ratio = _any_ratio(growth, streams("ratio", lesion.lesion_id))
        if any_ratio is not None:
            amplitude = abs(amplitude) if any_ratio > 1 else -abs(amplitude)
        if lesion.voxels < 2:  # a single voxel cannot shrink
            amplitude = abs(amplitude)
        ratio = _target(lesion, growth, amplitude > 0, log_share)
        if any_ratio is not None:
            ratio = _at_least_a_voxel(lesion, any_ratio, amplitude > 0)
        draws.append(GrowthDraw(lesion.lesion_id, amplitude, ratio, modulation_seed))
    return tuple(draws)


def _target(lesion: LabelledLesion, growth: GrowthSettings, grows: bool, share: float) -> float:
    """Draw a volume ratio, uniform in the logarithm, that changes and leaves at least one voxel each."""
    low, high = growth.growth_ratio if grows else growth.shrinkage_ratio
    return _at_least_a_voxel(lesion, float(low * (high / low) ** share), grows)


def _at_least_a_voxel(lesion: LabelledLesion, ratio: float, grows: bool) -> float:
    """Return the ratio, or the nearest one that is a change by a voxel and leaves one."""
    if grows:
        return max(ratio, 1 + 1 / lesion.voxels)
    return min(max(ratio, 1 / lesion.voxels), 1 - 1 / lesion.voxels)


def _any_ratio(growth: GrowthSettings, rng: np.random.Generator) -> float | None:
    """Draw a ratio of either direction; None if it depends on the amplitude."""
    is_drawn, (low, high) = rng.random() < growth.p_any_ratio, growth.any_ratio
    return float(low * (high / low) ** rng.random()) if is_drawn else None


def _vanishing(scan: ScanLesions, events: EventSettings, streams: _RandomStreams) -> tuple[VanishDraw, ...]:
    draws = []
    for lesion in scan.lesions:
        rng = streams("vanish", lesion.lesion_id)
        if rng.random() < events.p_vanish and lesion.volume_ml <= events.vanish_max_ml:
            filling, residue = draw_filling(events, streams("filling", lesion.lesion_id))
            draws.append(VanishDraw(lesion.lesion_id, draw_seed(rng), filling, residue))
    return tuple(draws)


def _merging(
    scan: ScanLesions, events: EventSettings, streams: _RandomStreams, busy: set[int]
) -> tuple[MergeDraw, ...]:
    """Draw pairs to merge, the nearest first; a lesion merges with at most one other."""
    draws: list[MergeDraw] = []
    taken = set(busy)
    for pair in sorted(scan.pairs, key=lambda pair: pair.gap_mm):
        rng = streams("merge", pair.first * (MAX_LESION_ID + 1) + pair.second)
        is_drawn, seed = rng.random() < events.p_merge, draw_seed(rng)
        if is_drawn and pair.gap_mm <= events.merge_max_gap_mm and not taken & {pair.first, pair.second}:
            draws.append(MergeDraw(pair.first, pair.second, pair.gap_mm, seed))
            taken |= {pair.first, pair.second}
    return tuple(draws)


def _splitting(
    scan: ScanLesions, events: EventSettings, streams: _RandomStreams, busy: set[int]
) -> tuple[SplitDraw, ...]:
    draws = []
    for lesion in scan.lesions:
        rng = streams("split", lesion.lesion_id)
        is_drawn = rng.random() < events.p_split
        tilt, offset = _triple(rng.normal(0, 0.2, 3)), float(rng.uniform(-0.25, 0.25))
        gap, seed = float(rng.uniform(*events.split_gap_mm)), draw_seed(rng)
        if is_drawn and lesion.lesion_id not in busy and lesion.radius_mm >= events.split_min_radius_mm:
            draws.append(SplitDraw(lesion.lesion_id, tilt, offset, gap, seed))
    return tuple(draws)


def _new(scan: ScanLesions, settings: SynthesisSettings, streams: _RandomStreams) -> tuple[NewDraw, ...]:
    events = settings.events
    count = min(int(streams("new").poisson(events.new_mean)), events.new_max)
    donors = [lesion.lesion_id for lesion in scan.lesions if lesion.volume_ml <= events.new_max_ml]
    fresh = _fresh_ids(scan, (streams.number - 1) * events.new_max, count)
    draws = []
    for item, lesion_id in enumerate(fresh, start=1):
        rng = streams("new", item)
        copied, chosen = rng.random() < events.p_new_copied, rng.random()
        sign = 1.0 if rng.random() < 0.5 else -1.0
        radius, flips = rng.uniform(*events.new_radius_mm), rng.random(3) < 0.5
        donor = donors[int(chosen * len(donors))] if copied and donors else None
        draws.append(
            NewDraw(
                lesion_id,
                donor,
                mirrored=(bool(flips[0]), bool(flips[1]), bool(flips[2])),
                radii_mm=_triple(radius * rng.uniform(0.8, 1.25, 3)),
                contrast_hu=sign * float(rng.uniform(*events.new_contrast_hu)),
                lung_hu=float(rng.uniform(*events.new_lung_hu)),
                place_seed=draw_seed(rng),
                texture_seed=draw_seed(rng),
                style=None if donor is not None else draw_style(settings.new, streams("new-style", item)),
            )
        )
    return tuple(draws)


def _fresh_ids(scan: ScanLesions, skipped: int, count: int) -> list[int]:
    """List ids that neither a scan of the patient nor another follow-up uses, above all others if possible.

    Follow-ups may be paired with each other; hence each has its own ids, and those of the others are skipped.
    """
    used = {lesion.lesion_id for lesion in scan.lesions} | scan.patient_ids
    highest = max(used | {scan.highest_id})
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
        draw_seed(rng),
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
        draw_seed(rng),
        _triple(blur * voxel_mm) if is_blurred else None,
        brightness if is_brighter else None,
        contrast if is_contrasted else None,
    )


def _triple(values: np.ndarray) -> Vector:
    a, b, c = (float(value) for value in values)
    return (a, b, c)
