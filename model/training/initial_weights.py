"""Weights to begin with, from any checkpoint of the family, whatever channels it takes (facts A6, C6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import WeightsError
from ..network.checkpoint_file import read_checkpoint
from ..network.encoding import CHANNELS
from ..network.resenc_unet import STEM, ResEncUNet, canonical_state

_HEADS = "decoder.seg_layers."
# What the channels of other networks are in `prompts.CHANNELS`. The first one of all is a CT.
_PROMPTED = (0, 3)  # CT and prompt, as LesionLocator's
_BY_COUNT = {5: (0, 1, 2, 3, 4), 3: (0, 2, 3), 2: _PROMPTED}


def load_initial(
    network: ResEncUNet, path: Path, channels: Sequence[int], with_heads: bool
) -> tuple[str, ...]:
    """Copy a checkpoint's weights into a network; what it lacks keeps its fresh values.

    The stem's input channels are matched by their meaning: of a checkpoint with 5, 3 or 2 channels those of
    the longitudinal network and its cross-sectional kin (a prompt is a follow-up heat map), of any other one
    only the first, a CT.

    Args:
        path: a `.pth` of the published layout or a packed `.safetensors`.
        channels: the network's own, as indices into `prompts.CHANNELS`.
        with_heads: also the last layers, where they fit.

    Returns:
        Lines that say what was copied and what was not.

    Raises:
        WeightsError: the file is not there or cannot be read, or a layer other than stem and heads does not
            fit.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is missing"
        raise WeightsError(f"{path}: {what}; expected a checkpoint, .pth or .safetensors")
    given, wanted = _read_state(path), network.state_dict()
    missing = [name for name in wanted if not name.startswith(_HEADS) and name not in given]
    if missing:
        raise WeightsError(
            f"{path}: has no {missing[0]}; expected a residual-encoder U-Net as the plan has it"
        )
    lines, state = [], dict[str, Tensor]()
    for name, fresh in wanted.items():
        if name == STEM:
            state[name], line = _stem(path, given[name], fresh, channels)
            lines.append(line)
        elif name.startswith(_HEADS) and not (
            with_heads and name in given and given[name].shape == fresh.shape
        ):
            state[name] = fresh
        elif given[name].shape != fresh.shape:
            raise WeightsError(
                f"{path}: {name} is {list(given[name].shape)}; expected {list(fresh.shape)} by the plan"
            )
        else:
            state[name] = given[name].to(fresh.dtype)
    fresh_heads = [name for name in wanted if name.startswith(_HEADS) and state[name] is wanted[name]]
    lines.append(f"last layers: {'initialised' if fresh_heads else 'copied'}")
    unused = sum(name not in wanted for name in given)
    if unused:
        lines.append(f"{unused} tensors of {path.name} that this network does not have: left out")
    network.load_state_dict(state)
    return tuple(lines)


def _stem(path: Path, given: Tensor, fresh: Tensor, channels: Sequence[int]) -> tuple[Tensor, str]:
    """The stem's weight [features, inputs, kernel] with the given one's channels where they match."""
    if given.shape[0] != fresh.shape[0] or given.shape[2:] != fresh.shape[2:]:
        raise WeightsError(f"{path}: {STEM} is {list(given.shape)}; expected {list(fresh.shape)} by the plan")
    meanings = _BY_COUNT.get(given.shape[1], (0,))
    weight, copied, initialised = fresh.clone(), [], []
    for number, channel in enumerate(channels):
        if channel in meanings:
            weight[:, number] = given[:, meanings.index(channel)].to(fresh.dtype)
            copied.append(CHANNELS[channel])
        else:
            initialised.append(CHANNELS[channel])
    left_out = given.shape[1] - len(copied)
    line = f"stem, {given.shape[1]} -> {len(channels)} channels: copied {', '.join(copied)}"
    line += f"; initialised {', '.join(initialised)}" if initialised else ""
    return weight, line + (f"; {left_out} left out" if left_out else "")


def _read_state(path: Path) -> dict[str, Tensor]:
    """The U-Net's tensors under canonical names, whatever wrapper they lie in."""
    raw = read_checkpoint(path).state
    try:
        state = canonical_state(raw)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}; expected a checkpoint of the residual-encoder U-Net") from error
    prefixes = [name.removesuffix(STEM) for name in state if name.endswith(STEM)]
    if len(prefixes) != 1:
        count = "several U-Nets" if prefixes else "no U-Net"
        raise WeightsError(f"{path}: holds {count}; expected one residual-encoder U-Net")
    prefix = prefixes[0]
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    spoilt = next((name for name, tensor in own.items() if not bool(torch.isfinite(tensor).all())), None)
    if spoilt is not None:
        raise WeightsError(f"{path}: is corrupt, {spoilt} holds NaN or infinity; expected finite weights")
    return own
