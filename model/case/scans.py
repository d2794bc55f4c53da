"""Files of a scan -> `Scan`: CT, mask and clicks, decoded, checked and in axial order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import InputError
from .case import MAX_LESION_ID, Click, Scan, ScanFiles
from .clicks import read_clicks
from .geometry import Array, Geometry, Vector, flip_order
from .images import Image, read_image

ClickUnits = Literal["voxel", "world"]

# Of a voxel; arithmetic is off by less, and nobody clicks as exactly.
_WORLD_CLICK_DECIMALS = 6

# The range that a CT scanner can store in 12 bits; beyond it lie padding values and metal.
_PLAUSIBLE_HU = (-1024, 3071)


def read_scans(
    jobs: Sequence[tuple[str, ScanFiles]], click_units: ClickUnits = "voxel"
) -> tuple[list[Scan], list[str]]:
    """Scans with the names of their time points -> decoded scans in the same order, and warnings.

    Raises:
        InputError: any file that cannot be used; the message names it.
    """
    # ITK releases the interpreter's lock while it decodes: threads read the images side by side. One core
    # is left to the thread that imports torch meanwhile.
    workers = max(1, (os.cpu_count() or 1) - 1)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="read") as pool:
        pending = [(time_point, files, *_start_reading(pool, files)) for time_point, files in jobs]
        scans, warnings = [], []
        for time_point, files, ct, mask in pending:
            loaded, notes = _scan(
                time_point, files, ct.result(), mask.result() if mask else None, click_units
            )
            scans.append(loaded)
            warnings += notes
    return scans, warnings


def _start_reading(pool: ThreadPoolExecutor, files: ScanFiles) -> tuple[Future[Image], Future[Image] | None]:
    return pool.submit(read_image, files.ct), pool.submit(read_image, files.mask) if files.mask else None


def _scan(
    time_point: str, files: ScanFiles, ct: Image, mask: Image | None, click_units: ClickUnits
) -> tuple[Scan, list[str]]:
    axes = ct.geometry.axial_map()
    warnings = _voxel_warnings(f"{files.slot}-{time_point}-ct", ct.array)
    labelmap = None
    if mask is not None and files.mask is not None:
        labelmap = axes.array(_checked_mask(files.mask, mask, files.ct, ct.geometry))
        if not labelmap.any():
            warnings.append(f"{files.slot}-{time_point}: the lesion mask is empty")
    clicks = _clicks(files.clicks, ct.geometry, click_units)
    scan = Scan(
        time_point=time_point,
        slot=files.slot,
        path=files.ct,
        file_geometry=ct.geometry,
        axes=axes,
        ct=axes.array(ct.array),
        mask=labelmap,
        clicks=tuple(
            Click(lesion_id, axes.point(flip_order(point_xyz), ct.geometry.shape_zyx))
            for lesion_id, point_xyz in clicks.items()
        ),
    )
    return scan, warnings


def _clicks(path: Path | None, geometry: Geometry, units: ClickUnits) -> dict[int, Vector]:
    """Lesion id -> voxel index (x, y, z) on the scan as its file stores it."""
    clicks = read_clicks(path) if path is not None else {}
    if units == "voxel":
        return clicks
    # What a voxel index comes to through a turned matrix and back would else decide which voxel it lies in.
    found = {
        lesion_id: np.round(geometry.world_to_voxel(point), _WORLD_CLICK_DECIMALS).tolist()
        for lesion_id, point in clicks.items()
    }
    return {lesion_id: (x, y, z) for lesion_id, (x, y, z) in found.items()}


def _voxel_warnings(name: str, array: Array) -> list[str]:
    """What is odd about the voxels of a CT but can be mended by the plan's clipping."""
    warnings = []
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = array[np.isfinite(array)]
        count = array.size - finite.size
        warnings.append(
            f"{name}: {count} voxels are NaN or infinite; they become the plan's lower clip value"
        )
        low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    if low < _PLAUSIBLE_HU[0] or high > _PLAUSIBLE_HU[1]:
        warnings.append(
            f"{name}: values from {low:g} to {high:g} HU exceed {_PLAUSIBLE_HU[0]} to {_PLAUSIBLE_HU[1]}; "
            "they are clipped to the plan's range"
        )
    return warnings


def _checked_mask(path: Path, mask: Image, ct_path: Path, ct: Geometry) -> Array:
    """The mask as an integer labelmap on its CT's grid."""
    if not mask.geometry.same_grid(ct):
        raise InputError(
            f"{path}: lies on another grid than its CT {ct_path.name}: {mask.geometry.describe()}; "
            f"expected {ct.describe()}"
        )
    return lesion_labels(path, mask.array)


def lesion_labels(path: Path, labels: Array) -> Array:
    """The voxels of an image, whole numbers of any type, as an integer labelmap of lesion ids; 0 is none.

    Raises:
        InputError: other numbers, or ids out of range; the message names the path.
    """
    is_integer = np.issubdtype(labels.dtype, np.integer)
    if not is_integer and not np.array_equal(labels, np.rint(labels)):  # NaN equals nothing
        raise InputError(f"{path}: holds values that are not whole numbers; expected a labelmap of ids")
    low, high = labels.min(), labels.max()
    if low < 0 or high > MAX_LESION_ID:
        raise InputError(
            f"{path}: holds labels from {low:g} to {high:g}; expected lesion ids from 1 to {MAX_LESION_ID}"
        )
    return labels if is_integer else labels.astype(np.uint16)
