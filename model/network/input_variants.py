"""Variants of networks, identified by their tensors and the name of the trainer together."""

from __future__ import annotations

import re
from enum import Enum, StrEnum
from pathlib import Path

from torch import Tensor

from ..errors import WeightsError
from .checkpoint_file import RawCheckpoint
from .difference_weighting import BLOCK
from .encoding import CHANNELS
from .pet_ct import PET_CT_CHANNELS
from .resenc_unet import STEM

_PROMPT_TRAINERS = ("LesionLocatorTrainerSegment", "LesionLocatorTrainerTrack")
# Trainers for PET/CT, with clicks and without ([Rokuss2025b] and its predecessor).
_CLICK_TRAINERS, _AUTOMATIC_TRAINERS = "autopetTrainerInteractive", "autoPET3_Trainer"
# Only marks of this radius are drawn; the same family was trained with balls of 3 and 4 and Gaussians, too.
_MARKS = "EDT2"
_NO_ORGANS = "NoOrgans"
_OTHER_MARKS = re.compile(r"EDT(?!2)|EDT2[0-9]|Sigma", re.I)
# Part of the names of the trainers of LongiSeg 2.0 that take points; its other ones take whole scans.
_TRACKING, _DIFFERENCE = "Tracking", "DiffWeighting"

STEM_CHANNELS = (*CHANNELS, *PET_CT_CHANNELS[1:])
"""All channels that a stem may take; the CT of a PET/CT is the same as that of a follow-up."""


class Family(Enum):
    """Family of networks; weights of another family than the requested one are refused."""

    LONGITUDINAL = "longitudinal"
    SINGLE_TIME_POINT = "single time point"
    PET_CT = "PET/CT"


class InputVariant(Enum):
    """The encoded channels that a network takes, in order.

    Those of the longitudinal trainer family refer to `encoding.CHANNELS`, `PROMPT` of the single-time-point
    network to `encoding.PROMPT_CHANNELS`, and the others to `pet_ct.PET_CT_CHANNELS`.
    """

    LONGITUDINAL = (Family.LONGITUDINAL, (0, 1, 2, 3, 4))
    POINT_MASK = (Family.LONGITUDINAL, (0, 2, 3))
    POINT = (Family.LONGITUDINAL, (0, 3))
    EARLY_FUSION = (Family.LONGITUDINAL, (0, 1, 3, 4))
    DIFFERENCE_WEIGHTING = (Family.LONGITUDINAL, (0, 3, 1, 4))
    PROMPT = (Family.SINGLE_TIME_POINT, (0, 1))
    PET_CT_CLICKS = (Family.PET_CT, (0, 1, 2, 3))
    PET_CT = (Family.PET_CT, (0, 1))

    @property
    def family(self) -> Family:
        """Family of networks that take these channels."""
        family: Family = self.value[0]
        return family

    @property
    def channels(self) -> tuple[int, ...]:
        """Indices into the encoded channels."""
        channels: tuple[int, ...] = self.value[1]
        return channels

    @property
    def takes_mask(self) -> bool:
        """True if one of the channels is the baseline mask."""
        return self.family is Family.LONGITUDINAL and CHANNELS.index("baseline mask") in self.channels

    @property
    def encoder_passes(self) -> int:
        """Number of time points that go through the encoder one by one; 1 if all channels go together."""
        return 2 if self is InputVariant.DIFFERENCE_WEIGHTING else 1

    @property
    def stem_channels(self) -> int:
        """Number of input channels of the stem."""
        return len(self.channels) // self.encoder_passes

    @property
    def stem_meaning(self) -> tuple[int, ...]:
        """Channels of the stem as indices into `STEM_CHANNELS`; with two passes those of the first one."""
        channels = self.channels[: self.stem_channels]
        if self.family is not Family.PET_CT:
            return channels
        return tuple(channel and len(CHANNELS) - 1 + channel for channel in channels)

    @property
    def description(self) -> str:
        """The variant in words, for messages."""
        words = self.name.lower().replace("_", " ")
        return f"{words} ({len(self.channels)} channels)"


class PromptNetwork(StrEnum):
    """The single-time-point networks, by the folder in which LesionLocator publishes them ([Rokuss2025]).

    Of `TRACK` only the segmentation U-Net is used, which takes masks of the previous time point warped to the
    scan. The registration network in the same checkpoints is not used: this project has its own registration.
    """

    POINT = "LesionLocatorSeg/point_optimized"
    BOX = "LesionLocatorSeg/bbox_optimized"
    TRACK = "LesionLocatorTrack"


def family_of(trainer: str) -> Family:
    """The family of networks that a trainer of this name trains; the longitudinal one if it is unknown."""
    if is_pet_ct_trainer(trainer):
        return Family.PET_CT
    return Family.SINGLE_TIME_POINT if trainer in _PROMPT_TRAINERS else Family.LONGITUDINAL


def longitudinal_variant(path: Path, state: dict[str, Tensor], trainer: str) -> InputVariant:
    """Identify a network of the longitudinal family by its tensors and its trainer, which must agree.

    The stem's input channels alone are ambiguous: two are a CT and a point, or one time point's part of a
    network with difference weighting, or two CTs without a prompt.

    Args:
        path: of the checkpoint, for messages.
        state: state dict under canonical names; the stem has the shape [features, channels, z, y, x].
        trainer: name of the trainer.

    Raises:
        WeightsError: another architecture or family, or an unknown number of channels.
    """
    if trainer in _PROMPT_TRAINERS:
        raise WeightsError(
            f"{path}: {trainer} trains a network for a single time point (a CT and a prompt); "
            "expected a longitudinal one (5 input channels)"
        )
    if STEM not in state or state[STEM].ndim != 5:
        raise WeightsError(f"{path}: has no 3-D stem {STEM}; expected a ResidualEncoderUNet")
    count = state[STEM].shape[1]
    if _DIFFERENCE in trainer or _has_block(state):
        return _difference_weighting(path, state, trainer, count)
    if "NoLongi" in trainer or ("LongiSegTrainer" in trainer and _TRACKING not in trainer):
        raise _unprompted(path, trainer)
    if f"LongiSegTrainer{_TRACKING}" in trainer:
        if count != InputVariant.EARLY_FUSION.stem_channels:
            raise WeightsError(
                f"{path}: {trainer} with {count} input channels is unknown; expected 4 (early fusion of both "
                "CTs and both points)"
            )
        return InputVariant.EARLY_FUSION
    return _stacked_variant(path, trainer, count)


def _stacked_variant(path: Path, trainer: str, count: int) -> InputVariant:
    """The variant of the networks of autoPET, which take all of their channels at once."""
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
            "(longitudinal), 3 (cross-sectional with point and mask), 2 (cross-sectional with point), or a "
            "LongiSegTrainerTracking with 4 (early fusion) or with difference weighting"
        )
    return variant


def _difference_weighting(path: Path, state: dict[str, Tensor], trainer: str, count: int) -> InputVariant:
    """The variant with difference weighting; its name and its tensors must both say so.

    That each stage has its norm, of its length, is checked against the plan (`weights.check_fold`).
    """
    name = trainer or "(unnamed)"
    if not _has_block(state):
        raise WeightsError(
            f"{path}: trainer {name} trains with difference weighting, but the file has no {BLOCK}* tensors; "
            "expected both or neither"
        )
    if _DIFFERENCE not in trainer:
        raise WeightsError(
            f"{path}: has {BLOCK}* tensors, but trainer {name} trains without difference weighting; expected "
            f"both or neither ({_DIFFERENCE} in the trainer's name)"
        )
    if _TRACKING not in trainer or count == 1:
        raise _unprompted(path, trainer)
    if count != InputVariant.DIFFERENCE_WEIGHTING.stem_channels:
        raise WeightsError(
            f"{path}: {trainer} takes {count} channels per time point; expected 2 (CT and point)"
        )
    return InputVariant.DIFFERENCE_WEIGHTING


def _has_block(state: dict[str, Tensor]) -> bool:
    """True if any tensor belongs to a difference weighting block."""
    return any(BLOCK in name for name in state)


def _unprompted(path: Path, trainer: str) -> WeightsError:
    return WeightsError(
        f"{path}: {trainer} trains a network without prompts, for whole scans; expected one that takes points"
    )


def prompt_variant(path: Path, raw: RawCheckpoint) -> InputVariant:
    """The variant of the single-time-point network.

    Args:
        path: of the checkpoint, for messages.
        raw: its content.

    Raises:
        WeightsError: the network is known to use two channels of another kind.
    """
    trainer = raw.trainer_name
    others = ("CrossSec", "LongiSeg", "NoLongi", _DIFFERENCE)
    is_other = is_pet_ct_trainer(trainer) or any(part in trainer for part in others)
    if is_other or _has_block(raw.state):
        raise WeightsError(
            f"{path}: trainer {trainer or '(unnamed)'} trains no network for a CT and a prompt; expected one "
            f"of {' or '.join(_PROMPT_TRAINERS)}"
        )
    return InputVariant.PROMPT


def stem_meaning(trainer: str, count: int) -> tuple[int, ...]:
    """The channels of any network's stem, as far as they are known, for one that begins with its weights.

    Args:
        trainer: name of the trainer; "" if unknown.
        count: number of input channels of the stem.

    Returns:
        Indices into `STEM_CHANNELS`. Networks with 5, 3 or 2 channels count as the longitudinal one and
        its cross-sectional variants (a single prompt is the follow-up heat map) unless their trainer is known
        to take others. Of networks that are not known only the first channel is, a CT.
    """
    variants = [InputVariant.LONGITUDINAL, InputVariant.POINT_MASK, InputVariant.POINT]
    if "LongiSegTrainer" in trainer and _TRACKING in trainer:
        variants = [InputVariant.EARLY_FUSION, InputVariant.DIFFERENCE_WEIGHTING]
    elif is_pet_ct_trainer(trainer):
        variants = [InputVariant.PET_CT_CLICKS, InputVariant.PET_CT]
    elif "LongiSegTrainer" in trainer:
        variants = []
    known = {variant.stem_channels: variant.stem_meaning for variant in variants}
    return known.get(count, (0,))


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


def is_pet_ct_trainer(trainer: str) -> bool:
    """True if a trainer of this name trains networks for PET/CT, whether or not they can be used here."""
    return trainer.startswith((_CLICK_TRAINERS, _AUTOMATIC_TRAINERS))


def pet_ct_variant(path: Path, state: dict[str, Tensor], trainer: str) -> InputVariant:
    """Identify a network for PET/CT by its trainer, which must agree with the stem's input channels.

    Args:
        path: of the checkpoint, for messages.
        state: state dict under canonical names; the stem has the shape [features, channels, z, y, x].
        trainer: name of the trainer.

    Raises:
        WeightsError: another architecture or family, clicks drawn in another way, or other channels.
    """
    if STEM not in state or state[STEM].ndim != 5:
        raise WeightsError(f"{path}: has no 3-D stem {STEM}; expected a ResidualEncoderUNet")
    known = f"{_CLICK_TRAINERS}...{_MARKS}, {_CLICK_TRAINERS}{_NO_ORGANS} or {_AUTOMATIC_TRAINERS}"
    if not is_pet_ct_trainer(trainer):
        raise WeightsError(
            f"{path}: trainer {trainer or '(unnamed)'} is unknown for PET/CT; expected {known}"
        )
    variant = InputVariant.PET_CT
    if trainer.startswith(_CLICK_TRAINERS):
        variant = InputVariant.PET_CT_CLICKS
        if _OTHER_MARKS.search(trainer) or not (_MARKS in trainer or _NO_ORGANS in trainer):
            raise WeightsError(
                f"{path}: {trainer} was trained with clicks drawn in another way than as balls of 2 voxels; "
                f"expected {known}"
            )
    count = state[STEM].shape[1]
    if count != len(variant.channels):
        raise WeightsError(f"{path}: {trainer} has {count} input channels; expected {len(variant.channels)}")
    return variant


def marks_are_assumed(trainer: str) -> bool:
    """True if the name of a trainer with clicks does not say how its clicks are drawn."""
    return trainer.startswith(_CLICK_TRAINERS) and _MARKS not in trainer
