"""Checks of uploaded images before anything of them is decoded."""

from __future__ import annotations

import math
from pathlib import Path

from ..case.image_header import read_stored
from ..errors import InputError


def check_upload(path: Path, most_voxels: int) -> None:
    """Check that an uploaded image holds its own voxels, and not too many.

    Args:
        path: the file.
        most_voxels: of one image.

    Raises:
        InputError: it is no image, names other files for its voxels, or is too large.
    """
    stored = read_stored(path)
    if any(part.path != path for part in stored.parts):
        raise InputError(f"{path}: names another file for its voxels; expected an image in one file")
    count = math.prod(stored.sizes)
    if count > most_voxels:
        raise InputError(f"{path}: has {count} voxels; expected at most {most_voxels}")
