"""Predictions equal those of `segment` on the same files; they are cached, and replaced if outdated."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from model.case.case import LesionPrompt, LesionResult, PointSource
from model.case.clicks import write_clicks
from model.case.images import read_geometry, read_image, write_image
from model.cli.case_run import CaseRun
from model.cli.segment import CaseRunOptions
from model.crossval import predict
from model.crossval.pairs import EvaluationPair, data_set_pairs
from model.crossval.point_setting import PointSetting
from model.crossval.predict import predict_pairs
from model.crossval.prediction_store import labelmap_path, records_path
from model.crossval.scores import read_pair_records, score_of, score_predictions
from model.errors import InputError
from model.inference.boosting import BoostedSegmenter
from model.inference.locate import LocatedLesions, Locator
from model.inference.options import ModelOptions
from model.inference.segmenter import LesionFailure, Segmenter
from model.network.plan import read_plan
from model.training.job import BudgetSpentError

from ...helpers.crossval_cases import write_data_set, write_model
from ...helpers.log_messages import messages

PROPAGATED = PointSetting()


def _predict(
    pairs: Sequence[EvaluationPair],
    weights: Path,
    folder: Path,
    setting: PointSetting = PROPAGATED,
    folds: tuple[str | int, ...] = ("0",),
) -> None:
    predict_pairs(pairs, weights, folds, [(setting, folder)], "cpu")


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return messages(caplog, "model.crossval")


def _case(folder: Path, pair: EvaluationPair, setting: PointSetting, weights: Path) -> Path:
    """The pair as a case of the platform, with the points of the setting as clicks."""
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
    before = {
        lesion.lesion_id: lesion.baseline_point_xyz for lesion in pair.lesions if lesion.baseline_point_xyz
    }
    after = {lesion.lesion_id: setting.point_xyz(pair, lesion, grid, plan) for lesion in pair.lesions}
    write_clicks(folder / "primary-baseline-lesion-clicks.json", before)
    write_clicks(folder / "primary-followup-lesion-clicks.json", after)
    return folder


def _mark_propagated(monkeypatch: pytest.MonkeyPatch, ids: set[int]) -> None:
    """Let cases treat the follow-up clicks of some lesions as propagated points."""
    locate = Locator.locate

    def marked(self: Locator) -> LocatedLesions:
        located = locate(self)
        prompts = tuple(
            replace(prompt, followup_point=replace(prompt.followup_point, source=PointSource.PROPAGATED))
            if prompt.lesion_id in ids
            else prompt
            for prompt in located.prompts
        )
        return replace(located, prompts=prompts)

    monkeypatch.setattr(Locator, "locate", marked)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "propagated"),
    [
        (PROPAGATED, {1, 2, 3}),  # lesion 4 has no propagated point, and is prompted at its true one
        (PointSetting("propagated", 2, 1), {1, 2, 3}),  # noise does not change the source
        (PointSetting("given", 3, 1), {2}),  # lesion 2 has vanished and has no true point
    ],
)
@pytest.mark.parametrize("folds", [("0", "1"), (1,)])
def test_predictions_are_those_of_segment_with_boosting_of_propagated_points(
    pairs: tuple[EvaluationPair, ...],
    weights: Path,
    setting: PointSetting,
    propagated: set[int],
    folds: tuple[str | int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = pairs[0]
    _predict([pair], weights, tmp_path / "predictions", setting, folds)
    _mark_propagated(monkeypatch, propagated)
    options = CaseRunOptions(
        input_dir=_case(tmp_path / "case", pair, setting, weights),
        output_dir=tmp_path / "out",
        weights_dir=weights,
        model=ModelOptions(device="cpu", folds=tuple(map(int, folds))),
    )
    CaseRun(options).execute()
    file = tmp_path / "out" / "images" / "primary-followup-ct-tumor-lesion-seg" / "segmentation.mha"
    expected, predicted = read_image(file), read_image(labelmap_path(tmp_path / "predictions", pair))
    assert predicted.array.dtype == np.uint16 and predicted.geometry.same_grid(expected.geometry)
    assert np.array_equal(predicted.array, expected.array)
    assert set(np.unique(predicted.array)) > {0}


@pytest.mark.slow
def test_only_propagated_points_are_boosted(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boosted: list[int] = []
    segment = BoostedSegmenter.segment

    def record(
        self: BoostedSegmenter, prompts: Sequence[LesionPrompt]
    ) -> Iterator[LesionResult | LesionFailure]:
        boosted.extend(prompt.lesion_id for prompt in prompts)
        yield from segment(self, prompts)

    monkeypatch.setattr(BoostedSegmenter, "segment", record)
    _predict(pairs[:1], weights, tmp_path / "propagated")
    assert sorted(boosted) == [1, 2, 3]
    boosted.clear()
    _predict(pairs[:1], weights, tmp_path / "given", PointSetting("given"))
    assert boosted == [2]


def _no_model(weights: Path, options: ModelOptions) -> None:
    raise AssertionError("the model is not needed")


@pytest.mark.slow
def test_cached_predictions_are_not_computed_again(
    pairs: tuple[EvaluationPair, ...],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outputs = [(PROPAGATED, tmp_path / "a"), (PointSetting("given"), tmp_path / "b")]
    predict_pairs(pairs[:1], weights, ["0"], outputs, "cpu")
    assert len(_lines(caplog)) == 1 and _lines(caplog)[0].endswith("(1/1)")
    predict_pairs(pairs, weights, ["0"], outputs, "cpu")
    assert len(_lines(caplog)) == 2 and pairs[1].name in _lines(caplog)[1]
    monkeypatch.setattr(predict, "load_model", _no_model)
    predict_pairs(pairs, weights, ["0"], outputs, "cpu")
    assert len(_lines(caplog)) == 2
    labelmap_path(tmp_path / "b", pairs[1]).unlink()
    with pytest.raises(AssertionError):
        predict_pairs(pairs, weights, ["0"], outputs, "cpu")
    fewer = replace(pairs[0], lesions=pairs[0].lesions[1:])
    with pytest.raises(AssertionError):
        _predict([fewer], weights, tmp_path / "a")


@pytest.mark.slow
def test_pairs_with_changed_files_are_predicted_again(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pair,) = data_set_pairs(write_data_set(tmp_path / "raw", ("anna",)))
    _predict([pair], weights, tmp_path / "a")
    score_predictions([pair], tmp_path / "a")
    monkeypatch.setattr(predict, "load_model", _no_model)
    labels = pair.followup.labels
    assert labels is not None
    os.utime(labels, ns=(1, 1))  # as a copy of it
    _predict([pair], weights, tmp_path / "a")
    image = read_image(labels)
    write_image(labels, np.where(image.array == 2, 0, image.array), image.geometry)
    with pytest.raises(AssertionError, match="the model is not needed"):
        _predict([pair], weights, tmp_path / "a")
    with pytest.raises(InputError):  # the outdated prediction is not scored
        score_predictions(
            [replace(pair, followup=replace(pair.followup, image=tmp_path / "none"))], tmp_path / "a"
        )
    for path in pair.files:
        path.unlink()  # missing files count as unchanged
    _predict([pair], weights, tmp_path / "a")


@pytest.mark.slow
def test_predictions_of_an_earlier_version_are_replaced(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _predict(pairs[:1], weights, tmp_path)
    document = json.loads((tmp_path / "asked.json").read_text())
    answered = {name: entry["lesions"] for name, entry in document["answered"].items()}
    (tmp_path / "asked.json").write_text(json.dumps(document | {"version": 1, "answered": answered}))
    _predict(pairs[:1], weights, tmp_path)
    lines = _lines(caplog)
    assert "of an earlier version; its pairs are predicted again" in lines[1]
    assert lines[2].endswith("(1/1)")


@pytest.mark.slow
@pytest.mark.parametrize("boosting", [None, "none"])
def test_predictions_without_or_with_other_boosting_are_replaced(
    pairs: tuple[EvaluationPair, ...],
    weights: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    boosting: str | None,
) -> None:
    """Versions that predicted propagated points as if they had been clicked recorded no boosting."""
    _predict(pairs[:1], weights, tmp_path)
    document = json.loads((tmp_path / "asked.json").read_text())
    keys = {"version", "points", "noise_voxels", "seed", "folds", "weights", "answered", "failed"}
    assert document.keys() == keys | {"boosting"} and document["boosting"] == "merged-probabilities"
    del document["boosting"]
    changed = document if boosting is None else document | {"boosting": boosting}
    (tmp_path / "asked.json").write_text(json.dumps(changed))
    _predict(pairs[:1], weights, tmp_path)
    lines = _lines(caplog)
    assert "with other boosting" in lines[1] and lines[2].endswith("(1/1)")


@pytest.mark.slow
def test_a_score_is_removed_when_a_pair_is_predicted_again(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path
) -> None:
    _predict(pairs[:1], weights, tmp_path)
    score_predictions(pairs[:1], tmp_path)
    assert (tmp_path / "lesions.csv").is_file()
    _predict(pairs[:1], weights, tmp_path)
    assert (tmp_path / "lesions.csv").is_file()
    _predict(pairs, weights, tmp_path)
    assert not (tmp_path / "lesions.csv").exists()


@pytest.mark.slow
def test_the_time_limit_applies_before_each_pair(
    pairs: tuple[EvaluationPair, ...],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = iter((0.0, 9.0, 0.0, 9.0))
    clock = SimpleNamespace(monotonic=lambda: next(now), perf_counter=time.perf_counter)
    monkeypatch.setattr(predict, "time", clock)
    outputs = [(PROPAGATED, tmp_path)]
    with pytest.raises(BudgetSpentError, match=f"no time is left to predict {pairs[1].name}"):
        predict_pairs(pairs, weights, ["0"], outputs, "cpu", until=5.0)
    predict_pairs(pairs, weights, ["0"], outputs, "cpu", until=5.0)  # the time ends after the last pair
    assert len(_lines(caplog)) == 2 and score_predictions(pairs, tmp_path).failed == 0


@pytest.mark.slow
def test_predictions_of_other_weights_or_points_are_replaced(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _predict(pairs[:1], weights, tmp_path)
    first = labelmap_path(tmp_path, pairs[0]).read_bytes()
    other = write_model(tmp_path / "model", ("0",), seed=1)
    _predict(pairs[:1], other, tmp_path)
    assert "at other points, of other weights" in _lines(caplog)[1]
    assert labelmap_path(tmp_path, pairs[0]).read_bytes() != first
    _predict([], other, tmp_path, PointSetting("given"))
    assert score_predictions(pairs[:1], tmp_path).failed == 3  # the outdated prediction does not count
    assert "MISSING prediction; its 4 lesions get the worst score" in _lines(caplog)[-1]


@pytest.mark.slow
def test_a_failed_lesion_is_scored_as_missing_and_predicted_again(
    pairs: tuple[EvaluationPair, ...],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    segment = Segmenter.segment

    def failing(self: Segmenter, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        for prompt in prompts:
            if prompt.lesion_id in (2, 3):
                yield LesionFailure(prompt, RuntimeError("out of luck"))
        yield from segment(self, [prompt for prompt in prompts if prompt.lesion_id not in (2, 3)])

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "segment", failing)
        _predict(pairs[:1], weights, tmp_path)
    line = _lines(caplog)[0]
    assert "lesion 2 has NO PREDICTION" in line and "out of luck" in line
    records = read_pair_records(pairs[:1], tmp_path)
    assert {record.lesion: record.is_missing for record in records} == {
        "1": False,
        "2": True,
        "3+4": True,
        "all": False,
    }
    score = score_of(records)
    assert (score.failed, score.lesions, score.vanished, score.vanished_found) == (2, 3, 1, 0)
    records_path(tmp_path, pairs[0]).unlink()  # measured again with the same result
    assert read_pair_records(pairs[:1], tmp_path) == records
    _predict(pairs[:1], weights, tmp_path)
    assert score_predictions(pairs[:1], tmp_path).failed == 0


def test_missing_files_and_shared_folders_are_refused(
    pairs: tuple[EvaluationPair, ...], weights: Path, tmp_path: Path
) -> None:
    missing = replace(pairs[0], baseline=replace(pairs[0].baseline, image=tmp_path / "none.mha"))
    with pytest.raises(InputError, match=r"none.mha: is missing; expected the original files of 1 pairs"):
        _predict([missing], weights, tmp_path / "out")
    outputs = [(PROPAGATED, tmp_path), (PointSetting("given"), tmp_path)]
    with pytest.raises(InputError, match="is the folder of two point settings"):
        predict_pairs(pairs, weights, ["0"], outputs, "cpu")
