"""Command-line options of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from model.cli.arguments import device_name, fold_list
from model.cli.segment import CaseRunOptions, add_arguments, options_of
from model.inference.boost_options import Boosting
from model.inference.options import BOOSTS, DEFAULT_BOOST, CaseOptions, ModelOptions


def _parsed(*arguments: str) -> CaseRunOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options_of(parser.parse_args(arguments))


def test_the_defaults_are_those_of_the_options() -> None:
    assert _parsed() == CaseRunOptions()


def test_arguments_reach_the_options() -> None:
    options = _parsed(
        "--input",
        "in",
        "--output",
        "out",
        "--weights",
        "w",
        "--device",
        "cuda:1",
        "--precision",
        "fp16",
        "--folds",
        "4,0",
        "--overlap",
        "max-id",
        "--clicks",
        "world",
        "--backend",
        "mine:register",
        "--boost",
        "perturbed",
        "--extras",
        "x",
        "--per-lesion",
        "--save-probabilities",
        "--tta",
        "--point-rounding",
        "round",
        "--deterministic",
    )
    assert options == CaseRunOptions(
        Path("in"),
        Path("out"),
        Path("w"),
        "world",
        Path("x"),
        per_lesion=True,
        model=ModelOptions("cuda:1", "fp16", (4, 0), tta=True, deterministic=True, point_rounding="round"),
        case=CaseOptions("max-id", "mine:register", "perturbed", keep_probabilities=True),
    )


def test_the_choices_of_boost_are_the_boosting_methods() -> None:
    assert tuple(Boosting) == BOOSTS and DEFAULT_BOOST in BOOSTS


@pytest.mark.parametrize("text", ["tpu", "cuda:", "cuda:x", "cpu ", ""])
def test_invalid_devices(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no device"):
        device_name(text)


@pytest.mark.parametrize(
    ("text", "reason"), [("a", "no list"), ("0,,1", "no list"), ("all,0", "no list"), ("1,1", "twice")]
)
def test_invalid_fold_lists(text: str, reason: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=reason):
        fold_list(text)
    assert fold_list("3,0") == (3, 0) and fold_list("all") == ("all",)


@pytest.mark.parametrize("arguments", [["--per-lesion"], ["--output", "o", "--extras", "o/x"]])
def test_options_that_clash_end_the_process(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        _parsed(*arguments)
    assert end.value.code == 2
