"""The rows of the table: the compared variants with the settings of their training, and the floors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..floor.floors import ALL_FLOORS, Floor
from ..training.config import (
    PRESETS,
    PRETRAINING_PREFIX,
    TrainingConfig,
    setting_key,
    with_overrides,
    with_stage_overrides,
)

FEW_FOLDS = 2  # rows other than the headline have folds 0 and 1


@dataclass(frozen=True, slots=True)
class Row:
    """A variant that is trained and evaluated, or a floor.

    ``title`` follows [Kirchhoff2025]'s Table 1, as far as it has the row. ``settings`` (key=value) set the
    row apart, in both stages. ``has_noise``: the row is also evaluated at noisy follow-up points. ``floor``:
    lesions are drawn so, without a network.
    """

    name: str
    title: str
    settings: tuple[str, ...] = ()
    is_pretrained: bool = False
    has_all_folds: bool = False
    has_noise: bool = False
    floor: Floor | None = None

    def fold_names(self, count: int) -> tuple[str, ...]:
        """The folds of this row if the data set has ``count`` of them."""
        return tuple(str(fold) for fold in range(count if self.has_all_folds else min(FEW_FOLDS, count)))


_POINT, _MASK_AND_POINT = ("variant=point",), ("variant=mask-and-point",)
_UNIT_VOLUME = ("heat_map=unit-volume",)
# With the sampling of LongiSeg 2.0, which these variants bring.
_EARLY, _WEIGHTED = ("variant=early-fusion",), ("variant=difference-weighting",)
# In the order of training: if the budget runs out, the last rows are missing.
ROWS: tuple[Row, ...] = (
    Row("longitudinal-pretrained", "Pretrained Synth. Longitudinal", (), True, True, True),
    Row("longitudinal", "Longitudinal + Mask + Point", has_noise=True),
    Row("mask-and-point", "Cross Sectional + Mask", _MASK_AND_POINT),
    Row("point", "Cross Sectional + Point", _POINT),
    Row("longitudinal-unit-volume", "Longitudinal + Mask + Point, unit-volume Gaussians", _UNIT_VOLUME),
    Row("mask-and-point-pretrained", "Pretrained Cross Sectional + Mask", _MASK_AND_POINT, True),
    Row("point-pretrained", "Pretrained Cross Sectional + Point", _POINT, True),
    Row("difference-weighting", "Longitudinal + Point, difference weighting", _WEIGHTED),
    Row("early-fusion", "Longitudinal + Point, early fusion", _EARLY),
    Row("difference-weighting-pretrained", "Pretrained difference weighting", _WEIGHTED, True),
    Row("early-fusion-pretrained", "Pretrained early fusion", _EARLY, True),
)
HEADLINE = ROWS[0]
# Every table begins with what needs no network. A registration does not depend on the noise of points.
FLOOR_ROWS = tuple(
    Row(f"floor-{floor}", f"Floor: {floor.in_words}", (), False, True, floor is not Floor.WARPED, floor)
    for floor in ALL_FLOORS
)
ALL_ROWS = (*FLOOR_ROWS, *ROWS)
# Rows that are compared lesion by lesion; the two of a pair differ in one respect.
PAIRED_ROWS = (
    ("longitudinal-pretrained", "longitudinal"),
    ("mask-and-point-pretrained", "mask-and-point"),
    ("point-pretrained", "point"),
    ("longitudinal", "mask-and-point"),
    ("longitudinal-pretrained", "mask-and-point-pretrained"),
    ("mask-and-point", "point"),
    ("mask-and-point-pretrained", "point-pretrained"),
    ("longitudinal", "longitudinal-unit-volume"),
    ("difference-weighting-pretrained", "difference-weighting"),
    ("early-fusion-pretrained", "early-fusion"),
    ("difference-weighting", "early-fusion"),
    ("difference-weighting-pretrained", "early-fusion-pretrained"),
)

PRESET = "two-cores"  # for data of `train prepare --preset tiny --spacing 3 2 2 --patch 24 48 48`
# In so few steps, a Dice of the whole batch, and drawing patients with one large tumour as often as those
# with many small lesions, would leave small lesions unlearned. Points shift by one voxel: as many mm as four
# voxels of the published networks. Checkpoints are small; a stopped call loses one epoch at most.
_SMALL = (
    *("iterations=100", "validation_iterations=5", "batch_size=2", "batch_dice=false", "draw=pairs"),
    *("shift_voxels=1", "precision=bf16", "workers=1", "checkpoint_every=1"),
)
_PRESET_SETTINGS = {
    "scratch": ("epochs=15", "learning_rate=0.01", *_SMALL),
    "finetuning": ("epochs=15", "learning_rate=0.005", *_SMALL),
    "pretraining": ("epochs=15", "learning_rate=0.01", "reverse_pairs=true", *_SMALL),
}


@dataclass(frozen=True, slots=True)
class RowConfigs:
    """The settings of both stages of a row; ``pretraining`` is None if the row has none."""

    training: TrainingConfig
    pretraining: TrainingConfig | None


def row_configs(row: Row, overrides: Sequence[str] = ()) -> RowConfigs:
    """Settings of a row: the preset, what sets the row apart, and the user's overrides.

    Args:
        row: the variant.
        overrides: key=value and pretrain.key=value, as in `train run`, for all rows.

    Raises:
        InputError: a setting is unknown, malformed, or one in which the rows differ.
    """
    for key in (setting_key(text.removeprefix(PRETRAINING_PREFIX)) for text in overrides):
        if key in ("variant", "heat_map", "sampling"):
            raise InputError(f"{key}: is set by the rows; expected another setting")
    stages = ("finetuning" if row.is_pretrained else "scratch", "pretraining")
    training, pretraining = (
        with_overrides(with_overrides(PRESETS[stage], _PRESET_SETTINGS[stage]), row.settings)
        for stage in stages
    )
    # Both stages for every row, so that a wrong setting fails at once, not when a pretrained row is reached.
    training, pretraining = with_stage_overrides(training, pretraining, overrides)
    return RowConfigs(training, pretraining if row.is_pretrained else None)
