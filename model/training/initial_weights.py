"""Initial weights from any checkpoint of the network family, whatever its input channels.

See docs/model_recipe.md, Initial weights.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import WeightsError
from ..network.checkpoint_file import read_checkpoint
from ..network.difference_weighting import BLOCK
from ..network.input_variants import STEM_CHANNELS, InputVariant, stem_meaning
from ..network.resenc_unet import ORGAN_HEADS, STEM, ResEncUNet, canonical_state

_HEADS = ("decoder.seg_layers.", ORGAN_HEADS)
# MultiTalent has a stem for each of its data sets; this one is autoPET's, and takes CT and PET.
_NAMED_STEM = re.compile(r"(.*encoder\.stem\.)([^.]+)\.(convs\..+)")
_AUTOPET_STEM = "221"


def load_initial(
    network: ResEncUNet, path: Path, channels: Sequence[int], with_heads: bool
) -> tuple[str, ...]:
    """Copy a checkpoint's weights into a network; parameters that it lacks keep their initial values.

    Input channels of the stem are matched by meaning, see `input_variants.stem_meaning`. A difference
    weighting block that the checkpoint lacks begins without an effect of its own: scale 1, offset 0. Of the
    stems of MultiTalent, one for each of its data sets, that of autoPET is taken, for CT and PET.

    Args:
        network: the network, changed in place.
        path: a `.pth` of the published layout or a packed `.safetensors`.
        channels: the input channels of the network's stem, see `InputVariant.stem_meaning`.
        with_heads: copy the segmentation heads as well, if they fit.

    Returns:
        Lines for the log that list what was copied and what was not.

    Raises:
        WeightsError: the file is missing or unreadable, or a layer other than stem and heads does not fit.
    """
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "is missing"
        raise WeightsError(f"{path}: {fault}; expected a checkpoint, .pth or .safetensors")
    (saved, saved_channels), fresh = _read_state(path), network.state_dict()
    # A block that lacks a part is as wrong as any other incomplete layer.
    has_block = any(name.startswith(BLOCK) for name in saved)
    optional = _HEADS if has_block else (*_HEADS, BLOCK)
    missing = [name for name in fresh if not name.startswith(optional) and name not in saved]
    if missing:
        raise WeightsError(f"{path}: has no {missing[0]}; expected the residual-encoder U-Net of the plan")
    state, lines = dict[str, Tensor](), list[str]()
    for name, tensor in fresh.items():
        if name == STEM:
            state[name], line = _stem_weight(path, saved[name], saved_channels, tensor, channels)
            lines.append(line)
        elif name.startswith(_HEADS):
            fits = with_heads and name in saved and saved[name].shape == tensor.shape
            state[name] = saved[name].to(tensor.dtype) if fits else tensor
        elif name.startswith(BLOCK) and not has_block:
            state[name] = tensor
        else:
            _check_shape(path, name, saved[name], tensor)
            state[name] = saved[name].to(tensor.dtype)
    fresh_heads = [name for name in fresh if name.startswith(_HEADS) and state[name] is fresh[name]]
    lines.append(f"last layers: {'initialised' if fresh_heads else 'copied'}")
    if any(name.startswith(BLOCK) for name in fresh):
        lines.append(f"difference weighting: {'copied' if has_block else 'initialised'}")
    unused = sum(name not in fresh for name in saved)
    if unused:
        lines.append(f"{unused} tensors of {path.name} that this network does not have: left out")
    network.load_state_dict(state)
    return tuple(lines)


def _check_shape(path: Path, name: str, saved: Tensor, fresh: Tensor) -> None:
    if saved.shape != fresh.shape:
        raise WeightsError(f"{path}: {name} is {list(saved.shape)}; expected {list(fresh.shape)} by the plan")


def _stem_weight(
    path: Path, saved: Tensor, saved_channels: Sequence[int], fresh: Tensor, channels: Sequence[int]
) -> tuple[Tensor, str]:
    """The fresh weight [features, inputs, z, y, x] with the matching saved channels, and a line."""
    if saved.shape[0] != fresh.shape[0] or saved.shape[2:] != fresh.shape[2:]:
        raise WeightsError(f"{path}: {STEM} is {list(saved.shape)}; expected {list(fresh.shape)} by the plan")
    weight, copied, initialised = fresh.clone(), [], []
    for number, channel in enumerate(channels):
        if channel in saved_channels:
            weight[:, number] = saved[:, saved_channels.index(channel)].to(fresh.dtype)
            copied.append(STEM_CHANNELS[channel])
        else:
            initialised.append(STEM_CHANNELS[channel])
    left_out = saved.shape[1] - len(copied)
    line = f"stem, {saved.shape[1]} -> {len(channels)} channels: copied {', '.join(copied)}"
    line += f"; initialised {', '.join(initialised)}" if initialised else ""
    return weight, line + (f"; {left_out} left out" if left_out else "")


def _read_state(path: Path) -> tuple[dict[str, Tensor], tuple[int, ...]]:
    """The U-Net's tensors under canonical names, without any wrapper's prefix, and its stem's channels."""
    raw = read_checkpoint(path)
    try:
        state, has_named_stem = _with_one_stem(path, canonical_state(raw.state))
    except ValueError as error:
        raise WeightsError(f"{path}: {error}; expected a checkpoint of the residual-encoder U-Net") from error
    prefixes = [name.removesuffix(STEM) for name in state if name.endswith(STEM)]
    if len(prefixes) != 1:
        count = "several U-Nets" if prefixes else "no U-Net"
        raise WeightsError(f"{path}: holds {count}; expected one residual-encoder U-Net")
    prefix = prefixes[0]
    unet = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    corrupt = next((name for name, tensor in unet.items() if not bool(torch.isfinite(tensor).all())), None)
    if corrupt is not None:
        raise WeightsError(f"{path}: is corrupt, {corrupt} holds NaN or infinity; expected finite weights")
    if has_named_stem:
        return unet, InputVariant.PET_CT.stem_meaning
    return unet, stem_meaning(raw.trainer_name, unet[STEM].shape[1])


def _with_one_stem(path: Path, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The state with autoPET's stem as the only one, and True if its stems have names."""
    named = {name: match for name in state if (match := _NAMED_STEM.fullmatch(name)) is not None}
    if not named:
        return state, False
    names = sorted({match[2] for match in named.values()})
    if _AUTOPET_STEM not in names:
        raise WeightsError(
            f"{path}: has stems {', '.join(names)}; expected one without a name, or {_AUTOPET_STEM} for CT "
            "and PET"
        )
    chosen = {m[1] + m[3]: state[name] for name, m in named.items() if m[2] == _AUTOPET_STEM}
    return {name: tensor for name, tensor in state.items() if name not in named} | chosen, True
