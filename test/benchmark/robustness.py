"""Registration back ends on pairs that are hard to align: how often they fail, and whether they say so.

    python -m test.benchmark.robustness DATA_DIR -o OUT [--backends deformable,affine] [--kinds narrow,noise]
        [--repeats 1] [--voxels 300000] [--device cpu]

The pairs are made from real CTs (test/README.md) with known transforms, see `test.helpers.robust_cases`. Each
row is a JSON file in OUT, and is not measured again if it exists; at the end Markdown tables are printed.
``headers`` and ``centres`` are trivial back ends: scans as they lie, and with their centres on each other.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from model.case.geometry import FloatArray
from model.errors import one_line
from model.propagation.confidence import propagate_with_confidence
from model.propagation.pair_registrations import with_ambiguity
from model.propagation.points import Direction
from model.propagation.register import DEFAULT_BACKEND, Backend, Registration, RegistrationImage, backend
from model.propagation.register.linear import LinearTransform

from ..helpers.real_pairs import voxels_zyx
from ..helpers.robust_cases import robust_cases
from ..helpers.robust_pairs import RobustCase, RobustPair, make_pair
from .machine import cpu_seconds
from .robustness_tables import print_tables

TRIVIAL = ("headers", "centres")
_POINTS = 100


class _Trivial:
    """A back end without any registration."""

    def __init__(self, by_centres: bool) -> None:
        self._by_centres = by_centres

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        offset = np.zeros(3)
        if self._by_centres:
            ends = (
                scan.geometry.voxel_to_world(np.subtract(scan.geometry.size_xyz, 1) / 2)
                for scan in (moving, fixed)
            )
            offset = np.subtract(*ends)
        return Registration(LinearTransform.translation(offset), float("nan"))


def measure(case: RobustCase, names: list[str], folder: Path, device: str, voxels: int | None) -> None:
    """Measure the back ends on one pair, in a process of its own, and write a row for each."""
    pair = make_pair(case, _POINTS)
    for name in names:
        row = {"pair": case.name, "kind": case.kind, "source": case.source, "backend": name}
        try:
            row |= _measured(pair, name, device, voxels)
        except Exception as error:  # a row like any other: the back end has failed
            row |= {"error": one_line(error)}
        path = row_path(folder, case, name)
        path.with_suffix(".part").write_text(json.dumps(row))
        path.with_suffix(".part").rename(path)


def _method(name: str, device: str, voxels: int | None) -> Backend:
    if name in TRIVIAL:
        return _Trivial(name == "centres")
    if name == DEFAULT_BACKEND and voxels is not None:
        from model.propagation.register.deformable import DeformableBackend

        return DeformableBackend(device, voxels=voxels)
    return backend(name, device)


def _measured(pair: RobustPair, name: str, device: str, voxels: int | None) -> dict[str, Any]:
    method = _method(name, device, voxels)
    begin, begin_cpu = time.perf_counter(), cpu_seconds()
    registration = method.register(pair.fixed, pair.moving)
    if name not in TRIVIAL:
        registration = with_ambiguity(registration, pair.fixed, pair.moving)
    seconds, cpu = time.perf_counter() - begin, cpu_seconds() - begin_cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "similarity": registration.similarity,
        "is_reliable": registration.is_reliable,
        "warnings": registration.warnings,
        "points": [
            point
            for direction in Direction
            for point in _points(pair, replace(registration, refine=None), direction)
        ],
    }


def _points(pair: RobustPair, registration: Registration, direction: Direction) -> Iterator[dict[str, Any]]:
    """The points inside the scan to propagate from: the error, and what is said of it."""
    ends = (
        (pair.moving.geometry, pair.moving_mm, pair.baseline_depth_mm),
        (pair.fixed.geometry, pair.fixed_mm, pair.followup_depth_mm),
    )
    source, target = ends if direction is Direction.TO_FOLLOWUP else ends[::-1]
    is_seen = source[2] >= 0
    starts = voxels_zyx(source[0], source[1][is_seen])
    found = propagate_with_confidence(starts, source[0], target[0], registration, direction)
    arrived = target[0].voxel_to_world(np.array([point.point_zyx for point in found])[:, ::-1])
    errors: FloatArray = np.linalg.norm(arrived - target[1][is_seen], axis=1)
    for point, error_mm, depth_mm in zip(found, errors.tolist(), target[2][is_seen].tolist(), strict=True):
        yield {
            "error_mm": round(error_mm, 2),
            "depth_mm": round(depth_mm, 1),
            "confidence_mm": round(point.confidence_mm, 2),
            "in_view": point.in_view,
            "is_flagged": point.is_flagged,
        }


def row_path(folder: Path, case: RobustCase, name: str) -> Path:
    """File of the row of a pair and a back end."""
    return folder / f"{case.name.replace(' ', '_')}.{name.replace(':', '_').replace('/', '_')}.json"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the real scans, see test/README.md")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the rows")
    parser.add_argument("--backends", default="headers,centres,affine,deformable")
    parser.add_argument("--kinds", default="", help="only these, separated by commas")
    parser.add_argument("--repeats", type=int, default=1, help="pairs of each kind and source")
    parser.add_argument("--voxels", type=int, help="of the grid of `deformable`, fewer for a quick look")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    os.environ["LONGILESION_TEST_DATA"] = str(arguments.data)  # read by the processes that make the pairs
    arguments.output.mkdir(parents=True, exist_ok=True)
    names = arguments.backends.split(",")
    cases = robust_cases(arguments.repeats)
    if arguments.kinds:
        cases = [case for case in cases if case.kind in arguments.kinds.split(",")]
    options = (arguments.output, arguments.device, arguments.voxels)
    with ProcessPoolExecutor(1, get_context("spawn")) as worker:
        for n, case in enumerate(cases):
            missing = [name for name in names if not row_path(arguments.output, case, name).exists()]
            if missing:
                print(f"{n + 1}/{len(cases)} {case.name}", file=sys.stderr, flush=True)
                worker.submit(measure, case, missing, *options).result()
    rows = [
        json.loads(row_path(arguments.output, case, name).read_text()) for case in cases for name in names
    ]
    print_tables(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
