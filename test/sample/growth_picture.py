"""Draw a lesion shrunk and grown: `python -m test.sample.growth_picture [OUT_PNG]`.

The baseline of the sample case (LIDC-IDRI-0314, CC BY 3.0) and two synthetic follow-ups of it, with the
lesion outlined now and before, and below how far each place has moved. The patient lies still and the scanner
is the same, so that nothing is seen but growth.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display on a server

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from model.synthesis.compose_followup import Baseline, Followup, compose_followup
from model.synthesis.displacement import grid_positions
from model.synthesis.random_draws import draw_followup
from model.synthesis.scan_lesions import ScanLesions, find_scan_lesions
from model.synthesis.settings import (
    AppearanceSettings,
    EventSettings,
    GrowthSettings,
    MotionSettings,
    SynthesisSettings,
)
from model.synthesis.source_scans import read_baseline

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "test" / "sample" / "input" / "images"
DEFAULT = ROOT / "docs" / "images" / "synthetic_growth.png"
WINDOW_HU = (-1000.0, 300.0)
HALF_MM = 26.0
ARROW_MM = 3.5
STILL = SynthesisSettings(
    events=EventSettings(p_vanish=0, p_merge=0, p_split=0, new_mean=0),
    motion=MotionSettings(p_elastic=0, p_rotation=0, p_scaling=0, p_translation=0),
    appearance=AppearanceSettings(p_noise=0, p_blur=0, p_brightness=0, p_contrast=0),
)


def followup(baseline: Baseline, facts: ScanLesions, amplitude_mm2: float, ratio: float) -> Followup:
    """The scan with its lesions at so much of their volume."""
    growth = GrowthSettings(
        amplitudes_mm2=(amplitude_mm2,), growth_ratio=(ratio, ratio), shrinkage_ratio=(ratio, ratio)
    )
    settings = replace(STILL, growth=growth)
    return compose_followup(baseline, facts, draw_followup(facts, settings, 0, "LIDC-IDRI-0314", 1), settings)


def draw_slice(axes: Axes, baseline: Baseline, shown: Baseline | Followup, focus: np.ndarray) -> None:
    """The axial slice with the lesion as it is and, dashed, as it was."""
    _, sy, sx = baseline.geometry.spacing_zyx
    z, y, x = np.rint(focus).astype(int)
    _, height, width = baseline.ct.shape
    extent = (-0.5 * sx, (width - 0.5) * sx, (height - 0.5) * sy, -0.5 * sy)
    low, high = WINDOW_HU
    axes.imshow(shown.ct[z], cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bicubic")
    xs, ys = np.arange(width) * sx, np.arange(height) * sy
    for labels, colour, style in ((baseline.labels, "#ffb000", "dashed"), (shown.labels, "#ff4d4d", "solid")):
        axes.contour(xs, ys, labels[z] > 0, levels=[0.5], colors=[colour], linestyles=[style], linewidths=1.4)
    axes.set_xlim(x * sx - HALF_MM, x * sx + HALF_MM)
    axes.set_ylim(y * sy + HALF_MM, y * sy - HALF_MM)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_field(axes: Axes, baseline: Baseline, made: Followup, focus: np.ndarray) -> None:
    """Origin of positions of the follow-up: an arrow from each to its place in the baseline."""
    spacing = np.asarray(baseline.geometry.spacing_zyx)
    z, y, x = focus * spacing
    count = int(2 * HALF_MM / ARROW_MM)
    positions = grid_positions((z, y - HALF_MM, x - HALF_MM), (1.0, ARROW_MM, ARROW_MM), (1, count, count))
    moved = made.pullback(positions) - positions
    axes.quiver(
        positions[2],
        positions[1],
        moved[2],
        moved[1],
        np.linalg.norm(moved, axis=0),
        angles="xy",
        scale_units="xy",
        scale=1,
        cmap="cool",
        width=0.006,
    )


def main(path: Path = DEFAULT) -> None:
    """Write the picture."""
    ct, labels = (
        next((IMAGES / name).glob("*.mha"))
        for name in ("primary-baseline-ct", "primary-baseline-ct-tumor-lesion-seg")
    )
    baseline = read_baseline(ct, labels)
    facts = find_scan_lesions(baseline.labels, baseline.geometry.spacing_zyx, 0.0)
    lesion = facts.lesions[0]
    focus = np.asarray(lesion.centre_zyx)
    figure, panels = plt.subplots(2, 3, figsize=(9.0, 6.3), layout="constrained")
    shrunk, grown = (followup(baseline, facts, *pair) for pair in ((-22.0, 0.4), (25.0, 2.5)))
    columns: tuple[tuple[str, Baseline | Followup], ...] = (
        ("shrunk", shrunk),
        ("baseline", baseline),
        ("grown", grown),
    )
    for column, (title, shown) in enumerate(columns):
        volume = np.count_nonzero(shown.labels == lesion.lesion_id) * baseline.geometry.voxel_volume_ml
        panels[0, column].set_title(f"{title}: {volume:.2f} ml", fontsize=10)
        for row in range(2):
            draw_slice(panels[row, column], baseline, shown, focus)
        if isinstance(shown, Followup):
            draw_field(panels[1, column], baseline, shown, focus)
        else:
            panels[1, column].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    # No metadata: the same case gives the same file.
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
