"""Prepared scans in memory with balls as lesions, and a small plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.case.geometry import Box, Index, Vector
from model.data.point_tables import LesionVoxels
from model.network.plan import Architecture, CtNormalization, Plan
from model.network.resample import FloatVolume
from model.training.config import TrainingConfig
from model.training.data_source import LesionPair, Patients, ScanPair, patients_of

PATCH: Index = (24, 24, 24)
SHAPE: Index = (40, 44, 48)


@dataclass(frozen=True, eq=False)
class MemoryScan:
    """A scan held in memory."""

    scan_id: str
    ct: FloatVolume
    labels: npt.NDArray[np.int32]

    @property
    def shape_zyx(self) -> Index:
        z, y, x = self.ct.shape
        return (z, y, x)

    def read_ct(self, box: Box) -> FloatVolume:
        return cut(self.ct, box, 0)

    def read_labels(self, box: Box) -> npt.NDArray[np.int32]:
        return cut(self.labels, box, -1)


def cut(array: npt.NDArray[Any], box: Box, fill: int) -> npt.NDArray[Any]:
    """A box of an array, filled up beyond it."""
    cut = np.full(box.shape_zyx, fill, array.dtype)
    inside = box.intersection(Box.of_shape(array.shape))
    if not inside.is_empty:
        cut[inside.relative_to(box).slices] = array[inside.slices]
    return cut


def scan(
    scan_id: str, balls: dict[int, tuple[Vector, float]], shape: Index = SHAPE, seed: int = 0
) -> MemoryScan:
    """A noisy scan with lesions: id -> (centre, radius) in voxels, two units brighter than the rest."""
    labels = np.zeros(shape, np.int32)
    distance = np.indices(shape).transpose(1, 2, 3, 0)
    for lesion_id, (centre, radius) in balls.items():
        labels[np.linalg.norm(distance - np.asarray(centre), axis=-1) <= radius] = lesion_id
    noise = np.random.default_rng(seed).normal(0, 0.3, shape)
    return MemoryScan(scan_id, (noise + 2.0 * (labels > 0)).astype(np.float32), labels)


def table(one: MemoryScan, lesion_id: int) -> LesionVoxels:
    voxels = np.argwhere(one.labels == lesion_id)
    depth = 10 - np.linalg.norm(voxels - voxels.mean(0), axis=1)
    return LesionVoxels(voxels.astype(np.int32), np.square(depth).astype(np.float32))


def pair(patient: str, seed: int = 0) -> ScanPair:
    """Lesion 1 grows, 2 vanishes, 3 and 4 merge into one lesion with the voxels of both ids."""
    baseline = scan(
        f"{patient}-0",
        {1: ((14, 14, 14), 4), 2: ((28, 30, 12), 3), 3: ((20, 30, 34), 3), 4: ((28, 30, 36), 3)},
        seed=seed,
    )
    followup = scan(
        f"{patient}-1", {1: ((15, 13, 16), 5), 3: ((21, 31, 33), 4), 4: ((27, 31, 35), 4)}, seed=seed + 1
    )
    lesions = (
        lesion(baseline, followup, 1, (1,), (14, 14, 14), (15, 13, 16), (17, 14, 14)),
        lesion(baseline, followup, 2, (), (28, 30, 12), None, (29, 29, 12)),
        lesion(baseline, followup, 3, (3, 4), (20, 30, 34), (21, 31, 33), None),
        lesion(baseline, followup, 4, (3, 4), (28, 30, 36), (float("nan"),) * 3, (27, 31, 35)),
    )
    return ScanPair(patient, baseline, followup, lesions)


def lesion(
    baseline: MemoryScan,
    followup: MemoryScan,
    lesion_id: int,
    ids: tuple[int, ...],
    start: Vector | None,
    end: Vector | None,
    propagated: Vector | None,
) -> LesionPair:
    return LesionPair(
        lesion_id,
        ids,
        start,
        end,
        propagated,
        baseline_table=table(baseline, lesion_id),
        followup_table=table(followup, lesion_id) if ids else None,
    )


def patients(count: int = 3) -> Patients:
    return patients_of([pair(f"P{number}", 10 * number) for number in range(count)])


def only(pairs: Sequence[ScanPair], lesion_id: int) -> Patients:
    """The pairs with one lesion only."""
    chosen = [
        replace(one, lesions=tuple(item for item in one.lesions if item.lesion_id == lesion_id))
        for one in pairs
    ]
    return patients_of(chosen)


def plan(patch: Index = PATCH, features: int = 8) -> Plan:
    return Plan(
        "3d_fullres", (1.0, 1.0, 1.0), patch, (0, 1, 2), CtNormalization(-900, 700, -60, 280), _net(features)
    )


def _net(features: int) -> Architecture:
    return Architecture(
        features_per_stage=(features, 2 * features, 2 * features),
        kernel_sizes=((3, 3, 3),) * 3,
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        blocks_per_stage=(1, 1, 1),
        decoder_convs_per_stage=(1, 1),
        conv_bias=True,
        norm_eps=1e-5,
        norm_affine=True,
        negative_slope=0.01,
    )


def write_plan(folder: Path, one: Plan) -> Path:
    """Write the plan to a file as inference reads it."""
    net = one.architecture
    kwargs = {
        "n_stages": len(net.features_per_stage),
        "features_per_stage": net.features_per_stage,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": net.kernel_sizes,
        "strides": net.strides,
        "n_blocks_per_stage": net.blocks_per_stage,
        "n_conv_per_stage_decoder": net.decoder_convs_per_stage,
        "conv_bias": net.conv_bias,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": net.norm_eps, "affine": net.norm_affine},
        "nonlin": "torch.nn.LeakyReLU",
    }
    document = {
        "configurations": {
            "3d_fullres": {
                "spacing": one.spacing_zyx,
                "patch_size": one.patch_size_zyx,
                "normalization_schemes": ["CTNormalization"],
                "batch_size": 3,
                "batch_dice": True,
                "architecture": {"network_class_name": "ResidualEncoderUNet", "arch_kwargs": kwargs},
            }
        },
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": -60, "std": 280, "percentile_00_5": -900, "percentile_99_5": 700}
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "plans.json"
    path.write_text(json.dumps(document))
    return path


def config(**changes: object) -> TrainingConfig:
    """Settings of a run of seconds, without worker processes."""
    settings: dict[str, Any] = {
        "epochs": 4,
        "iterations": 2,
        "validation_iterations": 1,
        "batch_size": 2,
        "batch_dice": True,
        "workers": 0,
        "checkpoint_every": 1,
        "momentum": 0.9,
    }
    return TrainingConfig(**(settings | changes))
