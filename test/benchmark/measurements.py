"""How exact measurements of known shapes are, and how long those of a large pair of scans take.

python -m test.benchmark.measurements            the table of shapes
python -m test.benchmark.measurements --time     a pair of 512 x 512 x 300 voxels with 40 lesions
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.case.case import Scan
from model.case.geometry import Geometry
from model.case.images import write_image
from model.case.text_files import aligned_text
from model.measure.lesion_measures import LesionMeasures, measure_lesions
from model.report.labelmap_sources import listed_pairs
from model.report.measure_run import measure_patients

_PLACES = 20  # of each shape against the grid


def _ellipsoids(
    radii_mm: tuple[float, float, float], spacing_zyx: tuple[float, float, float], degrees: float
) -> Iterator[LesionMeasures]:
    """An ellipsoid, turned in the axial plane, at random places against the grid."""
    rng, turn = np.random.default_rng(0), np.radians(degrees)
    shape = [2 * int(max(radii_mm) / spacing) + 6 for spacing in spacing_zyx]
    for _ in range(_PLACES):
        centre = (np.asarray(shape) - 1) / 2 + rng.uniform(-0.5, 0.5, 3)
        z, y, x = (np.indices(shape) - centre[:, None, None, None]) * np.reshape(spacing_zyx, (3, 1, 1, 1))
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        inside = (z / radii_mm[0]) ** 2 + (across / radii_mm[1]) ** 2 + (along / radii_mm[2]) ** 2 <= 1
        scan = Scan.from_array(np.zeros(shape, np.int16), spacing_zyx, mask=inside.astype(np.uint8))
        assert scan.mask is not None
        yield measure_lesions(scan, scan.mask)[1]


def shapes_table() -> str:
    """True and measured values of ellipsoids, as text."""
    rows = [["shape", "spacing mm (z, y, x)", "ml", "long mm", "short mm", "3-D mm", "sphericity"]]
    for radii, spacing, degrees in (
        ((3.0, 3.0, 3.0), (1.0, 0.7, 0.7), 0),
        ((5.0, 5.0, 5.0), (1.0, 0.7, 0.7), 0),
        ((5.0, 5.0, 5.0), (5.0, 0.7, 0.7), 0),
        ((10.0, 10.0, 10.0), (1.0, 0.7, 0.7), 0),
        ((10.0, 10.0, 10.0), (3.0, 0.9, 0.9), 0),
        ((20.0, 20.0, 20.0), (3.0, 0.9, 0.9), 0),
        ((8.0, 6.0, 12.0), (2.0, 0.8, 0.8), 30),
        ((20.0, 8.0, 12.0), (2.0, 0.8, 0.8), 45),
    ):
        found = list(_ellipsoids(radii, spacing, degrees))
        true_ml = 4 / 3 * math.pi * math.prod(radii) / 1000
        rows.append(
            [
                " x ".join(f"{2 * radius:g}" for radius in radii) + f" mm, turned {degrees}",
                ", ".join(f"{value:g}" for value in spacing),
                _against(true_ml, [one.volume_ml for one in found], 2),
                _against(2 * max(radii[1:]), [one.axial.long.length_mm for one in found], 1),
                _against(2 * min(radii[1:]), [one.axial.short.length_mm for one in found], 1),
                _against(2 * max(radii), [one.longest.length_mm for one in found], 1),
                f"{np.mean([one.sphericity for one in found]):.2f}",
            ]
        )
    return aligned_text(rows)


def _against(true: float, values: list[float], decimals: int) -> str:
    return f"{np.mean(values):.{decimals}f} ± {np.std(values):.{decimals}f} ({true:.{decimals}f})"


def large_pair(folder: Path, suffix: str) -> tuple[list[Path], list[Path]]:
    """Write two CTs of 512 x 512 x 300 voxels with 40 lesions of 4 to 60 mm; returns CTs and labelmaps."""
    grid = Geometry((512, 512, 300), (0.8, 0.8, 2.0), (0.0, 0.0, 0.0))
    scans, labelmaps = [], []
    for name in ("baseline", "followup"):
        rng = np.random.default_rng(len(name))
        hu = rng.integers(-900, 100, grid.shape_zyx, np.int16)
        labels: npt.NDArray[np.uint8] = np.zeros(grid.shape_zyx, np.uint8)
        for lesion_id in range(1, 41):
            radius = rng.uniform(2, 30)
            half = np.ceil(radius / np.asarray(grid.spacing_zyx)).astype(int)
            start = rng.integers(0, np.asarray(grid.shape_zyx) - 2 * half - 1)
            box = tuple(slice(a, a + 2 * h + 1) for a, h in zip(start, half, strict=True))
            offsets = np.ogrid[tuple(slice(-h, h + 1) for h in half)]
            ball = sum((o * s / radius) ** 2 for o, s in zip(offsets, grid.spacing_zyx, strict=True)) <= 1
            labels[box][ball] = lesion_id
        scans.append(folder / f"{name}-ct{suffix}")
        labelmaps.append(folder / f"{name}-labels{suffix}")
        write_image(scans[-1], hu, grid, verify=False)
        write_image(labelmaps[-1], labels, grid, verify=False)
    return scans, labelmaps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--time", action="store_true", help="time a large pair of scans")
    parser.add_argument("--suffix", default=".nii.gz", help="of the large pair's files")
    arguments = parser.parse_args()
    if not arguments.time:
        print(shapes_table())
        return
    with tempfile.TemporaryDirectory() as name:
        scans, labelmaps = large_pair(Path(name), arguments.suffix)
        start, used = time.perf_counter(), time.process_time()
        result = measure_patients([listed_pairs("P", scans, labelmaps, ())], Path(name) / "out")
        wall, used = time.perf_counter() - start, time.process_time() - used
    (patient,) = result.measurements.patients
    lesions = [burden.measured for burden in patient.burden]
    print(f"{lesions} lesions: {wall:.1f} s, {used:.1f} s of CPU, from files to files")


if __name__ == "__main__":
    main()
