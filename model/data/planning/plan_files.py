"""Files of a plan: `plans.json` and `dataset.json`, readable by nnU-Net 2.4 or later and by inference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...case.geometry import Index
from ...case.lesion_json import write_json
from ...network.plan import DEFAULT_CONFIGURATION, PLANS_FILE, Plan, read_plan
from .fingerprint import Fingerprint
from .planner import NetworkPlan, PlannedConfiguration

DATASET_FILE = "dataset.json"
_RESAMPLING = "resample_torch_fornnunet"


def write_plan(folder: Path, name: str, fingerprint: Fingerprint, planned: PlannedConfiguration) -> Plan:
    """Write the plan of a data set, and read it back as inference does.

    Raises:
        OutputError: it cannot be written.
        WeightsError: inference cannot use the plan.
    """
    write_json(folder / PLANS_FILE, _plans(name, fingerprint, planned), decimals=None)
    return read_plan(folder / PLANS_FILE)


def transfer_plan(source: Path, folder: Path, name: str) -> Plan:
    """Copy the plan of another data set (spacing, patch, normalisation, topology) under a new name.

    Raises:
        WeightsError: inference cannot use the plan.
        OutputError: it cannot be written.
    """
    read_plan(source)
    document = json.loads(source.read_text(encoding="utf-8"))
    document["dataset_name"] = name
    write_json(folder / PLANS_FILE, document, decimals=None)
    return read_plan(folder / PLANS_FILE)


def write_dataset(folder: Path, scans: int) -> None:
    """Write the `dataset.json` that goes with a plan: one channel, one kind of lesion.

    Raises:
        OutputError: it cannot be written.
    """
    document = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": scans,
        "file_ending": ".nii.gz",
    }
    write_json(folder / DATASET_FILE, document)


def preparation_of(plan: Plan) -> str:
    """The part of a plan that prepared scans depend on, as one text: spacing, order of axes, normalisation.

    Scans stay prepared if patch or topology change. The text is written to disk and must stay the same.
    """
    return repr((plan.spacing_zyx, plan.transpose_forward, plan.normalization))


def _plans(name: str, fingerprint: Fingerprint, planned: PlannedConfiguration) -> dict[str, Any]:
    preset = planned.preset
    return {
        "dataset_name": name,
        "plans_name": preset.plans_name,
        "original_median_spacing_after_transp": fingerprint.median_spacing_zyx,
        "original_median_shape_after_transp": [round(n) for n in fingerprint.median_shape_zyx],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {DEFAULT_CONFIGURATION: _configuration(planned)},
        "experiment_planner_used": preset.planner,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": fingerprint.foreground.model_dump()},
    }


def _configuration(planned: PlannedConfiguration) -> dict[str, Any]:
    return {
        "data_identifier": f"nnUNetPlans_{DEFAULT_CONFIGURATION}",
        "preprocessor_name": "AutoPETPreprocessor",
        "batch_size": planned.network.batch_size,
        "patch_size": planned.network.topology.patch_size,
        "median_image_size_in_voxels": planned.median_shape_zyx,
        "spacing": planned.spacing_zyx,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": _RESAMPLING,
        "resampling_fn_seg": _RESAMPLING,
        "resampling_fn_data_kwargs": _resampling(is_seg=False),
        "resampling_fn_seg_kwargs": _resampling(is_seg=True),
        "resampling_fn_probabilities": _RESAMPLING,
        "resampling_fn_probabilities_kwargs": _resampling(is_seg=False),
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
            "arch_kwargs": _architecture(planned.network),
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": planned.batch_dice,
    }


def _resampling(is_seg: bool) -> dict[str, bool]:
    return {"is_seg": is_seg, "memefficient_seg_resampling": True, "force_separate_z": False}


def _architecture(network: NetworkPlan) -> dict[str, Any]:
    stages = len(network.features)
    kernels: tuple[Index, ...] = network.topology.kernel_sizes
    return {
        "n_stages": stages,
        "features_per_stage": network.features,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": kernels,
        "strides": network.topology.strides,
        "n_blocks_per_stage": network.blocks,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
