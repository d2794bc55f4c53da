"""Small cases on disk in the interface's layout, and runs of the command line on them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from test.helpers.paths import CHECKOUT
from test.helpers.warm_process import ScriptRun, run_scripts

SHAPE = (34, 56, 60)
SPACING_XYZ = (2.0, 2.0, 2.5)
CENTRES = {1: (16, 28, 20), 2: (20, 24, 42), 3: (10, 30, 30)}


@dataclass
class Grid:
    origin: tuple[float, ...] = (-60.0, -55.0, 100.0)
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)


@dataclass(frozen=True)
class Finished:
    """Exit code, output streams and folders of a finished run."""

    code: int
    stdout: str
    stderr: str
    output: Path
    extras: Path

    @property
    def last_line(self) -> str:
        lines = self.stderr.strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def record(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.extras / "run.json").read_text())
        return document

    @property
    def warnings(self) -> str:
        return "\n".join(self.record["warnings"])

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.output)) for p in self.output.rglob("*") if p.is_file())

    def labelmap(self, slot: str = "primary") -> npt.NDArray[Any]:
        return sitk.GetArrayFromImage(self.image(slot))

    def image(self, slot: str = "primary") -> sitk.Image:
        path = self.output / "images" / f"{slot}-followup-ct-tumor-lesion-seg" / "segmentation.mha"
        return sitk.ReadImage(str(path))

    def lesions(self, lesion_id: int) -> list[dict[str, Any]]:
        return [lesion for lesion in self.record["lesions"] if lesion["lesion_id"] == lesion_id]


def body(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> npt.NDArray[np.int16]:
    """A patient with two lungs, in HU."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    cy, cx = (shape[1] - 1) / 2, (shape[2] - 1) / 2
    hu = np.full(shape, -1000.0)
    hu[((y - cy) / (0.42 * shape[1])) ** 2 + ((x - cx) / (0.46 * shape[2])) ** 2 < 1] = 40
    for side in (-1, 1):
        lung = ((y - cy) / (0.25 * shape[1])) ** 2 + (
            (x - cx - side * 0.2 * shape[2]) / (0.14 * shape[2])
        ) ** 2
        hu[(lung < 1) & (z > shape[0] // 4)] = -820
    return np.clip(hu + rng.normal(0, 10, shape), -1024, 3071).astype(np.int16)


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> npt.NDArray[np.bool_]:
    z, y, x = np.indices(shape)
    distance = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    return np.asarray(distance <= radius**2)


@dataclass
class CaseOnDisk:
    """A case folder whose files the tests may modify."""

    folder: Path
    ids: tuple[int, ...] = (1, 2)
    grids: dict[str, Grid] = field(default_factory=dict)

    def write(self, slot: str = "primary", mask: npt.NDArray[Any] | None = None) -> CaseOnDisk:
        """Write both time points of a slot, with all ids clicked in both."""
        self.write_scan(slot, "baseline", mask=mask)
        self.write_scan(slot, "followup")
        return self

    def write_scan(self, slot: str, time: str, mask: npt.NDArray[Any] | None = None) -> None:
        hu, labels = body(seed=len(slot) + len(time)), np.zeros(SHAPE, np.uint16)
        for lesion_id in self.ids:
            lesion = ball(SHAPE, CENTRES.get(lesion_id, (16, 28, 20)), 4)
            hu[lesion] = 60
            labels[lesion] = lesion_id
        self.image(f"{slot}-{time}-ct", hu)
        if time == "baseline":
            self.image(f"{slot}-baseline-ct-tumor-lesion-seg", labels if mask is None else mask)
        points = {i: list(map(float, CENTRES.get(i, (16, 28, 20))[::-1])) for i in self.ids}
        self.clicks(slot, time, points)

    def image(
        self, slug: str, array: npt.NDArray[Any], name: str = "image.mha", compress: bool = True
    ) -> Path:
        folder = self.folder / "images" / slug
        folder.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(array)
        grid = self.grids.get(slug, Grid())
        if image.GetDimension() == 3:
            image.SetSpacing(SPACING_XYZ)
            image.SetOrigin(grid.origin)
            image.SetDirection(grid.direction)
        sitk.WriteImage(image, str(folder / name), compress)
        return folder / name

    def clicks(self, slot: str, time: str, points: dict[Any, Any]) -> Path:
        entries = [{"name": str(name), "point": point} for name, point in points.items()]
        return self.click_text(slot, time, json.dumps({"points": entries}))

    def click_text(self, slot: str, time: str, text: str) -> Path:
        path = self.folder / f"{slot}-{time}-lesion-clicks.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *arguments: str, driver: str | None = None, fresh: bool = False) -> Finished:
        """Run the command line.

        Args:
            arguments: options besides those of the folders and the device.
            driver: Python code run before it, to inject a fault.
            fresh: start a new Python instead of forking one that has imported the libraries.
        """
        output, extras = self.folder.parent / "output", self.folder.parent / "extras"
        options = [
            "--input",
            str(self.folder),
            "--output",
            str(output),
            "--extras",
            str(extras),
            "--device",
            "cpu",
            *arguments,
        ]
        script = f"{driver or ''}\nimport runpy\nrunpy.run_path('process.py', run_name='__main__')"
        if not fresh:
            (result,) = run_scripts(ScriptRun(script, options, str(self.folder.parent)))
            return Finished(result.code, result.stdout, result.stderr, output, extras)
        done = subprocess.run(
            [sys.executable, *(("process.py",) if driver is None else ("-c", script)), *options],
            capture_output=True,
            text=True,
            cwd=CHECKOUT,
            timeout=300,
        )
        return Finished(done.returncode, done.stdout, done.stderr, output, extras)
