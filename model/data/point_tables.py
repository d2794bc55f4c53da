"""Voxels of a lesion from which training draws points, deep ones more often.

LesionLocator's and [Kirchhoff2025]'s pretraining draw a point in a lesion with a probability that grows with
the square of its depth, from at most a thousand stored voxels. Depth is in mm here, so that thick slices do
not count as shallow, and ids are not limited to 255.
"""

from __future__ import annotations

import io
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
    """Voxels (N, 3) of the prepared grid (z, y, x), int32, and their squared depth in mm², float32 (N,).

    A lesion of any size has at least one, unless resampling took all of it.
    """

    voxels_zyx: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]

    @property
    def is_empty(self) -> bool:
        """Whether no point can be drawn from it."""
        return len(self.voxels_zyx) == 0 or not float(self.weights.sum()) > 0


NO_VOXELS = LesionVoxels(np.zeros((0, 3), np.int32), np.zeros(0, np.float32))


def sample_voxels(
    mask: npt.NDArray[np.bool_],
    start_zyx: Index,
    spacing_zyx: Vector,
    random: np.random.Generator,
    count: int = MAX_VOXELS,
) -> LesionVoxels:
    """At most ``count`` random voxels of a lesion, in the array's order.

    Args:
        mask: the lesion in a box round it; depth is the distance to the nearest voxel outside of it, and
            what lies beyond the box is outside.
        start_zyx: the box's first voxel.
    """
    found = np.argwhere(mask)
    if not len(found):
        return NO_VOXELS
    if len(found) > count:
        found = found[np.sort(random.choice(len(found), count, replace=False))]
    depth = distance_transform_edt(np.pad(mask, 1), sampling=spacing_zyx)[1:-1, 1:-1, 1:-1]
    weights = np.square(depth[tuple(found.T)]).astype(np.float32)
    return LesionVoxels((found + np.asarray(start_zyx)).astype(np.int32), weights)


def lesion_random(seed: int, scan_id: str, lesion_id: int) -> np.random.Generator:
    """Numbers that depend on nothing but the seed and the lesion."""
    return np.random.default_rng([seed, zlib.crc32(scan_id.encode()), lesion_id])


def write_voxels(path: Path, tables: Mapping[int, LesionVoxels]) -> None:
    """Write the tables of a scan's lesions into one file."""
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
    """The tables of a scan's lesions by lesion id; no code is run by reading them.

    Raises:
        InputError: the file is missing or is none of this kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            ids, counts, voxels, weights = (file[name] for name in ("ids", "counts", "voxels", "weights"))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected voxels of a prepared scan") from error
    ends = np.cumsum(counts)
    return {
        int(lesion_id): LesionVoxels(voxels[end - count : end], weights[end - count : end])
        for lesion_id, count, end in zip(ids, counts, ends, strict=True)
    }
