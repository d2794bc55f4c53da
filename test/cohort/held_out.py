"""Measure weights on held-out cohorts, beside what needs no network: `python -m test.cohort.held_out`.

For large (> 10 ml) and small lesions, at true clicks, at clicks 3 to 5 mm off, and at points of step 1:
overlap, what drawn volumes say about true ones, and whether vanished lesions are drawn empty. Predictions are
those of `segment` with its defaults, but that boosting at points of step 1 moves baseline points by offsets
in mm. They are kept in the output folder by the hashes of weights and code, as are the points of step 1 and
warped masks; the same call goes on where it was interrupted, other weights use the same folder.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from model.case.geometry import Vector
from model.case.raw_lesion import RawLesion
from model.crossval.floor_records import floor_records
from model.crossval.pairs import EvaluationPair, data_set_pairs
from model.crossval.point_setting import PointSetting
from model.crossval.predict import predict_pairs
from model.crossval.prediction_store import new_manifest, pair_digest
from model.crossval.scores import read_pair_records
from model.evaluation.records import LesionRecord, read_records, write_records
from model.floor.floors import ALL_FLOORS, Floor
from model.network.plan import Plan, read_plan

from .held_out_scores import by_group, held_out_score, is_large, lesions_of, paired_dice, with_lost
from .located import located

log = logging.getLogger(__name__)

GIVEN, DISPLACED, STEP_1 = "given", "displaced", "step1"
SETTINGS = (GIVEN, DISPLACED, STEP_1)
NETWORK = "network"
CLICK_ERROR_MM = (3.0, 5.0)
CODE = ("case", "network", "prompts", "inference", "crossval")
"""Rooms whose code decides what is predicted at a point."""
POINTS_CODE = ("case", "propagation", "propagation/register", "inference")
"""Rooms whose code decides where step 1 finds a lesion, and how the warped floor draws it."""


@dataclass(frozen=True)
class HeldOutCohort:
    """A cohort: its name, its manifest's folder, and its pairs with true clicks in the follow-up."""

    name: str
    pairs: tuple[EvaluationPair, ...]


@dataclass(frozen=True)
class Part:
    """What one call measures; ``backend`` is the registration of step 1 and of the warped floor."""

    settings: tuple[str, ...]
    backend: str
    folds: tuple[int, ...]
    floors: tuple[Floor, ...]


def read_cohort(manifest: Path, patients: Sequence[str], surveys: Path) -> HeldOutCohort:
    """Read the pairs of a manifest; the lesions.csv beside it has the true places, of vanished ones too.

    Lesions without a place there, and those that have left the scan, are left out.
    """
    true_points: dict[tuple[str, str, int], Vector] = {}
    with (manifest.parent / "lesions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            place = row["cog_fu"] or row["cog_propagated"]
            if row["baseline_id"] and place and row["fate"] != "out-of-view":
                x, y, z = map(float, place.split())
                key = (row["patient"], f"{row['patient']}_{row['followup']}", int(row["baseline_id"]))
                true_points[key] = (x, y, z)
    pairs = []
    for pair in data_set_pairs(manifest, surveys=surveys):
        if patients and pair.patient_id not in patients:
            continue
        lesions = [
            replace(lesion, followup_point_xyz=true_points[key], propagated_point_xyz=None)
            for lesion in pair.lesions
            if (key := (pair.patient_id, pair.followup.scan_id, lesion.lesion_id)) in true_points
        ]
        pairs.append(replace(pair, lesions=tuple(lesions)))
    return HeldOutCohort(manifest.parent.name, tuple(pairs))


def at_setting(
    pair: EvaluationPair, setting: str, part: Part, points: Path
) -> tuple[EvaluationPair, PointSetting]:
    """A pair with the follow-up points of a setting."""
    if setting == GIVEN:
        return pair, PointSetting("given")
    if setting == DISPLACED:
        lesions = tuple(_displaced(pair, lesion) for lesion in pair.lesions)
        return replace(pair, lesions=lesions), PointSetting("given")
    found = _step_1_points(pair, part.backend, points)
    lesions = tuple(
        replace(lesion, followup_point_xyz=None, propagated_point_xyz=found[lesion.lesion_id])
        for lesion in pair.lesions
        if lesion.lesion_id in found
    )
    for lesion in pair.lesions:
        if lesion.lesion_id not in found:
            log.warning("%s: step 1 loses lesion %d: nothing is drawn", pair.name, lesion.lesion_id)
    return replace(pair, lesions=lesions), PointSetting("propagated")


def _displaced(pair: EvaluationPair, lesion: RawLesion) -> RawLesion:
    """The lesion with its click moved by 3 to 5 mm in a random direction; it stays in the scan."""
    random = np.random.default_rng([7, zlib.crc32(pair.name.encode()), lesion.lesion_id])
    header = sitk.ImageFileReader()
    header.SetFileName(str(pair.followup.image))
    header.ReadImageInformation()
    direction = random.standard_normal(3)
    step_mm = direction / np.linalg.norm(direction) * random.uniform(*CLICK_ERROR_MM)
    moved = np.asarray(lesion.followup_point_xyz) + step_mm / np.asarray(header.GetSpacing())
    x, y, z = (float(v) for v in np.clip(moved, 0, np.asarray(header.GetSize()) - 1))
    return replace(lesion, followup_point_xyz=(x, y, z))


def _step_1_points(pair: EvaluationPair, backend: str, folder: Path) -> dict[int, Vector]:
    """Points of a pair by registration, kept in a file by the lesions' places."""
    clicks = {
        lesion.lesion_id: lesion.baseline_point_xyz
        for lesion in pair.lesions
        if lesion.baseline_point_xyz is not None
    }
    places = hashlib.sha256(repr(sorted(clicks.items())).encode()).hexdigest()[:8]
    name = f"{pair.name}-{places}-{_files_digest(pair)}-{_code_digest(POINTS_CODE)}.json"
    path = folder / _file_name(backend) / name
    if not path.exists():
        found = located(pair.baseline.image, pair.followup.image, clicks, backend)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({str(lesion): point for lesion, point in found.items()}))
        log.info("%s: located by %s", pair.name, backend)
    return {int(lesion): (p[0], p[1], p[2]) for lesion, p in json.loads(path.read_text()).items()}


def measured(
    cohort: HeldOutCohort, weights: Path, part: Part, output: Path
) -> Iterator[tuple[str, dict[str, Sequence[LesionRecord]]]]:
    """Predict a cohort by the network and by the floors: setting, and records by method."""
    plan = read_plan(weights / "plans.json")
    given: dict[str, Sequence[LesionRecord]] = {}
    for setting in sorted(part.settings, key=SETTINGS.index):
        placed = [at_setting(pair, setting, part, output / "points" / cohort.name) for pair in cohort.pairs]
        pairs, points = [pair for pair, _ in placed], placed[0][1]
        named = f"{setting}-{part.backend}" if setting == STEP_1 else setting
        folder = output / "predicted" / cohort.name / _key(weights, part.folds, points) / named
        predict_pairs(pairs, weights, part.folds, [(points, folder)], "cpu")
        records: dict[str, Sequence[LesionRecord]] = {NETWORK: read_pair_records(pairs, folder)}
        for floor in part.floors:
            # Warped masks depend on no follow-up point: those of the given points serve all settings.
            own, where = (cohort.pairs, PointSetting("given")) if floor is Floor.WARPED else (pairs, points)
            folder = output / "floors" / cohort.name
            records[floor] = _floor_records(floor, own, where, plan, part.backend, folder)
        if setting == GIVEN:
            given = records
        elif setting == STEP_1:
            records = {name: with_lost(own, given[name]) for name, own in records.items()}
        yield named, records


def _key(weights: Path, folds: Sequence[int], points: PointSetting) -> str:
    """Hash of the weights and of the code that predicts with them."""
    manifest = new_manifest(points, weights, folds)
    digest = hashlib.sha256(repr((sorted(manifest.weights.items()), tuple(folds))).encode())
    return f"{digest.hexdigest()[:10]}-{_code_digest(CODE)}"


def _code_digest(rooms: Sequence[str]) -> str:
    """Hash of the modules of rooms."""
    package = Path(__file__).parents[2] / "model"
    code = hashlib.sha256()
    for path in sorted(path for room in rooms for path in (package / room).glob("*.py")):
        code.update(path.read_bytes())
    return code.hexdigest()[:6]


def _floor_records(
    floor: Floor,
    pairs: Sequence[EvaluationPair],
    points: PointSetting,
    plan: Plan,
    backend: str,
    folder: Path,
) -> list[LesionRecord]:
    """Measure a floor; the records of a pair are kept by its points, its files and the floor's version."""
    records: list[LesionRecord] = []
    name = str(floor)
    if floor is Floor.WARPED:
        name += f"-{_file_name(backend)}-{_code_digest((*POINTS_CODE, 'floor'))}"
    if floor.version != "1":  # files of the first version do not name it
        name += f"-{floor.version}"
    for pair in pairs:
        path = folder / f"{pair.name}-{name}-{pair_digest(pair)[:12]}-{_files_digest(pair)}.csv"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            measured_pair = floor_records([pair], [points], plan, [floor], backend)
            write_records(path, measured_pair[floor, points])
        records += read_records(path)
    return records


def _files_digest(pair: EvaluationPair) -> str:
    """Hash of the sizes and times of a pair's files."""
    files = [(path.stat().st_size, path.stat().st_mtime_ns) for path in pair.files]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:8]


def _file_name(backend: str) -> str:
    return backend.replace(":", "_").replace("/", "_")


def table(
    cohort: str, by_setting: Mapping[str, Mapping[str, Sequence[LesionRecord]]]
) -> list[dict[str, object]]:
    """A row for each size of lesions, setting of points and method."""
    rows = []
    for size in ("large", "small"):
        given: Mapping[str, Sequence[LesionRecord]] = {}
        for setting, records in by_setting.items():
            own = by_group(records, lambda r, size=size: is_large(r) == (size == "large"))  # type: ignore[misc]
            given = own if setting == GIVEN else given
            for method, lesions in own.items():
                if not lesions:
                    continue
                row: dict[str, object] = {
                    "cohort": cohort, "size": size, "points": setting, "method": method,
                }  # fmt: skip
                row |= asdict(held_out_score(lesions))
                if method == NETWORK:
                    for floor in [name for name in own if name != NETWORK]:
                        row |= _difference(f"above_{floor}", lesions, own[floor])
                    if given and setting != GIVEN:
                        row |= _difference("above_given", lesions, given[NETWORK])
                rows.append(row)
    return rows


def _difference(
    name: str, these: Sequence[LesionRecord], others: Sequence[LesionRecord]
) -> dict[str, object]:
    return {
        name if key == "mean" else f"{name}_{key}": value
        for key, value in asdict(paired_dice(these, others)).items()
    }


def lesion_rows(
    cohort: str, by_setting: Mapping[str, Mapping[str, Sequence[LesionRecord]]]
) -> Iterator[dict[str, object]]:
    """A row for each lesion, setting and method."""
    for setting, records in by_setting.items():
        for method, own in records.items():
            for one in lesions_of(own):
                overlap = one.reference_voxels + one.prediction_voxels
                yield {
                    "cohort": cohort, "patient": one.patient, "scan": one.scan, "lesion": one.lesion,
                    "points": setting, "method": method, "baseline_ml": one.baseline_ml,
                    "true_ml": one.reference_ml, "drawn_ml": one.prediction_ml,
                    "dice": 2 * one.common_voxels / overlap if one.reference_voxels else "",
                }  # fmt: skip


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print the figures that matter, a line for each row."""
    names = ("dice", "log_slope", "drawn_over_true", "sensitivity", "specificity", "false_ml")
    print(f"{'cohort size points method':48s} present+vanished  " + "  ".join(names) + "  above ...")
    for row in rows:
        head = f"{row['cohort']} {row['size']} {row['points']} {row['method']}"
        figures = "  ".join(f"{row[name]:{len(name)}.3f}" for name in names)
        print(f"{head:48s} {row['present']:7d}+{row['vanished']:<8d}  {figures}{_above(row)}")


def _above(row: Mapping[str, object]) -> str:
    """The differences of a row with their intervals over lesions and over patients."""
    names = [name for name in (*(f"above_{floor}" for floor in ALL_FLOORS), "above_given") if name in row]
    return "".join(
        f"  {name[6:]} {row[name]:+.3f} "
        f"l[{row[f'{name}_lesions_low']:+.3f} {row[f'{name}_lesions_high']:+.3f}] "
        f"p[{row[f'{name}_patients_low']:+.3f} {row[f'{name}_patients_high']:+.3f}]"
        for name in names
    )


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as CSV; figures have four decimals."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="test.cohort.held_out", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("manifests", nargs="+", type=Path, metavar="CSV", help="with a lesions.csv beside it")
    parser.add_argument("--weights", type=Path, default=Path("resources/weights"), metavar="DIR")
    parser.add_argument("--name", help="of the tables (default: that of the folder of the weights)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument(
        "--backend", default="affine", help="registration of step 1 and of the warped floor (default: affine)"
    )
    parser.add_argument("--floors", nargs="*", choices=ALL_FLOORS, default=list(ALL_FLOORS))
    parser.add_argument("--folds", nargs="+", type=int, default=[0, 1, 2, 3, 4], metavar="N")
    parser.add_argument("--patients", nargs="+", default=[], metavar="NAME", help="only these")
    arguments = parser.parse_args(argv)
    if STEP_1 in arguments.settings and GIVEN not in arguments.settings:
        parser.error("--settings step1: needs given, too, which lists the lesions that step 1 may lose")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    for name in ("model.inference.locate", "model.crossval.pairs"):  # clicks without masks, new lesions
        logging.getLogger(name).setLevel(logging.ERROR)
    floors = tuple(map(Floor, arguments.floors))
    part = Part(tuple(arguments.settings), arguments.backend, tuple(arguments.folds), floors)
    rows: list[dict[str, object]] = []
    lesions: list[dict[str, object]] = []
    for manifest in arguments.manifests:
        cohort = read_cohort(manifest, arguments.patients, arguments.output / "surveys")
        by_setting = dict(measured(cohort, arguments.weights, part, arguments.output))
        rows += table(cohort.name, by_setting)
        lesions += lesion_rows(cohort.name, by_setting)
    name = arguments.name or arguments.weights.resolve().name
    write_rows(arguments.output / f"{name}.csv", rows)
    write_rows(arguments.output / f"{name}-lesions.csv", lesions)
    print_table(rows)
    if STEP_1 in part.settings:
        print("step1: baseline points are moved by offsets in mm; `segment` moves them by the registration")
    return 0


if __name__ == "__main__":
    sys.exit(main())
