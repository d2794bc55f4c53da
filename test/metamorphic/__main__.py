"""How far the shipped weights' result depends on the way in which a patient is stored.

Usage: ``python -m test.metamorphic``. Each line compares the follow-up's labelmap of the sample case, mapped
back, with that of the case as it is.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from model.case.case import Case, Scan, Slot
from model.case.challenge import discover, read_case
from model.case.geometry import AxisMap, Vector
from model.inference.load import load_model
from model.inference.options import CaseOptions, ModelOptions
from model.inference.segment_case import segment_case

from ..helpers.paths import SAMPLE
from .patient import Patient, Storage, Voxels

_OPTIONS = CaseOptions(boost="none")


def sample_patient() -> Patient:
    """The sample case as arrays in the axes of its files."""
    case = read_case(discover(SAMPLE / "input"))
    (first,), (second,) = case.baseline.scans, case.followup.scans
    assert first.mask is not None
    return Patient(
        _in_file(first, first.ct),
        _in_file(first, first.mask),
        _in_file(second, second.ct),
        first.file_geometry,
        second.file_geometry,
        _clicks(first),
        _clicks(second),
    )


def _in_file(scan: Scan, array: Voxels) -> Voxels:
    return scan.axes.inverse().array(array)


def _clicks(scan: Scan) -> dict[int, Vector]:
    back, shape = scan.axes.inverse(), scan.geometry.shape_zyx
    return {click.lesion_id: back.point(click.point_zyx, shape) for click in scan.clicks}


def _compare(name: str, found: Voxels, expected: Voxels) -> None:
    common = np.count_nonzero(found & expected)
    dice = 2 * common / (np.count_nonzero(found) + np.count_nonzero(expected))
    print(f"| {name} | {np.count_nonzero(found != expected)} | {dice:.4f} |", flush=True)


def main() -> None:
    """Print the table."""
    patient = sample_patient()
    print("| change | voxels that differ | Dice |\n|---|---|---|")
    for view in (False, True):
        model = load_model(None, ModelOptions(device="cpu", tta=view))

        def segmented(case: Case) -> Voxels:
            return segment_case(case, model, _OPTIONS).labelmaps[Slot.PRIMARY] > 0  # noqa: B023

        plain = segmented(patient.case())
        for z, y, x in product((False, True), repeat=3):
            axes = AxisMap(flipped=(z, y, x))
            found = axes.inverse().array(segmented(patient.stored(axes).case()))
            mirrored = (
                ", ".join(name for name, flip in zip("zyx", axes.flipped, strict=True) if flip) or "nothing"
            )
            _compare(f"mirrored along {mirrored}{' (--tta)' if view else ''}", found, plain)
        if not view:
            _compare("moved", segmented(patient.translated((123.4, -56.7, 801.3)).case()), plain)
            with TemporaryDirectory() as folder:
                stored = patient.write(Path(folder) / "case", Storage(".nii.gz"))
                _compare("stored as .nii.gz", segmented(read_case(discover(stored))), plain)


if __name__ == "__main__":
    main()
