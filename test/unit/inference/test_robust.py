"""Robust segmentation: boosting of propagated points, the component rule, and segmenters by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.case.case import LesionPrompt, LesionResult, PointSource
from model.errors import InputError, WeightsError
from model.inference.boost_options import Boosting, BoostOptions
from model.inference.options import ModelOptions
from model.inference.robust import (
    ComponentRule,
    RobustOptions,
    RobustSegmenter,
    SegmenterOptions,
    make_segmenter,
)
from model.inference.user_segmenter import FunctionSegmenter, SegmentRequest, load_function

from ...helpers.tracking_phantoms import cuboid, make_prompt, with_shapes

LESION = ((4, 7), (5, 9), (6, 12))

MODULE = """
import numpy as np

def lesion(request):
    mask = np.zeros(request.image.shape, bool)
    mask[4:7, 5:9, 6:12] = True
    mask[4:7, 5:9, 18:22] = True
    return mask

class Nested:
    inner = lesion

number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a user's module in the current directory, unique to the test."""
    name = f"own_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_user_function_with_the_component_rule(module: str) -> None:
    segmenter = make_segmenter(SegmenterOptions(f"{module}:lesion"))
    (result,) = segmenter.segment([make_prompt((5.0, 6.0, 8.0))])
    assert isinstance(result, LesionResult)
    assert result.box.bounds() == [list(side) for side in LESION]  # the component rule
    assert segmenter.notes == {"name": f"{module}:lesion"}
    assert load_function(f"{module}:Nested.inner") is load_function(f"{module}:lesion")


def test_without_the_component_rule_all_components_stay(module: str) -> None:
    segmenter = make_segmenter(SegmenterOptions(f"{module}:lesion", component_rule=False))
    (result,) = segmenter.segment([make_prompt((5.0, 6.0, 8.0))])
    assert isinstance(result, LesionResult) and result.box.bounds() == [[4, 7], [5, 9], [6, 22]]


def test_components_that_overlap_an_expected_mask_stay(module: str) -> None:
    lesion = with_shapes(make_prompt((5.0, 6.0, 8.0)), cuboid((5, 6), (6, 8), (8, 20)))
    (result,) = make_segmenter(SegmenterOptions(f"{module}:lesion")).segment([lesion])
    assert isinstance(result, LesionResult) and result.box.bounds() == [[4, 7], [5, 9], [6, 22]]


@pytest.mark.parametrize("method", Boosting)
def test_every_boosting_method(method: Boosting, module: str) -> None:
    segmenter = make_segmenter(SegmenterOptions(f"{module}:lesion", boost=BoostOptions(method)))
    prompts = [make_prompt((5.0, 6.0, 8.0), 1), make_prompt((5.0, 6.0, 8.0), 2)]
    if method is Boosting.ROTATED:
        pytest.skip("the function marks a fixed place, which does not turn with the scan")
    results = list(segmenter.segment(prompts, {1: [(5.0, 7.0, 9.0)]}))
    assert {id(result.prompt) for result in results} == {id(lesion) for lesion in prompts}
    for result in results:
        assert isinstance(result, LesionResult) and result.box.bounds() == [list(side) for side in LESION]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nnunet", "segmenter 'nnunet' is unknown; expected longitudinal, single"),
        ("no_such_module:f", "cannot be imported"),
        ("{}:nothing", "has no 'nothing'"),
        ("{}:number", "is a int; expected a function"),
    ],
)
def test_unknown_segmenters(name: str, message: str, module: str) -> None:
    with pytest.raises(InputError, match=message):
        make_segmenter(SegmenterOptions(name.format(module)))


@pytest.mark.parametrize("name", ["single", "{}:lesion"])
def test_rounded_points_are_of_the_longitudinal_networks(name: str, module: str) -> None:
    options = SegmenterOptions(name.format(module), model=ModelOptions(point_rounding="round"))
    with pytest.raises(InputError, match="--point-rounding round: .*expected truncate"):
        make_segmenter(options)


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        make_segmenter(SegmenterOptions("longitudinal", weights_dir=tmp_path))
    with pytest.raises(WeightsError, match="needs --weights"):
        make_segmenter(SegmenterOptions("single"))
    with pytest.raises(WeightsError):
        make_segmenter(SegmenterOptions("single", weights_dir=tmp_path))


def _with_source(lesion: LesionPrompt, source: PointSource) -> LesionPrompt:
    return replace(lesion, followup_point=replace(lesion.followup_point, source=source))


@pytest.mark.parametrize("source", [PointSource.GIVEN, PointSource.CLIPPED, PointSource.PROPAGATED])
def test_only_propagated_points_are_boosted(source: PointSource) -> None:
    requests = []

    def cuboid_of_lesion(request: SegmentRequest) -> Any:
        requests.append(request)
        return cuboid(*LESION)

    lesion = _with_source(make_prompt((5.0, 6.0, 11.0)), source)
    options = RobustOptions(BoostOptions(Boosting.REPROMPT))
    (result,) = RobustSegmenter(FunctionSegmenter(cuboid_of_lesion, "own"), options).segment([lesion])
    assert isinstance(result, LesionResult) and result.prompt is lesion
    assert len(requests) == (2 if source is PointSource.PROPAGATED else 1)


@pytest.mark.parametrize("rule", ComponentRule)
@pytest.mark.parametrize("source", [PointSource.GIVEN, PointSource.PROPAGATED])
def test_the_component_rule_of_a_case_and_of_a_series(
    rule: ComponentRule, source: PointSource, module: str
) -> None:
    function = load_function(f"{module}:lesion")
    options = RobustOptions(BoostOptions(Boosting.NONE), rule)
    lesion = _with_source(make_prompt((5.0, 6.0, 8.0)), source)
    (result,) = RobustSegmenter(FunctionSegmenter(function), options).segment([lesion])
    applies = rule is ComponentRule.ALL or (rule, source) == (
        ComponentRule.PROPAGATED,
        PointSource.PROPAGATED,
    )
    assert isinstance(result, LesionResult) and result.box.bounds()[2] == ([6, 12] if applies else [6, 22])


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("source", [PointSource.GIVEN, PointSource.PROPAGATED])
def test_the_support_is_kept_on_demand_only(keep: bool, source: PointSource, module: str) -> None:
    function = load_function(f"{module}:lesion")
    options = RobustOptions(BoostOptions(Boosting.MERGED), keep_support=keep)
    assert options.needs_support
    lesion = _with_source(make_prompt((5.0, 6.0, 11.0)), source)
    inner = FunctionSegmenter(function, keep_support=options.needs_support)
    (result,) = RobustSegmenter(inner, options).segment([lesion])
    assert isinstance(result, LesionResult)
    assert (result.support is not None) == (result.support_probability is not None) == keep
