"""What the command ``prompts`` does: a lesion mask -> files of clicks or boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..case.boxes import box_to_corners, write_boxes
from ..case.case import Scan, ScanFiles, Slot
from ..case.clicks import write_clicks
from ..case.geometry import Array, Geometry, Vector, flip_order
from ..case.images import read_image
from ..case.labelmaps import label_boxes, lesion_masks
from ..case.scans import ClickUnits, read_scans
from ..case.voxel_checks import MAX_LESION_ID, lesion_labels
from ..errors import InputError
from ..inference.components import label_components
from ..inference.options import ModelOptions
from ..inference.robust import SegmenterOptions, make_segmenter
from ..prompts.sampling import ChoiceOptions
from ..prompts.simulation import ClickRule, SimulationOptions, enlarged, simulate_boxes, simulate_clicks
from .lesion_state import PointChooser
from .series import FollowOptions

# Together up to ten voxels per axis, as the boxes of LesionLocator's training ([Rokuss2025]).
_BOX_PERTURBATION = 5


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """``variants`` is the number of simulated files, None for one file that is not simulated.

    ``rule`` and ``perturbation`` are None for the default of what is asked. Where the mask ``has_instances``
    its labels are lesion ids, else its connected parts are numbered. Margin and perturbation are in voxels.
    With a ``choice`` points are sampled and filtered as `track` does it; ``scan`` is the CT that the filters
    look at, weights and device are those of the model that is asked.
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
        is_simulated = self.variants is not None
        rule = ClickRule(self.rule or (ClickRule.CHALLENGE if is_simulated else ClickRule.DEEPEST))
        default = _BOX_PERTURBATION if is_simulated and self.kind == "box" else 0
        reach = default if self.perturbation is None else self.perturbation
        return SimulationOptions(rule, self.variants or 1, self.seed, reach)

    def files(self) -> list[Path]:
        """OUT.json, or for variants OUT-001.json and so on."""
        if self.variants is None:
            return [self.output]
        digits = max(3, len(str(self.variants)))
        stem, suffix = self.output.stem, self.output.suffix
        return [
            self.output.with_name(f"{stem}-{number:0{digits}d}{suffix}")
            for number in range(1, self.variants + 1)
        ]


def write_prompts(options: PromptOptions) -> Iterator[str]:
    """Write the files one by one; yields what is to be told.

    Raises:
        InputError: the mask is no labelmap of lesion ids.
        OutputError: a file cannot be written.
        WeightsError: the model that is to choose among points cannot be used.
    """
    labels, grid = read_labels(options.mask, options.has_instances)
    if not labels.any():
        yield f"warning: {options.mask}: holds no lesion; the list is empty"
    write = _write_points if options.kind == "point" else _write_boxes
    yield from write(labels, grid, options)


def read_labels(path: Path, has_instances: bool = True) -> tuple[Array, Geometry]:
    """A labelmap (z, y, x) of lesion ids, uint16, as its file stores it.

    Where the file has no instances, whatever is not 0 is lesion, and its connected parts are numbered.

    Raises:
        InputError: no image, values that are not whole numbers, or ids out of range.
    """
    image = read_image(path)
    labels = lesion_labels(path, image.array)
    if not has_instances:
        labels, count = label_components(labels != 0)
        if count > MAX_LESION_ID:
            raise InputError(f"{path}: holds {count} connected parts; expected at most {MAX_LESION_ID}")
    return labels.astype(np.uint16), image.geometry


def _write_points(labels: Array, grid: Geometry, options: PromptOptions) -> Iterator[str]:
    if options.choice is not None:
        drawn = _chosen(labels, grid, options, options.choice)
    else:
        drawn = simulate_clicks(lesion_masks(labels), labels.shape, grid.spacing_zyx, options.simulation())
    for path, clicks in zip(options.files(), drawn, strict=True):
        write_clicks(path, {lesion_id: _point(point, grid, options) for lesion_id, point in clicks.items()})
        yield f"{path}: {len(clicks)} clicks"


def _chosen(
    labels: Array, grid: Geometry, options: PromptOptions, choice: ChoiceOptions
) -> list[dict[int, Vector]]:
    """For each file lesion id -> point (z, y, x) of the file's grid: the points that `track` would ask at.

    The first file has the best of each lesion, the next ones those that come after it, as far as there are.
    """
    axes = grid.axial_map()
    axial = axes.array(labels)
    scan = _read_scan(options.scan, options.mask, axial) if options.scan is not None else None
    unprompted = None
    if choice.min_probability is not None:
        unprompted = make_segmenter(
            SegmenterOptions(weights_dir=options.weights_dir, model=ModelOptions(device=options.device))
        ).unprompted
    choose = PointChooser(FollowOptions(choice=choice, seed=options.seed), unprompted)
    drawn: list[dict[int, Vector]] = [{} for _ in options.files()]
    for lesion_id, mask in lesion_masks(axial):
        if scan is None:
            points = choose.candidates(mask, axes.triple(grid.spacing_zyx), lesion_id).points
        else:
            points = choose(mask, scan, lesion_id)
        for clicks, point in zip(drawn, points, strict=False):
            clicks[lesion_id] = axes.inverse().point(point, axial.shape)
    return drawn


def _read_scan(ct: Path, mask: Path, axial_labels: Array) -> Scan:
    """The mask's scan in axial order, with the given lesion ids (z, y, x) for its mask."""
    (scan,), _ = read_scans([("scan", ScanFiles(Slot.PRIMARY, ct, mask))])
    return replace(scan, mask=axial_labels)


def _point(point_zyx: Vector, grid: Geometry, options: PromptOptions) -> Vector:
    return flip_order(point_zyx) if options.units == "voxel" else grid.zyx_to_world(point_zyx)


def _write_boxes(labels: Array, grid: Geometry, options: PromptOptions) -> Iterator[str]:
    margin = (options.margin,) * 3
    tight = {
        lesion_id: enlarged(box, margin, margin, labels.shape)
        for lesion_id, box in label_boxes(labels).items()
    }
    for path, boxes in zip(
        options.files(), simulate_boxes(tight.items(), labels.shape, options.simulation()), strict=True
    ):
        write_boxes(path, {key: box_to_corners(box, grid, options.units) for key, box in boxes.items()})
        yield f"{path}: {len(boxes)} boxes"
