"""Build the network to train from a plan, and export its weights under the published names."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from ..network.difference_weighting import BLOCK
from ..network.input_variants import InputVariant
from ..network.plan import Plan
from ..network.resenc_unet import ResEncUNet
from ..network.weights import planned_network
from .augment import VARIANTS
from .config import TrainingConfig

MIRROR_AXES = (0, 1, 2)

# Names of the published trainers: loaders derive the input channels of a checkpoint from them.
_TRAINERS = {
    ("longitudinal", "pairs"): "AutoPETTrainer",
    ("longitudinal", "pretraining"): "AutoPETTrainerPretrain",
    ("mask-and-point", "pairs"): "AutoPETTrainerCrossSecMask",
    ("mask-and-point", "pretraining"): "AutoPETTrainerCrossSecMaskPretrain",
    ("point", "pairs"): "AutoPETTrainerCrossSecPoint",
    # Not a published trainer; the name only has to identify the channels.
    ("point", "pretraining"): "AutoPETTrainerCrossSecPointPretrain",
    ("early-fusion", "pairs"): "LongiSegTrainerTracking",
    ("early-fusion", "pretraining"): "LongiSegTrainerTrackingPretrain",
    ("difference-weighting", "pairs"): "LongiSegTrainerTrackingDiffWeighting",
    ("difference-weighting", "pretraining"): "LongiSegTrainerTrackingDiffWeightingPretrain",
}
_CLICK_TRAINER = "autopetTrainerInteractiveClickGen10ptsRatio80_20EDT2"
# Not a published trainer: of those without organs the name does not say how clicks are drawn.
_CLICK_TRAINER_WITHOUT_ORGANS = "autopetTrainerInteractiveNoOrgansClickGen10ptsRatio80_20EDT2"
_CONVOLUTION_PART = re.compile(r"\.(conv|norm)\.(weight|bias)$")
_PART_NUMBERS = {"conv": 0, "norm": 1}


def trainer_name(config: TrainingConfig) -> str:
    """Return the name of the published trainer of the same kind of network."""
    if config.variant == "interactive":
        return _CLICK_TRAINER if config.organs > 0 else _CLICK_TRAINER_WITHOUT_ORGANS
    return _TRAINERS[config.variant, config.sampling]


def new_network(plan: Plan, config: TrainingConfig) -> ResEncUNet:
    """Build a network with fresh weights, float32 on the CPU, in training mode.

    Args:
        plan: holds the architecture.
        config: holds variant, deep supervision (as in `planned_network`) and the seed of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        variant = VARIANTS[config.variant]
        has_organs = variant is InputVariant.PET_CT_CLICKS and config.organs > 0
        organ_classes = config.organs + 1 if has_organs else 0  # with background
        network = planned_network(plan, variant, config.deep_supervision, organ_classes)
        network.initialize()
        _silence_residual_branches(network)
    return network.train()


def _silence_residual_branches(network: nn.Module) -> None:
    """Let residual blocks begin as their skips alone, as nnU-Net does (He et al. 2019, "Bag of tricks")."""
    for name, module in network.named_modules():
        if name.endswith(".conv2.norm") and isinstance(module, nn.InstanceNorm3d) and module.affine:
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def scales_of(output: Tensor | list[Tensor]) -> list[Tensor]:
    """Return the logits of all scales, with or without deep supervision.

    Args:
        output: of the network, [B, 2, z, y, x] or a list of them.

    Returns:
        A list of [B, 2, z, y, x], full resolution first.
    """
    return output if isinstance(output, list) else [output]


def published_state(network: ResEncUNet) -> dict[str, Tensor]:
    """Return the weights under the names of the published checkpoints.

    Published checkpoints list the parts of convolution blocks and the encoder twice (see
    `resenc_unet.canonical_state`), except those of the difference weighting block. The copies share their
    memory and are stored only once.

    Returns:
        Name -> tensor on the CPU, of the shape and dtype of the network's parameter.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        values = tensor.detach().cpu().contiguous()
        if name.startswith(BLOCK):  # beside the backbone
            state[name] = values
            continue
        names = [name]
        part = _CONVOLUTION_PART.search(name)
        if part is not None:
            number = _PART_NUMBERS[part.group(1)]
            names.append(f"{name[: part.start()]}.all_modules.{number}.{part.group(2)}")
        names += [f"decoder.{one}" for one in names if one.startswith("encoder.")]
        state |= {f"backbone.{one}": values for one in names}
    return state
