"""Segmenters by name, and a user's own: what it is asked, what it may answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.case.case import LesionPrompt, LesionResult, PointSource
from model.errors import InputError, WeightsError
from model.inference.boost_options import Boosting, BoostOptions
from model.inference.robust import (
    FunctionSegmenter,
    SegmenterOptions,
    SegmentRequest,
    SeriesSegmenter,
    load_function,
    make_segmenter,
)
from model.inference.segmenter import LesionFailure

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
OTHER = ((4, 7), (5, 9), (18, 22))

MODULE = """
import numpy as np

def lesion(request):
    answer = np.zeros(request.image.shape, bool)
    answer[4:7, 5:9, 6:12] = True
    answer[4:7, 5:9, 18:22] = True
    return answer

class Nested:
    inner = lesion

number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A user's module in the current directory, whose name no other test has taken."""
    name = f"own_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def _ask(function: Callable[[SegmentRequest], Any], asked: LesionPrompt | None = None) -> Any:
    (answer,) = FunctionSegmenter(function, "own").segment([asked or make_prompt((5.0, 6.0, 8.0))])
    return answer


# --- what is asked ---------------------------------------------------------------------------------------


def test_a_request_says_all_that_is_known() -> None:
    labels = (cuboid(*LESION) > 0).astype(np.uint16) * 300
    before = replace(make_scan(spacing_zyx=(2.0, 1.0, 1.0), name="baseline"), mask=labels)
    asked = with_shapes(make_prompt((5.0, 6.5, 8.0), 300, baseline=before), cuboid(*LESION))
    request = SegmentRequest(asked)
    assert request.lesion_id == 300 and request.image is asked.followup.ct
    assert request.point_zyx == (5.0, 6.5, 8.0) and request.baseline_point_zyx == (3.0, 4.0, 5.0)
    assert request.spacing_zyx == SPACING_ZYX and request.baseline_spacing_zyx == (2.0, 1.0, 1.0)
    assert request.baseline_image is before.ct
    assert request.box is not None and request.box.bounds() == [list(side) for side in LESION]
    assert request.mask is not None and np.array_equal(request.mask, cuboid(*LESION) > 0)
    assert request.baseline_mask is not None and np.array_equal(request.baseline_mask, labels > 0)


def test_and_none_where_nothing_is() -> None:
    request = SegmentRequest(make_prompt((5.0, 6.0, 8.0)))
    assert request.box is None and request.mask is None and request.baseline_mask is None
    marked = replace(make_scan(name="baseline"), mask=np.ones(SHAPE, np.uint8))
    unmarked = replace(make_prompt((5.0, 6.0, 8.0), baseline=marked), has_mask=False)
    assert SegmentRequest(unmarked).baseline_mask is None


# --- what is answered ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float16, np.float64])
def test_booleans_and_probabilities(kind: type) -> None:
    values = (cuboid(*LESION) > 0).astype(kind)
    answer = _ask(lambda request: values)
    assert isinstance(answer, LesionResult) and answer.box.bounds() == [list(side) for side in LESION]
    assert np.array_equal(volume_of(answer), values.astype(np.float32))


def test_an_empty_answer_is_an_answer() -> None:
    answer = _ask(lambda request: np.zeros(SHAPE))
    assert isinstance(answer, LesionResult) and not answer.mask.any()


def test_lists_of_lists_are_arrays() -> None:
    answer = _ask(lambda request: (cuboid(*LESION) > 0).tolist())
    assert isinstance(answer, LesionResult) and answer.mask.all()


@pytest.mark.parametrize(
    ("values", "told"),
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
def test_nonsense_is_that_lesions_failure(values: Any, told: str) -> None:
    answer = _ask(lambda request: values)
    assert isinstance(answer, LesionFailure) and isinstance(answer.error, InputError)
    with pytest.raises(InputError, match=told):
        raise answer.error


def test_an_error_is_that_lesions_failure_and_the_next_is_asked() -> None:
    def odd(request: SegmentRequest) -> Any:
        if request.lesion_id == 1:
            raise KeyError("lost")
        return cuboid(*LESION)

    prompts = [make_prompt((5.0, 6.0, 8.0), 1), make_prompt((5.0, 6.0, 8.0), 2)]
    first, second = FunctionSegmenter(odd, "own").segment(prompts)
    assert isinstance(first, LesionFailure) and "own failed: KeyError: 'lost'" in str(first.error)
    assert isinstance(second, LesionResult)


# --- by name ---------------------------------------------------------------------------------------------


def test_a_users_module(module: str) -> None:
    segmenter = make_segmenter(SegmenterOptions(f"{module}:lesion"))
    (answer,) = segmenter.segment([make_prompt((5.0, 6.0, 8.0))])
    assert isinstance(answer, LesionResult)
    assert answer.box.bounds() == [list(side) for side in LESION]  # the component rule
    assert segmenter.notes == {"name": f"{module}:lesion"}
    assert load_function(f"{module}:Nested.inner") is load_function(f"{module}:lesion")


def test_without_the_component_rule_all_stays(module: str) -> None:
    segmenter = make_segmenter(SegmenterOptions(f"{module}:lesion", component_rule=False))
    (answer,) = segmenter.segment([make_prompt((5.0, 6.0, 8.0))])
    assert isinstance(answer, LesionResult) and answer.box.bounds() == [[4, 7], [5, 9], [6, 22]]


def test_pieces_where_a_mask_is_expected_stay(module: str) -> None:
    asked = with_shapes(make_prompt((5.0, 6.0, 8.0)), cuboid((5, 6), (6, 8), (8, 20)))
    (answer,) = make_segmenter(SegmenterOptions(f"{module}:lesion")).segment([asked])
    assert isinstance(answer, LesionResult) and answer.box.bounds() == [[4, 7], [5, 9], [6, 22]]


@pytest.mark.parametrize("method", Boosting)
def test_with_every_boosting(method: Boosting, module: str) -> None:
    segmenter = make_segmenter(SegmenterOptions(f"{module}:lesion", boost=BoostOptions(method)))
    prompts = [make_prompt((5.0, 6.0, 8.0), 1), make_prompt((5.0, 6.0, 8.0), 2)]
    if method is Boosting.ROTATED:  # this one answers at a fixed place of whatever it is shown
        pytest.skip("its answers do not turn with the scan")
    answers = list(segmenter.segment(prompts, {1: [(5.0, 7.0, 9.0)]}))
    assert {id(answer.prompt) for answer in answers} == {id(asked) for asked in prompts}
    for answer in answers:
        assert isinstance(answer, LesionResult) and answer.box.bounds() == [list(side) for side in LESION]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nnunet", "segmenter 'nnunet' is unknown; expected longitudinal, single"),
        ("no_such_module:f", "cannot be imported"),
        ("{}:nothing", "has no 'nothing'"),
        ("{}:number", "is a int; expected a function"),
    ],
)
def test_names_that_are_none(name: str, told: str, module: str) -> None:
    with pytest.raises(InputError, match=told):
        make_segmenter(SegmenterOptions(name.format(module)))


def test_weights_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        make_segmenter(SegmenterOptions("longitudinal", weights_dir=tmp_path))
    with pytest.raises(WeightsError, match="needs --weights"):
        make_segmenter(SegmenterOptions("single"))
    with pytest.raises(WeightsError):
        make_segmenter(SegmenterOptions("single", weights_dir=tmp_path))


@pytest.mark.parametrize("source", [PointSource.GIVEN, PointSource.CLIPPED, PointSource.PROPAGATED])
def test_only_propagated_points_are_asked_for_again(source: PointSource) -> None:
    asked = []

    def answer(request: SegmentRequest) -> Any:
        asked.append(request)
        found = np.zeros(request.image.shape, bool)
        found[tuple(slice(*side) for side in LESION)] = True
        return found

    lesion = make_prompt((5.0, 6.0, 11.0))
    lesion = replace(lesion, followup_point=replace(lesion.followup_point, source=source))
    options = SegmenterOptions(boost=BoostOptions(Boosting.REPROMPT))
    (result,) = SeriesSegmenter(FunctionSegmenter(answer, "own"), options).segment([lesion])
    assert isinstance(result, LesionResult) and result.prompt is lesion
    assert len(asked) == (2 if source is PointSource.PROPAGATED else 1)
