"""The settings of a training run: named defaults, presets, and overrides from the command line.

Defaults are those of [Kirchhoff2025] and its code (facts A2 to A4) unless a comment says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import InputError

Variant = Literal["longitudinal", "mask-and-point", "point"]

# Sound networks may answer with background alone for some hundred steps.
_WARMUP_STEPS = 1000


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """One run of one fold."""

    # What the network sees and learns from.
    variant: Variant = "longitudinal"
    sampling: Literal["pairs", "pretraining"] = "pairs"
    reverse_pairs: bool = (
        False  # the follow-up serves as baseline: the real scan of a synthetic pair comes last
    )
    heat_map: Literal["unit-peak", "unit-volume"] = "unit-peak"
    draw: Literal["patients", "pairs"] = "patients"  # which are equally likely; then one of what they have
    propagated_fraction: float = 0.5  # how often the follow-up point is the propagated one, if both are known
    shift_voxels: int = 4  # -4 to +4; the published code has -4 to +3, as it rounds towards zero
    # Steps.
    batch_size: int = 0  # of one optimiser step, over all processes; 0: the plan's
    micro_batch: int = 0  # samples of one forward pass in one process; 0: all of them
    epochs: int = 1000
    iterations: int = 250
    validation_iterations: int = 50
    seed: int = 12345
    # Optimiser and loss.
    learning_rate: float = 1e-2
    momentum: float = 0.99
    weight_decay: float = 3e-5
    poly_exponent: float = 0.9
    gradient_clip: float = 12.0
    batch_dice: bool | Literal["auto"] = "auto"  # auto: the plan's, as published
    dice_smooth: float = 1e-5
    deep_supervision: bool = True
    # Augmentation (A3).
    augment: bool = True
    mirror: bool = True
    rotation_degrees: float = 30.0
    rotation_probability: float = 0.2
    scaling_low: float = 0.7
    scaling_high: float = 1.4
    scaling_probability: float = 0.2
    intensity: bool = True
    # Weights to begin with.
    initial_heads: bool = False  # the published code leaves the last layers random
    # Machine.
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"  # auto: fp16 on CUDA, else fp32
    compile: bool = False
    deterministic: bool = False  # slower on CUDA; on the CPU runs are repeatable anyway
    workers: int = 2  # processes that make samples, beside each training process; 0: none
    prefetch: int = 2  # batches that each of them makes in advance
    # Record.
    checkpoint_every: int = 50
    ema_momentum: float = 0.9
    # Epochs without a verdict; -1: a quarter of the run, 50 at most, but no less than 1000 steps.
    health_warmup: int = -1
    health_patience: int = -1  # epochs without a hit that end the run; -1: a tenth of it, 3 to 20
    health_floor: float = 0.01  # validation Dice below it is no hit
    # What it is made of, as SHA-256; "" is not known. Nobody sets these: `origin` fills them in.
    scans: str = ""
    initial_weights: str = ""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise InputError(f"{name}: is {value}; expected {least} or more")
        for name in (
            "propagated_fraction",
            "rotation_probability",
            "scaling_probability",
            "momentum",
            "ema_momentum",
            "health_floor",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}: is {getattr(self, name)}; expected 0 to 1")
        if not 0 < self.scaling_low <= 1 <= self.scaling_high:
            raise InputError(
                f"scaling: is {self.scaling_low} to {self.scaling_high}; expected a range round 1, above 0"
            )
        if not self.learning_rate > 0 or not self.gradient_clip > 0:
            raise InputError("learning_rate, gradient_clip: expected both above 0")

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to the plan; `with_plan_defaults` sees to it."""
        return self.batch_size > 0 and self.batch_dice != "auto"

    @property
    def warmup_epochs(self) -> int:
        if self.health_warmup >= 0:
            return self.health_warmup
        return max(min(50, self.epochs // 4), math.ceil(_WARMUP_STEPS / self.iterations))

    @property
    def patience_epochs(self) -> int:
        return self.health_patience if self.health_patience > 0 else min(20, max(3, self.epochs // 10))


_LEAST = {
    "shift_voxels": 0,
    "batch_size": 0,
    "micro_batch": 0,
    "epochs": 1,
    "iterations": 1,
    "validation_iterations": 1,
    "seed": 0,
    "weight_decay": 0.0,
    "poly_exponent": 0.0,
    "dice_smooth": 0.0,
    "rotation_degrees": 0.0,
    "workers": 0,
    "prefetch": 1,
    "checkpoint_every": 1,
    "health_warmup": -1,
    "health_patience": -1,
}

# Settings that change how fast a result comes, not which one: a resumed run may have others.
FREE_ON_RESUME = frozenset({"workers", "prefetch", "checkpoint_every", "health_warmup", "health_patience"})

# No settings, though they stand beside them.
_ORIGIN = frozenset({"scans", "initial_weights"})

# Settings of the network, its prompts and the machine: the same in pretraining unless pretrain.key=value
# overrides them.
SETTINGS_OF_BOTH_STAGES = frozenset(
    {
        "variant",
        "heat_map",
        "batch_dice",
        "deep_supervision",
        "precision",
        "compile",
        "deterministic",
        "workers",
        "prefetch",
        "seed",
    }
)

PRESETS: dict[str, TrainingConfig] = {
    "scratch": TrainingConfig(),
    "pretraining": TrainingConfig(sampling="pretraining"),
    "finetuning": TrainingConfig(learning_rate=1e-3),
}


def with_overrides(config: TrainingConfig, overrides: Iterable[str]) -> TrainingConfig:
    """A configuration with ``key=value`` settings, as the command line takes them.

    Raises:
        InputError: an unknown key, a value of another type or out of range, or one key twice.
    """
    kinds = {key: kind for key, kind in get_type_hints(TrainingConfig).items() if key not in _ORIGIN}
    values = dict[str, Any]()
    for text in overrides:
        key, separator, value = text.partition("=")
        key = key.strip()
        if not separator:
            raise InputError(f"{text}: is no setting; expected key=value")
        if key not in kinds:
            raise InputError(f"{key}: is an unknown setting; expected one of {', '.join(sorted(kinds))}")
        if key in values:
            raise InputError(f"{key}: is given twice; expected it once")
        values[key] = _parsed(key, value.strip(), kinds[key])
    return replace(config, **values)


def with_plan_defaults(config: TrainingConfig, plan_file: Path, configuration: str) -> TrainingConfig:
    """The same settings, with what they leave to the plan as it stands there.

    Raises:
        WeightsError: the plan cannot be read, or does not say it.
    """
    if config.is_complete:
        return config
    from ..network.plan import read_batch  # settings alone are printed without it

    batch = read_batch(plan_file, configuration)
    return replace(
        config,
        batch_size=config.batch_size or batch.size,
        batch_dice=batch.sums_dice if config.batch_dice == "auto" else config.batch_dice,
    )


def setting_lines(config: TrainingConfig) -> Iterator[str]:
    """Each setting as ``key=value``, as the command line takes it; it is noted what the plan decides."""
    for key, value in to_plain(config).items():
        if key in _ORIGIN:
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        yield f"{key}={text}" + ("  # the plan's" if _is_open(key, value) else "")


def _parsed(key: str, text: str, kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):  # a word, or a value of another type
        other, words = get_args(kind)
        if text in get_args(words):
            return text
        try:
            return _parsed(key, text, other)
        except InputError as error:
            expected = f"expected {', '.join(get_args(words))}, or"
            raise InputError(str(error).replace("expected", expected)) from None
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise InputError(f"{key}: is {text!r}; expected one of {', '.join(get_args(kind))}")
        return text
    if kind is bool:
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in known:
            raise InputError(f"{key}: is {text!r}; expected true or false")
        return known[text.lower()]
    try:
        value = kind(text)
    except ValueError:
        noun = "a whole number" if kind is int else "a number"
        raise InputError(f"{key}: is {text!r}; expected {noun}") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise InputError(f"{key}: is {text!r}; expected a finite number")
    return value


def to_plain(config: TrainingConfig) -> dict[str, Any]:
    """The settings as plain values, for files."""
    return asdict(config)


def from_plain(values: Mapping[str, Any]) -> TrainingConfig:
    """The settings of a file; those that it does not name have their defaults."""
    known = {field.name for field in fields(TrainingConfig)}
    return TrainingConfig(**{key: value for key, value in values.items() if key in known})


def first_difference(one: TrainingConfig, other: TrainingConfig) -> str | None:
    """The first setting that makes two runs different; None when they are the same run.

    What one of them leaves to the plan, or does not know, is no difference.
    """
    for field in fields(one):
        ours, others = getattr(one, field.name), getattr(other, field.name)
        is_open = _is_open(field.name, ours) or _is_open(field.name, others)
        if ours != others and not is_open and field.name not in FREE_ON_RESUME:
            return field.name
    return None


def _is_open(name: str, value: Any) -> bool:
    """Whether a setting is left to the plan, or an origin is not known."""
    if name in _ORIGIN:
        return bool(value == "")
    return (name == "batch_size" and value == 0) or (name == "batch_dice" and value == "auto")
