"""Which network a checkpoint holds: told by its stem's channels and its trainer's name."""

from __future__ import annotations

from enum import Enum, StrEnum
from pathlib import Path

from torch import Tensor

from ..errors import WeightsError
from .checkpoint_file import RawCheckpoint
from .resenc_unet import STEM

_PROMPT_TRAINERS = ("LesionLocatorTrainerSegment", "LesionLocatorTrainerTrack")


class InputVariant(Enum):
    """Which of the channels that its patches are encoded with a network takes, in order.

    `PROMPT` is the single-time-point network's, which counts its own two (`prompts.PROMPT_CHANNELS`); the
    others are those of the longitudinal trainer family and count `prompts.CHANNELS`.
    """

    LONGITUDINAL = (0, 1, 2, 3, 4)
    POINT_MASK = (0, 2, 3)
    POINT = (0, 3)
    PROMPT = (0, 1)

    @property
    def channels(self) -> tuple[int, ...]:
        return self.value


class Family(Enum):
    """Which networks are meant where weights are asked for; the other ones are refused."""

    LONGITUDINAL = "longitudinal"
    SINGLE_TIME_POINT = "single time point"


class PromptNetwork(StrEnum):
    """The single-time-point networks, by the folder in which LesionLocator publishes each ([Rokuss2025]).

    Of `TRACK` only the segmenting U-Net is used, which takes masks of the time point before, warped to the
    scan. The registration network that its checkpoints also hold is left out: registration is this
    project's own.
    """

    POINT = "LesionLocatorSeg/point_optimized"
    BOX = "LesionLocatorSeg/bbox_optimized"
    TRACK = "LesionLocatorTrack"


def longitudinal_variant(path: Path, state: dict[str, Tensor], trainer: str) -> InputVariant:
    """The stem's channel count decides; the trainer's name must not contradict it, else WeightsError."""
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
    known = variant is not None
    if "CrossSecPoint" in trainer:
        known = variant is InputVariant.POINT
    elif "CrossSecMask" in trainer:
        known = variant is InputVariant.POINT_MASK
    elif variant is not InputVariant.LONGITUDINAL:
        known = False  # others with two or three channels have prompts of another kind
    if variant is None or not known:
        raise WeightsError(
            f"{path}: trainer {trainer or '(unnamed)'} with {count} input channels is unknown; expected 5 "
            "(longitudinal), 3 (cross-sectional with point and mask) or 2 (cross-sectional with point)"
        )
    return variant


def prompt_variant(path: Path, trainer: str) -> InputVariant:
    """Any trainer's, unless its name says that its two channels are of another kind: WeightsError."""
    if "CrossSec" in trainer or "DiffWeighting" in trainer:
        raise WeightsError(
            f"{path}: {trainer} trains no network for a CT and a prompt; expected one of "
            f"{' or '.join(_PROMPT_TRAINERS)}"
        )
    return InputVariant.PROMPT


def prompt_unet_state(path: Path, raw: RawCheckpoint) -> dict[str, Tensor]:
    """The tensors of a checkpoint's U-Net that takes a CT and a prompt, under whatever name it stands there.

    Other networks in the checkpoint are passed over; whether the U-Net is whole, `weights.check_fold` tells.
    WeightsError when there is none, or more than one.
    """
    prefixes = [
        key.removesuffix(STEM)
        for key, tensor in raw.state.items()
        if key.endswith(STEM) and tensor.ndim == 5 and tensor.shape[1] == len(InputVariant.PROMPT.channels)
    ]
    # The decoder's second entry of the encoder is none of its own.
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
