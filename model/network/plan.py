"""The network's plan, read from a published `plans.json`: spacing, patch size, normalisation, topology.

Nothing of it is hard-coded elsewhere. Per-axis values are in the plan's own axis order, which is (z, y, x)
permuted by `transpose_forward`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ..case.geometry import Index, Vector
from ..case.text_files import read_json
from ..errors import WeightsError
from .plan_schema import (
    ArchitectureSettings,
    BatchSettings,
    ChannelSettings,
    ConfigurationSettings,
    IntensitySettings,
    NonlinSettings,
    NormSettings,
    PetCtSettings,
    PlanSettings,
)

PLANS_FILE = "plans.json"
DEFAULT_CONFIGURATION = "3d_fullres"


@dataclass(frozen=True, slots=True)
class CtNormalization:
    """Normalisation of HU: clipped to [lower, upper], then standardised with mean and std."""

    lower: float
    upper: float
    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class Architecture:
    """Topology of the residual-encoder U-Net; one entry per stage, full resolution first."""

    features_per_stage: tuple[int, ...]
    kernel_sizes: tuple[Index, ...]
    strides: tuple[Index, ...]
    blocks_per_stage: tuple[int, ...]
    decoder_convs_per_stage: tuple[int, ...]
    conv_bias: bool
    norm_eps: float
    norm_affine: bool
    negative_slope: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about the network except its weights; spacing in mm, patch size in voxels."""

    configuration: str
    spacing_zyx: Vector
    patch_size_zyx: Index
    transpose_forward: Index
    normalization: CtNormalization
    architecture: Architecture


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """A plan's training batches: number of patches, and whether Dice is computed over the whole batch."""

    size: int
    sums_dice: bool


@dataclass(frozen=True, slots=True)
class PetCtPlan:
    """The plan of a network that sees CT and PET: that of its CT, and the normalisation of SUV."""

    network: Plan
    pet: CtNormalization


_Settings = TypeVar("_Settings", ConfigurationSettings, PetCtSettings, BatchSettings, ChannelSettings)


def read_plan(path: Path, configuration: str = DEFAULT_CONFIGURATION) -> Plan:
    """Read one configuration of a `plans.json`; configurations that inherit from another are resolved.

    Raises:
        WeightsError: the file is missing or malformed, lacks the configuration, or describes another
            network.
    """
    plans, settings = _read(path, configuration, ConfigurationSettings)
    return _plan(configuration, plans, settings)


def read_pet_ct_plan(path: Path, configuration: str = DEFAULT_CONFIGURATION) -> PetCtPlan:
    """Read one configuration of a `plans.json` for CT and PET.

    Raises:
        WeightsError: as `read_plan`; also if it is resampled in another way than nnU-Net's default.
    """
    plans, settings = _read(path, configuration, PetCtSettings)
    pet = plans.foreground_intensity_properties_per_channel.get("1")
    if pet is None:
        raise WeightsError(
            f"{path}: foreground_intensity_properties_per_channel: holds no channel 1, expected the SUV there"
        )
    return PetCtPlan(_plan(configuration, plans, settings), _normalization(pet))


def read_training_plan(
    path: Path, configuration: str = DEFAULT_CONFIGURATION
) -> tuple[Plan, CtNormalization | None]:
    """Read one configuration of a `plans.json`, for CT alone or for CT and PET.

    Returns:
        The plan, and the normalisation of SUV; None for CT alone.

    Raises:
        WeightsError: as `read_plan` or `read_pet_ct_plan`.
    """
    _, settings = _read(path, configuration, ChannelSettings)
    if len(settings.normalization_schemes) == len(PetCtSettings.schemes):
        plan = read_pet_ct_plan(path, configuration)
        return plan.network, plan.pet
    return read_plan(path, configuration), None


def _plan(configuration: str, plans: PlanSettings, settings: ConfigurationSettings) -> Plan:
    return Plan(
        configuration=configuration,
        spacing_zyx=settings.spacing,
        patch_size_zyx=settings.patch_size,
        transpose_forward=plans.transpose_forward,
        normalization=_normalization(plans.foreground_intensity_properties_per_channel["0"]),
        architecture=_architecture(settings.architecture.arch_kwargs),
    )


def _normalization(intensities: IntensitySettings) -> CtNormalization:
    return CtNormalization(
        intensities.percentile_00_5, intensities.percentile_99_5, intensities.mean, intensities.std
    )


def read_batch(path: Path, configuration: str = DEFAULT_CONFIGURATION) -> PlannedBatch:
    """Read the training batches from a `plans.json`; inference does not need them.

    Raises:
        WeightsError: as `read_plan`, or if they are missing.
    """
    _, settings = _read(path, configuration, BatchSettings)
    return PlannedBatch(settings.batch_size, settings.batch_dice)


def _read(path: Path, configuration: str, kind: type[_Settings]) -> tuple[PlanSettings, _Settings]:
    """The whole plan, and one of its configurations validated as ``kind``."""
    try:
        plans = PlanSettings.model_validate(read_settings(path, "the network's plan"))
        return plans, kind.model_validate(_resolved(path, plans.configurations, configuration))
    except ValidationError as error:
        raise WeightsError(f"{path}: {_first_fault(error, configuration)}") from error


def read_settings(path: Path, expected: str) -> Any:
    """Read a model's JSON file.

    Args:
        path: the file.
        expected: what it should be, with which errors end.

    Raises:
        WeightsError: it cannot be read, is no JSON, or far larger than any such file.
    """
    return read_json(path, expected, allow_nan=True, fault=WeightsError)


def _first_fault(error: ValidationError, configuration: str) -> str:
    """The first validation error of a plan; further ones are often its consequence."""
    fault = error.errors(include_url=False)[0]
    location = ".".join(str(part) for part in fault["loc"]) or configuration
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":  # our own checks name what they expect
        return f"{location}: {message}"
    return f"{location}: {message[:1].lower()}{message[1:]}; expected a plan of nnU-Net 2.4 or later"


def _resolved(path: Path, configurations: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """A configuration merged with those that it inherits from."""
    chain, current = [], name
    while True:
        if current not in configurations:
            available = ", ".join(configurations) or "none"
            raise WeightsError(f"{path}: has no configuration {current!r}; expected one of: {available}")
        chain.append(configurations[current])
        parent = configurations[current].get("inherits_from")
        if parent is None:
            break
        if not isinstance(parent, str):
            raise WeightsError(
                f"{path}: {current}: inherits_from is {parent}; expected a configuration's name"
            )
        if len(chain) > len(configurations):
            raise WeightsError(f"{path}: configuration {name!r} inherits from itself; expected an end")
        current = parent
    merged: dict[str, Any] = {}
    for settings in reversed(chain):
        merged |= settings
    return merged


def _architecture(kwargs: ArchitectureSettings) -> Architecture:
    norm, nonlin = kwargs.norm_op_kwargs or NormSettings(), kwargs.nonlin_kwargs or NonlinSettings()
    return Architecture(
        features_per_stage=tuple(kwargs.features_per_stage),
        kernel_sizes=tuple(kwargs.kernel_sizes),
        strides=tuple(kwargs.strides),
        blocks_per_stage=tuple(kwargs.n_blocks_per_stage),
        decoder_convs_per_stage=tuple(kwargs.n_conv_per_stage_decoder),
        conv_bias=kwargs.conv_bias,
        norm_eps=norm.eps,
        norm_affine=norm.affine,
        negative_slope=nonlin.negative_slope,
    )
