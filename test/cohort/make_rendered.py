"""Make the rendered held-out cohort: `python -m test.cohort.make_rendered REAL_DIR -o DIR`.

Baselines are the CTs of the patients that no training sees, with small lesions painted into them; in their
follow-ups the patient has moved, lesions have grown, shrunk, vanished or appeared, and the scanner is another
one. With `--generated`, `train synthesize` makes other follow-ups of the same baselines in DIR/generated.
README.md in this folder has the rest. The same seed gives the same files, and the same call goes on where it
was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from .located import located
from .rendered_scan import Lesion, Look, Motion, Painter, Scanner, Volume, noise_of, without_lesion
from .rendered_shapes import Blob, Bools, Floats, Grid, MaskShape, Random, smoothed

log = logging.getLogger(__name__)

SEED = 20
RATIOS = (0.1, 4.0)
"""Volume of a lesion in the follow-up over that in the baseline: even in its logarithm."""
SMALL_MM = (5.0, 15.0)
LEAST_MM = 4.0
"""Diameter that no present lesion falls short of, so that each has voxels."""
TUMOUR = 1
LARGE_ML = 10.0
FAT, SOFT, LUNG = (-150.0, -25.0), (-25.0, 160.0), (-1100.0, -500.0)
_TISSUES = {
    "lung": (-950.0, -700.0),
    "fat": (-135.0, -60.0),
    "muscle": (15.0, 90.0),
    "liver": (35.0, 90.0),
    "bone": (180.0, 3000.0),
}
Box = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class HeldOutCt:
    """A CT of a held-out patient.

    Attributes:
        name: begins the names of its scans.
        patient: the patient.
        ct: its file in REAL_DIR.
        labels: the outline of its lesion there.
        around: ranges of HU of the tissues that go on where the lesion is taken out.
        ratios: limits of its lesion's volume change.
        small: tissues of the painted lesions, for each pair of scans.
        within: box x0, x1, y0, y1, z0, z1 in voxels that a tissue is looked for in; everywhere without one.
        spacing_xy, spacing_z: those of its follow-ups in mm.
    """

    name: str
    patient: str
    ct: str
    labels: str
    around: tuple[tuple[float, float], ...]
    ratios: tuple[float, float]
    small: tuple[tuple[str, ...], ...]
    within: Mapping[str, Box]
    spacing_xy: tuple[float, float]
    spacing_z: tuple[float, ...]


def _sarcoma(patient: str, largest: float) -> HeldOutCt:
    return HeldOutCt(
        name=patient,
        patient=patient,
        ct=f"sts_ibsi/{patient}/CT_image.nii.gz",
        labels=f"sts_ibsi/{patient}/CT_mask.nii.gz",
        around=(FAT, SOFT),
        ratios=(RATIOS[0], largest),
        small=(("muscle",), ("fat", "muscle"), ("bone",), ("muscle", "fat"), ("fat",), ("bone",)),
        within={},
        spacing_xy=(0.8, 1.3),
        spacing_z=(2.0, 2.5, 3.0, 4.0),
    )


SOURCES = (
    _sarcoma("STS_003", 4.0),
    _sarcoma("STS_025", 4.0),
    _sarcoma("STS_028", 2.0),  # a limb has no room for 800 ml
    HeldOutCt(
        name="thorax",
        patient="LIDC-IDRI-0314",
        ct="lidc_0314/lidc0314_2mm_ct.nii.gz",
        labels="lidc_0314/lidc0314_2mm_mask.nii.gz",
        around=(LUNG,),
        ratios=RATIOS,
        small=(
            ("lung", "lung", "liver", "liver", "muscle", "bone"),
            ("lung", "lung", "liver", "liver", "fat", "bone"),
        ),
        within={
            "liver": (45, 95, 80, 145, 10, 28),
            "muscle": (60, 150, 140, 168, 4, 130),
            "fat": (35, 165, 45, 165, 4, 130),
        },
        spacing_xy=(1.5, 2.1),
        spacing_z=(2.0, 2.5),
    ),
    HeldOutCt(
        name="lung",
        patient="LIDC-IDRI-0314",
        ct="lidc_0314/lidc0314_crop_ct.nii.gz",
        labels="lidc_0314/lidc0314_crop_mask.nii.gz",
        around=(LUNG,),
        ratios=RATIOS,
        small=(("lung", "lung", "muscle"), ("lung", "lung", "fat")),
        within={
            "lung": (0, 176, 45, 176, 0, 112),
            "muscle": (10, 110, 15, 60, 40, 112),
            "fat": (0, 120, 0, 60, 0, 112),
        },
        spacing_xy=(0.7, 1.1),
        spacing_z=(1.0, 1.5, 2.0),
    ),
)

POINTS_FILE, RECORD_FILE = "followup-points.json", "record.json"
VANISHED, PRESENT, NEW = "vanished", "present", "new"
_COLUMNS = ("patient", "timepoint", "image", "labels", "order", "baseline", "links", "points")
_TRUTH = (
    "patient", "baseline", "followup", "baseline_id", "followup_ids", "fate", "tissue", "size", "cog_bl",
    "cog_fu", "cog_propagated", "baseline_ml", "followup_ml", "target_ratio", "achieved_ratio",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Planned:
    """A lesion of one pair of scans; ``ratio`` is 0 if it vanishes, ``target_ml`` that of a new one."""

    label: int
    tissue: str
    shape: Blob | MaskShape
    look: Look
    baseline_ml: float
    ratio: float
    is_new: bool = False


@dataclass(frozen=True, eq=False)
class _Anatomy:
    """A held-out CT with and without its lesion, and what lesions may be painted on."""

    source: HeldOutCt
    ct: Volume
    mask: Bools
    clean: Volume
    calm: Floats
    body: Bools
    noise_hu: float
    room: dict[str, tuple[Floats, Bools]] = field(default_factory=dict)

    def depth(self, tissue: str) -> tuple[Floats, Bools]:
        """Depth in a tissue in mm, and where a lesion of it may lie, without regard of other lesions."""
        if tissue not in self.room:
            self.room[tissue] = _room(self, tissue)
        return self.room[tissue]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="test.cohort.make_rendered", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("real", type=Path, metavar="REAL_DIR", help="where the real CTs lie")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, default=SEED, help=f"default: {SEED}")
    parser.add_argument("--generated", action="store_true", help="follow-ups of `train synthesize` as well")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    log.setLevel(logging.INFO)
    make_rendered(arguments.real, arguments.output, arguments.seed)
    if arguments.generated:
        generate(arguments.output, arguments.seed)
    return 0


def make_rendered(real: Path, output: Path, seed: int = SEED) -> None:
    """Write `test.csv`, `baselines.csv`, `lesions.csv`, `sources.csv` and the scans that they name.

    Pairs of scans that are there already, of the same sources, seed and code, are kept.
    """
    output.mkdir(parents=True, exist_ok=True)
    small = small_ratios(seed)
    manifest: list[dict[str, object]] = []
    truth: list[dict[str, object]] = []
    sources: list[dict[str, object]] = []
    for number, source in enumerate(SOURCES):
        files = [(name, _digest(real / name)) for name in (source.ct, source.labels)]
        sources += [{"patient": source.patient, "file": name, "sha256": digest} for name, digest in files]
        state = f"{seed} {_code_digest()} {files}"
        anatomy = cache(partial(_anatomy, real, source, [seed, number]))
        tumours = tumour_ratios(source, np.random.default_rng([seed, number, 1]))
        for pair, ratio in enumerate(tumours, 1):
            random = np.random.default_rng([seed, number, 2, pair])
            ratios = [next(small) for _ in source.small[pair - 1]]
            folder = output / f"{source.name}-{pair}"
            rows = _finished(folder, state)
            if rows is None:
                lesions = _planned(anatomy(), random, ratio, ratios, pair)
                rows = _write_pair(anatomy(), lesions, folder, random)
                _write_points(folder, rows)
                (folder / RECORD_FILE).write_text(json.dumps({"made_from": state, "lesions": rows}))
                log.info("%s: %d lesions", folder.name, len(rows))
            manifest += _manifest_rows(source, folder.name, len(manifest))
            truth += rows
    _write_csv(output / "test.csv", _COLUMNS, manifest)
    _write_csv(output / "baselines.csv", _COLUMNS, [row for row in manifest if row["baseline"] == "-"])
    _write_csv(output / "lesions.csv", _TRUTH, truth)
    _write_csv(output / "sources.csv", tuple(sources[0]), sources)


def _finished(folder: Path, state: str) -> list[dict[str, object]] | None:
    """The lesions of a pair of scans that was made from the same; None if there is no such pair."""
    try:
        record = json.loads((folder / RECORD_FILE).read_text())
    except (OSError, ValueError):
        return None
    return list(record["lesions"]) if record["made_from"] == state else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _code_digest() -> str:
    names = ("make_rendered.py", "rendered_scan.py", "rendered_shapes.py")
    return "".join(_digest(Path(__file__).with_name(name))[:8] for name in names)


def generate(output: Path, seed: int) -> None:
    """Let `train synthesize` make a follow-up of each baseline, in which a third of the lesions vanish."""
    command = [sys.executable, "-m", "model", "train", "synthesize", "--manifest", output / "baselines.csv"]
    command += ["-o", output / "generated", "--seed", seed, "--count", 1, "--workers", 1]
    command += ["--set", "events.p_vanish=0.33"]
    subprocess.run([str(part) for part in command], cwd=Path(__file__).parents[2], check=True)


def _even_ratios(random: Random, limits: tuple[float, float], count: int) -> list[float]:
    """Ratios even in their logarithm: one from each of ``count`` equal parts of it, shuffled."""
    parts = (np.arange(count) + random.uniform(0, 1, count)) / count
    low, high = np.log(limits)
    return [float(np.exp(low + (high - low) * part)) for part in random.permutation(parts)]


def _with_vanished(random: Random, limits: tuple[float, float], count: int) -> list[float]:
    """Ratios of ``count`` lesions in random order; every third of them is 0."""
    gone = round(count / 3)
    return [
        float(r) for r in random.permutation([*_even_ratios(random, limits, count - gone), *[0.0] * gone])
    ]


def small_ratios(seed: int) -> Iterator[float]:
    count = sum(len(tissues) for source in SOURCES for tissues in source.small)
    return iter(_with_vanished(np.random.default_rng([seed, 100]), RATIOS, count))


def tumour_ratios(source: HeldOutCt, random: Random) -> list[float]:
    return _with_vanished(random, source.ratios, len(source.small))


def read_volume(path: Path) -> Volume:
    """Read an image of identity direction."""
    image = sitk.ReadImage(str(path))
    if not np.allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-5):
        raise ValueError(f"{path}: its axes are turned; expected the identity as direction")
    array = sitk.GetArrayFromImage(image)
    spacing, origin = ([round(v, 4) for v in values] for values in (image.GetSpacing(), image.GetOrigin()))
    return Volume(array, Grid(array.shape, (spacing[0], spacing[1], spacing[2]), tuple(origin)))


def _write_volume(array: npt.NDArray[np.generic], grid: Grid, path: Path) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing_xyz)
    image.SetOrigin(grid.origin_xyz)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _anatomy(real: Path, source: HeldOutCt, seed: Sequence[int]) -> _Anatomy:
    ct, mask = read_volume(real / source.ct), read_volume(real / source.labels).array > 0
    clean = without_lesion(ct, mask, source.around, np.random.default_rng(seed))
    return _Anatomy(
        source=source,
        ct=ct,
        mask=mask,
        clean=clean,
        calm=smoothed(clean.array, ct.grid, 1.5),
        body=_body(np.asarray(ct.array), ct.grid),
        noise_hu=noise_of(np.asarray(ct.array), ct.grid),
    )


def _body(hu: npt.NDArray[np.generic], grid: Grid) -> Bools:
    """The largest part of tissue, without the couch, with its cavities filled slice by slice."""
    tissue = smoothed(hu, grid, 1.0) > -300
    calm = ndimage.binary_opening(tissue, iterations=2)
    parts, count = ndimage.label(calm)
    if not count:
        return tissue
    body = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.asarray([ndimage.binary_fill_holes(part) for part in body])


def _planned(
    anatomy: _Anatomy, random: Random, tumour_ratio: float, ratios: Sequence[float], pair: int
) -> list[_Planned]:
    """The lesions of a pair: the real one, painted ones, and in every other pair a new one."""
    shape = MaskShape.of(anatomy.mask, anatomy.ct.grid, random)
    inside = _inside(anatomy)
    tissue = "lung" if anatomy.source.around == (LUNG,) else "soft tissue"
    volume = float(anatomy.mask.sum() * anatomy.ct.grid.voxel_ml)
    look = Look((0, 0), mottle_hu=4, noise_hu=anatomy.noise_hu, inside=inside)
    planned = [_Planned(TUMOUR, tissue, shape, look, volume, tumour_ratio)]
    wanted = [(tissue, ratio, False) for tissue, ratio in zip(_tissues(anatomy, pair), ratios, strict=True)]
    if pair % 2:
        wanted.append((str(random.choice(_tissues(anatomy, pair))), 1.0, True))
    for tissue, ratio, is_new in wanted:
        least = LEAST_MM * min(ratio, 1.0) ** (-1 / 3) if ratio else SMALL_MM[0]
        diameter = float(random.uniform(max(SMALL_MM[0], least), SMALL_MM[1]))
        centre, diameter = _place(anatomy, planned, tissue, diameter, random)
        blob = Blob.draw(random, centre, diameter)
        ml = np.pi * diameter**3 / 6000
        look = _look(anatomy, tissue, centre, random)
        planned.append(_Planned(len(planned) + 1, tissue, blob, look, float(ml), ratio, is_new))
    return planned


def _tissues(anatomy: _Anatomy, pair: int) -> tuple[str, ...]:
    return anatomy.source.small[pair - 1]


def _inside(anatomy: _Anatomy) -> Volume:
    """The HU of the lesion, smoothed within it and continued outside of it."""
    grid, core = anatomy.ct.grid, ndimage.binary_erosion(anatomy.mask)
    weight = smoothed(core, grid, 2.0)
    mean = smoothed(np.where(core, anatomy.ct.array, 0), grid, 2.0) / np.maximum(weight, 1e-6)
    _, nearest = ndimage.distance_transform_edt(~core, grid.spacing_zyx, return_indices=True)
    return Volume(mean[tuple(nearest)], grid)


def _place(
    anatomy: _Anatomy, others: Sequence[_Planned], tissue: str, diameter: float, random: Random
) -> tuple[Floats, float]:
    """A centre within a tissue, clear of other lesions and of the border, and the diameter of the lesion."""
    grid, (depth, inner) = anatomy.ct.grid, anatomy.depth(tissue)
    for needed in (1.0, 0.7, 0.45, 0.25):
        index = np.argwhere(inner & (depth >= max(2.0, needed * diameter / 2)))
        places = index[:, ::-1] * np.asarray(grid.spacing_xyz) + np.asarray(grid.origin_xyz)
        gap = others[0].shape.distance(places, 1.0)
        places = places[gap > 8 + diameter / 2]
        for other in others[1:]:
            far = np.linalg.norm(places - other.shape.centre_xyz, axis=-1)
            places = places[far > diameter / 2 + other.shape.reach_mm + 10]
        if len(places):
            return np.asarray(places[random.integers(len(places))]), diameter
    raise ValueError(f"{anatomy.source.name}: no place for a lesion of {diameter:.1f} mm in {tissue}")


def _room(anatomy: _Anatomy, tissue: str) -> tuple[Floats, Bools]:
    grid, (low, high) = anatomy.ct.grid, _TISSUES[tissue]
    where = (anatomy.calm >= low) & (anatomy.calm < high) & (anatomy.body | (tissue == "lung"))
    depth = np.asarray(ndimage.distance_transform_edt(where, grid.spacing_zyx))
    inner, boxed = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    margin = [int(np.ceil(20 / s)) for s in grid.spacing_zyx]
    inner[tuple(slice(m, n - m) for m, n in zip(margin, grid.shape, strict=True))] = True
    if tissue not in anatomy.source.within:
        return depth, inner
    x0, x1, y0, y1, z0, z1 = anatomy.source.within[tissue]
    boxed[z0:z1, y0:y1, x0:x1] = True
    return depth, inner & boxed


def _look(anatomy: _Anatomy, tissue: str, centre_xyz: Floats, random: Random) -> Look:
    """HU that differ from those of the tissue at the place."""
    here = float(Volume(anatomy.calm, anatomy.ct.grid).at(centre_xyz[None], 1)[0])
    draw = random.uniform
    if tissue == "lung":
        middle = draw(-20, 60) if random.random() < 0.8 else draw(-480, -350)
    elif tissue == "fat":
        middle = draw(10, 70)
    elif tissue == "bone":
        middle = draw(20, 70) if random.random() < 0.6 else here + draw(350, 600)
    elif random.random() < 0.5:
        middle = here + draw(35, 70)
    else:
        middle = here - draw(35, 60)
    rim = middle + draw(20, 40) if tissue != "lung" and random.random() < 0.3 else middle
    return Look((middle, rim), 2.0 * (rim != middle), mottle_hu=float(draw(3, 9)), noise_hu=anatomy.noise_hu)


def _write_pair(
    anatomy: _Anatomy, lesions: Sequence[_Planned], folder: Path, random: Random
) -> list[dict[str, object]]:
    """Render both scans of a pair; one row of the truth for each lesion."""
    before = anatomy.ct.grid
    hu = np.asarray(anatomy.ct.array, np.float64).copy()
    labels = (anatomy.mask * TUMOUR).astype(np.uint16)
    painter = Painter(before, Motion.none())
    for lesion in lesions[1:]:
        if not lesion.is_new:
            size = painter.fitted(lesion.shape, lesion.baseline_ml, 1.5)
            painter.paint(hu, labels, Lesion(lesion.label, lesion.shape, size, lesion.look), random)
    _write_volume(np.clip(np.rint(hu), -1024, 3071).astype(np.int16), before, folder / "baseline.mha")
    _write_volume(labels, before, folder / "baseline-labels.mha")
    motion, after, seen, found = _followup(anatomy, lesions, labels, random)
    _write_volume(seen, after, folder / "followup.mha")
    _write_volume(found, after, folder / "followup-labels.mha")
    return [
        _truth_row(anatomy, one, folder.name, (before, labels), (after, found), motion) for one in lesions
    ]


def _followup(
    anatomy: _Anatomy, lesions: Sequence[_Planned], before: npt.NDArray[np.uint16], random: Random
) -> tuple[Motion, Grid, npt.NDArray[np.int16], npt.NDArray[np.uint16]]:
    motion = Motion.draw(random, anatomy.ct.grid)
    grid = _followup_grid(anatomy, motion, random)
    hu = anatomy.clean.at(motion.to_source(grid.points()), 3)
    found = np.zeros(grid.shape, np.uint16)
    room = anatomy.body & (anatomy.calm > -400) & (anatomy.calm < 180)
    for lesion in lesions:
        if not lesion.ratio:
            continue
        is_tumour = lesion.label == TUMOUR and lesion.tissue != "lung"
        painter = Painter(grid, motion, Volume(room, anatomy.ct.grid) if is_tumour else None)
        was_ml = float((before == lesion.label).sum() * anatomy.ct.grid.voxel_ml)
        target_ml = lesion.baseline_ml if lesion.is_new else was_ml * lesion.ratio
        shape = lesion.shape.changed(random) if isinstance(lesion.shape, Blob) else lesion.shape
        size = painter.fitted(shape, target_ml, 1.4 * max(lesion.ratio, 0.3) ** (1 / 3))
        painter.paint(hu, found, Lesion(lesion.label, shape, size, lesion.look), random)
    noise = (5.0, 25.0) if anatomy.noise_hu < 15 else (5.0, 12.0)
    scanner = Scanner.draw(random, grid.spacing_xyz[2], noise)
    return motion, grid, scanner.scan(hu, grid, random), found


def _followup_grid(anatomy: _Anatomy, motion: Motion, random: Random) -> Grid:
    """Another grid, that follows the rigid movement and shows a little less than the baseline."""
    source, (low, high) = anatomy.source, anatomy.ct.grid.corners_xyz
    spacing = np.round([*[random.uniform(*source.spacing_xy)] * 2, random.choice(source.spacing_z)], 2)
    cut = np.asarray((6.0, 6.0, 4.0))
    corner = low + cut + motion.shift_xyz + random.uniform(-3, 3, 3)
    x, y, z = ((high - low - 2 * cut) / spacing).astype(int) + 1
    a, b, c = (round(float(v), 2) for v in corner)
    return Grid(
        (int(z), int(y), int(x)), (float(spacing[0]), float(spacing[1]), float(spacing[2])), (a, b, c)
    )


Labelled = tuple[Grid, npt.NDArray[np.uint16]]


def _truth_row(
    anatomy: _Anatomy, lesion: _Planned, pair: str, before: Labelled, after: Labelled, motion: Motion
) -> dict[str, object]:
    """A row with the columns of `train synthesize`, and tissue and size class."""
    was, now = _centre_and_ml(*before, lesion.label), _centre_and_ml(*after, lesion.label)
    if (now is None) != (lesion.ratio == 0) or (was is None) != lesion.is_new:
        raise ValueError(f"{pair}: lesion {lesion.label} has no voxels; try another seed")
    row: dict[str, object] = {
        "patient": anatomy.source.patient,
        "baseline": f"{pair}-baseline",
        "followup": f"{pair}-followup",
        "fate": NEW if was is None else VANISHED if now is None else PRESENT,
        "tissue": lesion.tissue,
        "size": "large" if (was or now or ((), 0.0))[1] > LARGE_ML else "small",
    }
    if was is not None:
        moved = motion.to_followup(_world(before[0], was[0])[None])[0]
        row |= {"baseline_id": lesion.label, "cog_bl": _text(was[0]), "baseline_ml": f"{was[1]:.4f}"}
        row |= {"cog_propagated": _text(np.asarray(after[0].index(moved))[::-1])}
        row |= {"target_ratio": f"{lesion.ratio:.4f}"}
    if now is not None:
        row |= {"followup_ids": lesion.label, "cog_fu": _text(now[0]), "followup_ml": f"{now[1]:.4f}"}
    if was is not None:
        row["achieved_ratio"] = f"{(now[1] if now else 0.0) / was[1]:.4f}"
    return row


def _centre_and_ml(grid: Grid, labels: npt.NDArray[np.uint16], label: int) -> tuple[Floats, float] | None:
    """Centre of a lesion as voxel index x, y, z, and its volume; None without voxels."""
    voxels = np.argwhere(labels == label)
    return (voxels.mean(axis=0)[::-1], len(voxels) * grid.voxel_ml) if len(voxels) else None


def _world(grid: Grid, index_xyz: Floats) -> Floats:
    return np.asarray(index_xyz * np.asarray(grid.spacing_xyz) + np.asarray(grid.origin_xyz))


def _text(values: Floats) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _manifest_rows(source: HeldOutCt, pair: str, order: int) -> Iterator[dict[str, object]]:
    for number, (timepoint, baseline) in enumerate((("baseline", "-"), ("followup", f"{pair}-baseline"))):
        yield {
            "patient": source.patient,
            "timepoint": f"{pair}-{timepoint}",
            "image": f"{pair}/{timepoint}.mha",
            "labels": f"{pair}/{timepoint}-labels.mha",
            "order": order + number,
            "baseline": baseline,
            "points": f"{pair}/{POINTS_FILE}" if number else "",
        }


def _write_points(folder: Path, truth: Sequence[Mapping[str, object]]) -> None:
    """The baseline's lesions as an affine registration propagates them: what the manifest names."""
    clicks = {
        int(str(row["baseline_id"])): [float(value) for value in str(row["cog_bl"]).split()]
        for row in truth
        if row["fate"] != NEW
    }
    points = located(folder / "baseline.mha", folder / "followup.mha", clicks, "affine")
    listed = [{"name": str(label), "point": list(point)} for label, point in points.items()]
    document = {
        "name": "Points of interest",
        "type": "Multiple points",
        "points": listed,
        "version": {"major": 1, "minor": 0},
    }
    (folder / POINTS_FILE).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
