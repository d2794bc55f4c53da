"""Training an ensemble: pretraining, folds, excluded patients, and jobs that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model.errors import InputError
from model.network.weights import inspect_weights, load_folds, load_plan
from model.training import train_ensemble as pipeline
from model.training.config import PRESETS, TrainingConfig
from model.training.data_source import ScanPair
from model.training.health import CollapsedFoldError
from model.training.job import FoldJob, FoldResult
from model.training.prepared_data import FoldSplit, PreparedData
from model.training.stages import EnsembleJob
from model.training.train_ensemble import train_ensemble

from ...helpers import training_phantoms as phantoms
from ...helpers.log_messages import messages
from ...helpers.training_phantoms import config, pair, plan

pytestmark = pytest.mark.slow


def _data(folder: Path, patients: list[str]) -> PreparedData:
    small = plan(features=4)
    pairs: tuple[ScanPair, ...] = tuple(
        pair(name, 10 * ord(name[0]) + int(name[1:] or 0)) for name in patients
    )
    splits = tuple(
        FoldSplit(tuple(name for name in patients if name != held_out), (held_out,))
        for held_out in patients[:2]
    )
    return PreparedData(folder, small, phantoms.write_plan(folder, small), pairs, splits)


def _job(folder: Path, pretrained: list[str] | None = None) -> EnsembleJob:
    short = config(epochs=1, iterations=1)
    other = None if pretrained is None else _data(folder / "synthetic", pretrained)
    return EnsembleJob(
        _data(folder / "real", ["A", "B", "C"]),
        folder / "out",
        short,
        pretraining=other,
        pretraining_config=replace(short, sampling="pretraining"),
        device="cpu",
    )


def test_inference_loads_a_trained_ensemble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = train_ensemble(_job(tmp_path, ["S1", "S2", "S3"]))
    assert [result.fold for result in results] == ["0", "1"]
    manifest = inspect_weights(tmp_path / "out", (0, 1))
    assert load_plan(manifest).patch_size_zyx == phantoms.PATCH
    assert [fold.trainer_name for fold in load_folds(manifest)] == ["AutoPETTrainer"] * 2
    shared = tmp_path / "out" / "pretraining" / "fold_shared" / "checkpoint_final.pth"
    lines = messages(caplog, "model.training")
    assert shared.is_file() and any("initial weights: stem, 5 -> 5" in line for line in lines)
    assert "ready for --weights" in lines[-1]
    caplog.clear()
    train_ensemble(_job(tmp_path, ["S1", "S2", "S3"]))
    assert sum("finished before" in line for line in messages(caplog)) == 4


def _recorded(monkeypatch: pytest.MonkeyPatch) -> list[FoldJob]:
    jobs: list[FoldJob] = []

    def record(job: FoldJob) -> FoldResult:
        jobs.append(job)
        return FoldResult(job.fold, 1, None, job.folder / "checkpoint_final.pth")

    monkeypatch.setattr(pipeline, "train_fold", record)
    return jobs


def test_pretraining_excludes_the_validation_patients_of_its_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = _recorded(monkeypatch)
    train_ensemble(_job(tmp_path, ["A", "B", "C", "D"]))
    assert [str(job.folder.relative_to(tmp_path / "out")) for job in jobs] == [
        "pretraining/fold_0",
        "fold_0",
        "pretraining/fold_1",
        "fold_1",
    ]
    for number, held_out in ((0, "A"), (2, "B")):
        assert set(jobs[number].training.names) == {"A", "B", "C", "D"} - {held_out}
        assert jobs[number].validation.names == (held_out,)  # validated on, not trained on
        assert jobs[number + 1].validation.names == (held_out,)
        assert jobs[number + 1].initial == jobs[number].folder / "checkpoint_final.pth"


def test_pretraining_excludes_validation_patients_under_other_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The scan of a validation patient, named after its file as by `train synthesize --ct`."""
    jobs = _recorded(monkeypatch)
    job = _job(tmp_path, ["S1", "S2"])
    assert job.pretraining is not None
    first, second = job.pretraining.pairs
    renamed = replace(first, baseline=job.data.pairs[0].baseline)
    job = replace(job, pretraining=replace(job.pretraining, pairs=(renamed, second)))
    train_ensemble(job)
    assert [job.folder.name for job in jobs] == ["fold_0", "fold_0", "fold_1", "fold_1"]
    assert (jobs[0].training.names, jobs[0].validation.names) == (("S2",), ("S1",))
    assert {*jobs[2].training.names, *jobs[2].validation.names} == {"S1", "S2"}
    lines = messages(caplog)
    assert "fold 0: pretraining excludes S1 (a scan of A), on whom the fold is validated" in lines
    assert any(line.startswith("fold 1: pretraining excludes no patient") for line in lines)


def test_pretraining_without_shared_patients_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _recorded(monkeypatch)
    train_ensemble(_job(tmp_path, ["S1", "S2"]))
    assert "fold 0: pretraining shares no patient with the data" in messages(caplog)


def test_settings_left_to_the_plan_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both stages, before they are recorded or compared."""
    jobs = _recorded(monkeypatch)
    job = _job(tmp_path, ["S1", "S2"])
    left = replace(job.config, batch_size=0, batch_dice="auto")
    train_ensemble(replace(job, config=left, pretraining_config=left, folds=("0",)))
    assert [(one.config.batch_size, one.config.batch_dice) for one in jobs] == [(3, True)] * 2


def test_restart_repeats_each_pretraining_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = _recorded(monkeypatch)
    train_ensemble(replace(_job(tmp_path, ["S1", "S2"]), restart=True))
    assert [(job.folder.name, job.restart) for job in jobs] == [
        ("fold_shared", True),
        ("fold_0", True),
        ("fold_shared", False),
        ("fold_1", True),
    ]


def test_fold_all_trains_on_all_patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = _recorded(monkeypatch)
    train_ensemble(replace(_job(tmp_path), folds=("all",)))
    assert jobs[0].folder.name == "fold_all" and jobs[0].training.names == ("A", "B", "C")


@pytest.mark.parametrize("fold", ["2", "-1", "none"])
def test_an_unknown_fold_is_refused(tmp_path: Path, fold: str) -> None:
    with pytest.raises(InputError, match=f"--fold: is {fold}; expected 0 to 1"):
        train_ensemble(replace(_job(tmp_path), folds=(fold,)))


def test_pretraining_data_of_another_plan_are_refused(tmp_path: Path) -> None:
    job = _job(tmp_path, ["S1"])
    assert job.pretraining is not None
    other = replace(job.pretraining, plan=plan(features=8))
    with pytest.raises(InputError, match="architecture differs from that in"):
        train_ensemble(replace(job, pretraining=other))


def test_other_folds_are_trained_when_one_collapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folds: list[str] = []

    def collapse(job: FoldJob) -> FoldResult:
        folds.append(job.fold)
        if job.fold == "0":
            raise CollapsedFoldError("fold 0 has collapsed")
        return FoldResult(job.fold, 1, None, job.folder / "checkpoint_final.pth")

    monkeypatch.setattr(pipeline, "train_fold", collapse)
    with pytest.raises(CollapsedFoldError, match="fold 0 has collapsed"):
        train_ensemble(_job(tmp_path))
    assert folds == ["0", "1"]


def test_reversed_pretraining_pairs_have_the_real_scan_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = _recorded(monkeypatch)
    job = _job(tmp_path, ["S1", "S2"])
    turned = TrainingConfig(sampling="pretraining", reverse_pairs=True)
    train_ensemble(replace(job, pretraining_config=turned, folds=("0",)))
    assert jobs[0].training.pairs[0][0].followup.scan_id.endswith("-0")
    assert jobs[1].training.pairs[0][0].followup.scan_id.endswith("-1")


def test_the_pretraining_preset_differs_only_in_sampling() -> None:
    assert PRESETS["pretraining"] == TrainingConfig(sampling="pretraining")
