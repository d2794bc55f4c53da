"""Intensity augmentation, drawn for each scan: nnU-Net's set, from `batchgeneratorsv2`.

See docs/model_recipe.md, Augmentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from ..network.resample import FloatVolume


def augment_intensity(images: FloatVolume, flat: bool, rng: np.random.Generator) -> FloatVolume:
    """Apply noise, blur, brightness, contrast, low resolution and gamma, each with its probability.

    The noise has one strength for all scans of a sample; everything else is drawn for each scan.

    Args:
        images: float32 [N, z, y, x], the normalised CTs of a sample; overwritten.
        flat: simulate low resolution in the plane (y, x) only.
        rng: seeds the library's generators.

    Returns:
        float32 [N, z, y, x].
    """
    with _seeded(int(rng.integers(2**31))):
        changed: FloatVolume = _transforms(flat)(image=torch.from_numpy(images))["image"].numpy()
    return changed


@cache
def _transforms(flat: bool) -> BasicTransform:
    own = {"synchronize_channels": False, "p_per_channel": 1.0}
    gamma = BGContrast((0.7, 1.5))
    steps = (
        (GaussianNoiseTransform((0, 0.1), p_per_channel=1, synchronize_channels=True), 0.1),
        # Its benchmark picks the faster convolution by timing, which may differ between two runs.
        (GaussianBlurTransform((0.5, 1.0), p_per_channel=0.5, benchmark=False), 0.2),
        (MultiplicativeBrightnessTransform(BGContrast((0.75, 1.25)), **own), 0.15),
        (ContrastTransform(BGContrast((0.75, 1.25)), preserve_range=True, **own), 0.15),
        (
            SimulateLowResolutionTransform(
                (0.5, 1),
                synchronize_channels=False,
                synchronize_axes=True,
                ignore_axes=(0,) if flat else None,
                p_per_channel=0.5,
            ),
            0.25,
        ),
        (GammaTransform(gamma, p_invert_image=1, p_retain_stats=1, **own), 0.1),
        (GammaTransform(gamma, p_invert_image=0, p_retain_stats=1, **own), 0.3),
    )
    return ComposeTransforms([RandomTransform(step, probability) for step, probability in steps])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that the library draws from, and restore their state afterwards."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)
