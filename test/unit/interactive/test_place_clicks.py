"""Clicks outside of the scan, and clicks of both kinds at one place."""

from __future__ import annotations

from model.case.geometry import Geometry
from model.case.tumor_clicks import ClickKind, TumorClick
from model.interactive.place_clicks import contradictions, place_clicks, unusual_counts
from test.helpers.golden_pet_ct import GoldenPetCt

TUMOR, BACKGROUND = ClickKind.TUMOR, ClickKind.BACKGROUND
GRID = Geometry((10, 20, 30), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0))


def test_clicks_up_to_5_mm_outside_are_moved_and_others_left_out() -> None:
    clicks = [
        TumorClick(TUMOR, (30.0, 4.25, 5.0)),  # 1.5 mm
        TumorClick(BACKGROUND, (12.0, 19.4, -3.0)),  # 5.0 mm
        TumorClick(TUMOR, (12.0, 10.0, -3.1)),
        TumorClick(TUMOR, (29.4, 0.0, 9.0)),  # in the border voxel
        TumorClick(BACKGROUND, (900.0, 0.0, 9.0)),
    ]
    placed, notes = place_clicks(clicks, GRID)
    assert placed == (
        TumorClick(TUMOR, (29.0, 4.25, 5.0)),
        TumorClick(BACKGROUND, (12.0, 19.0, 0.0)),
        clicks[3],
    )
    assert [note.split(";")[1] for note in notes] == [
        " it is moved to the border",
        " it is moved to the border",
        " it is left out",
        " it is left out",
    ]
    assert notes[0].startswith("tumor click 1 of the list lies 1.5 mm outside")


def test_the_golden_clicks_outside() -> None:
    case = GoldenPetCt("p8_clicks_outside")
    placed, notes = place_clicks(case.clicks, case.geometry)
    assert len(notes) == 4
    assert [click.point_zyx[::-1] for click in placed] == [
        (38, 22, 44),
        (46, 23, 24),
        (26, 14, 57),
        (53, 22, 24),
    ]


def test_both_kinds_at_one_place_give_a_warning() -> None:
    case = GoldenPetCt("p5_thick_slices_small_z")
    clicks = (*case.clicks, TumorClick(TUMOR, (3, 4, 5)), TumorClick(BACKGROUND, (3, 4.1, 5)))
    assert contradictions(case.clicks, case.grid) == []
    (note,) = contradictions(clicks, case.grid)
    assert "[5, 4, 3]" in note and "\n" not in note


def test_more_clicks_than_in_training_give_a_warning() -> None:
    clicks = [TumorClick(TUMOR, (5.0, 5.0, 0.05 + 0.1 * number)) for number in range(500)]
    few = [TumorClick(BACKGROUND, (1.0, 1.0, 1.0))] * 10
    (note,) = unusual_counts([*clicks, *few])
    assert note.startswith("500 tumor clicks: ") and "scribbles" in note and "\n" not in note
    assert unusual_counts(few) == []
    placed, notes = place_clicks(clicks, GRID)
    assert len(placed) == 120  # the border is at 9.5, and 5 mm further at 12
    assert len(notes) == 25 + 380
