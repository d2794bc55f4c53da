"""Segmentation of a case in memory: results, progress, and merging what is finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from model.case.case import Case, Click, LesionPrompt, PointSource, Scan, Slot
from model.case.challenge import discover, read_case
from model.errors import AllLesionsFailedError
from model.inference.boost_options import BoostOptions
from model.inference.case_result import CaseResult, LesionStatus
from model.inference.lazy_backend import LazyBackend
from model.inference.lesion_steps import merge_lesions, predict_lesions
from model.inference.load import LoadedModel, load_model
from model.inference.merge import label_dtype
from model.inference.options import CaseOptions, ModelOptions
from model.inference.robust import RobustOptions, case_segmenter, function_segmenter
from model.inference.run_report import lesion_table
from model.inference.segment_case import CaseSegmentation, segment_case
from model.inference.segmenter import Segmenter
from model.propagation.pair_registrations import RegistrationCache

from ...helpers.cases_on_disk import CaseOnDisk
from ...helpers.paths import GOLDEN_MODEL

OPTIONS = CaseOptions(backend="identity")


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model(GOLDEN_MODEL, ModelOptions(device="cpu", folds=(0,)))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Lesions 1 and 2 with a mask in the baseline; only lesion 1 is clicked in the follow-up."""
    files = CaseOnDisk(tmp_path_factory.mktemp("case")).write()
    case = read_case(discover(files.folder))
    (scan,) = case.followup.scans
    scan = replace(scan, clicks=tuple(click for click in scan.clicks if click.lesion_id == 1))
    return replace(case, followup=replace(case.followup, scans=(scan,)))


@pytest.fixture(scope="module")
def result(case: Case, model: LoadedModel) -> CaseResult:
    return segment_case(case, model, OPTIONS)


@pytest.mark.slow
def test_the_result_holds_labelmaps_and_outcomes(case: Case, result: CaseResult) -> None:
    (scan,) = case.followup.scans
    assert result.case is case and set(result.labelmaps) == {Slot.PRIMARY}
    labelmap = result.labelmaps[Slot.PRIMARY]
    assert labelmap.dtype == np.uint8 and labelmap.shape == result.geometry(Slot.PRIMARY).shape_zyx
    given, propagated = result.outcomes
    assert (given.lesion_id, propagated.lesion_id) == (1, 2) and result.failed_ids == ()
    assert given.prompt is not None and given.prompt.followup_point.source is PointSource.GIVEN
    assert propagated.prompt is not None and propagated.estimate is not None
    assert propagated.prompt.followup_point.source is PointSource.PROPAGATED
    for outcome in result.outcomes:
        assert outcome.result is not None and outcome.result.support is None
        voxels = np.count_nonzero(labelmap == outcome.lesion_id)
        assert outcome.volume_followup_ml == pytest.approx(voxels * scan.geometry.voxel_volume_ml)
        assert outcome.status is (LesionStatus.SEGMENTED if voxels else LesionStatus.EMPTY)
        assert outcome.volume_baseline_ml
    assert len(result.registrations) == 1
    assert result.seconds.keys() >= {"locate", "patches", "predict", "export", "merge", "total"}


@pytest.mark.slow
def test_the_model_may_be_loaded_late_and_probabilities_kept(
    case: Case, model: LoadedModel, result: CaseResult
) -> None:
    options = replace(OPTIONS, keep_probabilities=True)
    kept = segment_case(case, lambda: model, options)
    assert np.array_equal(kept.labelmaps[Slot.PRIMARY], result.labelmaps[Slot.PRIMARY])
    assert all(lesion.support_probability is not None for lesion in kept.lesions) and len(kept.lesions) == 2


@pytest.mark.slow
def test_finished_lesions_can_be_merged_at_any_moment(case: Case, model: LoadedModel) -> None:
    registrations = RegistrationCache(LazyBackend("identity"))
    segmentation = CaseSegmentation(case, OPTIONS, registrations)
    before = segmentation.merge(is_finished=False)  # nothing is located yet
    assert before.unfinished_ids == (1, 2) and "unfinished" in lesion_table(before.outcomes)
    progress, statuses = [], []

    def on_lesion(lesion: object, done: int, total: int) -> None:
        progress.append((done, total))
        statuses.append([outcome.status for outcome in segmentation.merge(is_finished=False).outcomes])

    last = segmentation.run(model, on_lesion)
    assert progress == [(1, 2), (2, 2)]
    final = [outcome.status for outcome in last.outcomes]
    assert statuses == [[final[0], LesionStatus.UNFINISHED], final]


def test_the_steps_one_by_one_give_the_same_labelmap(
    case: Case, model: LoadedModel, result: CaseResult
) -> None:
    prompts = CaseSegmentation(case, OPTIONS, RegistrationCache(LazyBackend("identity"))).locate().prompts
    predicted = predict_lesions(prompts, case_segmenter(model))
    dtype = label_dtype([1, 2])
    labelmaps = merge_lesions(case.followup.scans, predicted.results, "probability", dtype)
    assert predicted.failures == ()
    assert np.array_equal(labelmaps[Slot.PRIMARY], result.labelmaps[Slot.PRIMARY])


@pytest.mark.slow
def test_a_network_that_takes_a_mask_gets_a_segmented_one_on_request(case: Case, model: LoadedModel) -> None:
    (scan,) = case.baseline.scans
    scan = replace(scan, mask=None, clicks=tuple(click for click in scan.clicks if click.lesion_id == 1))
    bare = replace(case, baseline=replace(case.baseline, scans=(scan,)))
    without = segment_case(bare, model, OPTIONS)
    assert without.baseline is None and without.outcomes[0].volume_baseline_ml is None
    (warning,) = [text for text in without.warnings if "takes a baseline mask" in text]
    assert warning.endswith(": 1")
    completed = segment_case(bare, model, replace(OPTIONS, segment_baseline=True))
    assert not [text for text in completed.warnings if "takes a baseline mask" in text]
    assert completed.baseline is not None
    (own,), (outcome,) = completed.baseline.lesions, completed.outcomes
    assert own.volume_ml and outcome.volume_baseline_ml == own.volume_ml
    assert outcome.prompt is not None and outcome.prompt.has_mask and outcome.result is not None
    mask, labelmap = outcome.prompt.baseline.mask, completed.baseline.labelmaps[Slot.PRIMARY]
    assert mask is not None and np.array_equal(scan.file_grid.file_labels(mask), labelmap)


def test_an_error_if_all_lesions_fail(
    case: Case, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Segmenter, prompt: LesionPrompt) -> None:
        raise ValueError("no patch")

    monkeypatch.setattr(Segmenter, "_tiled", fail)
    segmentation = CaseSegmentation(case, OPTIONS, RegistrationCache(LazyBackend("identity")))
    with pytest.raises(AllLesionsFailedError, match="none of the 2 lesions could be computed: no patch"):
        segmentation.run(model)
    failed = segmentation.merge()
    assert failed.failed_ids == (1, 2) and not failed.labelmaps[Slot.PRIMARY].any()


def test_a_lesion_given_as_new_that_is_not_there_is_not_counted_as_new(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    (scan,) = case.followup.scans
    clicked = replace(scan, clicks=(*scan.clicks, Click(9, (1.0, 1.0, 1.0))))
    case = replace(case, followup=replace(case.followup, scans=(clicked,)))
    nothing = function_segmenter(
        lambda request: (request.image > 0) & (request.lesion_id == 1), RobustOptions(BoostOptions())
    )
    result = segment_case(case, nothing, OPTIONS)
    (outcome,) = [outcome for outcome in result.outcomes if outcome.lesion_id == 9]
    assert outcome.status is LesionStatus.EMPTY and "has not been seen in any scan" in (outcome.message or "")
    assert "has not been seen in any scan" in caplog.text
    (line,) = [line for line in lesion_table(result.outcomes).splitlines() if line.startswith("9 ")]
    assert "new" not in line
    (gone,) = [outcome for outcome in result.outcomes if outcome.lesion_id == 2]
    assert gone.status is LesionStatus.EMPTY and gone.message is None  # a lesion of the baseline vanished


def test_a_case_without_lesions(case: Case, model: LoadedModel) -> None:
    def without_lesions(scans: Sequence[Scan]) -> tuple[Scan, ...]:
        return tuple(
            replace(scan, clicks=(), mask=None if scan.mask is None else np.zeros_like(scan.mask))
            for scan in scans
        )

    empty = Case(
        replace(case.baseline, scans=without_lesions(case.baseline.scans)),
        replace(case.followup, scans=without_lesions(case.followup.scans)),
    )
    result = segment_case(empty, model, OPTIONS)
    assert result.outcomes == () and not result.labelmaps[Slot.PRIMARY].any()
