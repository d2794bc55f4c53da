"""Make the cohort: `python -m test.cohort.make REAL_DIR -o DIR`; README.md in this folder says what it is.

REAL_DIR holds the CTs of `SOURCES` as README.md here lists them. Small lesions are put into those CTs that
have few or none, every scan gets a follow-up, and the follow-ups are registered. All of it by commands of
the project, which keep what is there: the same call goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "sample"
SAMPLE_PATIENT = "LIDC-IDRI-0314"

SEEDING_SEED, FOLLOWUP_SEED, PRETRAINING_SEED = 11, 1, 2
BASELINES_PER_SEEDED_CT = 3
FOLLOWUPS_FOR_PRETRAINING = 3

# Seeding: new lesions alone; nothing moves, nothing is made noisier. A sphere of 3 mm radius has 0.1 ml, one
# of 9 mm has 3 ml.
SEEDING = (
    "events.new_mean=14",
    "events.new_max=16",
    "events.p_new_copied=0",
    "events.new_radius_mm=3,9",
    "events.p_vanish=0",
    "events.p_split=0",
    "growth.growth_ratio=1,1",
    "growth.shrinkage_ratio=1,1",
    "motion.p_elastic=0",
    "motion.p_rotation=0",
    "motion.p_scaling=0",
    "motion.p_translation=0",
    "appearance.p_noise=0",
    "appearance.p_blur=0",
    "appearance.p_brightness=0",
    "appearance.p_contrast=0",
)

# Held back from everything but the comparison of the ensemble with its folds: small, middling and large.
TEST_PATIENTS = ("STS_025", "STS_003", "STS_028")
_STS = (
    "001",
    "002",
    "003",
    "004",
    "005",
    "006",
    "008",
    "010",
    "012",
    "014",
    "015",
    "018",
    "019",
    "022",
    "023",
    "024",
    "025",
    "026",
    "028",
    "029",
    "031",
    "032",
    "033",
)


@dataclass(frozen=True, slots=True)
class RealCt:
    """A real CT. Without ``labels``, or with ``is_seeded``, small lesions are put into it."""

    patient: str
    ct: str
    labels: str | None
    is_seeded: bool


SOURCES = (
    *(
        RealCt(f"STS_{n}", f"sts_ibsi/STS_{n}/CT_image.nii.gz", f"sts_ibsi/STS_{n}/CT_mask.nii.gz", False)
        for n in _STS
    ),
    RealCt("CRLM-CT-1006", "crlm/CRLM-CT-1006_ct_half.nii.gz", None, True),
    RealCt(
        "4DCT", "opentps_4dct/phase00_ct_2mm.nii.gz", "opentps_4dct/phase00_2mm_lesion_semiauto.nii.gz", True
    ),
    RealCt("ELASTIX", "elastix_lung/derived_followup_unwarped.mha", None, True),
    RealCt("TOTALSEG", "totalsegmentator/example_ct.nii.gz", None, True),
)

Row = dict[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="test.cohort.make", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("real", type=Path, metavar="REAL_DIR", help="where the real CTs lie")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="scans at once (default: 2)")
    arguments = parser.parse_args(argv)
    make(arguments.real, arguments.output, arguments.workers)
    return 0


def make(real: Path, output: Path, workers: int) -> None:
    """All files of the cohort: `cohort.csv`, `pretraining/manifest.csv`, `test.csv`, `sources.csv`."""
    output.mkdir(parents=True, exist_ok=True)
    _write_sources(real, output)
    baselines = [row for source in SOURCES for row in _baselines(real, output, source, workers)]
    groups = {
        "test": [row for row in baselines if row["patient"] in TEST_PATIENTS],
        "cohort": [row for row in baselines if row["patient"] not in TEST_PATIENTS],
    }
    for name, rows in groups.items():
        followups = output / f"{name}-followups"
        _write_rows(output / f"{name}-baselines.csv", output, rows)
        _synthesize(output / f"{name}-baselines.csv", followups, FOLLOWUP_SEED, 1, workers)
        registered = list(_registered(followups, output / "registered", workers))
        if name == "test":
            registered += _sample(output / "registered")
        _write_rows(output / f"{name}.csv", output, registered)
    _synthesize(
        output / "cohort-baselines.csv",
        output / "pretraining",
        PRETRAINING_SEED,
        FOLLOWUPS_FOR_PRETRAINING,
        workers,
    )


def _write_sources(real: Path, output: Path) -> None:
    """Every file that anything here was made from, with its checksum."""
    with (output / "sources.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("patient", "file", "sha256"))
        for source in SOURCES:
            for name in filter(None, (source.ct, source.labels)):
                digest = hashlib.sha256((real / name).read_bytes()).hexdigest()
                writer.writerow((source.patient, name, digest))


def _baselines(real: Path, output: Path, source: RealCt, workers: int) -> Iterator[Row]:
    """A patient's scans with lesions, each the first of its own pair."""
    ct, labels = (real / source.ct).resolve(), (real / source.labels).resolve() if source.labels else None
    if not source.is_seeded:
        assert labels is not None
        yield _row(source.patient, "baseline", ct, labels)
        return
    if labels is None:
        labels = _empty_labelmap(ct, output / "empty" / f"{source.patient}.nii.gz")
    seeded = output / "seeded" / source.patient
    _model(
        "train",
        "synthesize",
        "--ct",
        ct,
        "--labels",
        labels,
        "-o",
        seeded,
        "--seed",
        SEEDING_SEED,
        "--count",
        BASELINES_PER_SEEDED_CT,
        "--workers",
        workers,
        *(part for one in SEEDING for part in ("--set", one)),
    )
    for number, folder in enumerate(sorted(seeded.glob("*/followup-*")), 1):
        yield _row(source.patient, f"baseline-{number}", folder / "ct.mha", folder / "labels.mha")


def _row(patient: str, timepoint: str, ct: Path, labels: Path) -> Row:
    """A scan that follows none, as baselines of one patient do not follow one another."""
    files = {"image": str(ct), "labels": str(labels)}
    return {"patient": patient, "timepoint": timepoint, **files, "baseline": "-"}


def _empty_labelmap(ct: Path, path: Path) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        image = sitk.ReadImage(str(ct))
        empty = sitk.Image(image.GetSize(), sitk.sitkUInt16)
        empty.CopyInformation(image)
        sitk.WriteImage(empty, str(path), True)
    return path


def _synthesize(manifest: Path, output: Path, seed: int, count: int, workers: int) -> None:
    _model(
        "train",
        "synthesize",
        "--manifest",
        manifest,
        "-o",
        output,
        "--seed",
        seed,
        "--count",
        count,
        "--workers",
        workers,
    )


def _registered(followups: Path, folder: Path, workers: int) -> Iterator[Row]:
    """The manifest's rows; follow-ups' points come from a registration, not from the true displacement."""
    rows = list(_read_rows(followups / "manifest.csv"))
    by_scan = {(row["patient"], row["timepoint"]): row for row in rows}
    points: dict[tuple[str, str], dict[str, list[float]]] = {}
    for lesion in csv.DictReader((followups / "lesions.csv").open(newline="")):
        if lesion["baseline_id"]:
            place = [float(value) for value in lesion["cog_bl"].split()]
            points.setdefault((lesion["patient"], lesion["baseline"]), {})[lesion["baseline_id"]] = place

    def register(row: Row) -> Row:
        if row["baseline"] == "-":
            return row
        baseline = (row["patient"], row["baseline"])
        clicks = folder / f"{'_'.join(baseline)}-clicks.json"
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_clicks(points.get(baseline, {})))
        if not clicks.exists() or clicks.read_text() != text:
            clicks.write_text(text)
        return _with_propagated(by_scan[baseline], row, clicks, folder)

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(register, rows)


def _with_propagated(baseline: Row, followup: Row, clicks: Path, folder: Path) -> Row:
    """A follow-up's row with the baseline's clicks propagated by registration."""
    points = folder / f"{followup['patient']}_{followup['timepoint']}.json"
    files = (Path(baseline["image"]), Path(followup["image"]), clicks)
    if not points.exists() or points.stat().st_mtime < max(file.stat().st_mtime for file in files):
        _model(
            "propagate",
            "--from",
            baseline["image"],
            "--to",
            followup["image"],
            "--points",
            clicks,
            "-o",
            points,
            "--backend",
            "affine",
            "--no-reverse",
        )
    return {**followup, "points": str(points)}


def _clicks(points: dict[str, list[float]]) -> dict[str, object]:
    listed = [{"name": name, "point": point} for name, point in points.items()]
    return {
        "name": "Points of interest",
        "type": "Multiple points",
        "points": listed,
        "version": {"major": 1, "minor": 0},
    }


def _sample(folder: Path) -> list[Row]:
    """The sample case, a pair of one real scan and its made follow-up."""
    images = SAMPLE / "input" / "images"
    baseline = _row(
        SAMPLE_PATIENT,
        "baseline",
        next((images / "primary-baseline-ct").glob("*.mha")),
        next((images / "primary-baseline-ct-tumor-lesion-seg").glob("*.mha")),
    )
    followup = _row(
        SAMPLE_PATIENT,
        "followup",
        next((images / "primary-followup-ct").glob("*.mha")),
        next((SAMPLE / "truth").glob("*.mha")),
    )
    clicks = SAMPLE / "input" / "primary-baseline-lesion-clicks.json"
    return [baseline, _with_propagated(baseline, {**followup, "baseline": "baseline"}, clicks, folder)]


_COLUMNS = ("patient", "timepoint", "image", "labels", "order", "baseline", "links", "points")


def _read_rows(manifest: Path) -> Iterator[Row]:
    """Rows with whole paths."""
    with manifest.open(newline="") as file:
        for row in csv.DictReader(file):
            files = {name: str((manifest.parent / row[name]).resolve()) for name in _FILES if row[name]}
            yield {**row, **files}


_FILES = ("image", "labels", "points")


def _write_rows(manifest: Path, folder: Path, rows: Sequence[Row]) -> None:
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            files = {name: os.path.relpath(row[name], folder) for name in _FILES if row.get(name)}
            writer.writerow({**row, **files})


def _model(*arguments: object) -> None:
    """A command of the project."""
    command = [sys.executable, "-m", "model", *map(str, arguments)]
    subprocess.run(command, cwd=HERE.parents[1], check=True)


if __name__ == "__main__":
    sys.exit(main())
