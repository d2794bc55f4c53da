"""The variants of networks that can be trained, and the settings that each was published with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Variant = Literal[
    "longitudinal", "mask-and-point", "point", "early-fusion", "difference-weighting", "interactive"
]

# LongiSeg 2.0 samples in another way than the challenge's trainers (docs/model_recipe.md, Sampling).
_TRACKING_SAMPLES: Mapping[str, Any] = {"drawn_points": True, "shift_voxels": 0}
DEFAULTS_OF_VARIANT: Mapping[Variant, Mapping[str, Any]] = {
    "early-fusion": _TRACKING_SAMPLES,
    "difference-weighting": _TRACKING_SAMPLES,
    "interactive": {"dice_smooth": 0.0},
}
