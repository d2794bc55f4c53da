"""A small oblique, anisotropic scan with lesions of all sizes, one of them cut by the border."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from model.case.geometry import Geometry
from model.synthesis.compose_followup import Baseline, Followup, compose_followup
from model.synthesis.draw_types import FollowupDraw
from model.synthesis.random_draws import draw_followup
from model.synthesis.scan_lesions import find_scan_lesions
from model.synthesis.settings import (
    AppearanceSettings,
    EventSettings,
    GrowthSettings,
    MotionSettings,
    SynthesisSettings,
)

BIG, SMALL, VOXEL, BORDER = 7, 300, 65_535, 9
_ANGLE = np.deg2rad(20)
DIRECTION = (
    float(np.cos(_ANGLE)),
    float(-np.sin(_ANGLE)),
    0.0,
    float(np.sin(_ANGLE)),
    float(np.cos(_ANGLE)),
    0.0,
    0.0,
    0.0,
    -1.0,
)
GRID = Geometry((64, 60, 30), (1.0, 1.1, 2.5), (-30.0, 55.0, 120.0), DIRECTION)

# Nothing but growth; each test switches on what it examines.
STILL = SynthesisSettings(
    GrowthSettings(),
    EventSettings(p_vanish=0, p_merge=0, p_split=0, new_mean=0),
    MotionSettings(p_elastic=0, p_rotation=0, p_scaling=0, p_translation=0),
    AppearanceSettings(p_noise=0, p_blur=0, p_brightness=0, p_contrast=0),
)


def events(settings: SynthesisSettings = STILL, **changes: Any) -> SynthesisSettings:
    return replace(settings, events=replace(settings.events, **changes))


def growth(settings: SynthesisSettings = STILL, **changes: Any) -> SynthesisSettings:
    return replace(settings, growth=replace(settings.growth, **changes))


def ball(labels: np.ndarray, centre_zyx: tuple[float, ...], radius_mm: float, value: int) -> None:
    axes = np.indices(labels.shape) - np.reshape(centre_zyx, (3, 1, 1, 1))
    distance = np.linalg.norm(axes * np.reshape(GRID.spacing_zyx, (3, 1, 1, 1)), axis=0)
    labels[distance <= radius_mm] = value


def scan(with_lesions: bool = True, with_small: bool = True) -> Baseline:
    """Soft tissue of 40 HU with some noise in air; lesions of 120 HU."""
    labels = np.zeros(GRID.shape_zyx, np.uint16)
    if with_lesions:
        ball(labels, (15, 22, 20), 7.0, BIG)
        ball(labels, (1, 42, 32), 5.0, BORDER)
    if with_lesions and with_small:
        ball(labels, (14, 24, 46), 3.5, SMALL)
        labels[20, 44, 46] = VOXEL
    body = np.zeros(GRID.shape_zyx, np.uint16)
    ball(body, (14.5, 29.5, 31.5), 80.0, 1)
    body[:, :4] = body[:, -4:] = body[:, :, :4] = body[:, :, -4:] = 0
    noise = np.random.default_rng(0).normal(0, 10, GRID.shape_zyx)
    hu = np.where(body > 0, 40.0, -1000.0) + np.where(labels > 0, 80.0, 0.0) + noise
    return Baseline(np.rint(hu).astype(np.int16), labels, GRID)


def made(
    baseline: Baseline, settings: SynthesisSettings, seed: int = 0, number: int = 1
) -> tuple[FollowupDraw, Followup]:
    lesions = find_scan_lesions(
        baseline.labels, baseline.geometry.spacing_zyx, settings.events.merge_max_gap_mm
    )
    draw = draw_followup(lesions, settings, seed, "phantom", number)
    return draw, compose_followup(baseline, lesions, draw, settings)


def voxels(labels: np.ndarray, lesion_id: int) -> int:
    return int(np.count_nonzero(labels == lesion_id))
