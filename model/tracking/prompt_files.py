"""Write files of clicks or boxes from a lesion mask (the command ``prompts``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..case.boxes import box_to_corners, write_boxes
from ..case.case import Scan, ScanFiles, Slot
from ..case.clicks import write_clicks
from ..case.connected_components import label_components
from ..case.file_grid import FileGrid
from ..case.geometry import Array, Geometry, Vector, flip_order
from ..case.images import read_image
from ..case.labelmaps import label_boxes, lesion_masks
from ..case.scans import ClickUnits, read_scans
from ..case.voxel_checks import MAX_LESION_ID, lesion_labels
from ..errors import InputError
from ..inference.options import ModelOptions
from ..inference.robust import SegmenterOptions, make_segmenter
from ..prompts.sampling import ChoiceOptions
from ..prompts.simulation import ClickRule, SimulationOptions, enlarge_box, simulate_boxes, simulate_clicks
from .point_chooser import PointChooser
from .series import TrackingOptions

# Up to ten voxels per axis for both sides together, as the boxes of LesionLocator's training ([Rokuss2025]).
_BOX_PERTURBATION = 5


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """Options of prompt files.

    Attributes:
        kind: write clicks or boxes.
        has_instances: labels of the mask are lesion ids; otherwise its connected components are numbered.
        rule: how a point is taken from a lesion, see `ClickRule`; None for the default.
        margin: voxels added to boxes on each side.
        units: units of the written files.
        variants: number of simulated files; None for one file that is not simulated.
        perturbation: maximum displacement of points and box sides in voxels; None for the default.
        choice: sample and filter points as for tracking.
        scan: the CT, needed if ``choice`` filters by HU or probability.
        weights_dir: the model, used if ``choice`` filters by probability; None for the default one.
        device: of the model.
    """

    mask: Path
    output: Path
    kind: Literal["point", "box"] = "point"
    has_instances: bool = True
    rule: str | None = None
    margin: int = 0
    units: ClickUnits = "voxel"
    variants: int | None = None
    seed: int = 0
    perturbation: int | None = None
    choice: ChoiceOptions | None = None
    scan: Path | None = None
    weights_dir: Path | None = None
    device: str = "auto"

    def simulation(self) -> SimulationOptions:
        """The options of the simulation, with defaults filled in."""
        is_simulated = self.variants is not None
        rule = ClickRule(self.rule or (ClickRule.CHALLENGE if is_simulated else ClickRule.DEEPEST))
        default = _BOX_PERTURBATION if is_simulated and self.kind == "box" else 0
        reach = default if self.perturbation is None else self.perturbation
        return SimulationOptions(rule, self.variants or 1, self.seed, reach)

    def files(self) -> list[Path]:
        """The files to write: OUT.json, or OUT-001.json and so on for variants."""
        if self.variants is None:
            return [self.output]
        digits = max(3, len(str(self.variants)))
        stem, suffix = self.output.stem, self.output.suffix
        return [
            self.output.with_name(f"{stem}-{number:0{digits}d}{suffix}")
            for number in range(1, self.variants + 1)
        ]


def write_prompts(options: PromptOptions) -> dict[Path, int]:
    """Write the files; returns the number of clicks or boxes in each, all 0 for an empty mask.

    Raises:
        InputError: the mask is not a labelmap of lesion ids.
        OutputError: a file cannot be written.
        WeightsError: the model that filters points cannot be used.
    """
    labels, grid = read_labels(options.mask, options.has_instances)
    write = _write_points if options.kind == "point" else _write_boxes
    return write(labels, grid, options)


def read_labels(path: Path, has_instances: bool = True) -> tuple[Array, Geometry]:
    """Read a labelmap of lesion ids.

    Args:
        has_instances: labels are lesion ids; otherwise connected components of all labels are numbered.

    Returns:
        The labels, uint16 (z, y, x) in the axis order of the file, and the file's geometry.

    Raises:
        InputError: not an image, values that are not whole numbers, or ids out of range.
    """
    image = read_image(path)
    labels = lesion_labels(path, image.array)
    if not has_instances:
        labels, count = label_components(labels != 0)
        if count > MAX_LESION_ID:
            raise InputError(
                f"{path}: contains {count} connected components; expected at most {MAX_LESION_ID}"
            )
    return labels.astype(np.uint16), image.geometry


def _write_points(labels: Array, grid: Geometry, options: PromptOptions) -> dict[Path, int]:
    if options.choice is not None:
        points = _chosen_points(labels, grid, options, options.choice)
    else:
        points = simulate_clicks(lesion_masks(labels), labels.shape, grid.spacing_zyx, options.simulation())
    counts = {}
    for path, clicks in zip(options.files(), points, strict=True):
        write_clicks(path, {lesion_id: _point(point, grid, options) for lesion_id, point in clicks.items()})
        counts[path] = len(clicks)
    return counts


def _chosen_points(
    labels: Array, grid: Geometry, options: PromptOptions, choice: ChoiceOptions
) -> list[dict[int, Vector]]:
    """The points that tracking would use: for each file, lesion id -> point (z, y, x) on the file's grid.

    The first file gets the best point of each lesion, the next files its further points, as far as it has
    any.
    """
    file_grid = FileGrid.of(grid)
    axial = file_grid.axial_labels(labels)
    scan = _read_scan(options.scan, options.mask, axial) if options.scan is not None else None
    unprompted = None
    if choice.min_probability is not None:
        unprompted = make_segmenter(
            SegmenterOptions(weights_dir=options.weights_dir, model=ModelOptions(device=options.device))
        ).unprompted
    choose = PointChooser(TrackingOptions(choice=choice, seed=options.seed), unprompted)
    chosen: list[dict[int, Vector]] = [{} for _ in options.files()]
    for lesion_id, mask in lesion_masks(axial):
        if scan is None:
            points = choose.candidates(mask, file_grid.axial.spacing_zyx, lesion_id).points
        else:
            points = choose(mask, scan, lesion_id)
        for clicks, point in zip(chosen, points, strict=False):
            clicks[lesion_id] = file_grid.file_point(point)
    return chosen


def _read_scan(ct: Path, mask: Path, axial_labels: Array) -> Scan:
    """Read the mask's CT in axial order, with the given lesion ids (z, y, x) as its mask."""
    (scan,), _ = read_scans([("scan", ScanFiles(Slot.PRIMARY, ct, mask))])
    return replace(scan, mask=axial_labels)


def _point(point_zyx: Vector, grid: Geometry, options: PromptOptions) -> Vector:
    return flip_order(point_zyx) if options.units == "voxel" else grid.zyx_to_world(point_zyx)


def _write_boxes(labels: Array, grid: Geometry, options: PromptOptions) -> dict[Path, int]:
    margin = (options.margin,) * 3
    tight = {
        lesion_id: enlarge_box(box, margin, margin, labels.shape)
        for lesion_id, box in label_boxes(labels).items()
    }
    counts = {}
    for path, boxes in zip(
        options.files(), simulate_boxes(tight.items(), labels.shape, options.simulation()), strict=True
    ):
        write_boxes(path, {key: box_to_corners(box, grid, options.units) for key, box in boxes.items()})
        counts[path] = len(boxes)
    return counts
