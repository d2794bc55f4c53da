"""Simulated clicks or a scribble for one reference, from files to a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from ..case.file_grid import FileGrid
from ..case.images import Image, read_image
from ..case.tumor_clicks import write_tumor_clicks
from ..case.voxel_checks import lesion_labels
from ..click_simulation.challenge_clicks import ChallengeRules, challenge_clicks
from ..click_simulation.error_scribbles import ScribbleStyle, error_scribble
from ..errors import InputError


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
    reference = read_image(labels)
    uptake = _on_grid_of(labels, reference, pet)
    lesions = lesion_labels(labels, reference.array) > 0
    clicks = challenge_clicks(lesions, uptake.array, rules, np.random.RandomState(seed))
    write_tumor_clicks(output, clicks)
    return Counter(click.kind for click in clicks)


def write_simulated_scribble(
    labels: Path, prediction: Path, output: Path, style: ScribbleStyle, seed: int
) -> Counter[str]:
    """Draw a scribble on the largest error of a segmentation and write it in the platform's form.

    Args:
        labels: reference, tumour above 0.
        prediction: segmentation on the same grid, tumour above 0.
        output: the click file; points are voxel indices (x, y, z) of that grid.
        style: of the scribble.
        seed: of the random numbers.

    Returns:
        Number of points by kind; none if there is no error.

    Raises:
        InputError: a file cannot be used, or the grids differ.
        OutputError: the click file cannot be written.
    """
    reference = read_image(labels)
    segmented = _on_grid_of(labels, reference, prediction)
    grid = FileGrid.of(reference.geometry)
    masks = [
        grid.axial_labels((lesion_labels(path, image.array) > 0).astype(np.uint8)) > 0
        for path, image in ((labels, reference), (prediction, segmented))
    ]
    scribble = error_scribble(masks[0], masks[1], style, np.random.default_rng(seed))
    write_tumor_clicks(output, scribble, grid.file_point)
    return Counter(click.kind for click in scribble)


def _on_grid_of(labels: Path, reference: Image, path: Path) -> Image:
    """Read an image that must lie on the grid of the reference."""
    image = read_image(path)
    if not image.geometry.same_grid(reference.geometry):
        raise InputError(
            f"{path}: lies on another grid than {labels.name}: {image.geometry.describe()}; expected "
            f"{reference.geometry.describe()}"
        )
    return image
