"""Runs of a fold: resuming, files, refusals, collapse."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.errors import InputError, WeightsError
from model.network.encoding import HeatMap
from model.network.plan import Plan
from model.network.resenc_unet import ResEncUNet
from model.network.weights import load_fold
from model.training.checkpoint import BEST, FINAL, LATEST, read_latest
from model.training.config import TrainingConfig
from model.training.data_source import patients_of
from model.training.health import CollapsedFoldError
from model.training.job import BudgetSpentError, data_digest
from model.training.loader import Batch
from model.training.loop import Trainer, Validation
from model.training.train_fold import train_fold
from model.training.training_network import new_network

from ...helpers.log_messages import messages, on_each_message
from ...helpers.training_jobs import fold_job
from ...helpers.training_phantoms import patients, plan

pytestmark = pytest.mark.slow


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = fold_job(tmp_path / "whole", weight_average=0.9)
    train_fold(whole)
    cut = fold_job(tmp_path / "cut", weight_average=0.9)

    def stop_in_third(message: str) -> None:
        if "epoch 3/4" in message:  # before its checkpoint is written, so that it is trained again
            raise KeyboardInterrupt

    with on_each_message(stop_in_third), pytest.raises(KeyboardInterrupt):
        train_fold(cut)
    caplog.clear()
    train_fold(cut)
    assert messages(caplog)[0] == "fold 0: resumes after 2 epochs"
    one, other = read_latest(whole.folder / LATEST), read_latest(cut.folder / LATEST)
    assert one.progress == other.progress
    assert all(torch.equal(one.network[name], other.network[name]) for name in one.network)
    assert one.average and all(torch.equal(one.average[name], other.average[name]) for name in one.average)
    moments = zip(one.optimizer["state"].values(), other.optimizer["state"].values(), strict=True)
    assert all(torch.equal(a["momentum_buffer"], b["momentum_buffer"]) for a, b in moments)
    assert _losses(whole.folder) == _losses(cut.folder)


def _losses(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "log.csv").open() as file:
        return [(row["epoch"], row["training_loss"], row["dice"]) for row in csv.DictReader(file)]


@pytest.mark.usefixtures("curves")
def test_a_trained_fold_is_a_model_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = fold_job(tmp_path, epochs=2)
    result = train_fold(job)
    names = {path.name for path in job.folder.iterdir()} - {"tensorboard"}
    assert names == {LATEST, BEST, FINAL, "log.csv", "curve.png", "config.json", "health.json"}
    assert (job.output / "plans.json").is_file() and result.final == job.folder / FINAL
    assert len(_losses(job.folder)) == 2
    load_fold(result.final)
    assert json.loads((job.folder / "health.json").read_text())["state"] == "sound"
    assert json.loads((job.folder / "config.json").read_text())["learning_rate"] == 0.01
    caplog.clear()
    assert train_fold(job).epochs == 0 and "finished before" in messages(caplog)[0]


@pytest.mark.parametrize("kind", HeatMap)
def test_checkpoints_record_the_kind_of_heat_map(tmp_path: Path, kind: HeatMap) -> None:
    result = train_fold(fold_job(tmp_path, epochs=1, heat_map=str(kind)))
    assert load_fold(result.final).heat_map is kind


def test_resuming_with_other_settings_or_data_is_refused(tmp_path: Path) -> None:
    job = fold_job(tmp_path, epochs=1)
    train_fold(job)
    with pytest.raises(InputError, match=r"config\.json: was trained with epochs=1, not 2"):
        train_fold(replace(job, config=replace(job.config, epochs=2)))
    (job.folder / FINAL).unlink()
    with pytest.raises(InputError, match="was trained with seed=12345, not 3; expected the same settings"):
        train_fold(replace(job, config=replace(job.config, seed=3)))
    with pytest.raises(InputError, match="was trained on other patients"):
        train_fold(replace(job, training=patients(3)))
    train_fold(replace(job, training=patients(3), restart=True))


def test_another_plan_is_refused_and_changes_the_data_digest_as_do_points(tmp_path: Path) -> None:
    job = fold_job(tmp_path, epochs=1)
    train_fold(job)
    wider = replace(job, plan=plan(features=8), fold="1")
    with pytest.raises(InputError, match=r"out/plans\.json: differs from .*data/plans\.json"):
        train_fold(wider)
    train_fold(replace(job, fold="1"))
    (pair,) = job.validation.pairs[0]
    moved = replace(pair, lesions=(replace(pair.lesions[0], baseline_point_zyx=(1, 2, 3)), *pair.lesions[1:]))
    digests = {
        data_digest(job.plan, job.training, job.validation),
        data_digest(wider.plan, job.training, job.validation),
        data_digest(job.plan, job.training, patients_of([moved])),
    }
    assert len(digests) == 3


def test_checkpoints_are_also_written_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.train_fold._SAVE_SECONDS", 0.0)
    job = fold_job(tmp_path, checkpoint_every=50)

    def stop_in_second(message: str) -> None:
        if "epoch 2/4" in message:
            raise KeyboardInterrupt

    with on_each_message(stop_in_second), pytest.raises(KeyboardInterrupt):
        train_fold(job)
    assert read_latest(job.folder / LATEST).progress.epochs_done == 1


def test_a_checkpoint_that_runs_code_is_refused(tmp_path: Path) -> None:
    job = fold_job(tmp_path, epochs=1)
    job.folder.mkdir(parents=True)
    torch.save({"network_weights": Path("x")}, job.folder / LATEST)
    with pytest.raises(WeightsError, match="is refused"):
        train_fold(job)
    (job.folder / LATEST).write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match=r"checkpoint_latest\.pth"):
        train_fold(job)


def test_copied_initial_weights_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = fold_job(tmp_path / "a", epochs=1, variant="mask-and-point")
    train_fold(first)
    second = fold_job(tmp_path / "b", epochs=1)
    caplog.clear()
    train_fold(replace(second, initial=first.folder / FINAL))
    line = messages(caplog)[0]
    assert "initial weights: stem, 3 -> 5 channels: copied follow-up CT, baseline mask" in line


def test_a_collapsed_fold_is_stopped_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = fold_job(tmp_path, epochs=20, iterations=1, learning_rate=1e-12, health_warmup=2, health_patience=3)

    def background_only(plan_: Plan, settings: TrainingConfig) -> ResEncUNet:
        network = new_network(plan_, settings)
        for head in network.decoder.seg_layers:
            assert isinstance(head, torch.nn.Conv3d) and head.bias is not None
            torch.nn.init.zeros_(head.weight)
            head.bias.data = torch.tensor([9.0, -9.0])
        return network

    monkeypatch.setattr("model.training.train_fold.new_network", background_only)
    with pytest.raises(CollapsedFoldError, match="all background for 3 epochs in a row, up to epoch 4"):
        train_fold(job)
    report = json.loads((job.folder / "health.json").read_text())
    assert report["state"] == "collapsed" and "all background" in report["reason"]
    assert not (job.folder / FINAL).exists() and len(_losses(job.folder)) == 5


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "gradients", lambda self, batch: math.nan)
    job = fold_job(tmp_path)
    with pytest.raises(CollapsedFoldError, match="the loss of epoch 0, iteration 0, is nan"):
        train_fold(job)
    assert not (job.folder / LATEST).exists()


def test_the_best_checkpoint_is_that_of_the_best_moving_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moving average keeps 0.9 of the one before; the epoch of the best single Dice is another one."""
    dice, averages = [0.5, 0.9, 0.6, 0.7, 0.1], [0.5, 0.54, 0.546, 0.5614, 0.51526]
    weights: list[dict[str, torch.Tensor]] = []
    validate = Trainer.validate

    def validate_as(self: Trainer, stream: Iterator[Batch]) -> Validation:
        validation = validate(self, stream)
        weights.append({name: tensor.clone() for name, tensor in self.network.state_dict().items()})
        return replace(validation, dice=dice[len(weights) - 1])

    monkeypatch.setattr(Trainer, "validate", validate_as)
    job = fold_job(tmp_path, epochs=5, iterations=1)
    assert train_fold(job).best_ema == pytest.approx(0.5614)
    with (job.folder / "log.csv").open() as file:
        assert [float(row["ema_dice"]) for row in csv.DictReader(file)] == pytest.approx(averages)
    best = torch.load(job.folder / BEST, weights_only=True)
    assert best["current_epoch"] == 4 and best["_best_ema"] == pytest.approx(0.5614)
    kept = load_fold(job.folder / BEST).state
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights[3].items())
    assert any(not torch.equal(kept[name], tensor) for name, tensor in weights[4].items())
    progress = read_latest(job.folder / LATEST).progress
    assert [progress.ema, progress.best_ema] == pytest.approx([0.51526, 0.5614])


def test_a_fold_stops_when_its_time_is_over_and_resumes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = fold_job(tmp_path, epochs=3, iterations=1, checkpoint_every=50)
    with pytest.raises(BudgetSpentError, match=r"no time is left for fold 0") as caught:
        train_fold(replace(job, until=time.monotonic()))
    assert caught.value.exit_code == 7
    assert not (tmp_path / "out").exists()

    def wait_after_first(message: str) -> None:
        if "epoch 1/3" in message:
            time.sleep(max(0.0, until - time.monotonic()))

    until = time.monotonic() + 2.0
    with (
        on_each_message(wait_after_first),
        pytest.raises(BudgetSpentError, match=r"is over after 1 of 3 epochs"),
    ):
        train_fold(replace(job, until=until))
    saved = read_latest(job.folder / LATEST)
    assert saved.progress.epochs_done == 1
    caplog.clear()
    assert train_fold(replace(job, until=time.monotonic() + 600)).epochs == 2
    assert "resumes after 1 epochs" in messages(caplog)[0]
    assert train_fold(replace(job, until=0.0)).epochs == 0  # finished: no time is needed
