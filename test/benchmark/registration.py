"""All registration back ends on pairs with known points: error, time, memory, spacing and boxes.

    python -m test.benchmark.registration [--backends deformable,affine] [--data lung,large] [--device cpu]
        [--assert-seconds 120] [--assert-memory 4096]

Prints a Markdown table, row by row as measured, each row in a process of its own. Seconds are wall time from
the import of the back end to the last lesion; CPU seconds are those of all cores. Without the data of
test/README.md nothing is measured.
"""

from __future__ import annotations

import argparse
import csv
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from model.case.geometry import FloatArray
from model.errors import InputError, one_line
from model.propagation.points import Direction
from model.propagation.register import Transform, backend
from model.timing import peak_memory_mib

from ..helpers.paths import REAL_DATA
from ..helpers.real_pairs import (
    HALF,
    LARGE,
    Pair,
    Registered,
    breathing_pair,
    large_pair,
    lung_pair,
    thorax_pair,
)
from .machine import children_peak_memory_mib, cpu_seconds, describe_machine

DATA: dict[str, tuple[str, Callable[[], Pair]]] = {
    "lung": ("lung, two dates: 51 landmarks", lung_pair),
    "lung-swapped": ("the same, later scan as baseline", lambda: lung_pair().swapped()),
    "breathing": ("breathing: one tumour", breathing_pair),
    "breathing-swapped": ("the same, phases swapped", lambda: breathing_pair().swapped()),
    "thorax": ("thorax, known, 12 mm", lambda: thorax_pair().common),
    "thorax-half": ("the same, half of z in common", lambda: thorax_pair(HALF).common),
    "thorax-15mm": ("thorax, known, 15 mm", lambda: thorax_pair(LARGE).common),
    "large": ("512 × 512 × 300, ten lesions", lambda: large_pair().common),
}
BACKENDS = ("identity", "rigid", "affine", "bspline", "deformable", "greedy", "landmarks", "unigradicon")

_COLUMNS = (
    "data",
    "back end",
    "lesions to follow-up, mm",
    "lesions to baseline, mm",
    "everywhere, mm",
    "seconds",
    "of them refinement",
    "CPU seconds",
    "peak MiB",
    "spacing, mm",
    "boxes",
)


@dataclass(frozen=True)
class Measured:
    """One back end on one pair. Errors are given as mean / median / 95th percentile, mm."""

    to_followup: str
    to_baseline: str
    everywhere: str
    seconds: float
    refine_seconds: float
    cpu_seconds: float
    peak_memory_mib: float
    peak_gpu_mib: float | None
    spacing: str
    boxes: str
    warnings: tuple[str, ...]

    def cells(self) -> tuple[str, ...]:
        memory = f"{self.peak_memory_mib:.0f}"
        if self.peak_gpu_mib is not None:
            memory += f" + {self.peak_gpu_mib:.0f} of the GPU"
        places = (self.to_followup, self.to_baseline, self.everywhere)
        times = (f"{t:.1f}" for t in (self.seconds, self.refine_seconds, self.cpu_seconds))
        return (*places, *times, memory, self.spacing, self.boxes)


def make(data: str, path: Path) -> None:
    """Write a pair for the measuring processes, so that none of them counts its creation."""
    with path.open("wb") as file:
        pickle.dump(DATA[data][1](), file, protocol=5)


def measure(name: str, path: Path, device: str) -> Measured | str | None:
    """Measure one back end on a written pair, in a process of its own.

    Returns:
        The figures; the reason why the back end cannot be measured; or None if it does not apply to the pair.
    """
    with path.open("rb") as file:
        pair: Pair = pickle.load(file)
    if name == "landmarks":
        if pair.lesions is not None or len(pair.fixed_mm) < 20:
            return None
        name, pair = _given_half(pair, path.parent)
    begin, begin_cpu = time.perf_counter(), cpu_seconds()
    try:
        registration = backend(name, device).register(pair.fixed, pair.moving)
    except InputError as error:
        return one_line(error).partition(";")[0]
    registered = Registered(pair, registration)
    middle = time.perf_counter()
    refined = registered.refined()
    end, end_cpu = time.perf_counter(), cpu_seconds()
    fields = list(_field_spacings(registration.transform))
    finer = list(_field_spacings(refined.transform))[: -len(fields) or None]
    return Measured(
        _errors(registered.errors_mm(Direction.TO_FOLLOWUP)),
        _errors(registered.errors_mm(Direction.TO_BASELINE)),
        _errors(registered.errors_everywhere_mm(Direction.TO_FOLLOWUP)),
        end - begin,
        end - middle,
        end_cpu - begin_cpu,
        peak_memory_mib() + children_peak_memory_mib(),
        _peak_gpu_mib(),
        f"{fields[-1]:.1f}" if fields else "",
        f"{len(finer)} at {min(finer):.1f} mm" if finer else "",
        registration.warnings,
    )


def _given_half(pair: Pair, folder: Path) -> tuple[str, Pair]:
    """Give every other landmark to the back end; the others are measured."""
    files = []
    for end, places_mm in (("baseline", pair.moving_mm), ("followup", pair.fixed_mm)):
        files.append(folder / f"{end}.csv")
        with files[-1].open("w", newline="") as file:
            rows = [[f"landmark {i}", *place] for i, place in enumerate(places_mm[::2].tolist())]
            csv.writer(file).writerows([["name", "x", "y", "z"], *rows])
    rest = replace(pair, fixed_mm=pair.fixed_mm[1::2], moving_mm=pair.moving_mm[1::2])
    return f"landmarks:{files[0]},{files[1]}", rest


def _errors(errors_mm: FloatArray) -> str:
    if len(errors_mm) == 1:
        return f"{errors_mm[0]:.2f}"
    values = (errors_mm.mean(), np.median(errors_mm), np.percentile(errors_mm, 95))
    return " / ".join(f"{value:.2f}" for value in values)


def _field_spacings(transform: Transform) -> Iterator[float]:
    """Spacings of the displacement fields of a composed transform, refinements first."""
    from model.propagation.register.field import Composition, FieldTransform

    if isinstance(transform, Composition):
        yield from _field_spacings(transform.first)
        yield from _field_spacings(transform.second)
    elif isinstance(transform, FieldTransform):
        yield transform.geometry.spacing_xyz[0]


def _peak_gpu_mib() -> float | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return float(torch.cuda.max_memory_reserved()) / (1 << 20)


def _row(cells: tuple[str, ...]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def measure_all(data: list[str], backends: list[str], device: str) -> Iterator[Measured]:
    """Print the table, row by row."""
    _row(_COLUMNS)
    _row(("---",) * len(_COLUMNS))
    # A new process for each task, as peak memory is measured per process.
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh,
    ):
        path = Path(folder) / "pair.pickle"
        for pair in data:
            fresh.submit(make, pair, path).result()
            for name in backends:
                result = fresh.submit(measure, name, path, device).result()
                if isinstance(result, str):
                    _row((DATA[pair][0], name, result, *("",) * (len(_COLUMNS) - 3)))
                elif result is not None:
                    _row((DATA[pair][0], name, *result.cells()))
                    yield result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", default=",".join(BACKENDS), help="also NAME:FILE, or MODULE:FUNCTION")
    parser.add_argument("--data", default=",".join(DATA), help=f"of: {', '.join(DATA)}")
    parser.add_argument("--device", default="auto", help="of back ends that compute with torch")
    parser.add_argument("--assert-seconds", type=float, help="fail if a row takes longer")
    parser.add_argument("--assert-memory", type=float, help="fail if a row takes more MiB")
    arguments = parser.parse_args()
    data = arguments.data.split(",")
    if unknown := set(data) - DATA.keys():
        parser.error(f"no such data: {', '.join(sorted(unknown))}; expected of: {', '.join(DATA)}")
    if not REAL_DATA.is_dir():
        print("not measured: set LONGILESION_TEST_DATA to the real scans (test/README.md)")
        return 0
    print(json.dumps(describe_machine()), end="\n\n")
    measured = list(measure_all(data, arguments.backends.split(","), arguments.device))
    for warning in sorted({text for row in measured for text in row.warnings}):
        print(f"warning: {warning}")
    seconds, memory = arguments.assert_seconds, arguments.assert_memory
    too_slow = seconds is not None and any(row.seconds > seconds for row in measured)
    too_large = memory is not None and any(row.peak_memory_mib > memory for row in measured)
    return int(too_slow or too_large)


if __name__ == "__main__":
    sys.exit(main())
