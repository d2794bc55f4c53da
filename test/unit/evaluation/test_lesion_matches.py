"""Lesions that a prediction finds, on masks that can be counted by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from model.evaluation.lesion_matches import LesionMatches, match_lesions


def _line(*spans: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """A row of voxels of which some spans are true."""
    line = np.zeros((1, 1, 60), bool)
    for start, stop in spans:
        line[..., start:stop] = True
    return line


def test_a_lesion_is_found_from_a_tenth_of_the_union_on() -> None:
    reference = _line((0, 10))
    assert match_lesions(reference, _line((9, 10))) == LesionMatches(1, 0, 0)  # 1 of 10
    assert match_lesions(reference, _line((9, 11))) == LesionMatches(0, 1, 1)  # 1 of 11
    assert match_lesions(reference, _line((0, 30))) == LesionMatches(1, 0, 0)
    assert match_lesions(reference, _line((0, 10)), least_iou=1.0) == LesionMatches(1, 0, 0)


def test_several_matches_are_no_fault() -> None:
    split = match_lesions(_line((0, 10)), _line((0, 4), (6, 10), (20, 22)))
    assert split == LesionMatches(1, 0, 1) and split.f1 == pytest.approx(2 / 3)
    joined = match_lesions(_line((0, 4), (6, 10), (30, 33)), _line((0, 10)))
    assert joined == LesionMatches(2, 1, 0) and joined.f1 == 0.8


def test_empty_masks() -> None:
    assert match_lesions(_line(), _line()) == LesionMatches(0, 0, 0)
    assert match_lesions(_line(), _line()).f1 is None
    assert match_lesions(_line(), _line((3, 4))).f1 is None
    assert match_lesions(_line((3, 4), (6, 7)), _line()) == LesionMatches(0, 2, 0)
    assert match_lesions(_line((3, 4)), _line()).f1 == 0


def test_voxels_that_share_an_edge_are_one_lesion_and_those_that_share_a_corner_are_two() -> None:
    edge, corner = np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    edge[0, 0, 0] = edge[0, 1, 1] = corner[0, 0, 0] = corner[1, 1, 1] = True
    assert match_lesions(edge, edge).found == 1
    assert match_lesions(corner, corner).found == 2
