"""A patient whose lesions move, grow and vanish over four time points, and an exact registration back end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.case.boxes import boxes_from_scan_grid, write_boxes
from model.case.case import Click, LesionPrompt, Scan, Slot
from model.case.clicks import write_clicks
from model.case.geometry import Array, AxisMap, Box, Geometry, Vector
from model.case.images import write_image
from model.inference.robust import ComponentSegmenter, RobustSegmenter, SegmenterOptions
from model.inference.user_segmenter import FunctionSegmenter, SegmentRequest
from model.propagation.register import Registration, RegistrationImage
from model.tracking.fates import LesionFate
from model.tracking.series import Series, SeriesResult, SeriesTimePoint, TrackingOptions
from model.tracking.tracker import track_series

SHAPE = (24, 32, 32)
SPACING_MM = 2.0
NAMES = ("t0", "t1", "t2", "t3")
# Position of the patient at each time point, in voxels z, y, x: the result of registration.
SHIFTS = {"t0": (0, 0, 0), "t1": (2, -1, 3), "t2": (-1, 2, 1), "t3": (1, 1, -2)}
TISSUE_HU, LESION_HU = 0, 100


@dataclass(frozen=True)
class Ball:
    """A lesion: centre in the patient (z, y, x), radius and own displacement per time point, in voxels."""

    centre: Vector
    radii: tuple[float, ...] = (3.0, 3.0, 3.0, 3.0)
    displacements: tuple[Vector, ...] = ((0, 0, 0),) * 4

    def voxels(self, index: int, hole: float = 0.0) -> npt.NDArray[np.bool_]:
        z, y, x = np.indices(SHAPE)
        distance = np.sqrt(sum((a - c) ** 2 for a, c in zip((z, y, x), self.at(index), strict=True)))
        return np.asarray((distance <= self.radii[index]) & (distance >= hole) & (self.radii[index] > 0))

    def at(self, index: int) -> Vector:
        centre = np.add(np.add(self.centre, SHIFTS[NAMES[index]]), self.displacements[index])
        z, y, x = (float(value) for value in centre)
        return (z, y, x)


# A lesion that moves within the patient, a little further at each time point.
WANDERER = Ball((10, 11, 11), displacements=((0, 0, 0), (0, 3, 0), (0, 6, 0), (0, 9, 0)))
TWO = {1: Ball((10, 11, 11)), 2: Ball((14, 21, 20), radii=(2.0, 2.5, 3.0, 3.5))}


@dataclass
class ShiftBackend:
    """Registration back end that knows the patient's shifts.

    Attributes:
        fails: pairs of time points for which it raises.
        doubts: pairs whose registration is not reliable.
        blind: pairs of which nothing could be compared.
        registered: registered pairs with the later scan as the fixed one.
        registered_back: registered pairs with the earlier scan as the fixed one.
    """

    fails: tuple[frozenset[str], ...] = ()
    doubts: tuple[frozenset[str], ...] = ()
    blind: tuple[frozenset[str], ...] = ()
    registered: list[tuple[str, str]] = field(default_factory=list)
    registered_back: list[tuple[str, str]] = field(default_factory=list)

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        later, earlier = (image.name.split("-", 1)[1] for image in (fixed, moving))
        (self.registered if later > earlier else self.registered_back).append((later, earlier))
        pair = frozenset((later, earlier))
        if pair in self.fails:
            raise ValueError("these two do not match")
        xyz_mm = np.subtract(SHIFTS[earlier], SHIFTS[later])[::-1] * SPACING_MM
        if pair in self.blind:
            return Registration(ShiftTransform(xyz_mm), float("nan"), False, ("nothing to compare",))
        return Registration(ShiftTransform(xyz_mm), 0.9, pair not in self.doubts, ())


@dataclass
class ShiftTransform:
    xyz_mm: npt.NDArray[np.float64]

    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.asarray(points_mm, np.float64) + self.xyz_mm

    def moving_to_fixed(self, points_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.asarray(points_mm, np.float64) - self.xyz_mm


@dataclass
class Patient:
    """A series of four time points; tests change its attributes."""

    balls: Mapping[int, Ball] = field(default_factory=lambda: dict(TWO))
    masks: Sequence[str] = ("t0",)
    clicks: dict[str, dict[int, Vector]] = field(default_factory=dict)
    boxes: dict[str, dict[int, Box]] = field(default_factory=dict)
    hole: float = 0.0
    slabs: Mapping[str, Mapping[Slot, tuple[int, int]]] = field(default_factory=dict)

    def series(self, source: str = "t0") -> Series:
        points = []
        for index, name in enumerate(NAMES):
            slabs = self.slabs.get(name, {Slot.PRIMARY: (0, SHAPE[0])})
            scans = tuple(self._scan(index, slot, slab) for slot, slab in slabs.items())
            boxes = {Slot.PRIMARY: self.boxes[name]} if name in self.boxes else {}
            points.append(SeriesTimePoint(name, scans, boxes, when=f"order {index}"))
        return Series("P", tuple(points), NAMES.index(source))

    def _scan(self, index: int, slot: Slot, slab: tuple[int, int]) -> Scan:
        name, (start, stop) = NAMES[index], slab
        ct, mask = np.full(SHAPE, TISSUE_HU, np.int16), np.zeros(SHAPE, np.uint16)
        for lesion_id, ball in self.balls.items():
            voxels = ball.voxels(index, self.hole)
            ct[voxels] = LESION_HU
            mask[voxels] = lesion_id
        whole = Geometry((32, 32, 24), (SPACING_MM,) * 3, (0.0, 0.0, 0.0))
        box = Box((start, 0, 0), (stop, 32, 32))
        clicks = self.clicks.get(name, {}) if slot is Slot.PRIMARY else {}
        return Scan(
            name,
            slot,
            Path(f"{name}.mha"),
            whole.cropped(box),
            AxisMap(),
            ct[box.slices],
            mask[box.slices] if name in self.masks else None,
            tuple(Click(lesion_id, point) for lesion_id, point in clicks.items()),
        )

    def write(self, folder: Path, columns: str = "order", permuted: Sequence[str] = ()) -> Path:
        """Write the series with a manifest; time points in ``permuted`` are stored with permuted axes."""
        rows = [f"patient,timepoint,{columns},scan,mask,clicks,boxes,scan_slot"]
        for index, point in enumerate(self.series().time_points):
            position = f"2024-0{index + 1}-01" if columns == "date" else str(index)
            for scan in point.scans:
                files = _write_scan(folder, scan, point, scan.time_point in permuted)
                rows.append(",".join(["P 1", point.name, position, *files, str(scan.slot)]))
        manifest = folder / "series.csv"
        manifest.write_text("\n".join(rows) + "\n")
        return manifest

    def track(
        self,
        options: TrackingOptions | None = None,
        backend: ShiftBackend | None = None,
        source: str = "t0",
        function: Callable[[SegmentRequest], Array] | None = None,
        segmenter: RobustSegmenter | ComponentSegmenter | None = None,
    ) -> SeriesResult:
        segmenter = segmenter or ComponentSegmenter(FunctionSegmenter(function or bright), limit_mm=5.0)
        return track_series(self.series(source), segmenter, backend or ShiftBackend(), options)

    def dice(self, result: SeriesResult, name: str, lesion_id: int) -> float:
        """Dice of a lesion in the labelmap of a whole scan."""
        truth = self.balls[lesion_id].voxels(NAMES.index(name), self.hole)
        found = result.at(name).labelmaps[Slot.PRIMARY] == lesion_id
        return 2 * float((truth & found).sum()) / max(1, int(truth.sum() + found.sum()))


def _write_scan(folder: Path, scan: Scan, point: SeriesTimePoint, is_permuted: bool) -> list[str]:
    """Write a scan; returns the names of its CT, mask, click and box file, empty if it has none."""
    names = [
        f"{scan.time_point}-{scan.slot}-{kind}" for kind in ("ct.mha", "mask.mha", "clicks.json", "b.json")
    ]
    axes = AxisMap((2, 0, 1)) if is_permuted else AxisMap()
    stored = replace(scan, file_geometry=scan.geometry.reoriented(axes), axes=axes.inverse())
    write_image(folder / names[0], np.ascontiguousarray(axes.array(scan.ct)), stored.file_geometry)
    if scan.mask is None:
        names[1] = ""
    else:
        write_image(folder / names[1], np.ascontiguousarray(axes.array(scan.mask)), stored.file_geometry)
    clicks = {click.lesion_id: stored.file_point_xyz(click.point_zyx) for click in scan.clicks}
    if clicks:
        write_clicks(folder / names[2], clicks)
    else:
        names[2] = ""
    boxes = point.boxes.get(scan.slot)
    if boxes:
        write_boxes(folder / names[3], boxes_from_scan_grid(boxes, stored, "voxel"))
    else:
        names[3] = ""
    return names


def bright(request: SegmentRequest) -> Array:
    """A user's segmenter: voxels brighter than tissue are lesion."""
    return np.where(request.image > (TISSUE_HU + LESION_HU) / 2, np.float32(0.9), np.float32(0))


def boosted_segmenter(
    options: SegmenterOptions, function: Callable[[SegmentRequest], Array] = bright
) -> RobustSegmenter:
    inner = FunctionSegmenter(function, keep_support=options.boost.uses_support)
    return RobustSegmenter(inner, options.robust)


# --- access to results ---


def pair(*names: str) -> frozenset[str]:
    return frozenset(names)


def backend_with(kind: str, *pairs: frozenset[str]) -> ShiftBackend:
    """A back end with the pairs in one of its attributes, e.g. ``fails``."""
    backend = ShiftBackend()
    setattr(backend, kind, pairs)
    return backend


def point_of(result: SeriesResult, name: str, lesion_id: int = 1) -> Vector:
    prompt = result.at(name).lesion(lesion_id).prompt
    assert prompt is not None
    return prompt.followup_point.point_zyx


def fate_of(
    result: SeriesResult, name: str, lesion_id: int = 1, slot: Slot | None = Slot.PRIMARY
) -> LesionFate | None:
    fate = result.at(name).lesion(lesion_id, slot).fate
    return fate.fate if fate is not None else None


def reason_of(result: SeriesResult, name: str, lesion_id: int = 1) -> str:
    fate = result.at(name).lesion(lesion_id, None).fate
    assert fate is not None
    return fate.reason


def prompts_of(options: TrackingOptions, patient: Patient | None = None) -> dict[str, LesionPrompt]:
    """Prompts of lesion 1 by time point, except where its mask is given."""
    prompts = {}

    def record(request: SegmentRequest) -> Array:
        if request.lesion_id == 1:
            prompts[request.prompt.followup.time_point] = request.prompt
        return bright(request)

    (patient or Patient()).track(options, function=record)
    return prompts
