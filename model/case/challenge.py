"""The platform's sockets: files under /input -> Case, labelmaps -> files under /output.

The interface is that of autoPET/CT IV, Task 2. Where `inputs.json` is present it names the files of each
socket, else the fixed paths do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import AliasChoices, BaseModel, Field, ValidationError

from ..errors import InputError, OutputError
from .case import (
    MAX_LESION_ID,
    Case,
    CaseFiles,
    Click,
    Scan,
    ScanFiles,
    Slot,
    TimePoint,
    TimePointName,
)
from .clicks import read_clicks
from .geometry import Array, Geometry, Vector, flip_order
from .images import TEMPORARY_PREFIX, Image, find_image, read_geometry, read_image, write_image

log = logging.getLogger(__name__)

ClickUnits = Literal["voxel", "world"]

# The range that a CT scanner can store in 12 bits; beyond it lie padding values and metal.
_PLAUSIBLE_HU = (-1024, 3071)


class _SocketName(BaseModel):
    slug: str
    relative_path: str


class _SocketEntry(BaseModel):
    # The platform renamed "interface" to "socket" and sends either or both.
    socket: _SocketName = Field(validation_alias=AliasChoices("socket", "interface"))


class _SocketList(BaseModel):
    entries: list[_SocketEntry]


def _ct_slug(slot: Slot, time_point: TimePointName) -> str:
    return f"{slot}-{time_point}-ct"


def _mask_slug(slot: Slot) -> str:
    return f"{slot}-baseline-ct-tumor-lesion-seg"


def _clicks_slug(slot: Slot, time_point: TimePointName) -> str:
    return f"{slot}-{time_point}-lesion-clicks"


def output_path(output_dir: Path, slot: Slot) -> Path:
    """Where the labelmap of a follow-up scan is written."""
    return output_dir / "images" / f"{slot}-followup-ct-tumor-lesion-seg" / "segmentation.mha"


def discover(input_dir: Path) -> CaseFiles:
    """Name the files of a case without decoding them.

    Raises:
        InputError: a required scan or mask is missing, or a folder does not hold exactly one image.
    """
    if not input_dir.is_dir():
        raise InputError(f"{input_dir}: the input folder is missing; expected a case of the interface in it")
    given = _given_sockets(input_dir)
    warnings: list[str] = []
    baseline = _scans(given, input_dir, TimePointName.BASELINE, warnings)
    followup = _scans(given, input_dir, TimePointName.FOLLOWUP, warnings)
    return CaseFiles(baseline, followup, tuple(warnings))


def _given_sockets(input_dir: Path) -> dict[str, Path]:
    """Slug -> file or folder that exists."""
    listing = input_dir / "inputs.json"
    if listing.exists():
        candidates = _listed_sockets(listing)
    else:
        candidates = {}
        for slot in Slot:
            for time_point in TimePointName:
                image, clicks = _ct_slug(slot, time_point), _clicks_slug(slot, time_point)
                candidates[image] = input_dir / "images" / image
                candidates[clicks] = input_dir / f"{clicks}.json"
            candidates[_mask_slug(slot)] = input_dir / "images" / _mask_slug(slot)
    return {slug: path for slug, path in candidates.items() if path.exists()}


def _listed_sockets(listing: Path) -> dict[str, Path]:
    try:
        text = listing.read_bytes().removeprefix(b"\xef\xbb\xbf")
        entries = _SocketList.model_validate_json(b'{"entries":' + text + b"}").entries
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{listing}: is not a list of inputs; expected entries of the form "
            '{"socket": {"slug": ..., "relative_path": ...}}'
        ) from error
    root = listing.parent
    return {entry.socket.slug: root / entry.socket.relative_path for entry in entries}


def _scans(
    given: Mapping[str, Path], input_dir: Path, time_point: TimePointName, warnings: list[str]
) -> tuple[ScanFiles, ...]:
    """The primary scan of a time point and, where it was given, the secondary one."""
    scans = []
    for slot in Slot:
        slug, clicks = _ct_slug(slot, time_point), given.get(_clicks_slug(slot, time_point))
        mask = given.get(_mask_slug(slot)) if time_point == TimePointName.BASELINE else None
        if slug not in given and slot == Slot.PRIMARY:
            raise InputError(f"{input_dir / 'images' / slug}: the folder is missing; expected a CT in it")
        if slug not in given:
            if mask is not None:
                raise InputError(f"{mask}: a lesion mask without its CT; expected {slug} beside it")
            if clicks is not None and read_clicks(clicks):
                warnings.append(
                    f"{clicks.name}: holds clicks of a scan that was not given; they are left out"
                )
            continue
        if time_point == TimePointName.BASELINE and mask is None:
            missing = input_dir / "images" / _mask_slug(slot)
            raise InputError(f"{missing}: the folder is missing; expected the lesion mask of {slug} in it")
        if clicks is None:
            warnings.append(f"{_clicks_slug(slot, time_point)}.json: is missing; read as an empty list")
        ct_file, mask_file = _image_file(given[slug]), _image_file(mask) if mask else None
        scans.append(ScanFiles(slot, ct_file, mask_file, clicks))
    return tuple(scans)


def _image_file(path: Path) -> Path:
    """A socket names a folder with one image; a path that is the image itself is taken as it is."""
    return path if path.is_file() else find_image(path)


def read_case(files: CaseFiles, click_units: ClickUnits = "voxel") -> Case:
    """Decode and check all files of a case, in parallel.

    Args:
        click_units: ``voxel``: click points are voxel indices (x, y, z) of their scan; ``world``: LPS mm.

    Raises:
        InputError: any file that cannot be used; the message names it.
    """
    jobs = [(TimePointName.BASELINE, scan) for scan in files.baseline]
    jobs += [(TimePointName.FOLLOWUP, scan) for scan in files.followup]
    # ITK releases the interpreter's lock while it decodes: threads read the images side by side. One core
    # is left to the thread that imports torch meanwhile.
    workers = max(1, (os.cpu_count() or 1) - 1)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="read") as pool:
        pending = [(kind, scan, *_start_reading(pool, scan)) for kind, scan in jobs]
        scans, warnings = [], list(files.warnings)
        for kind, scan, ct, mask in pending:
            loaded, notes = _scan(kind, scan, ct.result(), mask.result() if mask else None, click_units)
            scans.append(loaded)
            warnings += notes
    by_time = {
        name: TimePoint(name, tuple(scan for scan in scans if scan.time_point == name))
        for name in TimePointName
    }
    return Case(by_time[TimePointName.BASELINE], by_time[TimePointName.FOLLOWUP], tuple(warnings))


def _start_reading(pool: ThreadPoolExecutor, files: ScanFiles) -> tuple[Future[Image], Future[Image] | None]:
    return pool.submit(read_image, files.ct), pool.submit(read_image, files.mask) if files.mask else None


def _scan(
    time_point: TimePointName, files: ScanFiles, ct: Image, mask: Image | None, click_units: ClickUnits
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
        time_point=time_point, slot=files.slot, path=files.ct, file_geometry=ct.geometry, axes=axes,
        ct=axes.array(ct.array), mask=labelmap, owners=(ct, mask),
        clicks=tuple(
            Click(lesion_id, axes.point(flip_order(point_xyz), ct.geometry.shape_zyx))
            for lesion_id, point_xyz in clicks.items()
        ),
    )  # fmt: skip
    return scan, warnings


def _clicks(path: Path | None, geometry: Geometry, units: ClickUnits) -> dict[int, Vector]:
    """Lesion id -> voxel index (x, y, z) on the scan as its file stores it."""
    clicks = read_clicks(path) if path is not None else {}
    if units == "voxel":
        return clicks
    worlds = {lesion_id: geometry.world_to_voxel(point) for lesion_id, point in clicks.items()}
    return {lesion_id: (float(p[0]), float(p[1]), float(p[2])) for lesion_id, p in worlds.items()}


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
    labels = mask.array
    low, high = labels.min(), labels.max()
    whole = np.issubdtype(labels.dtype, np.integer)
    if not whole and not (np.isfinite([low, high]).all() and np.array_equal(labels, np.rint(labels))):
        raise InputError(f"{path}: holds values that are not whole numbers; expected a labelmap of ids")
    if low < 0 or high > MAX_LESION_ID:
        raise InputError(
            f"{path}: holds labels from {low:g} to {high:g}; expected lesion ids from 1 to {MAX_LESION_ID}"
        )
    return labels if whole else labels.astype(np.uint16)


def remove_stale_outputs(output_dir: Path) -> None:
    """Delete labelmaps of an earlier run, so that a run that fails leaves no old answer behind."""
    try:
        for slot in Slot:
            output_path(output_dir, slot).unlink(missing_ok=True)
        remove_partial_outputs(output_dir)
    except OSError as error:
        raise OutputError(
            f"{output_dir}: cannot be used ({error.strerror}); expected a writable folder"
        ) from error


def remove_partial_outputs(output_dir: Path) -> None:
    """Delete files that a run left half written when it was ended."""
    for slot in Slot:
        for partial in output_path(output_dir, slot).parent.glob(f"{TEMPORARY_PREFIX}*"):
            partial.unlink(missing_ok=True)


def empty_labelmaps(files: CaseFiles) -> dict[Slot, tuple[Array, Geometry]]:
    """All-zero labelmaps on the grids of the follow-up scans, from their headers alone."""
    grids = {scan.slot: read_geometry(scan.ct) for scan in files.followup}
    return {slot: (np.zeros(grid.shape_zyx, np.uint8), grid) for slot, grid in grids.items()}


def write_labelmaps(
    labelmaps: Mapping[Slot, tuple[Array, Geometry]], output_dir: Path, verify: bool = True
) -> None:
    """Write each labelmap (z, y, x, axes as in the scan's file) to its socket, side by side.

    Raises:
        OutputError: a labelmap was not written whole. The others are written all the same.
    """
    with ThreadPoolExecutor(max_workers=len(Slot), thread_name_prefix="write") as pool:
        jobs = [
            pool.submit(write_image, output_path(output_dir, slot), *labelmap, verify=verify)
            for slot, labelmap in labelmaps.items()
        ]
    for job in jobs:
        job.result()


def output_paths(output_dir: Path, slots: Iterable[Slot]) -> list[Path]:
    """The files of a case's outputs."""
    return [output_path(output_dir, slot) for slot in slots]
