"""Simulated clicks of one reference and its PET, from files to a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from ..case.images import Image, read_image
from ..case.tumor_clicks import write_tumor_clicks
from ..case.voxel_checks import lesion_labels
from ..click_simulation.challenge_clicks import ChallengeRules, challenge_clicks
from ..errors import InputError
from .loaded_case import BoolArray


def write_simulated_clicks(
    labels: Path, pet: Path, output: Path, rules: ChallengeRules, seed: int
) -> Counter[str]:
    """Draw clicks by the challenge's rules and write them in the platform's form.

    Args:
        labels: reference, tumour above 0.
        pet: on the same grid.
        output: the click file; points are voxel indices (x, y, z) of that grid.
        rules: of the simulation.
        seed: of the random numbers.

    Returns:
        Number of clicks by kind.

    Raises:
        InputError: a file cannot be used, or the grids differ.
        LongilesionError: the published script would not end, or stop.
        OutputError: the click file cannot be written.
    """
    reference, image = _reference(labels)
    uptake = read_image(pet)
    if not uptake.geometry.same_grid(image.geometry):
        raise InputError(
            f"{pet}: lies on another grid than {labels.name}: {uptake.geometry.describe()}; expected "
            f"{image.geometry.describe()}"
        )
    clicks = challenge_clicks(reference, uptake.array, rules, np.random.RandomState(seed))
    write_tumor_clicks(output, clicks)
    return Counter(click.kind for click in clicks)


def _reference(path: Path) -> tuple[BoolArray, Image]:
    image = read_image(path)
    return lesion_labels(path, image.array) > 0, image
