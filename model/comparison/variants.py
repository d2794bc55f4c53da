"""The rows of the table, and the one place that holds their settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InputError
from ..training.config import PRESETS as STAGES
from ..training.config import SETTINGS_OF_BOTH_STAGES, TrainingConfig, with_overrides

FEW_FOLDS = 2  # of the rows that are no headline: folds 0 and 1
NOISE_VOXELS = (0, 2, 4, 6, 8)  # each axis by a whole number of up to so many voxels of the network's grid


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a network that is trained and asked.

    ``title`` is that of [Kirchhoff2025]'s Table 1 where it has the row. ``settings`` are those by which rows
    differ, as key=value, of both stages. ``folds``: how many of the splits, from 0 on; None: all.
    """

    name: str
    title: str
    settings: tuple[str, ...] = ()
    is_pretrained: bool = False
    folds: int | None = FEW_FOLDS
    is_moved: bool = False  # whether it is asked with points that noise has moved


# In the order in which they are trained: a budget that ends early leaves out the last.
ROWS: tuple[Row, ...] = (
    Row(
        "longitudinal-pretrained",
        "Pretrained Synth. Longitudinal",
        is_pretrained=True,
        folds=None,
        is_moved=True,
    ),
    Row("longitudinal", "Longitudinal + Mask + Point", is_moved=True),
    Row("mask-and-point", "Cross Sectional + Mask", ("variant=mask-and-point",)),
    Row("point", "Cross Sectional + Point", ("variant=point",)),
    Row(
        "longitudinal-unit-volume",
        "Longitudinal + Mask + Point, unit-volume Gaussians",
        ("heat_map=unit-volume",),
    ),
    Row(
        "mask-and-point-pretrained",
        "Pretrained Cross Sectional + Mask",
        ("variant=mask-and-point",),
        is_pretrained=True,
    ),
    Row("point-pretrained", "Pretrained Cross Sectional + Point", ("variant=point",), is_pretrained=True),
)
HEADLINE = ROWS[0]
ROW_NAMES = tuple(row.name for row in ROWS)
# Which rows are compared lesion by lesion: each differs from the other by one thing.
PAIRED_ROWS = (
    ("longitudinal-pretrained", "longitudinal"),
    ("mask-and-point-pretrained", "mask-and-point"),
    ("point-pretrained", "point"),
    ("longitudinal", "mask-and-point"),
    ("longitudinal-pretrained", "mask-and-point-pretrained"),
    ("mask-and-point", "point"),
    ("mask-and-point-pretrained", "point-pretrained"),
    ("longitudinal", "longitudinal-unit-volume"),
)
HEAT_MAP_ROWS = ("longitudinal", "longitudinal-unit-volume")  # unit peak and unit volume, else alike

_OF_ROWS = frozenset({"variant", "heat_map", "sampling"})


@dataclass(frozen=True, slots=True)
class TablePreset:
    """Settings that all rows share, as key=value over those of `train run`, and what data they are meant for.

    ``plan`` are the options that `train prepare` is given.
    """

    name: str
    plan: str
    scratch: tuple[str, ...]
    finetuning: tuple[str, ...]
    pretraining: tuple[str, ...]


# A Dice of the whole batch, and patients of one large tumour drawn as often as those of many small lesions,
# would leave the small ones unlearned in so few steps. Points are shifted by a voxel: as many mm here as the
# four of the published networks are there. Checkpoints are small, and a stopped call loses an epoch at most.
_SMALL = (
    "iterations=100",
    "validation_iterations=5",
    "batch_size=2",
    "batch_dice=false",
    "draw=pairs",
    "shift_voxels=1",
    "precision=bf16",
    "workers=1",
    "checkpoint_every=1",
)
TWO_CORES = TablePreset(
    name="two-cores",
    plan="--preset tiny --spacing 3 2 2 --patch 24 48 48",
    scratch=("epochs=15", "learning_rate=0.01", *_SMALL),
    finetuning=("epochs=15", "learning_rate=0.005", *_SMALL),
    pretraining=("epochs=15", "learning_rate=0.01", "reverse_pairs=true", *_SMALL),
)


@dataclass(frozen=True, slots=True)
class Stages:
    """The settings of a row's runs; ``pretraining`` is None where there is none."""

    config: TrainingConfig
    pretraining: TrainingConfig | None


def stages_of(row: Row, preset: TablePreset, overrides: Iterable[str] = ()) -> Stages:
    """The settings of a row.

    Args:
        overrides: key=value for all rows, pretrain.key=value for their pretraining alone; those of the
            network, its prompts and the machine hold for both stages, as at `train run`.

    Raises:
        InputError: a setting is unknown, malformed, or one by which rows differ.
    """
    given = tuple(overrides)
    first = tuple(text.removeprefix("pretrain.") for text in given if text.startswith("pretrain."))
    own = tuple(text for text in given if not text.startswith("pretrain."))
    for text in (*own, *first):
        if _key(text) in _OF_ROWS:
            raise InputError(f"{_key(text)}: is what the rows differ by; expected another setting")
    before = with_overrides(STAGES["finetuning"], preset.finetuning)
    if not row.is_pretrained:
        before = with_overrides(STAGES["scratch"], preset.scratch)
    config = with_overrides(with_overrides(before, row.settings), own)
    # Also where a row has none: a setting of no stage is told at once, not when its row comes.
    keys = {_key(text) for text in first}
    shared = tuple(text for text in own if _key(text) in SETTINGS_OF_BOTH_STAGES - keys)
    pretraining = with_overrides(STAGES["pretraining"], preset.pretraining)
    pretraining = with_overrides(with_overrides(pretraining, row.settings), (*shared, *first))
    return Stages(config, pretraining if row.is_pretrained else None)


def _key(text: str) -> str:
    return text.partition("=")[0].strip()


def folds_of(row: Row, count: int) -> tuple[str, ...]:
    """The names of a row's folds, of ``count`` that the splits have."""
    return tuple(str(number) for number in range(count if row.folds is None else min(row.folds, count)))
