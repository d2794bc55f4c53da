"""Benchmark of the topologies of `track` over several time points: do re-centred points drift?

    python -m test.benchmark.recentring [--pairs 1] [--seed 0] [--steps 3] [--error 2] [--weights DIR]
        [--folds 0,1,2,3,4] [--topologies star,chain,recentre,recentre-mask] [--device cpu]

A series is the two scans of a pair (`lesion_pairs`) in turn, each with noise of its own. Registrations are
the known map and an error in a direction drawn once per pair of time points. Lesions keep the state that they
have in their scan of the pair; vanished ones are left out. Prints a Markdown table: by topology and step the
mean Dice, the median and the 95th percentile of the true errors of the points, the median of the stated ones,
and the share of true errors below them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.case.case import Scan, Slot
from model.cli.arguments import device_name, fold_list
from model.inference.load import LoadedModel, load_model
from model.inference.options import DEFAULT_FOLDS, ModelOptions
from model.inference.robust import ComponentRule, RobustOptions, longitudinal_segmenter
from model.propagation.register import Registration, RegistrationImage
from model.tracking.series import ConfidenceRule, Topology, TrackedTimePoint, TrackingOptions, make_series
from model.tracking.tracker import track_time_points
from test.sample.warp import Warp

from .lesion_pairs import Change, LesionPair, known_warp, lesion_pairs

NOISE_HU = 10.0
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Known:
    """The known map between two time points, off by a constant."""

    warp: Warp
    is_fixed_followup: bool
    is_moving_followup: bool
    error_mm: Points

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> Points:
        points = np.asarray(points_mm, np.float64) + self.error_mm
        if self.is_fixed_followup == self.is_moving_followup:
            return points
        return self.warp.to_baseline(points) if self.is_fixed_followup else _to_followup(self.warp, points)

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> Points:
        points = np.asarray(points_mm, np.float64)
        if self.is_fixed_followup != self.is_moving_followup:
            if self.is_fixed_followup:
                points = _to_followup(self.warp, points)
            else:
                points = self.warp.to_baseline(points)
        return points - self.error_mm


def _to_followup(warp: Warp, points_mm: Points) -> Points:
    """Invert the map of the sample by fixed-point iteration, to less than 0.01 mm."""
    found = points_mm.copy()
    for _ in range(100):
        found += points_mm - warp.to_baseline(found)
    return found


@dataclass(frozen=True)
class _KnownBackend:
    error_mm: float
    seed: int

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        later, earlier = (int(image.name.rpartition("-")[2]) for image in (fixed, moving))
        direction = np.random.default_rng([self.seed, later, earlier]).normal(size=3)
        error = self.error_mm * direction / np.linalg.norm(direction)
        return Registration(_Known(known_warp(), later % 2 == 1, earlier % 2 == 1, error), 0.95)


def series_scans(pair: LesionPair, steps: int, rng: np.random.Generator) -> Iterator[Scan]:
    """Yield the scans of a series: those of the pair in turn, named by number; the first has the mask."""
    for number in range(steps + 1):
        scan = pair.followup if number % 2 else pair.baseline
        ct = scan.ct + rng.normal(0, NOISE_HU, scan.ct.shape).astype(np.float32)
        yield replace(scan, time_point=str(number), ct=ct, mask=None if number else pair.baseline.mask)


@dataclass
class _Measured:
    dice: list[float]
    true_mm: list[float]
    stated_mm: list[float]

    def line(self, topology: Topology, step: int) -> str:
        true, stated = np.asarray(self.true_mm), np.asarray(self.stated_mm)
        cells = [str(topology), str(step), f"{np.mean(self.dice):.3f}", f"{np.median(true):.1f}"]
        cells += [
            f"{np.percentile(true, 95):.1f}",
            f"{np.median(stated):.1f}",
            f"{np.mean(true <= stated):.0%}",
        ]
        return f"| {' | '.join(cells)} |"


def measure(pair: LesionPair, tracked: TrackedTimePoint, step: int, measured: dict[int, _Measured]) -> None:
    """Add the lesions of a time point to its step."""
    labelmap, scan = tracked.labelmaps[Slot.PRIMARY], tracked.time_point.scans[0]
    labels = scan.file_grid.axial_labels(labelmap)
    for lesion in pair.lesions:
        if lesion.change is Change.VANISHED:
            continue
        found, truth = labels == lesion.lesion_id, np.zeros(labels.shape, bool)
        if step % 2:
            truth[lesion.box.slices] = lesion.truth
        elif pair.baseline.mask is not None:
            truth = pair.baseline.mask == lesion.lesion_id
        result = next(one for one in tracked.lesions if one.lesion_id == lesion.lesion_id)
        if result.prompt is None or result.confidence_mm is None:
            continue
        place = lesion.followup_zyx if step % 2 else lesion.baseline_zyx
        ends = [scan.geometry.zyx_to_world(one) for one in (result.prompt.followup_point.point_zyx, place)]
        own = measured[step]
        own.dice.append(2 * float((found & truth).sum()) / float(found.sum() + truth.sum()))
        own.true_mm.append(float(np.linalg.norm(np.subtract(ends[0], ends[1]))))
        own.stated_mm.append(result.confidence_mm)


def measure_topology(
    topology: Topology, model: LoadedModel, arguments: argparse.Namespace
) -> dict[int, _Measured]:
    """Track the lesions of all pairs by one topology; the measurements by step."""
    measured: dict[int, _Measured] = defaultdict(lambda: _Measured([], [], []))
    options = TrackingOptions(topology, confidence=ConfidenceRule.SPREAD)
    segmenter = longitudinal_segmenter(model, RobustOptions(component_rule=ComponentRule.ALL))
    backend = _KnownBackend(arguments.error, arguments.seed)
    for number, pair in enumerate(lesion_pairs(arguments.pairs, arguments.seed)):
        rng = np.random.default_rng([arguments.seed, number, 2])
        series = make_series("phantom", list(series_scans(pair, arguments.steps, rng)))
        for tracked in track_time_points(series, segmenter, backend, options):
            if int(tracked.name):
                measure(pair, tracked, int(tracked.name), measured)
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--error", type=float, default=2.0, help="of each registration, mm")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--folds", type=fold_list, default=DEFAULT_FOLDS)
    parser.add_argument("--topologies", default=",".join(Topology))
    parser.add_argument("--device", type=device_name, default="cpu")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    model = load_model(arguments.weights, ModelOptions(device=arguments.device, folds=arguments.folds))
    print("| topology | step | Dice | true error, mm | 95 % | stated, mm | below the stated |")
    print("| --- |" + " ---: |" * 6)
    for topology in map(Topology, arguments.topologies.split(",")):
        for step, own in measure_topology(topology, model, arguments).items():
            print(own.line(topology, step), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
