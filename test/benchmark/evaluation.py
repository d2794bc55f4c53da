"""Time and memory of `evaluate` for a whole-body labelmap.

    python -m test.benchmark.evaluation [--size 512,512,600] [--lesions 40] [--seed 0]

Lesions of 4 to 60 mm on voxels of 0.8 x 0.8 x 2 mm; the prediction is the reference shifted by up to a voxel,
with a few stray voxels far from the lesions. Prints a line of seconds, peak memory and mean Dice.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.case.geometry import Geometry, flip_order
from model.case.images import write_image
from model.evaluation.evaluate_files import EvaluateOptions, evaluate_files
from model.evaluation.records import Scope

SPACING_XYZ = (0.8, 0.8, 2.0)
RADII_MM = (2.0, 30.0)


def make_pair(
    grid: Geometry, lesions: int, seed: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Reference and prediction (z, y, x)."""
    rng = np.random.default_rng(seed)
    reference = np.zeros(grid.shape_zyx, np.uint16)
    prediction = np.zeros(grid.shape_zyx, np.uint16)
    for lesion_id in range(1, lesions + 1):
        radius = np.exp(rng.uniform(*np.log(RADII_MM)))
        reach = np.ceil(radius / np.asarray(grid.spacing_zyx)).astype(int) + 2
        centre = np.array([rng.integers(r, n - r) for r, n in zip(reach, grid.shape_zyx, strict=True)])
        start, stop = centre - reach, centre + reach + 1
        offsets = np.indices(stop - start) - reach.reshape(3, 1, 1, 1)
        for labels, shift in ((reference, np.zeros(3)), (prediction, rng.integers(-1, 2, 3))):
            moved = (offsets - shift.reshape(3, 1, 1, 1)) * np.reshape(grid.spacing_zyx, (3, 1, 1, 1))
            box = labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
            box[np.linalg.norm(moved, axis=0) < radius] = lesion_id
        if lesion_id % 10 == 0:
            prediction[tuple(rng.integers(0, n) for n in grid.shape_zyx)] = lesion_id
    return reference, prediction


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="512,512,600", help="x, y, z")
    parser.add_argument("--lesions", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    x, y, z = (int(part) for part in arguments.size.split(","))
    grid = Geometry((x, y, z), SPACING_XYZ, (0.0, 0.0, 0.0))
    assert grid.shape_zyx == flip_order(grid.size_xyz)
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "reference.mha", Path(folder) / "prediction.mha"
        for path, labels in zip(paths, make_pair(grid, arguments.lesions, arguments.seed), strict=True):
            write_image(path, labels, grid, verify=False)
        del labels
        started = time.perf_counter()
        found = evaluate_files(EvaluateOptions(paths[0], (paths[1],)))
        seconds = time.perf_counter() - started
    dice = next(e.average.mean for e in found.scores.last(Scope.LESION).metrics if e.metric == "dice")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{x} x {y} x {z}, {arguments.lesions} lesions: {seconds:.1f} s, peak {peak:.2f} GiB, "
        f"mean Dice {dice:.3f}"
    )


if __name__ == "__main__":
    main()
