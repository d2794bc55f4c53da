"""Draws the kinds of change that a data set has only if its settings say so.

Each takes a random generator of its own, so that switching one on leaves all other values unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .draw_types import DensityDraw, NewStyleDraw, ReconstructionDraw, ResidueDraw
from .host_tissue import CLEARANCE_MM, TissueKind
from .scan_lesions import ScanLesions
from .settings import DensitySettings, EventSettings, NewStyleSettings, ReconstructionSettings

Streams = Callable[[str, int], np.random.Generator]
"""Random generator of a name and an item."""

_MAX_SEED = 2**63


def draw_style(settings: NewStyleSettings, rng: np.random.Generator) -> NewStyleDraw | None:
    """Draw the style of a new lesion; None if all are plain."""
    if settings.is_plain:
        return None
    by_tissue, is_close, is_rough, has_spicules = rng.random(4) < (
        settings.p_by_tissue,
        settings.p_close,
        settings.p_rough,
        settings.p_spiculated,
    )
    has_rim, has_core, is_sclerotic, is_bright = rng.random(4) < (
        settings.p_rim,
        settings.p_core,
        settings.p_sclerotic,
        0.5,
    )
    tissue = str(rng.choice([kind.value for kind in TissueKind]))
    roughness, spicules = float(rng.uniform(*settings.roughness)), round(rng.uniform(*settings.spicules))
    length, rim_mm = float(rng.uniform(*settings.spicule_length)), float(rng.uniform(*settings.rim_mm))
    rim_hu, core_hu = float(rng.uniform(*settings.rim_hu)), float(rng.uniform(*settings.core_hu))
    core_share, unevenness = (
        float(rng.uniform(*settings.core_share)),
        float(rng.uniform(*settings.unevenness)),
    )
    bone_hu = float(rng.uniform(*(settings.sclerotic_hu if is_sclerotic else settings.lytic_hu)))
    return NewStyleDraw(
        tissue if by_tissue else None,
        bool(is_close),
        settings.close_clearance_mm if is_close else CLEARANCE_MM,
        roughness if is_rough else 0.0,
        spicules if has_spicules else 0,
        length if has_spicules else 0.0,
        rim_mm if has_rim else 0.0,
        (rim_hu if is_bright else -rim_hu) if has_rim else 0.0,
        core_share if has_core else 0.0,
        core_hu,
        bone_hu,
        unevenness,
    )


def draw_filling(events: EventSettings, rng: np.random.Generator) -> tuple[int | None, ResidueDraw | None]:
    """Draw the seed of patches to fill a vanished lesion with, and its residue."""
    is_patched, is_left, sign = rng.random(3) < (events.p_patch_filling, events.p_residue, 0.7)
    patch_seed, residue_seed = draw_seed(rng), draw_seed(rng)
    hu, size = float(rng.uniform(*events.residue_hu)), float(rng.uniform(*events.residue_size))
    residue = ResidueDraw(hu if sign else -hu, size, residue_seed)
    return patch_seed if is_patched else None, residue if is_left else None


def draw_density(
    scan: ScanLesions, settings: DensitySettings, streams: Streams, gone: set[int]
) -> tuple[DensityDraw, ...]:
    """Draw changes of density of the lesions that stay."""
    draws = []
    for lesion in scan.lesions:
        rng = streams("density", lesion.lesion_id)
        chances = settings.p_shift, settings.p_necrosis, settings.p_calcified
        is_shifted, is_necrotic, is_calcified = rng.random(3) < chances
        shift, necrosis = float(rng.uniform(*settings.shift_hu)), float(rng.uniform(*settings.necrosis_hu))
        share, calcified = rng.uniform(*settings.necrosis_share), rng.uniform(*settings.calcified_hu)
        if lesion.lesion_id in gone or not (is_shifted or is_necrotic or is_calcified):
            continue
        draws.append(
            DensityDraw(
                lesion.lesion_id,
                shift if is_shifted else None,
                necrosis if is_necrotic else None,
                float(share),
                float(calcified) if is_calcified else None,
                draw_seed(rng),
            )
        )
    return tuple(draws)


def draw_reconstruction(settings: ReconstructionSettings, rng: np.random.Generator) -> ReconstructionDraw:
    """Draw another scanner and contrast phase."""
    has_noise, has_kernel, has_slices, has_tissue, has_vessels, is_sharp, is_brighter = rng.random(7) < (
        settings.p_noise,
        settings.p_kernel,
        settings.p_slices,
        settings.p_tissue,
        settings.p_vessels,
        settings.p_sharp,
        0.5,
    )
    noise, kernel = float(rng.uniform(*settings.noise_hu)), float(rng.uniform(*settings.kernel_mm))
    slices, tissue = float(rng.uniform(*settings.slice_mm)), float(rng.uniform(*settings.tissue_hu))
    factor = float(rng.uniform(*settings.vessel_factor))
    return ReconstructionDraw(
        (tissue if is_brighter else -tissue) if has_tissue else None,
        factor if has_vessels else None,
        (-kernel if is_sharp else kernel) if has_kernel else None,
        slices if has_slices else None,
        noise if has_noise else None,
        draw_seed(rng),
    )


def draw_gas_seed(events: EventSettings, rng: np.random.Generator) -> int | None:
    """Draw the seed of pockets of gas, None if they stay as they are."""
    is_redrawn, seed = rng.random() < events.p_gas, int(rng.integers(2**31))
    return seed if is_redrawn else None


def draw_seed(rng: np.random.Generator) -> int:
    """Draw the seed of a field of random numbers."""
    return int(rng.integers(_MAX_SEED))
