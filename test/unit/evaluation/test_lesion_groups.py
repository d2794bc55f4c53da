"""Lesions of the challenge that merged and split: scored as one, and linked as training links them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from model.data.checks import check_cohort
from model.data.formats.challenge_release import read_challenge
from model.data.scan_survey import SurveyJob, survey_scan
from model.evaluation.lesion_groups import lesion_groups
from model.evaluation.lesion_map import MappedLesion
from model.evaluation.lesion_map_files import read_lesion_map
from model.evaluation.records import LesionRecord, Scope, read_records

from ...helpers.data_sets import Lesions, write_challenge
from ...helpers.evaluation_cases import Block, block, command, write

Rows = list[tuple[str, str, str]]
"""Lesion, baseline point, follow-up point."""

SPLIT: Rows = [("1", "9 8 5", "5 5 4"), ("2", "9 8 5", "18 15 9")]
SMALL, LARGE = block(1), block(2, z=8, width=8)  # 16 and 32 voxels


def _evaluated(
    folder: Path, capsys: pytest.CaptureFixture[str], rows: Rows, *files: tuple[Block, ...]
) -> tuple[list[LesionRecord], list[str]]:
    """Records of single lesions, and warnings. ``files``: reference, prediction and, if given, baseline."""
    with (folder / "0123456789.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["lesion_id", "img_id_bl", "img_id_fu", "cog_bl", "cog_fu", "cog_propagated"])
        writer.writerows((lesion, 0, 0, before, after, "") for lesion, before, after in rows)
    options = ("--reference", "--prediction", "--baseline")[: len(files)]
    names = ("FU_mask_FU", "FU_mask_FU", "BL_mask_BL")
    given: list[str | Path] = ["--lesion-map", folder, "--json", "-o", folder / "out"]
    for option, name, blocks in zip(options, names, files, strict=False):
        write(folder / option / f"0123456789_{name}_img_00.nii.gz", *blocks)
        given += [option, folder / option]
    command(*given)
    records = [r for r in read_records(folder / "out/lesions.csv") if r.scope is Scope.LESION]
    return records, json.loads(capsys.readouterr().out)["warnings"]


def _dice(record: LesionRecord) -> float:
    return 2 * record.common_voxels / (record.reference_voxels + record.prediction_voxels)


@pytest.mark.parametrize(
    ("predicted", "dice"),
    [
        ((SMALL, block(1, z=8, width=8)), 1.0),  # both parts, as what became of lesion 1
        ((SMALL, LARGE), 1.0),
        ((block(2), block(2, z=8, width=8)), 1.0),
        ((SMALL,), 2 * 16 / (48 + 16)),
        ((block(1, z=8, width=8),), 2 * 32 / (48 + 32)),
        ((LARGE,), 2 * 32 / (48 + 32)),
        ((), 0.0),
    ],
)
@pytest.mark.parametrize("held", [None, 1, 2])
def test_a_lesion_that_has_split_is_scored_as_one(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    predicted: tuple[Block, ...],
    dice: float,
    held: int | None,
) -> None:
    """Its name is the id that the baseline holds, else the lowest; 32 voxels of 5 mm³ in the baseline."""
    before = () if held is None else ((block(held, depth=4),),)
    (record,), warnings = _evaluated(tmp_path, capsys, SPLIT, (SMALL, LARGE), predicted, *before)
    assert _dice(record) == pytest.approx(dice) and not warnings
    assert (record.lesion, record.baseline_ids) == (str(held or 1), (held or 1,))
    assert record.reference_ids == (1, 2) and record.existed
    assert record.baseline_ml == (None if held is None else pytest.approx(0.16))


def test_a_split_lesion_whose_part_merged_with_another_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lesion 1 became 1 and a part that merged into 2: all is one lesion, of which 3 is not a part."""
    rows = [*SPLIT, ("4", "3 3 3", "18 15 9"), ("3", "18 15 9", "3 3 3")]
    third = block(3, z=5, y=8)
    before = (block(1), block(4, z=8), third)
    predicted = (SMALL, block(4, z=8, width=4), third)
    records, warnings = _evaluated(tmp_path, capsys, rows, (SMALL, LARGE, third), predicted, before)
    one, other = sorted(records, key=lambda record: record.lesion)
    assert (one.lesion, other.lesion) == ("1+4", "3") and not warnings
    assert one.baseline_ids == (1, 4) and one.baseline_ml == pytest.approx(0.16)
    assert _dice(one) == pytest.approx(2 * 32 / (48 + 32)) and _dice(other) == 1.0


def test_a_split_lesion_vanishes_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("1", "9 8 5", ""), ("2", "9 8 5", "")]
    (record,), warnings = _evaluated(tmp_path, capsys, rows, (), (), (SMALL,))
    assert record.existed and record.reference_voxels == 0 and not warnings


def test_a_split_part_that_the_reference_lacks_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (record,), (warning,) = _evaluated(tmp_path, capsys, SPLIT, (SMALL,), (SMALL,), (SMALL,))
    assert _dice(record) == 1.0 and "lacks labels that the lesion map lists (2)" in warning


@pytest.mark.parametrize(
    "row", ["2,0,1,9 8 5,18 15 9", "2,1,0,9 8 5,18 15 9", "2,0,0,,18 15 9", "2,0,0,[nan nan nan],18 15 9"]
)
def test_parts_are_of_one_pair_of_scans_and_have_a_centre(tmp_path: Path, row: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"lesion_id,img_id_bl,img_id_fu,cog_bl,cog_fu\n1,0,0,9 8 5,5 5 4\n{row}\n")
    lesions = read_lesion_map(path).patients[0].lesions
    assert [lesion.split_ids for lesion in lesions] == [(), ()]
    assert [lesion.followup_ids for lesion in lesions] == [(1,), (2,)]
    assert lesions[1].baseline_ids == ((2,) if "9 8 5" in row else ())


def test_split_ids_are_not_those_of_another_pair_of_scans() -> None:
    """Lesions of two baselines have the same ids: lesion 2 of the other baseline is not a part here."""
    mapped = (
        MappedLesion((1,), (1,), "0", "0", split_ids=(2,)),
        MappedLesion((2,), (2,), "0", "0", split_ids=(1,)),
        MappedLesion((2,), (9,), "1", "0"),
    )
    groups = lesion_groups(mapped, {1, 2, 9}, {1, 2}, {1})
    assert [(g.name, g.reference_ids) for g in groups] == [("1", (1, 2)), ("2", (9,))]


# --- agreement with training -------------------------------------------------------------------------

A, B, C, D = ((4, 5, 5), 1), ((9, 15, 18), 1), ((4, 16, 20), 1), ((9, 5, 14), 1)


@pytest.mark.parametrize(
    ("rows", "before", "after", "expected"),
    [
        (SPLIT, {1: A}, {1: A, 2: B}, [("1", {1, 2})]),
        (SPLIT, {2: A}, {1: A, 2: B}, [("2", {1, 2})]),
        # Both are lesions of the baseline, in each other's middle: two, not one that has split.
        (SPLIT, {1: A, 2: D}, {1: A, 2: B}, [("1", {1}), ("2", {2})]),
        ([*SPLIT, ("3", "9 8 5", "2 2 2")], {1: A, 2: D}, {1: A, 2: B, 3: C}, [("1+2", {1, 2, 3})]),
        ([*SPLIT, ("3", "9 8 5", "2 2 2")], {3: A}, {1: A, 2: B, 3: C}, [("3", {1, 2, 3})]),
        ([("1", "9 8 5", "5 5 4"), ("2", "4 4 4", "5 5 4")], {1: A, 2: B}, {2: A}, [("1+2", {2})]),
        # A part of 1 merged with 3 into the mask of 3, then of 2.
        ([*SPLIT, ("3", "7 7 7", "18 15 9")], {1: A, 3: B}, {1: A, 3: B}, [("1+3", {1, 3})]),
        ([*SPLIT, ("3", "7 7 7", "18 15 9")], {1: A, 3: B}, {1: A, 2: B}, [("1+3", {1, 2})]),
        # Two have split, and a part of each has merged.
        (
            [*SPLIT, ("3", "7 7 7", "18 15 9"), ("4", "7 7 7", "2 2 2")],
            {1: A, 3: B},
            {1: A, 2: B, 4: C},
            [("1+3", {1, 2, 4})],
        ),
        ([("1", "9 8 5", ""), ("2", "9 8 5", "")], {1: A}, {}, [("1", set())]),
        ([("1", "9 8 5", ""), ("2", "9 8 5", "5 5 4")], {1: A}, {2: A}, [("1", {2})]),
        ([*SPLIT, ("3", "2 2 2", "")], {1: A, 3: B}, {1: A, 2: B, 3: C}, [("1", {1, 2}), ("3", {3})]),
    ],
)
def test_the_lesion_map_links_the_same_lesions_as_training(
    tmp_path: Path, rows: Rows, before: Lesions, after: Lesions, expected: list[tuple[str, set[int]]]
) -> None:
    """Training drops lesions that contradict the labelmaps; in these releases none do."""
    columns = ("lesion_id", "cog_bl", "cog_fu", "cog_propagated")
    of_table = [dict(zip(columns, (*row, "9 8 5"), strict=True)) for row in rows]
    write_challenge(tmp_path, "p", of_table, before, after)
    cohort = read_challenge(tmp_path)
    surveys = {s.scan_id: survey_scan(SurveyJob(s, tmp_path / s.scan_id, 0)) for s in cohort.scans}
    checked = check_cohort(cohort, surveys)
    assert not checked.faults
    trained = tuple(MappedLesion((m.lesion_id,), m.followup_ids) for m in checked.cohort.lesions)
    mapped = read_lesion_map(tmp_path).lesions_of("p_FU_mask_FU_img_00")
    linked, evaluated = (
        [(g.name, g.baseline_ids, set(g.reference_ids) & after.keys()) for g in groups]
        for groups in (lesion_groups(m, after.keys(), {1}, before.keys()) for m in (trained, mapped))
    )
    assert evaluated == linked and [(name, ids) for name, _, ids in linked] == expected
