"""Tables of lesion voxels from which pretraining draws points, deep ones more often.

The pretraining of [Rokuss2025] and [Kirchhoff2025] draws a point in a lesion with a probability that grows
with its squared depth, from at most a thousand stored voxels (docs/model_recipe.md, Sampling). Here depth is
in mm, so that thick slices do not count as shallow, and ids are not limited to 255.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from ..case.geometry import Index, Vector
from ..errors import InputError

MAX_VOXELS = 1000


@dataclass(frozen=True, eq=False)
class LesionVoxels:
    """Voxels of a lesion and their weights; at least one unless resampling lost all of the lesion.

    Attributes:
        voxels_zyx: int32 (N, 3), voxels (z, y, x) of the prepared grid.
        weights: float32 (N,), squared depth in mm².
    """

    voxels_zyx: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]

    @property
    def is_empty(self) -> bool:
        """True if there is no voxel to draw."""
        return len(self.voxels_zyx) == 0 or not float(self.weights.sum()) > 0


NO_VOXELS = LesionVoxels(np.zeros((0, 3), np.int32), np.zeros(0, np.float32))


def sample_voxels(
    mask: npt.NDArray[np.bool_],
    start_zyx: Index,
    spacing_zyx: Vector,
    random: np.random.Generator,
    count: int = MAX_VOXELS,
) -> LesionVoxels:
    """Draw random voxels of a lesion without replacement.

    Args:
        mask: the lesion within a box, bool (z, y, x); everything beyond the box is background.
        start_zyx: first voxel of the box on the prepared grid.
        spacing_zyx: mm. The depth of a voxel is its distance to the nearest background voxel.
        random: generator of the draw.
        count: maximum number of voxels.

    Returns:
        The voxels in the order of the array.
    """
    voxels = np.argwhere(mask)
    if not len(voxels):
        return NO_VOXELS
    if len(voxels) > count:
        voxels = voxels[np.sort(random.choice(len(voxels), count, replace=False))]
    depth = distance_transform_edt(np.pad(mask, 1), sampling=spacing_zyx)[1:-1, 1:-1, 1:-1]
    weights = np.square(depth[tuple(voxels.T)]).astype(np.float32)
    return LesionVoxels((voxels + np.asarray(start_zyx)).astype(np.int32), weights)


def lesion_random(seed: int, scan_id: str, lesion_id: int) -> np.random.Generator:
    """A generator that depends on the seed and the lesion alone."""
    return np.random.default_rng([seed, zlib.crc32(scan_id.encode()), lesion_id])


def write_voxels(path: Path, tables: Mapping[int, LesionVoxels]) -> None:
    """Write the tables of a scan's lesions, by lesion id, into one file."""
    ids = sorted(tables)
    ordered = [tables[lesion_id] for lesion_id in ids] or [NO_VOXELS]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        ids=np.asarray(ids, np.int32),
        counts=np.asarray([len(tables[lesion_id].weights) for lesion_id in ids], np.int64),
        voxels=np.concatenate([table.voxels_zyx for table in ordered]),
        weights=np.concatenate([table.weights for table in ordered]),
    )
    path.write_bytes(buffer.getvalue())


def read_voxels(path: Path) -> dict[int, LesionVoxels]:
    """Read the tables of a scan's lesions, by lesion id; pickles are refused.

    Raises:
        InputError: the file is missing or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            ids, counts, voxels, weights = (file[name] for name in ("ids", "counts", "voxels", "weights"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected voxels of a prepared scan") from error
    ends = np.cumsum(counts)
    return {
        int(lesion_id): LesionVoxels(voxels[end - count : end], weights[end - count : end])
        for lesion_id, count, end in zip(ids, counts, ends, strict=True)
    }
