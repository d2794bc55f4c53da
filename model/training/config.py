"""The settings of a training run: defaults, presets, and overrides from the command line.

Defaults are those of [Kirchhoff2025] and its code unless a comment says otherwise; see docs/model_recipe.md,
Sampling, Augmentation, and Loss and optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import InputError
from .interactive_settings import InteractiveSettings
from .variant_settings import DEFAULTS_OF_VARIANT, Variant

# Networks that later learn well may predict only background for some hundred steps.
_WARMUP_STEPS = 1000


@dataclass(frozen=True, slots=True)
class TrainingConfig(InteractiveSettings):
    """The settings of one training run of one fold."""

    # Inputs and samples.
    variant: Variant = "longitudinal"
    sampling: Literal["pairs", "pretraining"] = "pairs"
    reverse_pairs: bool = False  # swap the scans, so that the real one of a synthetic pair comes last
    heat_map: Literal["unit-peak", "unit-volume"] = "unit-peak"
    draw: Literal["patients", "pairs"] = "patients"  # drawn uniformly first, then a pair or lesion of it
    # Lesions of a pair are drawn with a probability proportional to their inner radius to this power; not
    # published, 0 as there: large tumours beside many small lesions are then drawn too rarely to be learned.
    radius_exponent: float = 0.0
    propagated_fraction: float = 0.5  # how often the follow-up point is the propagated one, if both are known
    # Points that are not the propagated one are drawn inside the lesion, deep voxels more often.
    drawn_points: bool = False
    shift_voxels: int = 4  # -4 to +4; the published code has -4 to +3, as it rounds towards zero
    varied_masks: float = 0.0  # share of samples with another baseline mask (`mask_variation`); not published
    # Steps.
    batch_size: int = 0  # samples of one optimiser step, over all processes; 0: the plan's
    micro_batch: int = 0  # samples of one forward pass in one process; 0: all of them
    epochs: int = 1000
    iterations: int = 250
    validation_iterations: int = 50
    seed: int = 12345
    # Optimiser and loss.
    optimizer: Literal["sgd", "adamw"] = "sgd"  # AdamW is not published; its rate is about 1e-3
    learning_rate: float = 1e-2
    momentum: float = 0.99  # Nesterov's; AdamW has its defaults, 0.9 and 0.999
    weight_decay: float = 3e-5
    poly_exponent: float = 0.9
    gradient_clip: float = 12.0
    weight_average: float = 0.0  # decay per step of the averaged weights to export; 0: none, as published
    batch_dice: bool | Literal["auto"] = "auto"  # auto: the plan's, as published
    dice_smooth: float = 1e-5
    # Share of each sample's voxels, the hardest, that the cross-entropy averages over. With all of them, as
    # published, the few voxels of a small lesion hardly count, be it missed or vanished.
    entropy_hardest: float = 1.0
    deep_supervision: bool = True
    # Augmentation.
    augment: bool = True
    mirror: bool = True
    rotation_degrees: float = 30.0
    rotation_probability: float = 0.2
    scaling_low: float = 0.7
    scaling_high: float = 1.4
    scaling_probability: float = 0.2
    intensity: bool = True
    # Initial weights.
    initial_heads: bool = False  # the published code keeps the segmentation heads random
    # Machine.
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"  # auto: fp16 on CUDA, else fp32
    compile: bool = False
    deterministic: bool = False  # slower on CUDA; runs on the CPU are repeatable in any case
    workers: int = 2  # processes that build samples for each training process; 0: none
    prefetch: int = 2  # batches that each worker builds in advance
    # Checkpoints and health.
    checkpoint_every: int = 50
    ema_momentum: float = 0.9
    # Epochs in which a fold cannot fail; -1: a quarter of the run and at most 50, but at least 1000 steps.
    health_warmup: int = -1
    health_patience: int = -1  # epochs in a row below the floor that end the run; -1: a tenth of it, 3 to 20
    health_floor: float = 0.01  # least validation Dice of an epoch that counts as learning
    # SHA-256 of the training data and initial weights, "" if unknown; set by `fold_provenance`, not by users.
    scans: str = ""
    initial_weights: str = ""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise InputError(f"{name}: is {value}; expected {least} or more")
        for name in (
            "propagated_fraction",
            "varied_masks",
            "rotation_probability",
            "scaling_probability",
            "momentum",
            "ema_momentum",
            "weight_average",
            "health_floor",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}: is {getattr(self, name)}; expected 0 to 1")
        if not 0 < self.scaling_low <= 1 <= self.scaling_high:
            raise InputError(
                f"scaling: is {self.scaling_low} to {self.scaling_high}; expected a range around 1, above 0"
            )
        self.check_interactive()
        if not 0 < self.entropy_hardest <= 1:
            raise InputError(f"entropy_hardest: is {self.entropy_hardest}; expected above 0, and 1 at most")
        if not self.learning_rate > 0 or not self.gradient_clip > 0:
            raise InputError("learning_rate, gradient_clip: expected both above 0")

    @property
    def is_complete(self) -> bool:
        """True if no setting is left to the plan, as after `with_plan_defaults`."""
        return self.batch_size > 0 and self.batch_dice != "auto"

    @property
    def uses_lesion_voxels(self) -> bool:
        """True if samples are drawn from the stored voxels of lesions (`open_prepared`)."""
        return self.sampling == "pretraining" or self.drawn_points or self.radius_exponent > 0

    @property
    def warmup_epochs(self) -> int:
        """Epochs in which the fold cannot fail."""
        if self.health_warmup >= 0:
            return self.health_warmup
        return max(min(50, self.epochs // 4), math.ceil(_WARMUP_STEPS / self.iterations))

    @property
    def patience_epochs(self) -> int:
        """Epochs in a row below the health floor that end the run."""
        return self.health_patience if self.health_patience > 0 else min(20, max(3, self.epochs // 10))


_LEAST = {
    "radius_exponent": 0.0,
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

# Settings that affect the speed of a run, not its result: a resumed run may change them.
FREE_ON_RESUME = frozenset({"workers", "prefetch", "checkpoint_every", "health_warmup", "health_patience"})

# Fields that record the run's provenance; not settings.
_PROVENANCE = frozenset({"scans", "initial_weights"})

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

PRETRAINING_PREFIX = "pretrain."

PRESETS: dict[str, TrainingConfig] = {
    "scratch": TrainingConfig(),
    "pretraining": TrainingConfig(sampling="pretraining"),
    "finetuning": TrainingConfig(learning_rate=1e-3),
}


def with_overrides(config: TrainingConfig, overrides: Iterable[str]) -> TrainingConfig:
    """Apply ``key=value`` settings as given on the command line.

    A variant brings the settings that it was published with, unless that is set as well.

    Raises:
        InputError: a key is unknown or given twice, or a value has the wrong type or is out of range.
    """
    kinds = {key: kind for key, kind in get_type_hints(TrainingConfig).items() if key not in _PROVENANCE}
    values = dict[str, Any]()
    for text in overrides:
        key, separator, value = text.partition("=")
        key = key.strip()
        if not separator:
            raise InputError(f"{text}: is not a setting; expected key=value")
        if key not in kinds:
            raise InputError(f"{key}: is an unknown setting; expected one of {', '.join(sorted(kinds))}")
        if key in values:
            raise InputError(f"{key}: is given twice; expected it once")
        values[key] = _parsed(key, value.strip(), kinds[key])
    defaults = DEFAULTS_OF_VARIANT.get(values.get("variant", ""), {})
    return replace(config, **{**defaults, **values})


def with_stage_overrides(
    training: TrainingConfig, pretraining: TrainingConfig, overrides: Iterable[str]
) -> tuple[TrainingConfig, TrainingConfig]:
    """Apply settings to both stages of a fold.

    Args:
        training: settings of the fold itself.
        pretraining: settings of its pretraining.
        overrides: ``key=value`` for the fold, and for its pretraining too if the key is one of
            `SETTINGS_OF_BOTH_STAGES`; ``pretrain.key=value`` for the pretraining alone, which then decides.

    Raises:
        InputError: as `with_overrides`.
    """
    texts = tuple(overrides)
    own = [text for text in texts if not text.startswith(PRETRAINING_PREFIX)]
    first = [text.removeprefix(PRETRAINING_PREFIX) for text in texts if text.startswith(PRETRAINING_PREFIX)]
    shared = SETTINGS_OF_BOTH_STAGES - set(map(setting_key, first))
    first += [text for text in own if setting_key(text) in shared]
    return with_overrides(training, own), with_overrides(pretraining, first)


def setting_key(text: str) -> str:
    """Return the key of ``key=value``."""
    return text.partition("=")[0].strip()


def with_plan_defaults(config: TrainingConfig, plan_file: Path, configuration: str) -> TrainingConfig:
    """Fill in batch size and batch Dice from the plan if the settings leave them to it.

    Args:
        config: the settings.
        plan_file: a `plans.json`; not read if the settings are complete.
        configuration: name of the plan's configuration.

    Raises:
        WeightsError: the plan cannot be read, or lacks a value.
    """
    if config.is_complete:
        return config
    from ..network.plan import read_batch  # heavy; not needed to print settings

    batch = read_batch(plan_file, configuration)
    return replace(
        config,
        batch_size=config.batch_size or batch.size,
        batch_dice=batch.sums_dice if config.batch_dice == "auto" else config.batch_dice,
    )


def setting_lines(config: TrainingConfig) -> Iterator[str]:
    """List all settings as ``key=value`` for the command line, with a comment on those left to the plan."""
    for key, value in to_plain(config).items():
        if key in _PROVENANCE:
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        is_planned = _is_open(key, value) and key != "organs"
        yield f"{key}={text}" + ("  # the plan's" if is_planned else "")


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
        booleans = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in booleans:
            raise InputError(f"{key}: is {text!r}; expected true or false")
        return booleans[text.lower()]
    try:
        value = kind(text)
    except ValueError:
        noun = "a whole number" if kind is int else "a number"
        raise InputError(f"{key}: is {text!r}; expected {noun}") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise InputError(f"{key}: is {text!r}; expected a finite number")
    return value


def to_plain(config: TrainingConfig) -> dict[str, Any]:
    """Convert settings to plain values for a file."""
    return asdict(config)


def from_plain(values: Mapping[str, Any]) -> TrainingConfig:
    """Restore settings from a file's values; missing ones get their defaults, unknown ones are ignored."""
    names = {field.name for field in fields(TrainingConfig)}
    return TrainingConfig(**{key: value for key, value in values.items() if key in names})


def first_difference(one: TrainingConfig, other: TrainingConfig) -> str | None:
    """Return the first setting in which two runs differ; None if they describe the same run.

    A value that one of them leaves to the plan, or does not know, is no difference.
    """
    for field in fields(one):
        first, second = getattr(one, field.name), getattr(other, field.name)
        is_open = _is_open(field.name, first) or _is_open(field.name, second)
        if first != second and not is_open and field.name not in FREE_ON_RESUME:
            return field.name
    return None


def _is_open(name: str, value: Any) -> bool:
    """True if a setting is left to the plan, or a provenance field is unknown."""
    if name in _PROVENANCE:
        return bool(value == "")
    return (name, value) in (("batch_size", 0), ("batch_dice", "auto"), ("organs", -1))
