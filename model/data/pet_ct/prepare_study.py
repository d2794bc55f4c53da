"""Prepare a study: normalised and resampled by the functions of inference, in chunks on disk.

A stored patch equals a tile at inference bit by bit. Labelmaps are resampled label by label, linearly, and a
voxel belongs to a label from one half on, as in nnU-Net.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...case.atomic_files import remove_partial_files
from ...case.labelmaps import bounding_box
from ...case.lesion_json import write_json
from ...errors import OutputError
from ...network.pet_ct import PetCtGrid, network_images, pet_ct_grid
from ...network.plan import PetCtPlan
from ...network.spline_resample import coarse_axis, resample_volume
from ..planning.plan_files import pet_ct_preparation_of
from ..point_tables import LesionVoxels, lesion_random, write_voxels
from ..preprocess import write_volume
from ..provenance import Stamp, stamp_of
from ..store import (
    CT_FILE,
    LABELS_FILE,
    SCAN_FILE,
    VOXELS_FILE,
    LesionDocument,
    ScanDocument,
    read_scan_document,
    voxel_digest,
)
from .loaded_study import load_study
from .prepared_study import ORGANS_FILE, PET_FILE, TUMOR_LABEL
from .studies import PetCtStudy

_VERSION = 1
_LABEL_ORDER = 1
# As many as nnU-Net keeps to place patches on the foreground.
_TUMOR_VOXELS = 10_000


@dataclass(frozen=True, slots=True)
class StudyJob:
    """A study to prepare.

    Attributes:
        study: the study.
        plan: the plan of the network.
        folder: folder of the prepared study.
        seed: seed of the voxels that are kept.
    """

    study: PetCtStudy
    plan: PetCtPlan
    folder: Path
    seed: int


def is_study_prepared(job: StudyJob) -> bool:
    """True if the study has been prepared from the same files with the same settings."""
    document = read_scan_document(job.folder)
    return document is not None and document.stamp == _stamp(job)


def _stamp(job: StudyJob) -> Stamp:
    settings = ("PET/CT", _VERSION, pet_ct_preparation_of(job.plan), job.study.organs is not None, job.seed)
    return stamp_of(job.study.files, repr(settings))


def prepare_study(job: StudyJob) -> None:
    """Prepare one study.

    `scan.json` is written last: an interrupted study has none and is prepared again.

    Raises:
        InputError: its files cannot be read.
        OutputError: the store cannot be written.
    """
    stamp = _stamp(job)  # before reading: files that change meanwhile are read again next time
    loaded = load_study(job.study)
    scan = loaded.scan
    grid = pet_ct_grid(scan.ct, scan.pet, scan.geometry.spacing_zyx, job.plan)
    ct, pet = network_images(scan.ct, scan.pet, grid, job.plan)
    tumor = _resampled_mask(loaded.tumor, grid)
    volumes = {CT_FILE: ct, PET_FILE: pet, LABELS_FILE: tumor.astype(np.uint16)}
    if loaded.organs is not None:
        volumes[ORGANS_FILE] = _resampled_organs(loaded.organs, grid)
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        for name in (SCAN_FILE, ORGANS_FILE):
            (job.folder / name).unlink(missing_ok=True)
        remove_partial_files(job.folder)
        for name, volume in volumes.items():
            write_volume(job.folder / name, volume)
        write_voxels(job.folder / VOXELS_FILE, {TUMOR_LABEL: _kept_voxels(job, tumor)})
        digest = voxel_digest(job.folder, tuple(volumes))
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"{job.folder}: cannot be written ({error}); expected a writable folder with enough space"
        ) from error
    document = ScanDocument(
        stamp=stamp,
        scan_id=job.study.scan_id,
        patient_id=job.study.patient_id,
        shape_zyx=grid.shape,
        spacing_zyx=grid.target_mm,
        source_shape=grid.box.shape_zyx,
        source_spacing_mm=grid.spacing_mm,
        axis_order=grid.axes.order,
        axis_flipped=grid.axes.flipped,
        lesions=_lesions(tumor),
        digest=digest,
    )
    write_json(job.folder / SCAN_FILE, document.model_dump(mode="json"), decimals=None)


def _resampled_mask(mask: npt.NDArray[np.bool_], grid: PetCtGrid) -> npt.NDArray[np.bool_]:
    """A mask of the axial scan (z, y, x) on the network grid."""
    kept = grid.axes.array(mask)[grid.box.slices].astype(np.float32)
    coarse = coarse_axis(grid.spacing_mm, grid.target_mm)
    return resample_volume(kept, grid.shape, _LABEL_ORDER, coarse) >= 0.5


def _resampled_organs(organs: npt.NDArray[np.uint8], grid: PetCtGrid) -> npt.NDArray[np.uint8]:
    resampled = np.zeros(grid.shape, np.uint8)
    for label in np.unique(organs[organs > 0]):
        resampled[_resampled_mask(organs == label, grid)] = label
    return resampled


def _kept_voxels(job: StudyJob, tumor: npt.NDArray[np.bool_]) -> LesionVoxels:
    """Random voxels of tumour in the order of the array, all of the same weight."""
    voxels = np.argwhere(tumor).astype(np.int32)
    if len(voxels) > _TUMOR_VOXELS:
        rng = lesion_random(job.seed, job.study.scan_id, TUMOR_LABEL)
        voxels = voxels[np.sort(rng.choice(len(voxels), _TUMOR_VOXELS, replace=False))]
    return LesionVoxels(voxels, np.ones(len(voxels), np.float32))


def _lesions(tumor: npt.NDArray[np.bool_]) -> tuple[LesionDocument, ...]:
    box = bounding_box(tumor)
    if box is None:
        return ()
    whole = LesionDocument(
        lesion_id=TUMOR_LABEL, voxels=int(tumor.sum()), start_zyx=box.start_zyx, stop_zyx=box.stop_zyx
    )
    return (whole,)
