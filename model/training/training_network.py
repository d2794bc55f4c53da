"""The network in training: built of a plan with any number of inputs, and handed over as published."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from ..network.plan import Plan
from ..network.resenc_unet import ResEncUNet
from .augment import VARIANTS
from .config import TrainingConfig

CLASSES = 2
MIRROR_AXES = (0, 1, 2)

# Names of the published trainers: by them a loader knows what a checkpoint's channels are (facts A1).
_TRAINERS = {
    ("longitudinal", "pairs"): "AutoPETTrainer",
    ("longitudinal", "pretraining"): "AutoPETTrainerPretrain",
    ("mask-and-point", "pairs"): "AutoPETTrainerCrossSecMask",
    ("mask-and-point", "pretraining"): "AutoPETTrainerCrossSecMaskPretrain",
    ("point", "pairs"): "AutoPETTrainerCrossSecPoint",
    # The paper has none of this kind; its name only has to tell the channels.
    ("point", "pretraining"): "AutoPETTrainerCrossSecPointPretrain",
}
_CONVOLUTION_PART = re.compile(r"\.(conv|norm)\.(weight|bias)$")
_PART_NUMBERS = {"conv": 0, "norm": 1}


def trainer_name(config: TrainingConfig) -> str:
    """The published trainer that makes the same kind of network."""
    return _TRAINERS[config.variant, config.sampling]


def new_network(plan: Plan, config: TrainingConfig) -> ResEncUNet:
    """A network with fresh weights by the configuration's seed, float32 on the CPU, in training mode.

    Its answer is the logits of all decoder stages with deep supervision, else one tensor.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        inputs = len(VARIANTS[config.variant].channels)
        network = ResEncUNet(inputs, CLASSES, plan.architecture, config.deep_supervision)
        network.initialize()
        _silence_residual_branches(network)
    return network.train()


def _silence_residual_branches(network: nn.Module) -> None:
    """Residual blocks begin as their skips alone, as nnU-Net's do (He et al. 2019, "Bag of tricks")."""
    for name, module in network.named_modules():
        if name.endswith(".conv2.norm") and isinstance(module, nn.InstanceNorm3d) and module.affine:
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def scales_of(answer: Tensor | list[Tensor]) -> list[Tensor]:
    """The logits of all scales, full resolution first, whether or not there is deep supervision."""
    return answer if isinstance(answer, list) else [answer]


def published_state(network: ResEncUNet) -> dict[str, Tensor]:
    """The weights under the names of the published checkpoints, on the CPU.

    Those list convolution blocks' parts and the encoder twice (`resenc_unet.canonical_state`). Twins share
    their memory, and are stored once.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        values = tensor.detach().cpu().contiguous()
        names = [name]
        part = _CONVOLUTION_PART.search(name)
        if part is not None:
            number = _PART_NUMBERS[part.group(1)]
            names.append(f"{name[: part.start()]}.all_modules.{number}.{part.group(2)}")
        names += [f"decoder.{one}" for one in names if one.startswith("encoder.")]
        state |= {f"backbone.{one}": values for one in names}
    return state
