"""The network's plan, read from a published `plans.json`: spacing, patch size, normalisation, topology.

Nothing of it is hard-coded elsewhere. Per-axis values are in the plan's own axis order, which is (z, y, x)
permuted by `transpose_forward`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)

from ..case.geometry import Index, Vector
from ..case.text_files import read_json
from ..errors import WeightsError

PLANS_FILE = "plans.json"
DEFAULT_CONFIGURATION = "3d_fullres"

# Far beyond any network, so that a damaged plan is refused before memory and time are spent on it.
_MOST_VOXELS = 1 << 30


def _number(value: Any) -> Any:
    """Refuse what only looks like a number: text and truth values."""
    if isinstance(value, str | bool):
        raise ValueError(f"is {value!r}, expected a number")
    return value


_Whole = Annotated[int, BeforeValidator(_number)]
_Positive = Annotated[_Whole, Field(gt=0, le=1 << 16)]
_Triple = tuple[_Positive, _Positive, _Positive]
_Kernel = Annotated[_Whole, Field(gt=0, le=31)]
_Stride = Annotated[_Whole, Field(gt=0, le=64)]
_Blocks = Annotated[_Whole, Field(gt=0, le=100)]
_MOST_STAGES = 16
_Finite = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


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


class _NormKwargs(BaseModel):
    eps: Annotated[_Finite, Field(gt=0)] = 1e-5
    affine: StrictBool = False


class _NonlinKwargs(BaseModel):
    # Torch's default, which published plans omit.
    negative_slope: Annotated[_Finite, Field(ge=0)] = 0.01


class _ArchKwargs(BaseModel):
    n_stages: Annotated[_Whole, Field(ge=2, le=_MOST_STAGES)]
    features_per_stage: list[_Positive]
    kernel_sizes: list[tuple[_Kernel, _Kernel, _Kernel]]
    strides: list[tuple[_Stride, _Stride, _Stride]]
    n_blocks_per_stage: list[_Blocks]
    n_conv_per_stage_decoder: list[_Blocks]
    conv_op: str = "torch.nn.modules.conv.Conv3d"
    conv_bias: StrictBool = False
    norm_op: str = "torch.nn.modules.instancenorm.InstanceNorm3d"
    norm_op_kwargs: _NormKwargs | None = None
    dropout_op: str | None = None
    nonlin: str = "torch.nn.LeakyReLU"
    nonlin_kwargs: _NonlinKwargs | None = None

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, values: Any) -> Any:
        """One number stands for all stages (or all axes), as in the planners' own files."""
        if not isinstance(values, dict) or not isinstance(values.get("n_stages"), int):
            return values
        if not 0 < values["n_stages"] <= _MOST_STAGES:
            return values  # the field's own check refuses it
        spread, n = dict(values), values["n_stages"]
        for name, count in (
            ("features_per_stage", n),
            ("n_blocks_per_stage", n),
            ("kernel_sizes", n),
            ("strides", n),
            ("n_conv_per_stage_decoder", n - 1),
        ):
            if isinstance(spread.get(name), int):
                spread[name] = [spread[name]] * count
        for name in ("kernel_sizes", "strides"):
            if isinstance(spread.get(name), list):
                spread[name] = [[v] * 3 if isinstance(v, int) else v for v in spread[name]]
        return spread

    @model_validator(mode="after")
    def _check(self) -> _ArchKwargs:
        lengths = {
            "features_per_stage": self.n_stages,
            "kernel_sizes": self.n_stages,
            "strides": self.n_stages,
            "n_blocks_per_stage": self.n_stages,
            "n_conv_per_stage_decoder": self.n_stages - 1,
        }
        for name, expected in lengths.items():
            if len(getattr(self, name)) != expected:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, expected {expected}")
        if any(k % 2 == 0 for kernel in self.kernel_sizes for k in kernel):
            raise ValueError("kernel_sizes holds even numbers, expected odd ones")
        if self.strides[0] != (1, 1, 1):  # the decoder ends at the first stage's resolution
            raise ValueError(f"strides start with {self.strides[0]}, expected (1, 1, 1)")
        for name, expected_op in (
            ("conv_op", "Conv3d"),
            ("norm_op", "InstanceNorm3d"),
            ("nonlin", "LeakyReLU"),
        ):
            if getattr(self, name).rsplit(".", 1)[-1] != expected_op:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {expected_op}")
        if self.dropout_op is not None:
            raise ValueError(f"dropout_op is {self.dropout_op}, expected none")
        return self


class _Architecture(BaseModel):
    network_class_name: str
    arch_kwargs: _ArchKwargs

    @field_validator("network_class_name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name.rsplit(".", 1)[-1] != "ResidualEncoderUNet":
            raise ValueError(f"the network is {name}, expected ResidualEncoderUNet")
        return name


class _Configuration(BaseModel):
    model_config = ConfigDict(extra="ignore")

    spacing: tuple[_Finite, _Finite, _Finite]
    patch_size: _Triple
    normalization_schemes: list[str]
    architecture: _Architecture

    @field_validator("spacing")
    @classmethod
    def _positive(cls, spacing: Vector) -> Vector:
        if not all(1e-3 <= value <= 1e3 for value in spacing):
            raise ValueError(f"spacing is {spacing}, expected mm between 0.001 and 1000")
        return spacing

    @field_validator("patch_size")
    @classmethod
    def _computable(cls, patch: Index) -> Index:
        if math.prod(patch) > _MOST_VOXELS:
            raise ValueError(f"patch_size is {patch}, expected at most {_MOST_VOXELS} voxels")
        return patch

    @model_validator(mode="after")
    def _check(self) -> _Configuration:
        if self.normalization_schemes != ["CTNormalization"]:
            raise ValueError(
                f"normalization_schemes is {self.normalization_schemes}, expected one CTNormalization"
            )
        divisor = np.prod(self.architecture.arch_kwargs.strides, axis=0)
        if np.any(np.asarray(self.patch_size) % divisor):
            wanted = f"multiples of the strides' product {divisor.tolist()}"
            raise ValueError(f"patch_size is {self.patch_size}, expected {wanted}")
        return self


class _Intensities(BaseModel):
    mean: _Finite
    std: Annotated[_Finite, Field(ge=0)]
    percentile_00_5: _Finite
    percentile_99_5: _Finite

    @model_validator(mode="after")
    def _check(self) -> _Intensities:
        low, high = self.percentile_00_5, self.percentile_99_5
        if low >= high:
            raise ValueError(f"percentile_00_5 is {low}, expected less than percentile_99_5 = {high}")
        return self


class _Plans(BaseModel):
    transpose_forward: tuple[_Whole, _Whole, _Whole] = (0, 1, 2)
    configurations: dict[str, dict[str, Any]]
    foreground_intensity_properties_per_channel: dict[str, _Intensities]

    @field_validator("transpose_forward")
    @classmethod
    def _permutation(cls, axes: Index) -> Index:
        if sorted(axes) != [0, 1, 2]:
            raise ValueError(f"transpose_forward is {axes}, expected an order of 0, 1, 2")
        return axes

    @field_validator("foreground_intensity_properties_per_channel")
    @classmethod
    def _channel_zero(cls, channels: dict[str, _Intensities]) -> dict[str, _Intensities]:
        if "0" not in channels:
            raise ValueError("holds no channel 0, expected the CT's intensities there")
        return channels


class _Batch(BaseModel):
    batch_size: _Positive
    batch_dice: bool


_Settings = TypeVar("_Settings", _Configuration, _Batch)


def read_plan(path: Path, configuration: str = DEFAULT_CONFIGURATION) -> Plan:
    """Read one configuration of a `plans.json`; configurations that inherit from another are resolved.

    Raises:
        WeightsError: the file is missing or malformed, lacks the configuration, or describes another
            network.
    """
    plans, settings = _read(path, configuration, _Configuration)
    intensities = plans.foreground_intensity_properties_per_channel["0"]
    return Plan(
        configuration=configuration,
        spacing_zyx=settings.spacing,
        patch_size_zyx=settings.patch_size,
        transpose_forward=plans.transpose_forward,
        normalization=CtNormalization(
            intensities.percentile_00_5, intensities.percentile_99_5, intensities.mean, intensities.std
        ),
        architecture=_architecture(settings.architecture.arch_kwargs),
    )


def read_batch(path: Path, configuration: str = DEFAULT_CONFIGURATION) -> PlannedBatch:
    """Read the training batches from a `plans.json`; inference does not need them.

    Raises:
        WeightsError: as `read_plan`, or if they are missing.
    """
    _, settings = _read(path, configuration, _Batch)
    return PlannedBatch(settings.batch_size, settings.batch_dice)


def _read(path: Path, configuration: str, kind: type[_Settings]) -> tuple[_Plans, _Settings]:
    """The whole plan, and one of its configurations validated as ``kind``."""
    try:
        plans = _Plans.model_validate(read_settings(path, "the network's plan"))
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


def _architecture(kwargs: _ArchKwargs) -> Architecture:
    norm, nonlin = kwargs.norm_op_kwargs or _NormKwargs(), kwargs.nonlin_kwargs or _NonlinKwargs()
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
