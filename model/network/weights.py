"""Weights on disk: found, read safely, checked against their plan, and packed.

The layout is the published one: `plans.json`, `dataset.json`, `fold_N/checkpoint_final.pth`; a
`checkpoint_final.safetensors` beside a `.pth` is preferred. A `.pth` is a pickle from outside: only
tensors, plain containers and a few numpy number types named here are let through.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import __version__
from ..case.whole import written_whole
from ..errors import WeightsError, one_line
from .plan import DEFAULT_CONFIGURATION, PLANS_FILE, Plan, read_plan
from .prompts import HeatMap
from .resenc_unet import ResEncUNet, canonical_state

MOUNTED_WEIGHTS = Path("/opt/ml/model")
SHIPPED_WEIGHTS = Path(__file__).resolve().parents[2] / "resources" / "weights"

# Under which a checkpoint, and packed weights, name the kind of their heat maps.
HEAT_MAP_KEY = "heat_map"

_CLASSES = 2
_STEM = "encoder.stem.convs.0.conv.weight"
_PROMPT_TRAINERS = ("LesionLocatorTrainerSegment", "LesionLocatorTrainerTrack")
_PACKED, _PICKLED = "checkpoint_final.safetensors", "checkpoint_final.pth"

# Torch keeps one allow-list for the process: a thread that is done would take it from one that still reads.
_ALLOW_LIST = threading.Lock()


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
    """The single-time-point networks, by the folder in which LesionLocator publishes each (paper 001).

    Of `TRACK` only the segmenting U-Net is used, which takes masks of the time point before, warped to the
    scan. The registration network that its checkpoints also hold is left out: registration is this
    project's own.
    """

    POINT = "LesionLocatorSeg/point_optimized"
    BOX = "LesionLocatorSeg/bbox_optimized"
    TRACK = "LesionLocatorTrack"


@dataclass(frozen=True, eq=False)
class FoldWeights:
    """One fold's tensors under canonical names, and what its checkpoint says of itself.

    ``heat_map`` is how the points were drawn that it was trained with.
    """

    path: Path
    state: dict[str, Tensor]
    trainer_name: str
    configuration: str
    mirror_axes: tuple[int, ...]
    variant: InputVariant
    heat_map: HeatMap = HeatMap.UNIT_PEAK


@dataclass(frozen=True, slots=True)
class WeightsManifest:
    """The files of an ensemble."""

    folder: Path
    folds: tuple[int, ...]
    files: tuple[Path, ...]

    @property
    def plan_file(self) -> Path:
        return self.folder / PLANS_FILE

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the plan and of every fold, by path relative to the folder."""
        return {str(file.relative_to(self.folder)): sha256(file) for file in (self.plan_file, *self.files)}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_weights(explicit: Path | None = None) -> Path:
    """The folder that holds a model: the given one, else the mounted one, else the shipped one.

    A model may also lie one folder down, as an unpacked archive leaves it.

    Raises:
        WeightsError: none holds a `plans.json`.
    """
    candidates = [explicit] if explicit is not None else [MOUNTED_WEIGHTS, SHIPPED_WEIGHTS]
    for candidate in candidates:
        folder = _model_folder(candidate)
        if folder is not None:
            return folder
    names = " or ".join(str(candidate) for candidate in candidates)
    raise WeightsError(f"{names}: holds no model; expected {PLANS_FILE} and fold_0 ... fold_4 in it")


def _model_folder(folder: Path) -> Path | None:
    if (folder / PLANS_FILE).is_file():
        return folder
    nested = sorted(folder.glob(f"*/{PLANS_FILE}")) if folder.is_dir() else []
    if len(nested) > 1:
        names = ", ".join(path.parent.name for path in nested[:4])
        raise WeightsError(f"{folder}: holds several models ({names}); expected one")
    return nested[0].parent if nested else None


def find_prompt_network(root: Path, network: PromptNetwork) -> Path | None:
    """The folder of a single-time-point network; None when it is not there.

    Args:
        root: the folder of the published archive (`LesionLocatorCheckpoint`), the one above or below it,
            or the network's own.

    Raises:
        WeightsError: it is there more than once.
    """
    parts = Path(network.value)
    places = [root / parts, root / parts.name, *sorted(root.glob(f"*/{parts}"))]
    if root.resolve().name == parts.name:
        places.append(root)
    found = list(dict.fromkeys(place for place in places if (place / PLANS_FILE).is_file()))
    if len(found) > 1:
        names = ", ".join(str(place.relative_to(root)) for place in found[:4])
        raise WeightsError(f"{root}: holds {parts.name} several times ({names}); expected one")
    return found[0] if found else None


def inspect_weights(folder: Path, folds: Sequence[int]) -> WeightsManifest:
    """Name the file of each fold. WeightsError for a fold that is missing."""
    return WeightsManifest(folder, tuple(folds), tuple(_fold_file(folder, fold) for fold in folds))


def _fold_file(folder: Path, fold: int, names: Sequence[str] = (_PACKED, _PICKLED)) -> Path:
    """The first of the names that a fold has; what is packed comes first."""
    for name in names:
        if (folder / f"fold_{fold}" / name).is_file():
            return folder / f"fold_{fold}" / name
    raise WeightsError(f"{folder / f'fold_{fold}'}: the fold is missing; expected {' or '.join(names)} in it")


def load_plan(manifest: WeightsManifest) -> Plan:
    """The plan, in the configuration that the first fold's checkpoint names."""
    return read_plan(manifest.plan_file, read_checkpoint(manifest.files[0]).configuration)


def load_fold(path: Path, family: Family = Family.LONGITUDINAL) -> FoldWeights:
    """Read one fold, without its optimizer state. Tensors keep the type they are stored in.

    Raises:
        WeightsError: unreadable, refused as unsafe, not finite, or a kind of network that was not asked
            for.
    """
    raw = read_checkpoint(path)
    if family is Family.SINGLE_TIME_POINT:
        variant = _prompt_variant(path, raw.trainer_name)
        state = _canonical(path, _unet_state(path, raw))
    else:
        state = _canonical(path, raw.state)
        variant = _variant(path, state, raw.trainer_name)
    name = _first_not_finite(state)
    if name is not None:  # it would make every answer empty, and nothing would say so
        raise WeightsError(f"{path}: is corrupt, {name} holds NaN or infinity; expected finite weights")
    return FoldWeights(
        path, state, raw.trainer_name, raw.configuration, raw.mirror_axes, variant, raw.heat_map
    )


@dataclass(frozen=True, eq=False)
class RawCheckpoint:
    state: dict[str, Tensor]
    trainer_name: str
    configuration: str
    mirror_axes: tuple[int, ...]
    heat_map: HeatMap


def read_checkpoint(path: Path) -> RawCheckpoint:
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _canonical(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    try:
        return canonical_state(state)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}; expected a checkpoint of the residual-encoder U-Net") from error


def _unet_state(path: Path, raw: RawCheckpoint) -> dict[str, Tensor]:
    """The tensors of a checkpoint's U-Net that takes a CT and a prompt, under whatever name it stands there.

    Other networks in the checkpoint are passed over; whether the U-Net is whole, `check_fold` tells.
    """
    prefixes = [
        key.removesuffix(_STEM)
        for key, tensor in raw.state.items()
        if key.endswith(_STEM) and tensor.ndim == 5 and tensor.shape[1] == len(InputVariant.PROMPT.channels)
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


def _first_not_finite(state: dict[str, Tensor]) -> str | None:
    """The first tensor with a NaN or infinity; a sum finds both in one pass without a second array."""
    sums = ((name, float(tensor.sum(dtype=torch.float32))) for name, tensor in state.items())
    return next((name for name, total in sums if not math.isfinite(total)), None)


def _allowed_globals() -> list[Any]:
    """The numpy number types that training logs leave in checkpoints, also by their names of numpy 1."""
    scalar = np.float64(0).__reduce__()[0]  # numpy hides its name
    kinds = ("Float64", "Float32", "Float16", "Int64", "Int32", "Int16", "Int8", "UInt8", "Bool")
    return [
        (scalar, "numpy._core.multiarray.scalar"),
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        *(getattr(np.dtypes, f"{kind}DType") for kind in kinds),
    ]


def _read_pickle(path: Path) -> RawCheckpoint:
    try:
        with _ALLOW_LIST, torch.serialization.safe_globals(_allowed_globals()):
            checkpoint = _load(path)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except MemoryError:
        raise
    except Exception as error:  # a spoilt pickle can end in any of them
        raise WeightsError(
            f"{path}: is corrupt or truncated ({one_line(error)[:120]}); expected a checkpoint"
        ) from error
    return _checked_checkpoint(path, checkpoint)


def _refusal(path: Path, error: pickle.UnpicklingError) -> WeightsError:
    """Torch's long message in one line: what the file asked for, where it says so."""
    refused = re.search(r"GLOBAL (\S+)|class (\S+)|global (\S+)", str(error))
    name = next((name for name in refused.groups() if name), None) if refused else None
    asked = (
        f"is refused, it asks to run {name.strip(chr(39))} while loading, and that"
        if name
        else ("cannot be read safely, it is corrupt or holds other things than weights, and")
    )
    return WeightsError(f"{path}: {asked} was not run; expected tensors and plain values only")


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(path, map_location="cpu", weights_only=True)  # a file of torch's old format


def _checked_checkpoint(path: Path, checkpoint: Any) -> RawCheckpoint:
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("network_weights"), dict):
        raise WeightsError(f"{path}: holds no 'network_weights'; expected a checkpoint of the trainer family")
    state = checkpoint["network_weights"]
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise WeightsError(f"{path}: 'network_weights' is not a state dict; expected names and tensors")
    arguments = checkpoint.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    return RawCheckpoint(
        state,
        str(checkpoint.get("trainer_name", "")),
        str(configuration or DEFAULT_CONFIGURATION),
        _mirror_axes(path, () if axes is None else axes),
        _heat_map(path, _named_heat_map(checkpoint)),
    )


def _named_heat_map(checkpoint: dict[str, Any]) -> Any:
    """What a checkpoint says, or the settings that it keeps: the first ones of `train run` say it there."""
    settings = checkpoint.get("training_config")
    return checkpoint.get(HEAT_MAP_KEY, settings.get(HEAT_MAP_KEY) if isinstance(settings, dict) else None)


def _heat_map(path: Path, name: Any) -> HeatMap:
    """The kind that a checkpoint names; published ones name none."""
    try:
        return HeatMap.UNIT_PEAK if name is None else HeatMap(name)
    except ValueError:
        raise WeightsError(f"{path}: its heat maps are {name!r}; expected {' or '.join(HeatMap)}") from None


def _mirror_axes(path: Path, axes: Any) -> tuple[int, ...]:
    if not isinstance(axes, list | tuple) or any(axis not in (0, 1, 2) for axis in axes):
        raise WeightsError(f"{path}: mirroring axes are {axes!r}; expected some of 0, 1, 2")
    return tuple(int(axis) for axis in axes)


def _read_safetensors(path: Path) -> RawCheckpoint:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
        axes = json.loads(metadata.get("mirror_axes", "[]"))
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(
            f"{path}: is corrupt or truncated ({one_line(error)[:120]}); expected packed weights"
        ) from error
    count = str(state[_STEM].shape[1]) if _STEM in state and state[_STEM].ndim == 5 else "no"
    if metadata.get("channels", count) != count:
        raise WeightsError(
            f"{path}: has {count} input channels; expected {metadata['channels']} by its notes"
        )
    configuration = metadata.get("configuration", DEFAULT_CONFIGURATION)
    return RawCheckpoint(
        state,
        metadata.get("trainer_name", ""),
        configuration,
        _mirror_axes(path, axes),
        _heat_map(path, metadata.get(HEAT_MAP_KEY)),
    )


def _variant(path: Path, state: dict[str, Tensor], trainer: str) -> InputVariant:
    """The stem's channel count decides; the trainer's name must not contradict it."""
    if "DiffWeighting" in trainer:
        raise WeightsError(f"{path}: {trainer} is another architecture; expected a ResidualEncoderUNet")
    if trainer in _PROMPT_TRAINERS:
        raise WeightsError(
            f"{path}: {trainer} trains a network for a single time point (a CT and a prompt); "
            "expected a longitudinal one (5 input channels)"
        )
    if _STEM not in state or state[_STEM].ndim != 5:
        raise WeightsError(f"{path}: has no 3-D stem {_STEM}; expected a ResidualEncoderUNet")
    count = state[_STEM].shape[1]
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


def _prompt_variant(path: Path, trainer: str) -> InputVariant:
    """Any trainer's, unless its name says that its two channels are of another kind."""
    if "CrossSec" in trainer or "DiffWeighting" in trainer:
        raise WeightsError(
            f"{path}: {trainer} trains no network for a CT and a prompt; expected one of "
            f"{' or '.join(_PROMPT_TRAINERS)}"
        )
    return InputVariant.PROMPT


def build_network(plan: Plan, weights: FoldWeights, device: str = "cpu") -> ResEncUNet:
    """The network of a plan with a fold's weights, float32, in eval mode.

    On the CPU it shares the tensors that were loaded. WeightsError as `check_fold`.
    """
    network = check_fold(plan, weights)
    network.load_state_dict({k: v.to(device).float() for k, v in weights.state.items()}, assign=True)
    return network.eval().requires_grad_(False)


def check_fold(plan: Plan, weights: FoldWeights) -> ResEncUNet:
    """The plan's network without memory for its weights, after a look at whether the fold's would fit.

    Raises:
        WeightsError: plan and checkpoint disagree; the first difference is named.
    """
    with torch.device("meta"):  # no memory and no time for values that are replaced at once
        network = ResEncUNet(len(weights.variant.channels), _CLASSES, plan.architecture)
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    for name in sorted(wanted.keys() | weights.state.keys()):
        given = weights.state.get(name)
        if name not in wanted or given is None or given.shape != wanted[name]:
            in_plan = list(wanted[name]) if name in wanted else "nothing"
            in_file = list(given.shape) if given is not None else "nothing"
            raise WeightsError(
                f"{weights.path}: does not fit its plan: {name} is {in_file}; expected {in_plan}"
            )
    return network


def load_folds(manifest: WeightsManifest, family: Family = Family.LONGITUDINAL) -> Iterator[FoldWeights]:
    """All folds in order. WeightsError for one that takes other channels or heat maps than the first."""
    first: FoldWeights | None = None
    for file in manifest.files:
        fold = load_fold(file, family)
        first = first or fold
        if fold.variant is not first.variant:
            raise WeightsError(
                f"{file}: takes {len(fold.variant.channels)} channels; expected "
                f"{len(first.variant.channels)} as {first.path.parent.name} does"
            )
        if fold.heat_map is not first.heat_map:
            raise WeightsError(
                f"{file}: was trained with {fold.heat_map} heat maps; expected {first.heat_map} as "
                f"{first.path.parent.name} was"
            )
        yield fold


def pack_weights(source: Path, target: Path, dtype: Literal["fp32", "fp16"] = "fp32") -> list[Path]:
    """Write each fold of a model as safetensors, without optimizer state, beside its plan.

    Returns the files written. WeightsError for anything that cannot be loaded.
    """
    folder = find_weights(source)
    folds = sorted(int(path.name[5:]) for path in folder.glob("fold_*") if path.name[5:].isdigit())
    if not folds:
        raise WeightsError(f"{folder}: holds no folds; expected fold_0 ... fold_4")
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for fold in folds:
        weights = load_fold(_fold_file(folder, fold, (_PICKLED, _PACKED)))  # from the original where it is
        written.append(_pack_fold(weights, target / f"fold_{fold}" / _PACKED, dtype))
    for name in (PLANS_FILE, "dataset.json"):
        if (folder / name).is_file() and folder.resolve() != target.resolve():
            shutil.copyfile(folder / name, target / name)
    return written


def _pack_fold(weights: FoldWeights, path: Path, dtype: str) -> Path:
    kind = {"fp32": torch.float32, "fp16": torch.float16}[dtype]
    state = {name: tensor.to(kind).contiguous() for name, tensor in weights.state.items()}
    beyond = _first_not_finite(state)
    if beyond is not None:
        raise WeightsError(f"{weights.path}: {beyond} does not fit {dtype}; expected --dtype fp32")
    metadata = {
        "format": "pt",
        "trainer_name": weights.trainer_name,
        "configuration": weights.configuration,
        "channels": str(len(weights.variant.channels)),
        "mirror_axes": json.dumps(weights.mirror_axes),
        HEAT_MAP_KEY: str(weights.heat_map),
        "source_sha256": sha256(weights.path),
        "packed_by": f"longilesion {__version__}",
    }
    with written_whole(path) as temporary:
        save_file(state, temporary, metadata)
    return path
