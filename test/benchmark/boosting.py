"""Benchmark of boosting for propagated points that lie beside their lesion.

    python -m test.benchmark.boosting [--pairs 4] [--seed 0] [--offsets 0,2,4,8,14,25] [--weights DIR]
        [--folds 0,1,2,3,4] [--segmenters network,click] [--methods none,reprompt] [--device cpu]

Pairs of scans with lesions that moved, grew, shrank and vanished (`lesion_pairs`); the point of each lesion
is moved off its centre by each offset, in a direction drawn once per lesion, and a registration that is off
by as much leads back to the baseline. ``click`` is a classical segmenter that sees one scan and one point;
``single`` are LesionLocator's networks in ``--single DIR``. Prints a Markdown table per
segmenter: mean Dice of the remaining lesions by offset, the share of them that is found (Dice of at least
0.2), the mean volume segmented for vanished lesions, and the number of segmenter calls per lesion; with and
without the component rule.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model.case.case import LesionResult
from model.case.geometry import Box
from model.cli.arguments import device_name, fold_list
from model.inference.boost_options import Boosting, BoostOptions
from model.inference.boosting import BoostedSegmenter
from model.inference.components import result_at_point
from model.inference.load import load_model, load_single_time_point
from model.inference.options import DEFAULT_FOLDS, ModelOptions
from model.inference.segmenter import LesionSegmenter, Segmenter
from model.inference.single_timepoint import SingleTimePointSegmenter

from .click_segmenter import CachingSegmenter, ClickSegmenter
from .lesion_pairs import Change, LesionPair, PlacedLesion, lesion_pairs

FOUND_DICE = 0.2
RULES = ("without component rule", "component rule")


@dataclass
class Tally:
    """Results of a method, by offset: Dice of remaining lesions, volumes of vanished ones."""

    dice: dict[float, list[float]] = field(default_factory=dict)
    false_ml: dict[float, list[float]] = field(default_factory=dict)

    def add(self, offset_mm: float, lesion: PlacedLesion, result: LesionResult) -> None:
        if lesion.change is Change.VANISHED:
            voxel_ml = result.prompt.followup.geometry.voxel_volume_ml
            self.false_ml.setdefault(offset_mm, []).append(int(np.count_nonzero(result.mask)) * voxel_ml)
        else:
            self.dice.setdefault(offset_mm, []).append(dice(lesion, result))

    @property
    def all_dice(self) -> list[float]:
        return [value for values in self.dice.values() for value in values]

    @property
    def all_false_ml(self) -> list[float]:
        return [value for values in self.false_ml.values() for value in values]


@dataclass
class Measured:
    tallies: dict[str, Tally] = field(default_factory=lambda: {rule: Tally() for rule in RULES})
    calls: int = 0
    lesions: int = 0


def dice(lesion: PlacedLesion, result: LesionResult) -> float:
    """Dice of a result and the truth; 0 for an empty result."""
    total = int(np.count_nonzero(lesion.truth)) + int(np.count_nonzero(result.mask))
    return 2 * _common(lesion.box, lesion.truth, result) / total


def _common(box: Box, truth: np.ndarray, result: LesionResult) -> int:
    common = box.intersection(result.box)
    if common.is_empty:
        return 0
    predicted = result.mask[common.relative_to(result.box).slices]
    return int(np.count_nonzero(truth[common.relative_to(box).slices] & predicted))


def measure(
    make: Callable[[], LesionSegmenter],
    pairs: int,
    seed: int,
    offsets_mm: Sequence[float],
    methods: Sequence[Boosting] = tuple(Boosting),
) -> dict[Boosting, Measured]:
    """Measure methods with one segmenter, over all pairs and offsets."""
    measurements = {method: Measured() for method in methods}
    for number, pair in enumerate(lesion_pairs(pairs, seed)):
        cache = CachingSegmenter(make())
        directions = _directions(pair, np.random.default_rng([seed, number, 1]))
        for offset_mm in offsets_mm:
            begin = time.perf_counter()
            for method, measured in measurements.items():
                _measure_pair(pair, directions * offset_mm, offset_mm, method, cache, measured)
            print(
                f"pair {number + 1}, {offset_mm:g} mm: {time.perf_counter() - begin:.0f} s", file=sys.stderr
            )
    return measurements


def _directions(pair: LesionPair, rng: np.random.Generator) -> np.ndarray:
    """One unit vector per lesion, world x, y, z."""
    drawn = rng.normal(size=(len(pair.lesions), 3))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def _measure_pair(
    pair: LesionPair,
    shifts_mm: np.ndarray,
    offset_mm: float,
    method: Boosting,
    cache: CachingSegmenter,
    measured: Measured,
) -> None:
    geometry = pair.followup.geometry
    prompts = {}
    for lesion, shift_mm in zip(pair.lesions, shifts_mm, strict=True):
        point_mm = np.asarray(geometry.zyx_to_world(lesion.followup_zyx)) + shift_mm
        prompts[pair.prompt(lesion, geometry.world_to_zyx(point_mm))] = lesion
    calls_before = cache.calls
    for result in BoostedSegmenter(cache, BoostOptions(method)).segment(list(prompts)):
        assert isinstance(result, LesionResult), result.error
        lesion = prompts[result.prompt]
        measured.tallies["without component rule"].add(offset_mm, lesion, result)
        measured.tallies["component rule"].add(offset_mm, lesion, result_at_point(result))
    measured.calls += cache.calls - calls_before
    measured.lesions += len(prompts)


def boosting_table(
    measurements: dict[Boosting, Measured], rule: str, offsets_mm: Sequence[float]
) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    heads = ["boosting", *(f"{offset:g} mm" for offset in offsets_mm), "mean", "found", "false ml", "calls"]
    yield "| " + " | ".join(heads) + " |"
    yield "| --- |" + " ---: |" * (len(heads) - 1)
    for method, measured in measurements.items():
        tally = measured.tallies[rule]
        cells = [f"{np.mean(tally.dice[offset]):.3f}" for offset in offsets_mm]
        cells.append(f"{np.mean(tally.all_dice):.3f}")
        cells.append(f"{np.mean(np.asarray(tally.all_dice) >= FOUND_DICE):.1%}")
        cells.append(f"{np.mean(tally.all_false_ml):.2f}")
        cells.append(f"{measured.calls / measured.lesions:.1f}")
        yield f"| {method} | " + " | ".join(cells) + " |"


def _network(arguments: argparse.Namespace) -> Callable[[], LesionSegmenter]:
    options = ModelOptions(device=arguments.device, folds=arguments.folds)
    model = load_model(arguments.weights, options)
    return lambda: Segmenter(model.plan, model.ensemble, keep_support=True)


def _single(arguments: argparse.Namespace) -> Callable[[], LesionSegmenter]:
    options = ModelOptions(device=arguments.device, folds=arguments.folds)
    models = load_single_time_point(arguments.single, options)
    return lambda: SingleTimePointSegmenter(models, keep_support=True)


_MAKERS: dict[str, Callable[[argparse.Namespace], Callable[[], LesionSegmenter]]] = {
    "network": _network,
    "single": _single,
    "click": lambda arguments: ClickSegmenter,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--offsets", default="0,2,4,8,14,25")
    parser.add_argument("--methods", default=",".join(Boosting))
    parser.add_argument("--single", type=Path, metavar="DIR", help="folder in LesionLocator's layout")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--folds", type=fold_list, default=DEFAULT_FOLDS)
    parser.add_argument("--device", type=device_name, default="cpu")
    parser.add_argument("--segmenters", default="network,click")
    arguments = parser.parse_args()
    offsets_mm = [float(part) for part in arguments.offsets.split(",")]
    methods = [Boosting(part) for part in arguments.methods.split(",")]
    logging.basicConfig(level=logging.WARNING)
    for name in arguments.segmenters.split(","):
        make = _MAKERS[name](arguments)
        measurements = measure(make, arguments.pairs, arguments.seed, offsets_mm, methods)
        for rule in RULES:
            print(f"\n{name}, {rule}\n")
            print("\n".join(boosting_table(measurements, rule, offsets_mm)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
