"""The floor of the demonstration cohort's figures: the baseline mask pasted at the follow-up point."""

from __future__ import annotations

import numpy as np

from model.case.case import LesionPrompt, PointSource, PromptPoint, Scan
from model.inference.user_segmenter import SegmentRequest
from test.cohort.measure import pasted_mask


def _scan(shape: tuple[int, int, int], spacing_zyx: tuple[float, float, float], mask: np.ndarray) -> Scan:
    return Scan.from_array(np.zeros(shape, np.int16), spacing_zyx, mask=mask)


def _pasted(lesion_id: int) -> np.ndarray:
    """A box of 4 x 4 x 4 mm round (8, 8, 8) mm, followed to (12, 20, 16) mm in a scan of 2 x 1 x 1 mm."""
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[6:11, 6:11, 6:11] = 3
    baseline = _scan((20, 20, 20), (1.0, 1.0, 1.0), mask)
    followup = _scan((15, 30, 30), (2.0, 1.0, 1.0), np.zeros((15, 30, 30), np.uint8))
    prompt = LesionPrompt(
        lesion_id=lesion_id,
        baseline=baseline,
        baseline_point=PromptPoint((8.0, 8.0, 8.0), PointSource.GIVEN),
        followup=followup,
        followup_point=PromptPoint((6.0, 20.0, 16.0), PointSource.GIVEN),
        has_mask=lesion_id == 3,
    )
    return pasted_mask(SegmentRequest(prompt)) > 0.5


def test_the_mask_moves_to_the_point_in_millimetres() -> None:
    expected = np.zeros((15, 30, 30), bool)
    expected[5:8, 18:23, 14:19] = True
    assert np.array_equal(_pasted(3), expected)


def test_a_lesion_without_a_mask_is_pasted_as_nothing() -> None:
    assert not _pasted(4).any()
