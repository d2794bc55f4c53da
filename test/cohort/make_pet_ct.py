"""List the PET/CT cohort: `python -m test.cohort.make_pet_ct REAL_DIR -o DIR`; README.md says what it is.

REAL_DIR holds the sarcoma studies (`sts_ibsi`) as README.md lists them. Writes `cohort.csv`, the studies to
train on, and `test.csv`, those of the patients who are held back, both as `train prepare` reads them.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .make import SOURCES, TEST_PATIENTS

_COLUMNS = ("patient", "timepoint", "image", "pet", "labels")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="test.cohort.make_pet_ct", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("real", type=Path, metavar="REAL_DIR", help="where the real studies lie")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args(argv)
    list_studies(arguments.real, arguments.output)
    return 0


def list_studies(real: Path, output: Path) -> None:
    """Write the manifests; the studies themselves stay where they are."""
    patients = [source.patient for source in SOURCES if source.patient.startswith("STS_")]
    output.mkdir(parents=True, exist_ok=True)
    for name, is_test in (("cohort", False), ("test", True)):
        with (output / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            for patient in patients:
                if (patient in TEST_PATIENTS) == is_test:
                    writer.writerow(_row(real / "sts_ibsi" / patient, output))


def _row(folder: Path, output: Path) -> dict[str, str]:
    files = {"image": "CT_image.nii.gz", "pet": "PET_image.nii.gz", "labels": "CT_mask.nii.gz"}
    start = output.resolve()
    paths = {column: os.path.relpath((folder / name).resolve(), start) for column, name in files.items()}
    return {"patient": folder.name, "timepoint": "petct", **paths}


if __name__ == "__main__":
    sys.exit(main())
