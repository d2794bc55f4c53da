"""Schema of a `plans.json`: the fields that are read, their limits, and what is refused."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    field_validator,
    model_validator,
)

from ..case.geometry import Index, Vector

# Far beyond any network, so that a damaged plan is refused before memory and time are spent on it.
_MOST_VOXELS = 1 << 30
_RESAMPLING = "resample_data_or_seg_to_shape"


def _number(value: Any) -> Any:
    """Refuse values that only look like numbers: text and booleans."""
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


class NormSettings(BaseModel):
    """Arguments of the instance norms."""

    eps: Annotated[_Finite, Field(gt=0)] = 1e-5
    affine: StrictBool = False


class NonlinSettings(BaseModel):
    """Arguments of the leaky ReLUs."""

    # Torch's default, which published plans omit.
    negative_slope: Annotated[_Finite, Field(ge=0)] = 0.01


class ArchitectureSettings(BaseModel):
    """Arguments of the residual-encoder U-Net."""

    n_stages: Annotated[_Whole, Field(ge=2, le=_MOST_STAGES)]
    features_per_stage: list[_Positive]
    kernel_sizes: list[tuple[_Kernel, _Kernel, _Kernel]]
    strides: list[tuple[_Stride, _Stride, _Stride]]
    n_blocks_per_stage: list[_Blocks]
    n_conv_per_stage_decoder: list[_Blocks]
    conv_op: str = "torch.nn.modules.conv.Conv3d"
    conv_bias: StrictBool = False
    norm_op: str = "torch.nn.modules.instancenorm.InstanceNorm3d"
    norm_op_kwargs: NormSettings | None = None
    dropout_op: str | None = None
    nonlin: str = "torch.nn.LeakyReLU"
    nonlin_kwargs: NonlinSettings | None = None

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
    def _check(self) -> ArchitectureSettings:
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
    arch_kwargs: ArchitectureSettings

    @field_validator("network_class_name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name.rsplit(".", 1)[-1] != "ResidualEncoderUNet":
            raise ValueError(f"the network is {name}, expected ResidualEncoderUNet")
        return name


class ConfigurationSettings(BaseModel):
    """A configuration of a network that sees CT alone."""

    model_config = ConfigDict(extra="ignore")

    schemes: ClassVar[list[str]] = ["CTNormalization"]
    """Expected normalisation of each image channel."""

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
    def _check(self) -> ConfigurationSettings:
        if self.normalization_schemes != self.schemes:
            wanted = "one CTNormalization" if len(self.schemes) == 1 else f"{self.schemes} (CT and PET)"
            raise ValueError(f"normalization_schemes is {self.normalization_schemes}, expected {wanted}")
        divisor = np.prod(self.architecture.arch_kwargs.strides, axis=0)
        if np.any(np.asarray(self.patch_size) % divisor):
            wanted = f"multiples of the strides' product {divisor.tolist()}"
            raise ValueError(f"patch_size is {self.patch_size}, expected {wanted}")
        return self


class _Resampling(BaseModel):
    order: _Whole = 3
    order_z: _Whole = 0
    force_separate_z: bool | None = None


class PetCtSettings(ConfigurationSettings):
    """A configuration of a network that sees CT and PET, resampled by nnU-Net's default functions."""

    schemes: ClassVar[list[str]] = ["CTNormalization", "CTNormalization"]

    resampling_fn_data: str = _RESAMPLING
    resampling_fn_probabilities: str = _RESAMPLING
    resampling_fn_data_kwargs: _Resampling = _Resampling(order=3)
    resampling_fn_probabilities_kwargs: _Resampling = _Resampling(order=1)

    @model_validator(mode="after")
    def _check_resampling(self) -> PetCtSettings:
        for kind, order in (("data", 3), ("probabilities", 1)):
            name = getattr(self, f"resampling_fn_{kind}")
            if name != _RESAMPLING:
                raise ValueError(f"resampling_fn_{kind} is {name}, expected {_RESAMPLING}")
            kwargs = getattr(self, f"resampling_fn_{kind}_kwargs")
            wanted = _Resampling(order=order)
            if kwargs != wanted:
                raise ValueError(
                    f"resampling_fn_{kind}_kwargs is {kwargs.model_dump()}, expected {wanted.model_dump()}"
                )
        return self


class IntensitySettings(BaseModel):
    """Intensities of one channel in the lesions of the training set."""

    mean: _Finite
    std: Annotated[_Finite, Field(ge=0)]
    percentile_00_5: _Finite
    percentile_99_5: _Finite

    @model_validator(mode="after")
    def _check(self) -> IntensitySettings:
        low, high = self.percentile_00_5, self.percentile_99_5
        if low >= high:
            raise ValueError(f"percentile_00_5 is {low}, expected less than percentile_99_5 = {high}")
        return self


class PlanSettings(BaseModel):
    """A whole plan; its configurations are validated once they are merged."""

    transpose_forward: tuple[_Whole, _Whole, _Whole] = (0, 1, 2)
    configurations: dict[str, dict[str, Any]]
    foreground_intensity_properties_per_channel: dict[str, IntensitySettings]

    @field_validator("transpose_forward")
    @classmethod
    def _permutation(cls, axes: Index) -> Index:
        if sorted(axes) != [0, 1, 2]:
            raise ValueError(f"transpose_forward is {axes}, expected an order of 0, 1, 2")
        return axes

    @field_validator("foreground_intensity_properties_per_channel")
    @classmethod
    def _channel_zero(cls, channels: dict[str, IntensitySettings]) -> dict[str, IntensitySettings]:
        if "0" not in channels:
            raise ValueError("holds no channel 0, expected the CT's intensities there")
        return channels


class ChannelSettings(BaseModel):
    """The image channels of a configuration, each with its normalisation."""

    normalization_schemes: list[str]


class BatchSettings(BaseModel):
    """Training batches of a configuration."""

    batch_size: _Positive
    batch_dice: bool
