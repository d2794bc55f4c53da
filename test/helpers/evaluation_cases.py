"""Small labelmaps and records for the tests."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from model.case.geometry import Geometry
from model.case.images import write_image
from model.cli.evaluate import add_arguments, run
from model.evaluation.records import LesionRecord, Scope

GRID = Geometry((20, 16, 12), (1.0, 2.0, 2.5), (-10.0, 20.0, 5.0))
"""Voxels of 5 mm³."""

Block = tuple[int, slice, slice, slice]


def labels(*blocks: Block, dtype: type = np.uint16, grid: Geometry = GRID) -> np.ndarray:
    """A labelmap of blocks: id, z, y, x."""
    array: np.ndarray = np.zeros(grid.shape_zyx, dtype)
    for value, z, y, x in blocks:
        array[z, y, x] = value
    return array


def block(value: int, z: int = 2, y: int = 2, x: int = 2, depth: int = 2, width: int = 4) -> Block:
    """``depth`` x 2 x ``width`` voxels from z, y, x on."""
    return (value, slice(z, z + depth), slice(y, y + 2), slice(x, x + width))


def write(path: Path, *blocks: Block, dtype: type = np.uint16, grid: Geometry = GRID) -> Path:
    write_image(path, labels(*blocks, dtype=dtype, grid=grid), grid)
    return path


def command(*arguments: str | Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args([str(argument) for argument in arguments])) == 0


def record(
    reference: int = 10,
    prediction: int = 10,
    common: int = 0,
    *,
    patient: str = "p",
    scan: str = "s",
    step: int = 1,
    lesion: str = "1",
    existed: bool | None = True,
    is_missing: bool = False,
    fn: int = 0,
    fp: int = 0,
    centre_mm: float | None = None,
    scope: Scope = Scope.LESION,
    baseline_ml: float | None = None,
) -> LesionRecord:
    """A record of voxels of 0.01 ml in a scan with a diagonal of 500 mm."""
    has_both = reference > 0 and prediction > 0
    return LesionRecord(
        patient=patient,
        scan=scan,
        step=step,
        scope=scope,
        lesion=lesion,
        baseline_ids=(1,),
        reference_ids=(1,),
        prediction_ids=(1,),
        existed=existed,
        is_missing=is_missing,
        voxel_ml=0.01,
        diagonal_mm=500.0,
        baseline_ml=baseline_ml,
        reference_voxels=reference,
        prediction_voxels=prediction,
        common_voxels=common,
        fn_voxels=fn,
        fp_voxels=fp,
        nsd_2mm=0.5 if has_both else None,
        hd95_mm=3.0 if has_both else None,
        assd_mm=1.0 if has_both else None,
        centre_mm=centre_mm if has_both else None,
    )
