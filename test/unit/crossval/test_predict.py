"""Answers are those of a run on the same files; nothing is asked twice, and nothing old is an answer."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from model.case.clicks import write_clicks
from model.case.images import read_geometry, read_image, write_image
from model.cli.case_run import CaseRun
from model.cli.segment import CaseRunOptions
from model.crossval import predict as asking
from model.crossval.pairs import EvaluationPair, data_set_pairs
from model.crossval.point_setting import PointSetting
from model.crossval.predict import ask, predict_pairs
from model.crossval.prediction_store import labelmap_path, records_path
from model.crossval.scores import read_pair_records, score_of, score_predictions
from model.errors import InputError
from model.inference.options import ModelOptions
from model.inference.segmenter import LesionFailure, Segmenter
from model.network.plan import read_plan
from model.training.job import BudgetSpentError

from ...helpers.crossval_cases import write_data_set, write_model


def _case(folder: Path, pair: EvaluationPair, question: PointSetting, weights: Path) -> Path:
    """The pair as the platform hands it over, with the question's points clicked."""
    plan, grid = read_plan(weights / "plans.json"), read_geometry(pair.followup.image)
    for slug, file in (
        ("primary-baseline-ct", pair.baseline.image),
        ("primary-followup-ct", pair.followup.image),
        ("primary-baseline-ct-tumor-lesion-seg", pair.baseline.labels),
    ):
        target = folder / "images" / slug
        target.mkdir(parents=True)
        assert file is not None
        shutil.copy(file, target / "image.mha")
    before = {lesion.lesion_id: lesion.baseline_point_xyz for lesion in pair.lesions}
    after = {lesion.lesion_id: question.point_xyz(pair, lesion, grid, plan) for lesion in pair.lesions}
    write_clicks(folder / "primary-baseline-lesion-clicks.json", before)
    write_clicks(folder / "primary-followup-lesion-clicks.json", after)
    return folder


@pytest.mark.parametrize("question", [PointSetting(), PointSetting("given", 3, 1)])
@pytest.mark.parametrize("folds", [("0", "1"), (1,)])
def test_answers_are_those_of_a_run(
    pairs: tuple[EvaluationPair, ...],
    weights: Path,
    question: PointSetting,
    folds: tuple[str | int, ...],
    tmp_path: Path,
) -> None:
    pair = pairs[0]
    ask([pair], weights, folds, question, tmp_path / "answers", "cpu", lambda line: None)
    options = CaseRunOptions(
        input_dir=_case(tmp_path / "case", pair, question, weights),
        output_dir=tmp_path / "out",
        weights_dir=weights,
        model=ModelOptions(device="cpu", folds=tuple(map(int, folds))),
    )
    CaseRun(options).execute()
    file = tmp_path / "out" / "images" / "primary-followup-ct-tumor-lesion-seg" / "segmentation.mha"
    wanted, found = read_image(file), read_image(labelmap_path(tmp_path / "answers", pair))
    assert found.array.dtype == np.uint16 and found.geometry.same_grid(wanted.geometry)
    assert np.array_equal(found.array, wanted.array)
    assert set(np.unique(found.array)) > {0}


def _no_model(weights: Path, options: ModelOptions) -> None:
    raise AssertionError("the model is not needed")


def test_what_is_answered_is_not_asked_again(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [(PointSetting(), tmp_path / "a"), (PointSetting("given"), tmp_path / "b")]
    said: list[str] = []
    predict_pairs(pairs[:1], weights, ["0"], questions, "cpu", said.append)
    assert len(said) == 1 and said[0].endswith("(1/1)")
    predict_pairs(pairs, weights, ["0"], questions, "cpu", said.append)
    assert len(said) == 2 and pairs[1].name in said[1]
    monkeypatch.setattr(asking, "load_model", _no_model)
    predict_pairs(pairs, weights, ["0"], questions, "cpu", said.append)
    assert len(said) == 2
    labelmap_path(tmp_path / "b", pairs[1]).unlink()
    with pytest.raises(AssertionError):
        predict_pairs(pairs, weights, ["0"], questions, "cpu", said.append)
    fewer = replace(pairs[0], lesions=pairs[0].lesions[1:])
    with pytest.raises(AssertionError):
        ask([fewer], weights, ["0"], PointSetting(), tmp_path / "a", "cpu", said.append)


def test_files_that_have_changed_are_asked_about_anew(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pair,) = data_set_pairs(write_data_set(tmp_path / "raw", ("anna",)))
    ask([pair], weights, ["0"], PointSetting(), tmp_path / "a", "cpu", lambda line: None)
    score_predictions([pair], tmp_path / "a")
    monkeypatch.setattr(asking, "load_model", _no_model)
    labels = pair.followup.labels
    assert labels is not None
    os.utime(labels, ns=(1, 1))  # as a copy of it
    ask([pair], weights, ["0"], PointSetting(), tmp_path / "a", "cpu", lambda line: None)
    image = read_image(labels)
    write_image(labels, np.where(image.array == 2, 0, image.array), image.geometry)
    with pytest.raises(AssertionError, match="the model is not needed"):
        ask([pair], weights, ["0"], PointSetting(), tmp_path / "a", "cpu", lambda line: None)
    with pytest.raises(InputError):  # nothing old is counted
        score_predictions(
            [replace(pair, followup=replace(pair.followup, image=tmp_path / "none"))], tmp_path / "a"
        )
    for path in pair.files:
        path.unlink()  # nobody can tell that it is another
    ask([pair], weights, ["0"], PointSetting(), tmp_path / "a", "cpu", lambda line: None)


def test_answers_of_an_earlier_version_are_asked_anew(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    ask(pairs[:1], weights, ["0"], PointSetting(), tmp_path, "cpu", said.append)
    document = json.loads((tmp_path / "asked.json").read_text())
    answered = {name: known["lesions"] for name, known in document["answered"].items()}
    (tmp_path / "asked.json").write_text(json.dumps(document | {"version": 1, "answered": answered}))
    ask(pairs[:1], weights, ["0"], PointSetting(), tmp_path, "cpu", said.append)
    assert "or of an earlier version; it is asked anew" in said[1] and said[2].endswith("(1/1)")


def test_a_score_goes_when_something_is_asked_anew(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path
) -> None:
    ask(pairs[:1], weights, ["0"], PointSetting(), tmp_path, "cpu", lambda line: None)
    score_predictions(pairs[:1], tmp_path)
    assert (tmp_path / "lesions.csv").is_file()
    ask(pairs[:1], weights, ["0"], PointSetting(), tmp_path, "cpu", lambda line: None)
    assert (tmp_path / "lesions.csv").is_file()
    ask(pairs, weights, ["0"], PointSetting(), tmp_path, "cpu", lambda line: None)
    assert not (tmp_path / "lesions.csv").exists()


def test_the_time_ends_before_a_pair_and_never_after_the_last(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter((0.0, 9.0, 0.0, 9.0))
    clock = SimpleNamespace(monotonic=lambda: next(now), perf_counter=time.perf_counter)
    monkeypatch.setattr(asking, "time", clock)
    said: list[str] = []
    asked = [(PointSetting(), tmp_path)]
    with pytest.raises(BudgetSpentError, match=f"no time is left to ask about {pairs[1].name}"):
        predict_pairs(pairs, weights, ["0"], asked, "cpu", said.append, until=5.0)
    predict_pairs(pairs, weights, ["0"], asked, "cpu", said.append, until=5.0)
    assert len(said) == 2 and score_predictions(pairs, tmp_path).failed == 0


def test_other_weights_and_questions_are_asked_anew(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    ask(pairs[:1], weights, ["0"], PointSetting(), tmp_path, "cpu", said.append)
    first = labelmap_path(tmp_path, pairs[0]).read_bytes()
    other = write_model(tmp_path / "model", ("0",), seed=1)
    ask(pairs[:1], other, ["0"], PointSetting(), tmp_path, "cpu", said.append)
    assert "another question or of other weights" in said[1]
    assert labelmap_path(tmp_path, pairs[0]).read_bytes() != first
    ask([], other, ["0"], PointSetting("given"), tmp_path, "cpu", said.append)
    assert (
        score_predictions(pairs[:1], tmp_path, said.append).failed == 3
    )  # no old answer passes for a new one
    assert "MISSING answer; its 4 lesions get the worst score" in said[-1]


def test_a_lesion_that_fails_counts_and_is_asked_again(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Segmenter.segment

    def broken(self, prompts):  # type: ignore[no-untyped-def]
        for prompt in prompts:
            if prompt.lesion_id in (2, 3):
                yield LesionFailure(prompt, RuntimeError("out of luck"))
        yield from whole(self, [prompt for prompt in prompts if prompt.lesion_id not in (2, 3)])

    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "segment", broken)
        ask(pairs[:1], weights, ["0"], PointSetting(), tmp_path, "cpu", said.append)
    assert "lesion 2 has NO ANSWER" in said[0] and "out of luck" in said[0]
    records = read_pair_records(pairs[:1], tmp_path)
    assert {record.lesion: record.is_missing for record in records} == {
        "1": False,
        "2": True,
        "3+4": True,
        "all": False,
    }
    found = score_of(records)
    assert (found.failed, found.lesions, found.vanished, found.vanished_found) == (2, 3, 1, 0)
    records_path(tmp_path, pairs[0]).unlink()  # measured again, it says the same
    assert read_pair_records(pairs[:1], tmp_path) == records
    ask(pairs[:1], weights, ["0"], PointSetting(), tmp_path, "cpu", said.append)
    assert score_predictions(pairs[:1], tmp_path).failed == 0


def test_files_that_are_gone_are_told(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path
) -> None:
    gone = replace(pairs[0], baseline=replace(pairs[0].baseline, image=tmp_path / "none.mha"))
    with pytest.raises(InputError, match=r"none.mha: is missing; expected the original files of 1 pairs"):
        ask([gone], weights, ["0"], PointSetting(), tmp_path / "out", "cpu")
    with pytest.raises(InputError, match="is the folder of two questions"):
        predict_pairs(
            pairs, weights, ["0"], [(PointSetting(), tmp_path), (PointSetting("given"), tmp_path)], "cpu"
        )
