"""Prepare a scan: normalised and resampled as at inference, in chunks on disk.

CT and lesions are extracted slab by slab by the functions that extract patches at inference
(`network.patches`), so that a stored patch equals a patch at inference bit by bit. The published training
[Kirchhoff2025] resamples CTs with cubic splines (nearest neighbour across thick slices), but its inference is
trilinear, so its network sees other images at inference than in training.

CTs are stored as float32: float16 would save 1.4 of 2.6 bytes a voxel after compression, at an error of up to
0.28 HU (measured on CTs clipped to -918 ... 723 HU), but break that equality.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import blosc2
import numpy as np
import numpy.typing as npt

from ..case.atomic_files import remove_partial_files
from ..case.case import Scan
from ..case.geometry import Array, Box, Geometry, Index
from ..case.labelmaps import bounding_box, label_boxes
from ..case.lesion_json import write_json
from ..errors import OutputError
from ..network.patches import NetworkGrid, extract_ct, extract_mask
from ..network.plan import Plan
from ..network.resample import touched_box
from .dataset import RawScan
from .planning.plan_files import preparation_of
from .point_tables import LesionVoxels, lesion_random, sample_voxels, write_voxels
from .prepared_grid import prepared_grid
from .provenance import Stamp, stamp_of
from .scan_survey import load_scan
from .store import (
    CT_FILE,
    LABELS_FILE,
    SCAN_FILE,
    VOXELS_FILE,
    LesionDocument,
    ScanDocument,
    read_scan_document,
    voxel_digest,
)

# Patches are read at random positions: chunks are the units of reading, blocks those of decompression.
_CHUNK = (64, 64, 64)
_BLOCK = (16, 32, 32)
# Higher levels take ten times as long and save two percent (measured).
_COMPRESSION_LEVEL = 1
VERSION = 1


@dataclass(frozen=True, slots=True)
class PreparationJob:
    """A scan to prepare.

    Attributes:
        scan: the scan.
        like: file geometry of the scan whose axis signs it takes.
        plan: the plan of the network.
        folder: folder of the prepared scan.
        seed: seed of the point tables.
    """

    scan: RawScan
    like: Geometry
    plan: Plan
    folder: Path
    seed: int


@dataclass(frozen=True, eq=False)
class _Lesion:
    lesion_id: int
    box: Box
    mask: npt.NDArray[np.bool_]


def is_prepared(job: PreparationJob) -> bool:
    """True if the scan has been prepared from the same files with the same settings."""
    document = read_scan_document(job.folder)
    return document is not None and document.stamp == _stamp(job)


def _stamp(job: PreparationJob) -> Stamp:
    return stamp_of(job.scan.files, repr((VERSION, preparation_of(job.plan), job.like.direction, job.seed)))


def prepare_scan(job: PreparationJob) -> None:
    """Prepare one scan.

    `scan.json` is written last: an interrupted scan has none and is prepared again.

    Raises:
        InputError: its files cannot be read.
        OutputError: the store cannot be written.
    """
    stamp = _stamp(job)  # before reading: files that change meanwhile are read again next time
    scan = load_scan(job.scan)
    grid = prepared_grid(scan.file_geometry, job.like, job.plan)
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / SCAN_FILE).unlink(missing_ok=True)
        remove_partial_files(job.folder)
        lesions = list(_lesions(scan, grid))
        _write_volumes(job.folder, scan, grid, lesions, job.plan)
        write_voxels(job.folder / VOXELS_FILE, _point_tables(job, grid, lesions))
        digest = voxel_digest(job.folder)
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"{job.folder}: cannot be written ({error}); expected a writable folder with enough space"
        ) from error
    document = ScanDocument(
        stamp=stamp,
        scan_id=job.scan.scan_id,
        patient_id=job.scan.patient_id,
        shape_zyx=grid.shape,
        spacing_zyx=grid.target_spacing_mm,
        source_shape=grid.source_shape,
        source_spacing_mm=grid.source_spacing_mm,
        axis_order=grid.axes.order,
        axis_flipped=grid.axes.flipped,
        lesions=tuple(_document(lesion) for lesion in lesions),
        digest=digest,
    )
    write_json(job.folder / SCAN_FILE, document.model_dump(mode="json"), decimals=None)


def _point_tables(
    job: PreparationJob, grid: NetworkGrid, lesions: Sequence[_Lesion]
) -> dict[int, LesionVoxels]:
    return {
        lesion.lesion_id: sample_voxels(
            lesion.mask,
            lesion.box.start_zyx,
            grid.target_spacing_mm,
            lesion_random(job.seed, job.scan.scan_id, lesion.lesion_id),
        )
        for lesion in lesions
    }


def _document(lesion: _Lesion) -> LesionDocument:
    return LesionDocument(
        lesion_id=lesion.lesion_id,
        voxels=int(lesion.mask.sum()),
        start_zyx=lesion.box.start_zyx,
        stop_zyx=lesion.box.stop_zyx,
    )


def _lesions(scan: Scan, grid: NetworkGrid) -> Iterator[_Lesion]:
    """Resample each lesion on its own, within its bounding box; one that vanishes gets an empty box."""
    assert scan.mask is not None
    for lesion_id, axial_box in label_boxes(scan.mask).items():
        source = grid.axes.box(axial_box, grid.axial_shape_zyx)
        reach = touched_box(grid.source_shape, grid.shape, source)
        inner = None
        if not reach.is_empty:
            mask = extract_mask(scan, lesion_id, grid, reach) > 0
            inner = bounding_box(mask)
        if inner is None:
            yield _Lesion(lesion_id, Box.of_shape((0, 0, 0)), np.zeros((0, 0, 0), bool))
        else:
            yield _Lesion(lesion_id, inner.shifted(reach.start_zyx), mask[inner.slices].copy())


def _write_volumes(
    folder: Path, scan: Scan, grid: NetworkGrid, lesions: Sequence[_Lesion], plan: Plan
) -> None:
    ct = _new_array(folder / CT_FILE, grid.shape, np.float32)
    labels = _new_array(folder / LABELS_FILE, grid.shape, np.uint16)
    depth, height, width = grid.shape
    for start in range(0, depth, _CHUNK[0]):
        slab = Box((start, 0, 0), (min(start + _CHUNK[0], depth), height, width))
        ct[slab.slices] = extract_ct(scan, grid, slab, plan.normalization)
        labels[slab.slices] = _painted(slab, lesions)


def _painted(slab: Box, lesions: Sequence[_Lesion]) -> npt.NDArray[np.uint16]:
    """The labelmap of a slab; lesions do not overlap, as no voxel can be more than half of two of them."""
    values = np.zeros(slab.shape_zyx, np.uint16)
    for lesion in lesions:
        common = slab.intersection(lesion.box)
        if not common.is_empty:
            part = lesion.mask[common.relative_to(lesion.box).slices]
            values[common.relative_to(slab).slices][part] = lesion.lesion_id
    return values


def write_volume(path: Path, values: Array) -> None:
    """Write a volume of a prepared scan.

    Args:
        path: the file.
        values: 3-D, in network axes.

    Raises:
        OSError, RuntimeError: it cannot be written.
    """
    z, y, x = values.shape
    _new_array(path, (z, y, x), values.dtype.type)[...] = values


def _new_array(path: Path, shape: Index, kind: type[np.generic]) -> blosc2.NDArray:
    chunks = tuple(min(c, n) for c, n in zip(_CHUNK, shape, strict=True))
    blocks = tuple(min(b, c) for b, c in zip(_BLOCK, chunks, strict=True))
    settings = {"codec": blosc2.Codec.ZSTD, "clevel": _COMPRESSION_LEVEL, "nthreads": 1}
    return blosc2.empty(
        shape, np.dtype(kind), chunks=chunks, blocks=blocks, urlpath=str(path), mode="w", cparams=settings
    )
