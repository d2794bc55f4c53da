"""Command-line options of a run."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import pytest

from model.case.pair_input import PairInput
from model.cli.arguments import device_name, fold_list, log_level
from model.cli.process import NO_LOG
from model.cli.segment import CaseRunOptions, Display, add_arguments, options_of, run_case
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


PAIR = ("--baseline", "b.nii.gz", "--followup", "f.mha", "-o", "out")


def test_a_pair_of_files() -> None:
    options = _parsed(*PAIR, "--baseline-clicks", "c.json", "--per-lesion")
    assert options.pair == PairInput(Path("b.nii.gz"), Path("f.mha"), None, Path("c.json"))
    assert options.output_dir == options.extras_dir == Path("out")
    assert options.case.segment_baseline and options.per_lesion
    assert not _parsed(*PAIR, "--baseline-mask", "m.mha").case.segment_baseline
    assert _parsed(*PAIR, "--baseline-mask", "m.mha", "--segment-baseline").case.segment_baseline


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (PAIR[:4], "need -o DIR"),
        ((*PAIR[:2], *PAIR[4:]), "need each other"),
        (PAIR[2:], "need each other"),
        ((*PAIR, "--input", "in"), "--input and --extras are of a case in folders"),
        ((*PAIR, "--extras", "x"), "--input and --extras are of a case in folders"),
        (("--baseline-mask", "m.mha"), "--baseline-mask needs --baseline CT and --followup CT"),
        (("--followup-clicks", "c.json"), "--followup-clicks needs"),
        (("--per-lesion",), "need --extras DIR"),
        (("--time-budget", "0"), "'0' is no positive number of seconds"),
        (("--time-budget", "soon"), "no positive number of seconds"),
        (("--output", "o", "--extras", "o/x"), "must lie outside of --output"),
    ],
)
def test_options_that_clash(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _parsed(*words)
    assert ended.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "level"), [((), logging.INFO), (("--quiet",), logging.WARNING), (("--json",), NO_LOG)]
)
def test_what_is_shown(words: tuple[str, ...], level: int) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert log_level(parser.parse_args(words)) == level


def test_an_error_is_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = CaseRunOptions(tmp_path / "none", tmp_path / "out", case=CaseOptions(backend="affinity"))
    assert run_case(options, Display(NO_LOG, as_json=True)) == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document == {"exit_code": 2, "error": captured.err.strip()} and "affinity" in captured.err


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
