"""Variants of networks, identified by the input channels of the stem and the name of the trainer."""

from __future__ import annotations

from enum import Enum, StrEnum
from pathlib import Path

from torch import Tensor

from ..errors import WeightsError
from .checkpoint_file import RawCheckpoint
from .resenc_unet import STEM

_PROMPT_TRAINERS = ("LesionLocatorTrainerSegment", "LesionLocatorTrainerTrack")


class InputVariant(Enum):
    """The encoded channels that a network takes, in order.

    `PROMPT` is the single-time-point network's and refers to `encoding.PROMPT_CHANNELS`; the others are those
    of the longitudinal trainer family and refer to `encoding.CHANNELS`.
    """

    LONGITUDINAL = (0, 1, 2, 3, 4)
    POINT_MASK = (0, 2, 3)
    POINT = (0, 3)
    PROMPT = (0, 1)

    @property
    def channels(self) -> tuple[int, ...]:
        """Indices into the encoded channels."""
        channels: tuple[int, ...] = self.value
        return channels


class Family(Enum):
    """Family of networks; weights of another family than the requested one are refused."""

    LONGITUDINAL = "longitudinal"
    SINGLE_TIME_POINT = "single time point"


class PromptNetwork(StrEnum):
    """The single-time-point networks, by the folder in which LesionLocator publishes them ([Rokuss2025]).

    Of `TRACK` only the segmentation U-Net is used, which takes masks of the previous time point warped to the
    scan. The registration network in the same checkpoints is not used: this project has its own registration.
    """

    POINT = "LesionLocatorSeg/point_optimized"
    BOX = "LesionLocatorSeg/bbox_optimized"
    TRACK = "LesionLocatorTrack"


def longitudinal_variant(path: Path, state: dict[str, Tensor], trainer: str) -> InputVariant:
    """Identify a network of the longitudinal family by its stem's input channels.

    Args:
        path: of the checkpoint, for messages.
        state: state dict under canonical names; the stem has the shape [features, channels, z, y, x].
        trainer: name of the trainer, which must agree with the number of channels.

    Raises:
        WeightsError: another architecture or family, or an unknown number of channels.
    """
    if "DiffWeighting" in trainer:
        raise WeightsError(f"{path}: {trainer} is another architecture; expected a ResidualEncoderUNet")
    if trainer in _PROMPT_TRAINERS:
        raise WeightsError(
            f"{path}: {trainer} trains a network for a single time point (a CT and a prompt); "
            "expected a longitudinal one (5 input channels)"
        )
    if STEM not in state or state[STEM].ndim != 5:
        raise WeightsError(f"{path}: has no 3-D stem {STEM}; expected a ResidualEncoderUNet")
    count = state[STEM].shape[1]
    family = (InputVariant.LONGITUDINAL, InputVariant.POINT_MASK, InputVariant.POINT)
    variant = next((variant for variant in family if len(variant.channels) == count), None)
    agrees = variant is not None
    if "CrossSecPoint" in trainer:
        agrees = variant is InputVariant.POINT
    elif "CrossSecMask" in trainer:
        agrees = variant is InputVariant.POINT_MASK
    elif variant is not InputVariant.LONGITUDINAL:
        agrees = False  # others with two or three channels have prompts of another kind
    if variant is None or not agrees:
        raise WeightsError(
            f"{path}: trainer {trainer or '(unnamed)'} with {count} input channels is unknown; expected 5 "
            "(longitudinal), 3 (cross-sectional with point and mask) or 2 (cross-sectional with point)"
        )
    return variant


def prompt_variant(path: Path, trainer: str) -> InputVariant:
    """The variant of the single-time-point network.

    Args:
        path: of the checkpoint, for messages.
        trainer: name of the trainer.

    Raises:
        WeightsError: the trainer is known to use two channels of another kind.
    """
    if "CrossSec" in trainer or "DiffWeighting" in trainer:
        raise WeightsError(
            f"{path}: {trainer} trains no network for a CT and a prompt; expected one of "
            f"{' or '.join(_PROMPT_TRAINERS)}"
        )
    return InputVariant.PROMPT


def prompt_unet_state(path: Path, raw: RawCheckpoint) -> dict[str, Tensor]:
    """Extract the U-Net that takes a CT and a prompt from a checkpoint, whatever its prefix.

    Other networks in the checkpoint are ignored. `weights.check_fold` checks that the U-Net is complete.

    Returns:
        Its state dict without the prefix; the stem has the shape [features, 2, z, y, x].

    Raises:
        WeightsError: there is no such U-Net, or more than one.
    """
    prefixes = [
        key.removesuffix(STEM)
        for key, tensor in raw.state.items()
        if key.endswith(STEM) and tensor.ndim == 5 and tensor.shape[1] == len(InputVariant.PROMPT.channels)
    ]
    # The decoder lists the encoder a second time.
    prefixes = [p for p in prefixes if not p or (p.endswith(".") and not p.endswith("decoder."))]
    if len(prefixes) != 1:
        count = "several U-Nets" if prefixes else "no U-Net"
        raise WeightsError(
            f"{path}: trainer {raw.trainer_name or '(unnamed)'}: holds {count} with two input channels; "
            "expected one residual-encoder U-Net that takes a CT and a prompt"
        )
    parts = (f"{prefixes[0]}encoder.", f"{prefixes[0]}decoder.")
    return {
        key.removeprefix(prefixes[0]): tensor for key, tensor in raw.state.items() if key.startswith(parts)
    }
