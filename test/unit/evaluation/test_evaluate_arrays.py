"""Evaluation of arrays: hand-computed scores, definitions, and arguments that are refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import InputError, LongilesionError
from model.evaluation import surface
from model.evaluation.evaluate_arrays import evaluate_arrays
from model.evaluation.records import Scope, read_records

from ...helpers.evaluation_cases import GRID, block, command, labels, write

SPACING = GRID.spacing_zyx
"""Voxels of 2.5 x 2 x 1 mm, 0.005 ml."""

DIAGONAL_MM = float(np.linalg.norm((12 * 2.5, 16 * 2.0, 20 * 1.0)))


def test_scores_of_hand_made_lesions() -> None:
    """Lesion 1 of 16 voxels is found by half, lesion 300 is missed, 16 voxels of 65535 are false."""
    reference = labels(block(1), block(300, z=8))
    prediction = labels(block(1, x=4), block(65535, z=8, y=10))
    found = evaluate_arrays(reference, prediction, spacing_zyx=SPACING)
    assert found.definition == "challenge" and list(found.lesions) == [1, 300, 65535]
    one, missed, false = found.lesions.values()
    assert (one.dice, one.recall, one.precision) == (0.5, 0.5, 0.5)
    assert one.reference_ml == one.prediction_ml == pytest.approx(0.08)
    assert one.fn_volume_ml == one.fp_volume_ml == 0  # the components touch
    assert one.nsd_2mm == 1.0 and one.hd95_mm is not None and one.hd95_mm <= 2.0
    assert (missed.dice, missed.recall, missed.precision, missed.nsd_2mm) == (0, 0, 0, 0)
    assert missed.fn_volume_ml == pytest.approx(0.08) and missed.prediction_ml == 0
    assert missed.hd95_mm == missed.assd_mm == pytest.approx(DIAGONAL_MM)
    assert false.dice is None and false.hd95_mm is None and false.fp_volume_ml == pytest.approx(0.08)
    # 8 common voxels of 32 and of 32.
    assert found.foreground.dice == pytest.approx(0.25)
    assert found.foreground.fn_volume_ml == found.foreground.fp_volume_ml == pytest.approx(0.08)
    assert found.means["dice"] == pytest.approx(0.25)
    assert found.means["fp_volume_ml"] == pytest.approx((0 + 0 + 0.08) / 3)
    assert found.scores.last(Scope.SCAN).metrics[0].average.mean == pytest.approx(0.25)


def test_surface_distances_of_two_single_voxels() -> None:
    """Five mm apart along x: half of the elements of each are at 4 mm from the other's, half at 5 mm."""
    reference, prediction = np.zeros((2, 5, 5, 12), bool)
    reference[2, 2, 2] = prediction[2, 2, 7] = True
    (lesion,) = evaluate_arrays(reference, prediction, spacing_zyx=(1, 1, 1)).lesions.values()
    assert (lesion.hd95_mm, lesion.assd_mm, lesion.nsd_2mm) == pytest.approx((5.0, 4.5, 0.0))


def test_ids_of_lesions_do_not_matter_to_the_foreground() -> None:
    reference, prediction = labels(block(1), block(2, z=8)), labels(block(2), block(1, z=8))
    found = evaluate_arrays(reference, prediction, spacing_zyx=SPACING)
    assert found.foreground.dice == 1.0 and found.means["dice"] == 0
    assert [lesion.dice for lesion in found.lesions.values()] == [0, 0]


@pytest.mark.parametrize(
    ("definition", "expected"), [("challenge", None), ("longitudinal", None), ("tracking", 0.0)]
)
def test_the_definition_scores_false_lesions(definition: str, expected: float | None) -> None:
    empty, full = labels(), labels(block(3))
    found = evaluate_arrays(empty, full, spacing_zyx=SPACING, definition=definition)
    assert found.lesions[3].dice == expected and found.means["dice"] == expected


def test_empty_labelmaps_have_no_lesions() -> None:
    found = evaluate_arrays(labels(), labels(), spacing_zyx=SPACING)
    assert not found.lesions and found.means["dice"] is None and found.foreground.dice is None
    assert found.foreground.reference_ml == found.foreground.prediction_ml == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, ">u2", np.float32, np.float64])
def test_whole_numbers_of_any_type(dtype: Any) -> None:
    reference, prediction = labels(block(1), block(100, z=8)), labels(block(1, x=4), block(100, z=8, x=3))
    expected = evaluate_arrays(reference, prediction, spacing_zyx=SPACING)
    found = evaluate_arrays(reference.astype(dtype), prediction.astype(dtype)[:], spacing_zyx=SPACING)
    assert found.lesions == expected.lesions and found.records == expected.records


def test_arrays_give_the_records_of_their_files(tmp_path: Path) -> None:
    blocks = (block(1), block(300, z=8)), (block(1, x=4, width=6), block(300, z=9), block(4, y=10))
    paths = [
        write(tmp_path / name, *one) for name, one in zip(("reference.mha", "p.mha"), blocks, strict=True)
    ]
    command("--reference", paths[0], "--prediction", paths[1], "-o", tmp_path / "out")
    arrays = [labels(*one) for one in blocks]
    found = evaluate_arrays(*arrays, spacing_zyx=SPACING, definition="longitudinal").records
    of_files = read_records(tmp_path / "out" / "lesions.csv")
    for ours, theirs in zip(found, of_files, strict=True):
        names = set(ours.__dataclass_fields__) - {"patient", "scan"}
        assert {n: getattr(ours, n) for n in names} == {n: getattr(theirs, n) for n in names}


GOOD = np.zeros((2, 3, 4), np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"prediction": np.zeros((2, 3, 5), np.uint8)},
            r"prediction: has shape \(2, 3, 5\); expected that of",
        ),
        ({"reference": np.zeros((3, 4), np.uint8)}, r"reference: has shape \(3, 4\); expected \(z, y, x\)"),
        ({"prediction": np.zeros((0, 3, 4))}, r"prediction: has shape \(0, 3, 4\); expected"),
        ({"prediction": GOOD + 0.5}, "prediction: holds values that are not whole numbers"),
        ({"reference": np.full((2, 3, 4), np.nan)}, "reference: holds values that are not whole numbers"),
        ({"reference": GOOD.astype(int) - 1}, "reference: holds labels from -1 to -1; expected"),
        ({"reference": GOOD.astype(int) + 65_536}, "reference: holds labels from 65536"),
        ({"reference": GOOD.astype(complex)}, "reference: has values of type complex128; expected"),
        ({"reference": GOOD.astype(str)}, "reference: has values of type <U"),
        ({"spacing_zyx": (1, 1)}, r"spacing_zyx: is \(1, 1\); expected three numbers"),
        ({"spacing_zyx": 1.0}, "spacing_zyx: is 1.0; expected three numbers"),
        ({"spacing_zyx": ("a", 1, 1)}, "spacing_zyx: .*; expected three numbers"),
        ({"spacing_zyx": (1, 0, 1)}, r"spacing_zyx: is \(1, 0, 1\); expected three numbers above 0"),
        ({"spacing_zyx": (1, np.nan, 1)}, "spacing_zyx: .*; expected three numbers above 0"),
        ({"definition": "mine"}, "definition: is 'mine'; expected one of: challenge, longitudinal, tracking"),
    ],
)
def test_invalid_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"reference": GOOD, "prediction": GOOD, "spacing_zyx": (1, 1, 1)} | changes
    with pytest.raises(InputError, match=f"^{message}"):
        evaluate_arrays(**arguments)


def test_a_missing_scikit_image_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    surface._cell_areas.cache_clear()
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(LongilesionError, match=r"^scikit-image: .*pip install 'longilesion\[evaluate\]'"):
        evaluate_arrays(labels(block(1)), labels(block(1)), spacing_zyx=SPACING)
