"""Scores of the floor: the same lesions, drawn without a network, beside which a run is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .compare_runs import Comparison, MetricComparison, compare_runs
from .definitions import Definition
from .metrics import Metric
from .records import LesionRecord, Scope
from .score_records import Scores, score_records


@dataclass(frozen=True, slots=True)
class FloorPrediction:
    """Lesions drawn without a network: ``in_words`` says how, ``folder`` holds the labelmaps."""

    name: str
    in_words: str
    folder: Path
    warnings: tuple[str, ...] = ()


DrawFloors = Callable[[Path], Sequence[FloorPrediction]]
"""Draws the floors into a folder."""


@dataclass(frozen=True, slots=True)
class FloorScore:
    """Records and scores of a floor; ``comparison`` is the evaluated run less the floor."""

    name: str
    in_words: str
    records: tuple[LesionRecord, ...]
    scores: Scores
    comparison: Comparison


def floor_score(
    floor: FloorPrediction,
    records: Sequence[LesionRecord],
    run: Sequence[LesionRecord],
    definition: Definition,
) -> FloorScore:
    """Score the records of a floor, and compare a run with them.

    Raises:
        InputError: run and floor share no lesion.
    """
    comparison = compare_runs(run, records, floor.folder, definition)
    return FloorScore(
        floor.name, floor.in_words, tuple(records), score_records(records, definition), comparison
    )


def lesion_dice(comparison: Comparison) -> MetricComparison:
    """The paired difference in the Dice of single lesions."""
    dice = (m for m in comparison.metrics if m.metric is Metric.DICE and m.scope is Scope.LESION)
    return next(dice)
