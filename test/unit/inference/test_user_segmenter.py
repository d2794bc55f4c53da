"""User-written segmenters: contents of a request, and checks of the returned array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from model.case.case import LesionPrompt, LesionResult
from model.errors import InputError
from model.inference.segmenter import LesionFailure
from model.inference.user_segmenter import FunctionSegmenter, SegmentRequest

from ...helpers.tracking_phantoms import (
    SHAPE,
    SPACING_ZYX,
    cuboid,
    make_prompt,
    make_scan,
    volume_of,
    with_shapes,
)

LESION = ((4, 7), (5, 9), (6, 12))


def _segmented(function: Callable[[SegmentRequest], Any], lesion: LesionPrompt | None = None) -> Any:
    (result,) = FunctionSegmenter(function, "own").segment([lesion or make_prompt((5.0, 6.0, 8.0))])
    return result


def test_a_request_holds_image_point_box_and_masks() -> None:
    labels = (cuboid(*LESION) > 0).astype(np.uint16) * 300
    before = replace(make_scan(spacing_zyx=(2.0, 1.0, 1.0), name="baseline"), mask=labels)
    lesion = with_shapes(make_prompt((5.0, 6.5, 8.0), 300, baseline=before), cuboid(*LESION))
    request = SegmentRequest(lesion)
    assert request.lesion_id == 300 and np.shares_memory(request.image, lesion.followup.ct)
    assert not request.image.flags.writeable and lesion.followup.ct.flags.writeable
    assert request.point_zyx == (5.0, 6.5, 8.0) and request.baseline_point_zyx == (3.0, 4.0, 5.0)
    assert request.spacing_zyx == SPACING_ZYX and request.baseline_spacing_zyx == (2.0, 1.0, 1.0)
    assert np.shares_memory(request.baseline_image, before.ct)
    assert request.box is not None and request.box.bounds() == [list(side) for side in LESION]
    assert request.mask is not None and np.array_equal(request.mask, cuboid(*LESION) > 0)
    assert request.baseline_mask is not None and np.array_equal(request.baseline_mask, labels > 0)


def test_a_request_without_box_and_masks() -> None:
    request = SegmentRequest(make_prompt((5.0, 6.0, 8.0)))
    assert request.box is None and request.mask is None and request.baseline_mask is None
    marked = replace(make_scan(name="baseline"), mask=np.ones(SHAPE, np.uint8))
    unmarked = replace(make_prompt((5.0, 6.0, 8.0), baseline=marked), has_mask=False)
    assert SegmentRequest(unmarked).baseline_mask is None


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float16, np.float64])
def test_booleans_and_probabilities_are_accepted(kind: type) -> None:
    values: np.ndarray = (cuboid(*LESION) > 0).astype(kind)
    result = _segmented(lambda request: values)
    assert isinstance(result, LesionResult) and result.box.bounds() == [list(side) for side in LESION]
    assert np.array_equal(volume_of(result), values.astype(np.float32))


def test_an_empty_array_is_an_empty_lesion() -> None:
    result = _segmented(lambda request: np.zeros(SHAPE))
    assert isinstance(result, LesionResult) and not result.mask.any()


def test_nested_lists_are_accepted() -> None:
    result = _segmented(lambda request: (cuboid(*LESION) > 0).tolist())
    assert isinstance(result, LesionResult) and result.mask.all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\)"),
        (None, r"shape \(\)"),
        (np.full(SHAPE, "x"), "values of type"),
        (np.full(SHAPE, np.nan), "values from nan"),
        (np.full(SHAPE, 1.5), "values from 1.5 to 1.5; expected 0 to 1"),
        (np.full(SHAPE, -0.5), "values from -0.5"),
        (np.full(SHAPE, 7, np.uint8), "values from 7 to 7"),
        (np.full(SHAPE, 1j), "values of type complex"),
    ],
)
def test_an_invalid_array_is_a_failure_of_that_lesion(values: Any, message: str) -> None:
    result = _segmented(lambda request: values)
    assert isinstance(result, LesionFailure) and isinstance(result.error, InputError)
    with pytest.raises(InputError, match=message):
        raise result.error


def test_an_exception_is_a_failure_of_that_lesion_only() -> None:
    def fails_for_the_first(request: SegmentRequest) -> Any:
        if request.lesion_id == 1:
            raise KeyError("lost")
        return cuboid(*LESION)

    prompts = [make_prompt((5.0, 6.0, 8.0), 1), make_prompt((5.0, 6.0, 8.0), 2)]
    first, second = FunctionSegmenter(fails_for_the_first, "own").segment(prompts)
    assert isinstance(first, LesionFailure) and "own failed: KeyError: 'lost'" in str(first.error)
    assert isinstance(second, LesionResult)
