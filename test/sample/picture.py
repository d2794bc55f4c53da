"""Draw a case and its result: `python -m test.sample.picture INPUT_DIR LABELMAP OUT_PNG [--lesion ID]`.

INPUT_DIR is a Task 2 input folder, LABELMAP an output for its primary follow-up scan. Left the baseline,
right the follow-up: the axial slice through one lesion, outlines of all lesions in that slice, the click, and
the lesion enlarged in the corner.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display on a server

import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

WINDOW_HU = (-1000.0, 400.0)
COLOURS = ("#ff4d4d", "#ffb000", "#35c4ff", "#5fe07a", "#d98cff", "#ffe14d")
CLICK_COLOUR = "#35e0ff"
INSET_MM = 64.0
PANEL_MM = 345.0  # both panels show as many mm, so that growth is seen as growth


@dataclass(frozen=True)
class Scan:
    """Data of a panel: CT and labelmap (z, y, x), spacing in mm, clicks as voxel indices x, y, z."""

    ct: NDArray[Any]
    labelmap: NDArray[Any]
    spacing_xyz_mm: tuple[float, float, float]
    clicks_xyz: dict[int, tuple[float, float, float]]

    def volume_ml(self, lesion_id: int) -> float:
        """Volume of a lesion in ml."""
        return float((self.labelmap == lesion_id).sum() * np.prod(self.spacing_xyz_mm) / 1000.0)

    def focus_zyx(self, lesion_id: int) -> tuple[int, int, int]:
        """Voxel to centre slice and enlargement on: the lesion's centre, else its click, else the middle."""
        voxels = np.argwhere(self.labelmap == lesion_id)
        if len(voxels):
            centre = voxels.mean(axis=0)
        elif lesion_id in self.clicks_xyz:
            centre = np.asarray(self.clicks_xyz[lesion_id][::-1])
        else:
            centre = (np.asarray(self.ct.shape) - 1) / 2
        z, y, x = np.clip(np.rint(centre), 0, np.asarray(self.ct.shape) - 1).astype(int)
        return int(z), int(y), int(x)


def read_clicks(path: Path) -> dict[int, tuple[float, float, float]]:
    """Lesion id -> voxel index x, y, z; empty where there is no file."""
    if not path.exists():
        return {}
    clicks = {}
    for point in json.loads(path.read_text(encoding="utf-8"))["points"]:
        number = re.search(r"(\d+)$", point["name"])
        if number:
            x, y, z = point["point"]
            clicks[int(number.group(1))] = (float(x), float(y), float(z))
    return clicks


def read_scan(ct_path: Path, labelmap_path: Path, clicks_path: Path) -> Scan:
    """A scan, its labelmap on the same grid and its clicks."""
    ct, labelmap = (sitk.DICOMOrient(sitk.ReadImage(str(p)), "LPS") for p in (ct_path, labelmap_path))
    # Clicks count voxels of the file as stored; the picture is drawn in the usual radiological orientation.
    stored = sitk.ReadImage(str(ct_path))
    clicks = {
        lesion_id: ct.TransformPhysicalPointToContinuousIndex(
            stored.TransformContinuousIndexToPhysicalPoint(point)
        )
        for lesion_id, point in read_clicks(clicks_path).items()
    }
    return Scan(sitk.GetArrayFromImage(ct), sitk.GetArrayFromImage(labelmap), ct.GetSpacing(), clicks)


def only_image(folder: Path) -> Path:
    """The one image of a folder."""
    images = sorted(p for p in folder.iterdir() if p.suffix in {".mha", ".mhd", ".nrrd", ".nii", ".gz"})
    if len(images) != 1:
        raise SystemExit(f"{folder}: expected one image, found {len(images)}")
    return images[0]


def draw_slice(axes: Axes, scan: Scan, z: int, line_width: float) -> None:
    """One axial slice in mm (voxel centres at index * spacing), with the outlines of all its lesions."""
    sx, sy, _ = scan.spacing_xyz_mm
    _, height, width = scan.ct.shape
    extent = (-0.5 * sx, (width - 0.5) * sx, (height - 0.5) * sy, -0.5 * sy)
    low, high = WINDOW_HU
    axes.imshow(scan.ct[z], cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bicubic")
    x_mm, y_mm = np.arange(width) * sx, np.arange(height) * sy
    for lesion_id in np.unique(scan.labelmap[z][scan.labelmap[z] > 0]):
        colour = COLOURS[(int(lesion_id) - 1) % len(COLOURS)]
        mask = (scan.labelmap[z] == lesion_id).astype(float)
        axes.contour(x_mm, y_mm, mask, levels=[0.5], colors=[colour], linewidths=line_width)


def draw_click(axes: Axes, scan: Scan, lesion_id: int, size: float) -> None:
    """The lesion's click as a cross, where there is one."""
    if lesion_id in scan.clicks_xyz:
        x, y, _ = scan.clicks_xyz[lesion_id]
        sx, sy, _ = scan.spacing_xyz_mm
        axes.plot(x * sx, y * sy, "+", color=CLICK_COLOUR, markersize=size, markeredgewidth=size / 7)


def draw_scale(axes: Axes, length_mm: float, label: str) -> None:
    """A bar of so many mm in the lower left corner."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = left + 0.05 * (right - left), bottom + 0.06 * (top - bottom)
    axes.plot([x, x + length_mm], [y, y], color="white", linewidth=2.5, solid_capstyle="butt")
    axes.text(
        x + length_mm / 2,
        y + 0.015 * (top - bottom),
        label,
        color="white",
        ha="center",
        va="bottom",
        fontsize=8,
    )


def set_window(axes: Axes, centre_xy_mm: tuple[float, float], half_mm: float) -> None:
    """Show a square of 2 * half_mm round a point, y downwards, without ticks."""
    x, y = centre_xy_mm
    axes.set_xlim(x - half_mm, x + half_mm)
    axes.set_ylim(y + half_mm, y - half_mm)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")


def draw_panel(axes: Axes, scan: Scan, lesion_id: int, title: str) -> None:
    """Slice through the lesion, and the lesion enlarged in the upper left corner, where a slice is air."""
    z, y, x = scan.focus_zyx(lesion_id)
    sx, sy, sz = scan.spacing_xyz_mm
    _, height, width = scan.ct.shape
    draw_slice(axes, scan, z, line_width=1.0)
    set_window(axes, ((width - 1) / 2 * sx, (height - 1) / 2 * sy), PANEL_MM / 2)
    draw_scale(axes, 50.0, "50 mm")
    half = INSET_MM / 2
    axes.add_patch(
        Rectangle((x * sx - half, y * sy - half), INSET_MM, INSET_MM, fill=False, ec="white", lw=0.8)
    )

    inset = axes.inset_axes((0.0, 0.67, 0.33, 0.33))
    draw_slice(inset, scan, z, line_width=1.8)
    draw_click(inset, scan, lesion_id, size=11)
    set_window(inset, (x * sx, y * sy), half)
    draw_scale(inset, 10.0, "10 mm")
    for spine in inset.spines.values():
        spine.set_edgecolor("white")
    volume = f"{scan.volume_ml(lesion_id):.2f} ml"
    axes.set_title(f"{title}\nlesion {lesion_id}: {volume} · voxel {sx:g} × {sy:g} × {sz:g} mm", fontsize=10)


def render(input_dir: Path, labelmap: Path, out_png: Path, lesion_id: int | None = None) -> None:
    """Write the picture; without an id, of the first lesion of the baseline."""
    images = input_dir / "images"
    baseline = read_scan(
        only_image(images / "primary-baseline-ct"),
        only_image(images / "primary-baseline-ct-tumor-lesion-seg"),
        input_dir / "primary-baseline-lesion-clicks.json",
    )
    followup = read_scan(
        only_image(images / "primary-followup-ct"),
        labelmap,
        input_dir / "primary-followup-lesion-clicks.json",
    )
    ids = np.unique(baseline.labelmap[baseline.labelmap > 0])
    lesion = lesion_id or (int(ids[0]) if len(ids) else min(baseline.clicks_xyz, default=1))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 5.6), layout="constrained")
    draw_panel(left, baseline, lesion, "Baseline: given mask and click")
    clicked = "click" if lesion in followup.clicks_xyz else "no click"
    draw_panel(right, followup, lesion, f"Follow-up: {clicked} given, segmented")
    out_png.parent.mkdir(parents=True, exist_ok=True)
    # No metadata: the same case gives the same file.
    figure.savefig(out_png, dpi=130, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw baseline and follow-up with their lesions.")
    parser.add_argument("input_dir", type=Path, metavar="INPUT_DIR")
    parser.add_argument("labelmap", type=Path, metavar="LABELMAP")
    parser.add_argument("out_png", type=Path, metavar="OUT_PNG")
    parser.add_argument(
        "--lesion", type=int, default=None, metavar="ID", help="default: the lowest id of the baseline"
    )
    options = parser.parse_args()
    render(options.input_dir, options.labelmap, options.out_png, options.lesion)


if __name__ == "__main__":
    main()
