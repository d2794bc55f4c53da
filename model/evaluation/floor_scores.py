"""Scores of the floor: the same lesions, drawn without a network, beside which a run is shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .compare_runs import Comparison, MetricComparison, compare_runs
from .definitions import Definition
from .metrics import Metric
from .records import LesionRecord, Scope
from .score_records import Scores, score_records


@dataclass(frozen=True, slots=True)
class FloorPrediction:
    """Lesions drawn without a network.

    Attributes:
        name, in_words: of the floor.
        folder: holds the labelmaps.
        left_out: labelmaps below ``folder`` that are not drawn because a file that the floor needs is
            missing or unreadable; neither the floor nor its comparison counts their lesions.
        warnings: sentences about lesions and scans that are not drawn.
    """

    name: str
    in_words: str
    folder: Path
    left_out: frozenset[Path] = frozenset()
    warnings: tuple[str, ...] = ()


class FloorSource(Protocol):
    """Draws the floors of cases."""

    def labelmaps(self) -> Sequence[Path]:
        """The labelmaps of each floor, one for each follow-up scan, as paths below the floor's folder."""

    def draw(self, output: Path, wanted: Collection[Path]) -> Sequence[FloorPrediction]:
        """Draw the wanted ones of these labelmaps by each floor into ``output/FLOOR``."""


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
