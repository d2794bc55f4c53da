"""Files of a plan: `plans.json` and `dataset.json`, readable by nnU-Net 2.4 or later and by inference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...case.geometry import Index
from ...case.lesion_json import write_json
from ...case.text_files import read_json
from ...network.plan import DEFAULT_CONFIGURATION, PLANS_FILE, PetCtPlan, Plan, read_pet_ct_plan, read_plan
from .fingerprint import Fingerprint, Intensities
from .planner import NetworkPlan, PlannedConfiguration

DATASET_FILE = "dataset.json"
_RESAMPLING = "resample_torch_fornnunet"
_ORGANS_KEY = "organ_labels"


def write_plan(folder: Path, name: str, fingerprint: Fingerprint, planned: PlannedConfiguration) -> Plan:
    """Write the plan of a data set, and read it back as inference does.

    Raises:
        OutputError: it cannot be written.
        WeightsError: inference cannot use the plan.
    """
    write_json(folder / PLANS_FILE, _plans(name, fingerprint, planned), decimals=None)
    return read_plan(folder / PLANS_FILE)


def write_pet_ct_plan(
    folder: Path, name: str, fingerprint: Fingerprint, pet: Intensities, planned: PlannedConfiguration
) -> PetCtPlan:
    """Write the plan of a PET/CT data set, and read it back as inference does.

    Args:
        folder: of the data set.
        name: of the data set.
        fingerprint: spacings and shapes of its scans, HU of their tumour.
        pet: SUV of their tumour.
        planned: the network.

    Raises:
        OutputError: it cannot be written.
        WeightsError: inference cannot use the plan.
    """
    plans = _plans(name, fingerprint, planned)
    plans["configurations"][DEFAULT_CONFIGURATION] |= _PET_CT_SETTINGS
    plans["foreground_intensity_properties_per_channel"]["1"] = pet.model_dump()
    write_json(folder / PLANS_FILE, plans, decimals=None)
    return read_pet_ct_plan(folder / PLANS_FILE)


def transfer_plan(source: Path, folder: Path, name: str) -> Plan:
    """Copy the plan of another data set (spacing, patch, normalisation, topology) under a new name.

    Raises:
        WeightsError: inference cannot use the plan.
        OutputError: it cannot be written.
    """
    read_plan(source)
    return read_plan(_renamed_plan(source, folder, name))


def transfer_pet_ct_plan(source: Path, folder: Path, name: str) -> PetCtPlan:
    """Copy the plan of another PET/CT data set under a new name, see `transfer_plan`."""
    read_pet_ct_plan(source)
    return read_pet_ct_plan(_renamed_plan(source, folder, name))


def _renamed_plan(source: Path, folder: Path, name: str) -> Path:
    document = json.loads(source.read_text(encoding="utf-8"))
    document["dataset_name"] = name
    write_json(folder / PLANS_FILE, document, decimals=None)
    return folder / PLANS_FILE


def write_dataset(folder: Path, scans: int) -> None:
    """Write the `dataset.json` that goes with a plan: one channel, one kind of lesion.

    Raises:
        OutputError: it cannot be written.
    """
    write_json(folder / DATASET_FILE, _dataset(["CT"], scans))


def write_pet_ct_dataset(folder: Path, studies: int, organs: int) -> None:
    """Write the `dataset.json` of a PET/CT data set.

    Args:
        folder: of the data set.
        studies: their number.
        organs: highest label of their organs; 0 without organ labels.

    Raises:
        OutputError: it cannot be written.
    """
    write_json(folder / DATASET_FILE, _dataset(["CT", "PET"], studies) | {_ORGANS_KEY: organs})


def read_organ_count(folder: Path) -> int:
    """The highest organ label of a prepared PET/CT data set; 0 if it has none.

    Raises:
        InputError: its `dataset.json` cannot be read.
    """
    document = read_json(folder / DATASET_FILE, "the description of a prepared data set")
    count = document.get(_ORGANS_KEY, 0) if isinstance(document, dict) else 0
    return count if isinstance(count, int) else 0


def _dataset(channels: Sequence[str], scans: int) -> dict[str, Any]:
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": scans,
        "file_ending": ".nii.gz",
    }


def preparation_of(plan: Plan) -> str:
    """The part of a plan that prepared scans depend on, as one text: spacing, order of axes, normalisation.

    Scans stay prepared if patch or topology change. The text is written to disk and must stay the same.
    """
    return repr((plan.spacing_zyx, plan.transpose_forward, plan.normalization))


def pet_ct_preparation_of(plan: PetCtPlan) -> str:
    """The part of a plan that prepared studies depend on, see `preparation_of`."""
    return repr((preparation_of(plan.network), plan.pet))


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


def _spline_resampling(order: int, is_seg: bool) -> dict[str, Any]:
    return {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}


# What differs for CT and PET: both are normalised by constants, and resampled as the published networks are.
_SPLINES = "resample_data_or_seg_to_shape"
_PET_CT_SETTINGS: dict[str, Any] = {
    "preprocessor_name": "DefaultPreprocessor",
    "normalization_schemes": ["CTNormalization", "CTNormalization"],
    "use_mask_for_norm": [False, False],
    "resampling_fn_data": _SPLINES,
    "resampling_fn_seg": _SPLINES,
    "resampling_fn_data_kwargs": _spline_resampling(3, is_seg=False),
    "resampling_fn_seg_kwargs": _spline_resampling(1, is_seg=True),
    "resampling_fn_probabilities": _SPLINES,
    "resampling_fn_probabilities_kwargs": _spline_resampling(1, is_seg=False),
}


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
