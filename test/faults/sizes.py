"""Cases of extreme size: many lesions, many slices, one voxel, a lesion that fills its scan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from ..helpers.cases_on_disk import CaseOnDisk
from .children import run_child
from .commands import faults_of_streams
from .report import Trial

Shape = tuple[int, int, int]
WriteCase = Callable[[CaseOnDisk], tuple[Shape, range]]
"""Writes a case; returns the shape (z, y, x) of its follow-up, and the range of lesion ids."""


def odd_sizes(folder: Path) -> Iterator[Trial]:
    """Segment cases of extreme size; each has to end with a labelmap on its follow-up's grid."""
    for number, (name, write) in enumerate(_CASES.items()):
        place = folder / str(number)
        case = CaseOnDisk(place / "case")
        shape, ids = write(case)
        arguments = ["segment", "--input", str(case.folder), "--output", str(place / "output")]
        ended = run_child([*arguments, "--device", "cpu", "--folds", "0"], place / "logs")
        found = faults_of_streams(ended)
        if ended.code:
            found.append(f"exit code {ended.code}: {ended.stderr[-300:]}")
        else:
            (path,) = (place / "output").rglob("*.mha")
            labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
            if labels.shape != shape or not set(np.unique(labels)) <= {0, *ids}:
                found.append(f"a labelmap of shape {labels.shape} with {len(np.unique(labels))} values")
        yield Trial(f"segment: {name}, {ended.seconds:.0f} s, exit code {ended.code}", tuple(found))


def write_case(
    case: CaseOnDisk, baseline: npt.NDArray[np.uint16], followup: Shape, lesion_hu: float = 100
) -> tuple[Shape, range]:
    """Write a case from the labelmap of its baseline; lesions are clicked there at a voxel of theirs.

    Args:
        case: its folder.
        baseline: lesion ids, uint16 (z, y, x).
        followup: shape of the follow-up (z, y, x), whose lesions are propagated by their clicks if they fit.
        lesion_hu: HU of the lesions above their surroundings.

    Returns:
        The follow-up's shape, and the range of ids.
    """
    count = int(baseline.max())
    points = {}
    for lesion_id in range(1, count + 1):
        voxels = np.argwhere(baseline == lesion_id)
        points[lesion_id] = voxels[len(voxels) // 2][::-1].astype(float).tolist()
    rng = np.random.default_rng(0)
    hu = rng.normal(0, 10, baseline.shape) + lesion_hu * (baseline > 0)
    case.image("primary-baseline-ct", hu.astype(np.int16))
    case.image("primary-baseline-ct-tumor-lesion-seg", baseline)
    case.image("primary-followup-ct", rng.normal(0, 10, followup).astype(np.int16))
    inside = {
        key: [min(value, size - 1) for value, size in zip(point, followup[::-1], strict=True)]
        for key, point in points.items()
    }
    case.clicks("primary", "baseline", points)
    case.clicks("primary", "followup", inside)
    return followup, range(1, count + 1)


def _blocks(shape: Shape, edge: int, count: int) -> npt.NDArray[np.uint16]:
    """Cubes of lesions side by side, with a gap of one voxel."""
    labels = np.zeros(shape, np.uint16)
    starts = [range(1, size - edge, edge + 1) for size in shape]
    places = ((z, y, x) for z in starts[0] for y in starts[1] for x in starts[2])
    for lesion_id, (z, y, x) in zip(range(1, count + 1), places, strict=False):
        labels[z : z + edge, y : y + edge, x : x + edge] = lesion_id
    return labels


def two_hundred_lesions(case: CaseOnDisk) -> tuple[Shape, range]:
    return write_case(case, _blocks((40, 60, 60), 5, 200), (40, 60, 60))


def three_thousand_slices(case: CaseOnDisk) -> tuple[Shape, range]:
    return write_case(case, _blocks((3000, 24, 24), 8, 2), (3000, 24, 24))


def one_voxel(case: CaseOnDisk) -> tuple[Shape, range]:
    return write_case(case, np.ones((1, 1, 1), np.uint16), (1, 1, 1))


def a_followup_of_one_voxel(case: CaseOnDisk) -> tuple[Shape, range]:
    return write_case(case, _blocks((20, 20, 20), 8, 1), (1, 1, 1))


def a_lesion_that_fills_its_scan(case: CaseOnDisk) -> tuple[Shape, range]:
    return write_case(case, np.ones((30, 40, 40), np.uint16), (30, 40, 40))


def a_followup_smaller_than_the_patch(case: CaseOnDisk) -> tuple[Shape, range]:
    return write_case(case, _blocks((40, 60, 60), 8, 2), (9, 11, 13))


_CASES: dict[str, WriteCase] = {
    "200 lesions": two_hundred_lesions,
    "3000 slices": three_thousand_slices,
    "one voxel": one_voxel,
    "a follow-up of one voxel": a_followup_of_one_voxel,
    "a lesion that fills its scan": a_lesion_that_fills_its_scan,
    "a follow-up smaller than the patch": a_followup_smaller_than_the_patch,
}
