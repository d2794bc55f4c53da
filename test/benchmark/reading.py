"""Reading one scan: with proof that it is whole, against ITK alone, which has none.

    python -m test.benchmark.reading [--size 512,512,300] [--repeat 4]

Prints the CPU seconds (the best of the repeats) and the peak memory of each format; each runs in a process of
its own. Voxels and grids are compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from model.case.images import read_image

FORMATS = (("mha", True), ("nii.gz", True), ("nrrd", True), ("mha", False), ("nii", False), ("nrrd", False))


def main() -> None:
    """Write the scans, and measure both ways for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="512,512,300", help="voxels along x, y, z")
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--child", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        way, file = arguments.child
        print(json.dumps(_measure(way, file, arguments.repeat)))
        return
    x, y, z = (int(number) for number in arguments.size.split(","))
    with tempfile.TemporaryDirectory() as name:
        image = _scan((z, y, x))
        print(f"{'format':18}{'ITK s':>8}{'ours s':>8}{'ITK MiB':>9}{'ours MiB':>9}")
        for suffix, compressed in FORMATS:
            path = Path(name) / f"scan.{suffix}"
            sitk.WriteImage(image, str(path), compressed)
            own = read_image(path)
            assert np.array_equal(own.array, sitk.GetArrayViewFromImage(image))
            assert np.allclose(own.geometry.spacing_xyz, image.GetSpacing())
            itk, ours = (_child(way, path, arguments.repeat) for way in ("itk", "ours"))
            label = f".{suffix}" + (", compressed" if compressed else "")
            print(f"{label:18}{itk[0]:8.2f}{ours[0]:8.2f}{itk[1]:9.0f}{ours[1]:9.0f}", flush=True)


def _scan(shape: tuple[int, int, int]) -> sitk.Image:
    """A body of smooth tissue with a scanner's noise in air, int16."""
    z, y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in shape)
    radius = np.sqrt(y[:, None] ** 2 + x**2)
    rng = np.random.default_rng(0)
    array = np.full(shape, -1000, np.int16)
    for plane, height in zip(array, z, strict=True):
        tissue = 60 * np.sin(9 * radius + 4 * height) + rng.normal(0, 12, radius.shape)
        plane[radius < 0.8] = tissue[radius < 0.8]
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.98, 0.98, 2.0))
    return image


def _child(way: str, path: Path, repeat: int) -> tuple[float, float]:
    words = ["-m", "test.benchmark.reading", "--repeat", str(repeat), "--child", way, str(path)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    seconds, mebibytes = json.loads(done.stdout)
    return seconds, mebibytes


def _measure(way: str, path: str, repeat: int) -> tuple[float, float]:
    """CPU seconds, and MiB at the peak of the first reading beyond those before it."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak until now, which the parent's memory was part of
    before, peak = _peak_kib(), 0
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        image = sitk.ReadImage(path) if way == "itk" else read_image(Path(path))
        seconds.append(time.process_time() - start)
        peak = peak or _peak_kib()
        del image
    return min(seconds), (peak - before) / 1024


def _peak_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
