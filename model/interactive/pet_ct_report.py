"""The extras of a PET/CT: `run.json`, its lesions as labelmap and table, and the tumour probability."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..case.atomic_files import write_text
from ..case.geometry import Box, Index, flip_order
from ..case.images import write_image
from ..case.lesion_json import write_json
from ..case.pet_ct_outputs import LESIONS_FILE, ORGANS_FILE, PROBABILITY_FILE, RUN_FILE, TABLE_FILE
from ..case.pet_ct_scan import PetCtFiles, PetCtScan
from ..case.tumor_clicks import TumorClick
from ..inference.run_facts import (
    computing_facts,
    files_facts,
    finite_number,
    grid_facts,
    memory_facts,
    software_facts,
)
from ..network.resample import FloatVolume
from .lesion_uptake import LesionUptake, TotalUptake, measure_uptake, number_lesions, total_uptake
from .load_pet_ct import PetCtModel
from .segment_pet_ct import TumorSegmentation

_MEASURES = ("volume_ml", "suv_max", "suv_mean", "suv_peak", "tlg_ml")
_COLUMNS = ("lesion_id", "voxels", *_MEASURES, "hottest_x", "hottest_y", "hottest_z")


@dataclass(frozen=True, eq=False)
class PetCtRecord:
    """Contents of the extras of a run.

    Attributes:
        options: the options that matter for the result, as they are written.
        files: the input.
        scan: the images as they were read.
        model: that predicted.
        result: on the axial grid of the scan.
        mask: the file of the mask.
        seconds: wall time by stage.
    """

    options: Mapping[str, Any]
    files: PetCtFiles
    scan: PetCtScan
    model: PetCtModel
    result: TumorSegmentation
    mask: Path
    seconds: Mapping[str, float]


def write_pet_ct_extras(folder: Path, record: PetCtRecord) -> TotalUptake:
    """Measure the lesions, and write all files.

    Returns:
        The measures of all lesions together.

    Raises:
        OutputError: the folder cannot be written.
    """
    scan, result = record.scan, record.result
    labels = number_lesions(result.mask)
    lesions = measure_uptake(labels, scan.pet, scan.geometry)
    total = total_uptake(lesions)
    write_image(folder / LESIONS_FILE, scan.file_grid.file_labels(labels), scan.file_grid.geometry)
    _write_probability(folder / PROBABILITY_FILE, scan, result.probability())
    if result.organs is not None:
        organs = scan.file_grid.file_labels(result.organs)
        write_image(folder / ORGANS_FILE, organs, scan.file_grid.geometry)
    write_text(folder / TABLE_FILE, _table(lesions, total, scan))
    write_json(folder / RUN_FILE, _document(record, lesions, total), decimals=None)
    return total


def _write_probability(path: Path, scan: PetCtScan, values: FloatVolume) -> None:
    """Write the probability, float32 (z, y, x) on the axial grid, on the grid of the CT's file."""
    box, stored = scan.file_grid.file_values(Box.of_shape(values.shape), values)
    write_image(path, stored, scan.file_grid.geometry.cropped(box))


def _document(record: PetCtRecord, lesions: list[LesionUptake], total: TotalUptake) -> dict[str, Any]:
    scan, result, model = record.scan, record.result, record.model
    return {
        **software_facts(),
        "options": dict(record.options),
        "model": {
            "parts": [files_facts(manifest) for manifest in model.manifests],
            **computing_facts(model.ensemble),
        },
        "ct": {"file": record.files.ct.name, **grid_facts(scan.file_grid)},
        "pet": {"file": record.files.pet.name},
        "clicks": [_click(click, scan) for click in result.clicks],
        "lesions": [_lesion(lesion, scan) for lesion in lesions],
        "total": {"lesions": total.lesions, **_measures(total)},
        "warnings": [*scan.warnings, *model.warnings, *result.warnings, *model.ensemble.notes],
        "outputs": [str(record.mask)],
        "seconds": {name: round(value, 3) for name, value in record.seconds.items()},
        "peak_memory_mib": memory_facts(model.ensemble),
    }


def _click(click: TumorClick, scan: PetCtScan) -> dict[str, Any]:
    point_xyz = flip_order(scan.file_grid.file_point(click.point_zyx))
    point_mm = scan.geometry.zyx_to_world(click.point_zyx)
    return {
        "name": str(click.kind),
        "point_xyz": [round(value, 4) for value in point_xyz],
        "point_mm": [round(value, 4) for value in point_mm],
    }


def _lesion(lesion: LesionUptake, scan: PetCtScan) -> dict[str, Any]:
    return {
        "lesion_id": lesion.lesion_id,
        "voxels": lesion.voxels,
        **_measures(lesion),
        "hottest_xyz": _file_voxel(lesion.hottest_zyx, scan),
        "hottest_mm": [round(value, 4) for value in scan.geometry.zyx_to_world(lesion.hottest_zyx)],
        "peak_xyz": _file_voxel(lesion.peak_zyx, scan),
    }


def _measures(uptake: LesionUptake | TotalUptake) -> dict[str, float | None]:
    values = (uptake.volume_ml, uptake.suv_max, uptake.suv_mean, uptake.suv_peak, uptake.glycolysis_ml)
    return {name: finite_number(value) for name, value in zip(_MEASURES, values, strict=True)}


def _file_voxel(voxel_zyx: Index, scan: PetCtScan) -> list[float]:
    """Voxel index (x, y, z) on the grid of the CT's file; whole numbers unless that is sheared."""
    values = (round(value, 4) for value in flip_order(scan.file_grid.file_point(voxel_zyx)))
    return [int(value) if value == int(value) else value for value in values]


def _table(lesions: list[LesionUptake], total: TotalUptake, scan: PetCtScan) -> str:
    """CSV with a row per lesion, and a last one for all of them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for lesion in lesions:
        place = _file_voxel(lesion.hottest_zyx, scan)
        writer.writerow([lesion.lesion_id, lesion.voxels, *_measures(lesion).values(), *place])
    voxels = sum(lesion.voxels for lesion in lesions)
    writer.writerow(["total", voxels, *_measures(total).values(), "", "", ""])
    return text.getvalue()
