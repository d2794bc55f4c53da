"""The platform's sockets: reading a case from /input and writing its labelmaps to /output.

The interface is that of autoPET/CT IV, Task 2. `inputs.json`, if present, names the files of each socket;
otherwise they lie at fixed paths.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pydantic import AliasChoices, BaseModel, Field, ValidationError

from ..errors import InputError, OutputError
from .atomic_files import remove_partial_files
from .case import Case, CaseFiles, ScanFiles, Slot, TimePoint, TimePointName
from .clicks import read_clicks
from .geometry import Array, Geometry
from .images import find_image, read_geometry, write_image
from .input_files import is_regular_file, path_exists
from .scans import ClickUnits, read_scans
from .text_files import read_json

log = logging.getLogger(__name__)


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


_IMAGE_SLUGS = frozenset(
    slug for slot in Slot for slug in (*(_ct_slug(slot, time) for time in TimePointName), _mask_slug(slot))
)


def output_path(output_dir: Path, slot: Slot) -> Path:
    """Path of a follow-up scan's labelmap."""
    return output_dir / "images" / f"{slot}-followup-ct-tumor-lesion-seg" / "segmentation.mha"


def discover(input_dir: Path, needs_masks: bool = True) -> CaseFiles:
    """Find the files of a case without decoding them.

    Args:
        input_dir: the platform's input folder.
        needs_masks: every baseline scan must have a lesion mask.

    Raises:
        InputError: a required scan or mask is missing, or a folder does not hold exactly one image.
    """
    if not input_dir.is_dir():
        raise InputError(f"{input_dir}: the input folder is missing; expected a case of the interface in it")
    warnings: list[str] = []
    sockets = _existing_sockets(input_dir, warnings)
    baseline = _scans(sockets, input_dir, TimePointName.BASELINE, warnings)
    followup = _scans(sockets, input_dir, TimePointName.FOLLOWUP, warnings)
    files = CaseFiles(baseline, followup, tuple(warnings))
    if needs_masks:
        require_masks(files, input_dir)
    return files


def require_masks(files: CaseFiles, input_dir: Path) -> None:
    """Check that every baseline scan has a lesion mask.

    Raises:
        InputError: one has none.
    """
    for scan in files.baseline:
        if scan.mask is None:
            missing = input_dir / "images" / _mask_slug(scan.slot)
            ct = _ct_slug(scan.slot, TimePointName.BASELINE)
            raise InputError(f"{missing}: the folder is missing; expected the lesion mask of {ct} in it")


def _existing_sockets(input_dir: Path, warnings: list[str]) -> dict[str, Path]:
    """Slug -> existing file or folder; a listed image that is missing becomes a warning."""
    listing = input_dir / "inputs.json"
    if path_exists(listing):
        candidates = _listed_sockets(listing)
        warnings += [
            f"inputs.json lists {slug}, but {path} is missing; it is left out"
            for slug, path in candidates.items()
            if slug in _IMAGE_SLUGS and not (path_exists(path) or path.is_symlink())
        ]
    else:
        candidates = {}
        for slot in Slot:
            for time_point in TimePointName:
                image, clicks = _ct_slug(slot, time_point), _clicks_slug(slot, time_point)
                candidates[image] = input_dir / "images" / image
                candidates[clicks] = input_dir / f"{clicks}.json"
            candidates[_mask_slug(slot)] = input_dir / "images" / _mask_slug(slot)
    # A link that leads nowhere is a fault, not a missing file.
    return {slug: path for slug, path in candidates.items() if path_exists(path) or path.is_symlink()}


def _listed_sockets(listing: Path) -> dict[str, Path]:
    expected = 'entries of the form {"socket": {"slug": ..., "relative_path": ...}}'
    document = read_json(listing, expected)
    try:
        entries = _SocketList.model_validate({"entries": document}).entries
    except ValidationError as error:
        raise InputError(f"{listing}: is not a list of inputs; expected {expected}") from error
    found: dict[str, Path] = {}
    for socket in (entry.socket for entry in entries):
        path = listing.parent / socket.relative_path
        if found.setdefault(socket.slug, path) != path:
            raise InputError(f"{listing}: lists {socket.slug} twice, with two paths; expected one")
    return found


def _scans(
    sockets: Mapping[str, Path], input_dir: Path, time_point: TimePointName, warnings: list[str]
) -> tuple[ScanFiles, ...]:
    """Files of the primary scan of a time point and, if given, of the secondary one."""
    scans = []
    for slot in Slot:
        slug, clicks = _ct_slug(slot, time_point), sockets.get(_clicks_slug(slot, time_point))
        mask = sockets.get(_mask_slug(slot)) if time_point == TimePointName.BASELINE else None
        if slug not in sockets and slot == Slot.PRIMARY:
            raise InputError(f"{input_dir / 'images' / slug}: the folder is missing; expected a CT in it")
        if slug not in sockets:
            if mask is not None:
                raise InputError(f"{mask}: a lesion mask without its CT; expected {slug} beside it")
            if clicks is not None and read_clicks(clicks):
                warnings.append(
                    f"{clicks.name}: holds clicks of a scan that was not given; they are left out"
                )
            continue
        if clicks is None:
            warnings.append(f"{_clicks_slug(slot, time_point)}.json: is missing; read as an empty list")
        ct_file, mask_file = _image_file(sockets[slug]), _image_file(mask) if mask else None
        scans.append(ScanFiles(slot, ct_file, mask_file, clicks))
    return tuple(scans)


def _image_file(path: Path) -> Path:
    """The image of a socket, which names either a folder with one image or the image itself."""
    return path if is_regular_file(path) else find_image(path)


def read_case(files: CaseFiles, click_units: ClickUnits = "voxel") -> Case:
    """Decode and check all files of a case, in parallel.

    Args:
        files: from `discover`.
        click_units: ``voxel``: click points are voxel indices (x, y, z) of their scan; ``world``: LPS mm.

    Raises:
        InputError: a file cannot be used; the message names it.
    """
    jobs: list[tuple[str, ScanFiles]] = [(TimePointName.BASELINE, scan) for scan in files.baseline]
    jobs += [(TimePointName.FOLLOWUP, scan) for scan in files.followup]
    scans, warnings = read_scans(jobs, click_units)
    by_time = {
        name: TimePoint(name, tuple(scan for scan in scans if scan.time_point == name))
        for name in TimePointName
    }
    return Case(
        by_time[TimePointName.BASELINE], by_time[TimePointName.FOLLOWUP], (*files.warnings, *warnings)
    )


def remove_stale_outputs(output_dir: Path) -> None:
    """Delete the labelmaps of an earlier run, so that a failing run leaves no old result behind.

    Raises:
        OutputError: they cannot be deleted.
    """
    try:
        for slot in Slot:
            output_path(output_dir, slot).unlink(missing_ok=True)
        remove_partial_outputs(output_dir)
    except OSError as error:
        raise OutputError(
            f"{output_dir}: cannot be used ({error.strerror}); expected a writable folder"
        ) from error


def remove_partial_outputs(output_dir: Path) -> None:
    """Delete incomplete files of a run that was terminated; OutputError if they cannot be deleted."""
    remove_partial_files(*(output_path(output_dir, slot).parent for slot in Slot))


def empty_labelmaps(files: CaseFiles) -> dict[Slot, tuple[Array, Geometry]]:
    """Make empty labelmaps for the follow-up scans of a case from their headers.

    Returns:
        Slot -> zeros (z, y, x), uint8 in the axes of the scan's file, and their geometry.

    Raises:
        InputError: a header cannot be read.
    """
    grids = {scan.slot: read_geometry(scan.ct) for scan in files.followup}
    return {slot: (np.zeros(grid.shape_zyx, np.uint8), grid) for slot, grid in grids.items()}


def write_labelmaps(
    labelmaps: Mapping[Slot, tuple[Array, Geometry]], output_dir: Path, verify: bool = True
) -> None:
    """Write labelmaps to their sockets in parallel.

    Args:
        labelmaps: slot -> lesion ids (z, y, x) in the axes of the scan's file, and their geometry.
        output_dir: the platform's output folder.
        verify: read the files back and compare them.

    Raises:
        OutputError: a labelmap could not be written; the others are written all the same.
    """
    write_labelmap_files({output_path(output_dir, slot): one for slot, one in labelmaps.items()}, verify)


def write_labelmap_files(labelmaps: Mapping[Path, tuple[Array, Geometry]], verify: bool = True) -> None:
    """Write labelmaps in parallel.

    Args:
        labelmaps: file -> lesion ids (z, y, x) in the axes of the scan's file, and their geometry.
        verify: read the files back and compare them.

    Raises:
        OutputError: a labelmap could not be written; the others are written all the same.
    """
    with ThreadPoolExecutor(max_workers=len(Slot), thread_name_prefix="write") as pool:
        jobs = [
            pool.submit(write_image, path, *labelmap, verify=verify) for path, labelmap in labelmaps.items()
        ]
    for job in jobs:
        job.result()


def output_paths(output_dir: Path, slots: Iterable[Slot]) -> list[Path]:
    """Paths of a case's labelmaps."""
    return [output_path(output_dir, slot) for slot in slots]
