"""The result does not depend on how a case is stored, where it lies, and what its lesions are called.

docs/reliability.md says what a mirrored patient changes, and how far.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.case.case import Slot
from model.case.challenge import discover, read_case
from model.case.geometry import AxisMap
from model.inference.case_result import CaseResult
from model.inference.load import LoadedModel
from model.inference.options import CaseOptions
from model.inference.segment_case import segment_case

from .patient import Patient, Storage, Voxels, patient


def labels(result: CaseResult) -> Voxels:
    return result.labelmaps[Slot.PRIMARY]


def test_the_patient_has_something_to_lose(expected: CaseResult, setting: str) -> None:
    sizes = np.bincount(labels(expected).ravel(), minlength=4)[1:]
    assert len(sizes) == 3 and sizes.min() > 50 and sizes.max() < labels(expected).size / 10
    sources = {lesion.prompt.followup_point.source for lesion in expected.lesions}
    assert len(sources) == (1 if setting == "given points" else 2)


@pytest.mark.parametrize("order", [(0, 2, 1), (2, 0, 1)])  # test_orientation.py has them all
def test_permuted_axes(
    order: tuple[int, int, int],
    unchanged: Patient,
    expected: CaseResult,
    model: LoadedModel,
    options: CaseOptions,
) -> None:
    axes = AxisMap(order)
    result = unchanged.stored(axes).segmented(model, options)
    assert np.array_equal(axes.inverse().array(labels(result)), labels(expected))


def test_another_place_in_the_world(
    unchanged: Patient, expected: CaseResult, model: LoadedModel, options: CaseOptions
) -> None:
    result = unchanged.translated((123.4, -56.7, 801.3)).segmented(model, options)
    assert np.array_equal(labels(result), labels(expected))


def test_other_ids(
    unchanged: Patient, expected: CaseResult, model: LoadedModel, options: CaseOptions
) -> None:
    ids = {1: 300, 2: 7, 3: 65_535}
    found = labels(unchanged.renumbered(ids).segmented(model, options))
    wanted = labels(expected)
    assert {new: np.count_nonzero(found == new) for new in ids.values()} == {
        new: np.count_nonzero(wanted == old) for old, new in ids.items()
    }
    assert all(np.array_equal(found == new, wanted == old) for old, new in ids.items())


def test_another_order_of_clicks(
    unchanged: Patient, expected: CaseResult, model: LoadedModel, options: CaseOptions
) -> None:
    reordered = unchanged.reordered()
    assert list(reordered.baseline_clicks) != list(unchanged.baseline_clicks)
    assert np.array_equal(labels(reordered.segmented(model, options)), labels(expected))


@pytest.mark.parametrize("taken", [1, 3])
def test_a_lesion_less_leaves_the_others(
    taken: int, unchanged: Patient, expected: CaseResult, model: LoadedModel, options: CaseOptions
) -> None:
    """Its own voxels may go to a lesion that claimed them, too; nothing else changes."""
    result = unchanged.without(taken).segmented(model, options)
    before = {lesion.prompt.lesion_id: lesion for lesion in expected.lesions}
    assert {lesion.prompt.lesion_id for lesion in result.lesions} == {1, 2, 3} - {taken}
    for lesion in result.lesions:
        same = before[lesion.prompt.lesion_id]
        assert lesion.box == same.box and np.array_equal(lesion.probability, same.probability)
    elsewhere = labels(expected) != taken
    assert np.array_equal(labels(result)[elsewhere], labels(expected)[elsewhere])


STORAGES = [
    Storage(".mha"),
    Storage(".mha", "float32", is_compressed=False),
    Storage(".mhd", "int32"),
    Storage(".nii", "float64"),
    Storage(".nii.gz"),
    Storage(".nrrd", "float32"),
    Storage(".nrrd", "int64", is_compressed=False),
]


@pytest.mark.parametrize("storage", STORAGES, ids=lambda s: f"{s.dtype}{s.suffix}-{s.is_compressed}")
def test_another_format(
    storage: Storage, tmp_path: Path, model: LoadedModel, given: tuple[CaseOptions, CaseResult]
) -> None:
    options, expected = given
    case = read_case(discover(patient().write(tmp_path / "case", storage)))
    assert not case.warnings
    assert np.array_equal(labels(segment_case(case, model, options)), labels(expected))
