"""Reading scans: CT, mask and clicks of a `Scan`, decoded, checked and brought to axial order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import SimpleITK as sitk

from ..errors import InputError
from .case import Click, Scan, ScanFiles, Slot
from .clicks import read_clicks
from .file_grid import FileGrid
from .geometry import Geometry, flip_order
from .images import Image, image_of, read_image
from .machine_limits import usable_cores
from .shear import shear_warning
from .voxel_checks import hu_warnings, lesion_labels

ClickUnits = Literal["voxel", "world"]


def read_scans(
    jobs: Sequence[tuple[str, ScanFiles]], click_units: ClickUnits = "voxel", *, for_network: bool = True
) -> tuple[list[Scan], list[str]]:
    """Read and check scans in parallel.

    Args:
        jobs: name of the time point and files of each scan.
        click_units: of the click files: ``voxel`` for voxel indices (x, y, z) of the scan's file, ``world``
            for LPS mm.
        for_network: warn of voxels that a network does not take as they are.

    Returns:
        The scans in the same order, and warnings.

    Raises:
        InputError: a file cannot be used; the message names it.
    """
    # ITK releases the interpreter's lock while it decodes, so that threads read images in parallel. One core
    # is left to the thread that imports torch meanwhile.
    workers = max(1, usable_cores() - 1)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="read") as pool:
        pending = [(time_point, files, *_start_reading(pool, files)) for time_point, files in jobs]
        scans, warnings = [], []
        for time_point, files, ct, mask in pending:
            image = ct.result()
            if for_network:
                warnings += hu_warnings(f"{files.slot}-{time_point}-ct", image.array)
            loaded, notes = _scan(time_point, files, image, mask.result() if mask else None, click_units)
            scans.append(loaded)
            warnings += notes
    return scans, warnings


def _start_reading(pool: ThreadPoolExecutor, files: ScanFiles) -> tuple[Future[Image], Future[Image] | None]:
    return (
        pool.submit(read_image, files.ct, _no_log),
        pool.submit(read_image, files.mask, _no_log) if files.mask else None,
    )


def _no_log(_note: str) -> None:
    """An image's notes are among the warnings of its scan."""


def _scan(
    time_point: str, files: ScanFiles, ct: Image, mask: Image | None, click_units: ClickUnits
) -> tuple[Scan, list[str]]:
    grid = FileGrid.of(ct.geometry)
    warnings = [f"{files.ct.name}: {note}" for note in ct.notes]
    if grid.shear is not None:
        warnings.append(shear_warning(f"{files.slot}-{time_point}-ct", ct.geometry))
    labelmap = None
    if mask is not None and files.mask is not None:
        warnings += [f"{files.mask.name}: {note}" for note in mask.notes]
        _check_grid(files.mask, mask.geometry, f"its CT {files.ct.name}", ct.geometry)
        labelmap = grid.axial_labels(lesion_labels(files.mask, mask.array, warnings.append))
        if not labelmap.any():
            warnings.append(f"{files.slot}-{time_point}: the lesion mask is empty")
    scan = Scan(
        time_point=time_point,
        slot=files.slot,
        path=files.ct,
        file_geometry=ct.geometry,
        axes=grid.axes,
        ct=grid.axial_ct(ct.array),
        mask=labelmap,
        clicks=_clicks(files, grid, click_units),
        shear=grid.shear,
    )
    return scan, warnings


def _clicks(files: ScanFiles, grid: FileGrid, units: ClickUnits) -> tuple[Click, ...]:
    """Read a click file, and add the points that are not in a file."""
    clicks = read_clicks(files.clicks) if files.clicks is not None else {}
    points = dict(files.points_xyz)
    placed = []
    if units == "world":
        placed = [Click(lesion_id, grid.axial_world_point(mm)) for lesion_id, mm in clicks.items()]
    else:
        points |= clicks
    placed += [Click(lesion_id, grid.axial_point(flip_order(xyz))) for lesion_id, xyz in points.items()]
    return tuple(placed)


def _check_grid(name: Path | str, mask: Geometry, ct_name: str, ct: Geometry) -> None:
    if not mask.same_grid(ct):
        raise InputError(
            f"{name}: lies on another grid than {ct_name}: {mask.describe()}; expected {ct.describe()}"
        )


def scan_from_image(
    image: sitk.Image,
    *,
    mask: sitk.Image | None = None,
    clicks: Mapping[int, Sequence[float]] | None = None,
    time_point: str = "scan",
    slot: Slot = Slot.PRIMARY,
) -> Scan:
    """Make a scan from SimpleITK images in memory, whose voxels are not copied.

    Args:
        image: the CT in Hounsfield units, 3-D, one number per voxel.
        mask: lesion ids on the image's grid, 0 for background; None if there is no mask.
        clicks: lesion id -> voxel index (z, y, x), the image's own index in reversed order.
        time_point: a name for the date of the scan.
        slot: which of the time point's scans it is.

    Raises:
        InputError: an argument cannot be used; the message begins with its name.
    """
    ct = image_of("image", image)
    labels = None
    if mask is not None:
        labels = image_of("mask", mask)
        _check_grid("mask", labels.geometry, "the image", ct.geometry)
    return Scan.from_array(
        ct.array,
        ct.geometry.spacing_zyx,
        origin_xyz=ct.geometry.origin_xyz,
        direction=ct.geometry.direction,
        mask=labels.array if labels is not None else None,
        clicks=clicks,
        time_point=time_point,
        slot=slot,
    )
