"""The settings of training that only the interactive network for PET/CT has.

Defaults are those of [Rokuss2025b] and its code unless a comment says otherwise; see docs/model_recipe.md,
Interactive training.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError

MOST_CLICKS = 10
"""Largest number of clicks of each kind."""


@dataclass(frozen=True, slots=True)
class InteractiveSettings:
    """Settings that other variants ignore."""

    # Share of patches that are centred on a voxel of tumour, if the study has any; nnU-Net: one of two.
    foreground_fraction: float = 0.5
    # The CT is turned and shifted against the PET, each with this probability.
    misalignment_probability: float = 0.1
    misalignment_degrees: float = 5.0
    misalignment_voxels: int = 2  # in the plane
    noisy_clicks: float = (
        0.2  # share of samples with clicks of the second scheme; the others: the challenge's
    )
    click_offset: int = 3  # -3 to +3 voxels along each axis, within tumour or background
    organs: int = -1  # organs of the second head; -1: those that the data are labelled with, 0: no such head

    def check_interactive(self) -> None:
        """Check that all values are in their range.

        Raises:
            InputError: one is not.
        """
        for name in ("foreground_fraction", "misalignment_probability", "noisy_clicks"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}: is {getattr(self, name)}; expected 0 to 1")
        for name, least in (
            ("misalignment_degrees", 0.0),
            ("misalignment_voxels", 0),
            ("click_offset", 0),
            ("organs", -1),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name}: is {getattr(self, name)}; expected {least} or more")
