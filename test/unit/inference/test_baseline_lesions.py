"""Baseline lesions without a mask: prompts, labelmaps, and the mask that the follow-up gets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

import model as ll
from model.case.case import LesionPrompt, PointSource, PromptPoint
from model.inference.baseline_lesions import baseline_prompts, missing_mask_warnings

SHAPE, SPACING, VOXEL_ML = (12, 20, 20), (2.0, 1.0, 1.0), 0.002
POINTS = {7: (6, 10, 6), 8: (6, 10, 13)}
FOLLOWUP = 60  # HU of the follow-up's background: tells the scans apart
Function = Callable[[ll.SegmentRequest], npt.NDArray[np.bool_]]


def _ball(lesion_id: int) -> npt.NDArray[np.bool_]:
    z, y, x = POINTS[lesion_id]
    grid = np.indices(SHAPE)
    return np.asarray((grid[0] - z) ** 2 * 4 + (grid[1] - y) ** 2 + (grid[2] - x) ** 2 < 10)


def _scan(*clicked: int, background: int = 30, mask: npt.NDArray[np.uint8] | None = None) -> ll.Scan:
    hu = np.full(SHAPE, background, np.int16)
    for lesion_id in POINTS:
        hu[_ball(lesion_id)] = 150
    return ll.Scan.from_array(hu, SPACING, mask=mask, clicks={i: POINTS[i] for i in clicked})


def _is_baseline(request: ll.SegmentRequest) -> bool:
    return bool(request.image.min() < FOLLOWUP)


def _segment(
    baseline: ll.Scan, followup: ll.Scan, function: Function | None = None, on_request: bool = True
) -> tuple[ll.Segmentation, list[ll.SegmentRequest]]:
    """The result, and the requests in their order."""
    requests = []

    def recorded(request: ll.SegmentRequest) -> npt.NDArray[np.bool_]:
        requests.append(request)
        return _ball(request.lesion_id) if function is None else function(request)

    return ll.segment(recorded, baseline, followup, segment_baseline=on_request), requests


def test_the_baseline_is_segmented_first_and_becomes_the_mask() -> None:
    result, requests = _segment(_scan(7, 8), _scan(7, 8, background=FOLLOWUP))
    assert [(r.lesion_id, _is_baseline(r)) for r in requests] == [
        (7, True),
        (8, True),
        (7, False),
        (8, False),
    ]
    for request in requests[:2]:
        prompt = request.prompt
        assert prompt.followup is prompt.baseline and prompt.followup_point == prompt.baseline_point
        assert request.baseline_mask is None and not prompt.is_new
        assert request.point_zyx == POINTS[request.lesion_id]
    for request in requests[2:]:
        assert request.baseline_mask is not None
        assert np.array_equal(request.baseline_mask, _ball(request.lesion_id))
    own = result.baseline
    assert own is not None and own.name == "baseline" and own.spacing_zyx == SPACING
    assert np.array_equal(own.mask(7), _ball(7)) and np.array_equal(own.mask(8), _ball(8))
    for lesion_id, lesion in own.lesions.items():
        assert (lesion.status, lesion.point_zyx) == ("segmented", POINTS[lesion_id])
        assert lesion.volume_ml == pytest.approx(_ball(lesion_id).sum() * VOXEL_ML)
        assert result.lesions[lesion_id].baseline_volume_ml == lesion.volume_ml


def test_only_on_request_with_a_function() -> None:
    result, requests = _segment(_scan(7), _scan(7, background=FOLLOWUP), on_request=False)
    assert [_is_baseline(request) for request in requests] == [False]
    assert result.baseline is None and result.lesions[7].baseline_volume_ml is None


def test_a_given_mask_keeps_its_voxels() -> None:
    given = _ball(8) * np.uint8(8)
    wide = _ball(7) | _ball(8)
    result, requests = _segment(
        _scan(7, 8, mask=given), _scan(7, 8, background=FOLLOWUP), lambda request: wide
    )
    assert [request.lesion_id for request in requests if _is_baseline(request)] == [7]
    assert result.baseline is not None and np.array_equal(result.baseline.labelmap, _ball(7) * np.uint8(7))
    masks = {r.lesion_id: r.baseline_mask for r in requests if not _is_baseline(r)}
    for lesion_id, mask in masks.items():
        assert mask is not None and np.array_equal(mask, _ball(lesion_id))
    assert result.lesions[8].baseline_volume_ml == pytest.approx(_ball(8).sum() * VOXEL_ML)


def test_a_lesion_without_a_voxel_or_with_an_error_stays_without_a_mask() -> None:
    def function(request: ll.SegmentRequest) -> npt.NDArray[np.bool_]:
        if _is_baseline(request) and request.lesion_id == 8:
            raise ValueError("no such lesion")
        return _ball(request.lesion_id) & (not _is_baseline(request))

    result, requests = _segment(_scan(7, 8), _scan(7, 8, background=FOLLOWUP), function)
    assert all(request.baseline_mask is None for request in requests)
    assert [result.lesions[i].status for i in (7, 8)] == ["segmented", "segmented"]
    assert [result.lesions[i].baseline_volume_ml for i in (7, 8)] == [0, None]
    assert result.baseline is not None
    assert [result.baseline.lesions[i].status for i in (7, 8)] == ["empty", "failed"]
    empty, failed = result.baseline.warnings
    assert empty == "lesion 7 in primary-baseline: no voxel was found at its click"
    assert failed.startswith("lesion 8 in primary-baseline: could not be segmented: ")
    assert "no such lesion" in failed and {empty, failed} <= set(result.warnings)


def test_a_lesion_that_no_scan_shows_has_not_vanished(caplog: pytest.LogCaptureFixture) -> None:
    result, _ = _segment(
        _scan(7), _scan(7, background=FOLLOWUP), lambda request: np.zeros(SHAPE, bool), on_request=True
    )
    message = result.lesions[7].message
    assert result.lesions[7].status == "empty" and message is not None
    assert message == "no voxel was found in the baseline either: it has not been seen in any scan"
    assert message in caplog.text
    result, _ = _segment(_scan(7), _scan(7, background=FOLLOWUP), lambda r: _ball(7) & _is_baseline(r))
    assert result.lesions[7].status == "empty" and result.lesions[7].message is None


def test_a_lesion_of_the_follow_up_alone_is_not_segmented_in_the_baseline() -> None:
    result, requests = _segment(_scan(7), _scan(7, 8, background=FOLLOWUP))
    assert [request.lesion_id for request in requests if _is_baseline(request)] == [7]
    assert result.lesions[8].baseline_volume_ml is None


def test_one_prompt_for_a_lesion_in_two_follow_up_scans() -> None:
    baseline, point = _scan(7), PromptPoint(POINTS[7], PointSource.GIVEN)
    prompts = [LesionPrompt(7, baseline, point, _scan(7), point, has_mask=False) for _ in range(2)]
    (own,) = baseline_prompts(prompts)
    assert own.followup is baseline and not own.has_mask
    (warning,) = missing_mask_warnings(prompts)
    assert warning.endswith("segmented without it: 7")
