"""The residual-encoder U-Net (ResEncL preset, [Isensee2024]) with the topology of a plan.

Residual blocks as in ResNet-D (He et al. 2019, "Bag of tricks for image classification"): the skip is an
average pooling and a 1x1x1 convolution. State-dict names are those of the published checkpoints, which load
unchanged: `load_state_dict` removes their wrapper prefix and duplicate entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..case.geometry import Index
from .plan import Architecture

STEM = "encoder.stem.convs.0.conv.weight"
"""The tensor [features, channels, z, y, x] that gives the number of input channels."""

ORGAN_HEADS = "decoder.organ_seg_layers."
"""Prefix of the heads for organs, which networks for PET/CT are trained with beside those for tumour."""

_WRAPPERS = ("module.", "_orig_mod.", "backbone.")
# The decoder lists the encoder a second time, and each convolution block lists its parts a second time.
_DECODER_TWIN = "decoder.encoder."
_PART_TWIN = re.compile(r"\.all_modules\.([01])\.")
_PARTS = {"0": ".conv.", "1": ".norm."}


def canonical_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of a published checkpoint to the names of `ResEncUNet`, each tensor once.

    Args:
        state: name -> tensor of any shape, possibly with wrapper prefixes and duplicates.

    Returns:
        Canonical name -> tensor, not copied.

    Raises:
        ValueError: two entries of one tensor differ.
    """
    canonical: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = _canonical_name(key)
        twin = canonical.setdefault(name, tensor)
        if twin is not tensor and not _same(twin, tensor):
            raise ValueError(f"{key} differs from its twin {name}")
    return canonical


def _same(one: Tensor, other: Tensor) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    # Usually both share their memory; then nothing is read, which saves time for memory-mapped files.
    shared = one.device.type != "meta" and one.data_ptr() == other.data_ptr()
    return (shared and one.stride() == other.stride()) or torch.equal(one, other)


def _canonical_name(key: str) -> str:
    stripped = True
    while stripped:
        stripped = False
        for prefix in _WRAPPERS:
            if key.startswith(prefix):
                key, stripped = key.removeprefix(prefix), True
    key = key.removeprefix("decoder.") if key.startswith(_DECODER_TWIN) else key
    return _PART_TWIN.sub(lambda match: _PARTS[match.group(1)], key)


class _ConvBlock(nn.Module):
    """Convolution, instance norm and (unless it ends a residual block) a leaky ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Index,
        stride: Index,
        plan: Architecture,
        *,
        bias: bool | None = None,
        activated: bool = True,
    ) -> None:
        super().__init__()
        padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2, (kernel[2] - 1) // 2)
        use_bias = plan.conv_bias if bias is None else bias
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=use_bias)
        self.norm = nn.InstanceNorm3d(outputs, eps=plan.norm_eps, affine=plan.norm_affine)
        self.nonlin = nn.LeakyReLU(plan.negative_slope, inplace=True) if activated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.nonlin(self.norm(self.conv(x)))
        return out


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: Index, stride: Index, plan: Architecture) -> None:
        super().__init__()
        self.conv1 = _ConvBlock(inputs, outputs, kernel, stride, plan)
        self.conv2 = _ConvBlock(outputs, outputs, kernel, (1, 1, 1), plan, activated=False)
        skip: list[nn.Module] = []
        if stride != (1, 1, 1):
            skip.append(nn.AvgPool3d(stride, stride))
        if inputs != outputs:
            skip.append(_ConvBlock(inputs, outputs, (1, 1, 1), (1, 1, 1), plan, bias=False, activated=False))
        self.skip = nn.Sequential(*skip)
        self.nonlin2 = nn.LeakyReLU(plan.negative_slope, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        out += self.skip(x)
        activated: Tensor = self.nonlin2(out)
        return activated


class _Stem(nn.Module):
    def __init__(self, inputs: int, plan: Architecture) -> None:
        super().__init__()
        features, kernel = plan.features_per_stage[0], plan.kernel_sizes[0]
        self.convs = nn.Sequential(_ConvBlock(inputs, features, kernel, (1, 1, 1), plan))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.convs(x)
        return out


class _EncoderStage(nn.Module):
    def __init__(self, inputs: int, stage: int, plan: Architecture) -> None:
        super().__init__()
        outputs, kernel = plan.features_per_stage[stage], plan.kernel_sizes[stage]
        blocks = [_ResidualBlock(inputs, outputs, kernel, plan.strides[stage], plan)]
        blocks += [
            _ResidualBlock(outputs, outputs, kernel, (1, 1, 1), plan)
            for _ in range(plan.blocks_per_stage[stage] - 1)
        ]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


class _Encoder(nn.Module):
    def __init__(self, inputs: int, plan: Architecture) -> None:
        super().__init__()
        features = (plan.features_per_stage[0], *plan.features_per_stage)
        self.stem = _Stem(inputs, plan)
        self.stages = nn.ModuleList(
            _EncoderStage(features[stage], stage, plan) for stage in range(len(plan.features_per_stage))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of every stage, full resolution first."""
        x = self.stem(x)
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class _DecoderStage(nn.Module):
    def __init__(self, stage: int, plan: Architecture) -> None:
        super().__init__()
        features, kernel = plan.features_per_stage[stage], plan.kernel_sizes[stage]
        count = plan.decoder_convs_per_stage[len(plan.features_per_stage) - 2 - stage]
        blocks = [_ConvBlock(2 * features, features, kernel, (1, 1, 1), plan)]
        blocks += [_ConvBlock(features, features, kernel, (1, 1, 1), plan) for _ in range(count - 1)]
        self.convs = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.convs(x)
        return out


class _Decoder(nn.Module):
    """Stages from the deepest up; `seg_layers` gives logits at every resolution, full resolution last."""

    def __init__(self, classes: int, plan: Architecture) -> None:
        super().__init__()
        features = plan.features_per_stage
        rising = range(len(features) - 2, -1, -1)
        self.stages = nn.ModuleList(_DecoderStage(stage, plan) for stage in rising)
        self.transpconvs = nn.ModuleList(
            nn.ConvTranspose3d(
                features[stage + 1],
                features[stage],
                plan.strides[stage + 1],
                plan.strides[stage + 1],
                bias=plan.conv_bias,
            )
            for stage in rising
        )
        self.seg_layers = nn.ModuleList(nn.Conv3d(features[stage], classes, 1) for stage in rising)

    def stage_features(self, skips: list[Tensor]) -> Iterator[Tensor]:
        """Features of every stage, full resolution last. Empties ``skips``."""
        x = skips.pop()
        for transpconv, stage in zip(self.transpconvs, self.stages, strict=True):
            x = torch.cat((transpconv(x), skips.pop()), 1)
            x = stage(x)
            yield x

    def forward(self, skips: list[Tensor], all_scales: bool) -> list[Tensor]:
        """Logits, full resolution first; the others only with ``all_scales``. Empties ``skips``."""
        logits = []
        for x, seg_layer in zip(self.stage_features(skips), self.seg_layers, strict=True):
            if all_scales or not skips:
                logits.append(seg_layer(x))
        return logits[::-1]


class ResEncUNet(nn.Module):
    """Residual-encoder U-Net: logits [B, classes, *patch] from channels [B, inputs, *patch].

    With ``deep_supervision`` (training) it returns the logits of all decoder stages, full resolution first.
    """

    def __init__(self, inputs: int, classes: int, plan: Architecture, deep_supervision: bool = False) -> None:
        super().__init__()
        self.encoder = _Encoder(inputs, plan)
        self.decoder = _Decoder(classes, plan)
        self.deep_supervision = deep_supervision
        self.negative_slope = plan.negative_slope

    def initialize(self) -> None:
        """Initialise the weights for training (He et al. 2015, for the leaky ReLU); biases start at 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=self.negative_slope)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, channels: Tensor) -> Tensor | list[Tensor]:
        """Compute logits.

        Args:
            channels: float tensor [B, inputs, z, y, x] of the plan's patch size, in network axes.

        Returns:
            Logits [B, classes, z, y, x]; with deep supervision a list, full resolution first.
        """
        logits: list[Tensor] = self.decoder(self.encoder(channels), self.deep_supervision)
        return logits if self.deep_supervision else logits[0]

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict of this network or, unchanged, of a published checkpoint."""
        return super().load_state_dict(canonical_state(dict(state_dict)), strict=strict, assign=assign)
