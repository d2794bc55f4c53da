"""Runs: learning, going on, order of data, several processes, files, collapsed folds."""

from __future__ import annotations

import csv
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import InputError, WeightsError
from model.network.encoding import HeatMap
from model.network.weights import load_fold
from model.training import train_ensemble as pipeline
from model.training.checkpoint import BEST, FINAL, LATEST, read_latest
from model.training.config import TrainingConfig
from model.training.data_source import patients_of
from model.training.distributed import World
from model.training.health import CollapsedFoldError, HealthCheck
from model.training.job import FoldJob, data_digest
from model.training.loader import Batch, Step, batches, schedule
from model.training.loop import Trainer, Validation, run_epoch
from model.training.prepared_data import FoldSplit, PreparedData
from model.training.sampler import Sampler
from model.training.stages import EnsembleJob, check_shares
from model.training.train_ensemble import train_ensemble
from model.training.train_fold import train_fold
from model.training.training_network import new_network, scales_of
from test.helpers.paths import CHECKOUT

from ...helpers import training_phantoms as phantoms
from ...helpers.training_phantoms import PATCH, config, patients, plan

HERE = World(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _job(folder: Path, **changes: object) -> FoldJob:
    small = plan(features=4)
    file = phantoms.write_plan(folder / "data", small)
    settings = config(**changes)
    return FoldJob(small, file, patients(2), patients(1), folder / "out", "0", settings, device="cpu")


def _stream(settings: TrainingConfig, numbers: tuple[int, ...] = (0, 1), first: int = 0) -> list[Batch]:
    sampler = Sampler(patients(), PATCH, settings)
    return list(batches(sampler, sampler, settings, first, numbers, pinned=False))


def test_one_batch_is_learnt_by_heart() -> None:
    settings = config(augment=False, learning_rate=0.01, iterations=1, epochs=1, momentum=0.99)
    batch = _stream(settings)[0]
    trainer = Trainer(new_network(plan(), settings), settings, HERE)
    dice = 0.0
    for _ in range(100):
        trainer.gradients(batch)
        trainer.update()
        with torch.no_grad():
            logits = scales_of(trainer.network(batch.channels))[0]
        predicted, target = logits[:, 1] > logits[:, 0], batch.target > 0
        dice = float(2 * (predicted & target).sum() / (predicted.sum() + target.sum()))
        if dice > 0.95:
            break
    assert target.any() and dice > 0.95


def test_the_order_of_data_does_not_depend_on_workers_or_processes_or_the_start() -> None:
    settings = config(epochs=2)
    alone = _stream(settings)
    assert [batch.step for batch in alone] == list(schedule(settings, 0))
    with_workers = _stream(replace(settings, workers=2))
    later = _stream(settings, first=1)
    halves = [_stream(settings, (0,)), _stream(settings, (1,))]
    for number, batch in enumerate(alone):
        assert torch.equal(batch.channels, with_workers[number].channels)
        parts = torch.cat([half[number].channels for half in halves])
        assert torch.equal(batch.channels, parts)
    assert torch.equal(alone[-2].channels, later[-2].channels)
    assert not torch.equal(alone[0].channels, alone[1].channels)
    assert torch.equal(alone[2].target, alone[5].target) and alone[2].step == Step(True, 0, 0)


def test_a_resumed_run_equals_one_without_interruption(tmp_path: Path) -> None:
    whole = _job(tmp_path / "whole")
    train_fold(whole, _quiet)
    cut = _job(tmp_path / "cut")
    said: list[str] = []

    def stop_after_two(line: str) -> None:
        if "epoch 3/4" in line:  # within the third epoch: it has to be done again
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_fold(cut, stop_after_two)
    train_fold(cut, said.append)
    assert said[0] == "fold 0: goes on after 2 epochs"
    one, other = read_latest(whole.folder / LATEST), read_latest(cut.folder / LATEST)
    assert one.progress == other.progress
    assert all(torch.equal(one.network[name], other.network[name]) for name in one.network)
    moments = zip(one.optimizer["state"].values(), other.optimizer["state"].values(), strict=True)
    assert all(torch.equal(a["momentum_buffer"], b["momentum_buffer"]) for a, b in moments)
    assert _losses(whole.folder) == _losses(cut.folder)


def _quiet(line: str) -> None:
    pass


def _losses(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "log.csv").open() as file:
        return [(row["epoch"], row["training_loss"], row["dice"]) for row in csv.DictReader(file)]


def test_a_run_leaves_a_model_folder(tmp_path: Path) -> None:
    job = _job(tmp_path, epochs=2)
    result = train_fold(job, _quiet)
    names = {path.name for path in job.folder.iterdir()} - {"tensorboard"}
    assert names == {LATEST, BEST, FINAL, "log.csv", "curve.png", "config.json", "health.json"}
    assert (job.output / "plans.json").is_file() and result.final == job.folder / FINAL
    assert len(_losses(job.folder)) == 2
    load_fold(result.final)
    assert json.loads((job.folder / "health.json").read_text())["state"] == "sound"
    assert json.loads((job.folder / "config.json").read_text())["learning_rate"] == 0.01
    said: list[str] = []
    assert train_fold(job, said.append).epochs == 0 and "finished before" in said[0]


@pytest.mark.parametrize("kind", HeatMap)
def test_the_weights_say_how_points_were_drawn(tmp_path: Path, kind: HeatMap) -> None:
    result = train_fold(_job(tmp_path, epochs=1, heat_map=str(kind)), _quiet)
    assert load_fold(result.final).heat_map is kind


def test_going_on_with_other_settings_or_data_is_refused(tmp_path: Path) -> None:
    job = _job(tmp_path, epochs=1)
    train_fold(job, _quiet)
    with pytest.raises(InputError, match=r"config\.json: was trained with epochs=1, not 2"):
        train_fold(replace(job, config=replace(job.config, epochs=2)), _quiet)
    (job.folder / FINAL).unlink()
    with pytest.raises(InputError, match="was trained with seed=12345, not 3; expected the same settings"):
        train_fold(replace(job, config=replace(job.config, seed=3)), _quiet)
    with pytest.raises(InputError, match="was trained on other patients"):
        train_fold(replace(job, training=patients(3)), _quiet)
    train_fold(replace(job, training=patients(3), restart=True), _quiet)


def test_another_plan_or_other_points_are_told(tmp_path: Path) -> None:
    job = _job(tmp_path, epochs=1)
    train_fold(job, _quiet)
    wider = replace(job, plan=plan(features=8), fold="1")
    with pytest.raises(InputError, match=r"out/plans\.json: is another plan than .*data/plans\.json"):
        train_fold(wider, _quiet)
    train_fold(replace(job, fold="1"), _quiet)
    (pair,) = job.validation.pairs[0]
    moved = replace(pair, lesions=(replace(pair.lesions[0], baseline_point_zyx=(1, 2, 3)), *pair.lesions[1:]))
    digests = {
        data_digest(job.plan, job.training, job.validation),
        data_digest(wider.plan, job.training, job.validation),
        data_digest(job.plan, job.training, patients_of([moved])),
    }
    assert len(digests) == 3


def test_long_epochs_are_saved_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.train_fold._SAVE_SECONDS", 0.0)
    job = _job(tmp_path, checkpoint_every=50)

    def stop(line: str) -> None:
        if "epoch 2/4" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_fold(job, stop)
    assert read_latest(job.folder / LATEST).progress.epochs_done == 1


def test_a_checkpoint_that_runs_code_is_refused(tmp_path: Path) -> None:
    job = _job(tmp_path, epochs=1)
    job.folder.mkdir(parents=True)
    torch.save({"network_weights": Path("x")}, job.folder / LATEST)
    with pytest.raises(WeightsError, match="is refused"):
        train_fold(job, _quiet)
    (job.folder / LATEST).write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match=r"checkpoint_latest\.pth"):
        train_fold(job, _quiet)


def test_initial_weights_are_said(tmp_path: Path) -> None:
    first = _job(tmp_path / "a", epochs=1, variant="mask-and-point")
    train_fold(first, _quiet)
    second = _job(tmp_path / "b", epochs=1)
    said: list[str] = []
    train_fold(replace(second, initial=first.folder / FINAL), said.append)
    assert "initial weights: stem, 3 -> 5 channels: copied follow-up CT, baseline mask" in said[0]


def test_a_collapsed_fold_is_stopped_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _job(tmp_path, epochs=20, iterations=1, learning_rate=1e-12, health_warmup=2, health_patience=3)

    def silent(plan_: object, settings: TrainingConfig) -> torch.nn.Module:
        network = new_network(plan_, settings)  # type: ignore[arg-type]
        for head in network.decoder.seg_layers:
            torch.nn.init.zeros_(head.weight)
            head.bias.data = torch.tensor([9.0, -9.0])
        return network

    monkeypatch.setattr("model.training.train_fold.new_network", silent)
    with pytest.raises(CollapsedFoldError, match="all background for 3 epochs in a row, up to epoch 4"):
        train_fold(job, _quiet)
    report = json.loads((job.folder / "health.json").read_text())
    assert report["state"] == "collapsed" and "all background" in report["reason"]
    assert not (job.folder / FINAL).exists() and len(_losses(job.folder)) == 5


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "gradients", lambda self, batch: math.nan)
    job = _job(tmp_path)
    with pytest.raises(CollapsedFoldError, match="the loss of epoch 0, iteration 0, is nan"):
        train_fold(job, _quiet)
    assert not (job.folder / LATEST).exists()


def test_health_rules() -> None:
    check = HealthCheck(config(epochs=100, health_warmup=2, health_patience=2))
    assert [check.epoch(n, 0.0, 0, 9).is_sound for n in range(3)] == [True, True, True]
    assert check.epoch(3, 0.5, 9, 9).misses == 0
    assert check.epoch(4, math.nan, 5, 0).misses == 0  # nothing to find
    check.epoch(5, 0.001, 5, 9)
    verdict = check.epoch(6, 0.001, 5, 9)
    assert verdict.reason == "validation was Dice below 0.01 for 2 epochs in a row, up to epoch 6"
    assert not check.end(9, 0.001).is_sound and check.end(9, 0.2).is_sound
    assert check.end(1, 0.001).is_sound  # within the warm-up


def test_a_scaler_skips_a_few_losses_that_are_no_numbers() -> None:
    check = HealthCheck(config())
    assert all(check.loss(0, n, math.inf, is_scaled=True).is_sound for n in range(10))
    assert not check.loss(0, 10, math.nan, is_scaled=True).is_sound
    assert check.loss(0, 11, 0.5, is_scaled=True).is_sound
    assert check.loss(0, 12, math.nan, is_scaled=True).is_sound
    assert not check.loss(0, 13, math.nan).is_sound


def test_a_skipped_step_changes_no_weight_and_is_in_no_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(epochs=1, iterations=2)
    trainer = Trainer(new_network(plan(features=4), settings), settings, HERE)
    losses, updates = iter([math.inf, 0.5]), []
    monkeypatch.setattr(trainer.scaler, "is_enabled", lambda: True)
    monkeypatch.setattr(trainer, "gradients", lambda batch: next(losses))
    monkeypatch.setattr(trainer, "update", lambda: updates.append(1))
    record = run_epoch(trainer, iter(_stream(settings)), settings, 0, HealthCheck(settings), None)
    assert record.training_loss == 0.5 and len(updates) == 1


def test_accumulated_gradients_are_those_of_the_batch() -> None:
    settings = config(batch_size=4, batch_dice=False)
    batch = _stream(settings, (0, 1, 2, 3))[0]
    found = []
    for micro in (0, 2, 1):
        trainer = Trainer(new_network(plan(features=4), settings), replace(settings, micro_batch=micro), HERE)
        loss = trainer.gradients(batch)
        found.append((loss, [p.grad.clone() for p in trainer.network.parameters()]))
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-5)
        for one, other in zip(found[0][1], gradients, strict=True):
            assert torch.allclose(one, other, atol=1e-5)


def test_the_learning_rate_falls_by_the_schedule() -> None:
    settings = config(epochs=10)
    trainer = Trainer(new_network(plan(features=4), settings), settings, HERE)
    rates = [trainer.set_epoch(epoch) for epoch in range(10)]
    assert rates == pytest.approx([0.01 * (1 - n / 10) ** 0.9 for n in range(10)])


def test_the_optimiser_is_the_papers() -> None:
    settings = TrainingConfig(batch_size=2, batch_dice=True)
    optimizer = Trainer(new_network(plan(features=4), settings), settings, HERE).optimizer
    assert isinstance(optimizer, torch.optim.SGD)
    (group,) = optimizer.param_groups
    names = ("lr", "momentum", "nesterov", "weight_decay", "dampening")
    assert [group[name] for name in names] == [0.01, 0.99, True, 3e-5, 0]


@pytest.mark.parametrize(("size", "step"), [(500.0, 12.0), (13.0, 12.0), (5.0, 5.0)])
def test_gradients_are_clipped(size: float, step: float) -> None:
    """Their norm over all weights is 12 at most; smaller ones are as they are."""
    settings = config(learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    trainer = Trainer(new_network(plan(features=4), settings), settings, HERE)
    weights = list(trainer.network.parameters())
    torch.manual_seed(0)
    gradients = [torch.randn_like(weight) for weight in weights]
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    before = [weight.detach().clone() for weight in weights]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient * (size / norm)
    trainer.update()
    moved = torch.cat([(old - new.detach()).flatten() for old, new in zip(before, weights, strict=True)])
    assert float(moved.norm()) == pytest.approx(step, rel=1e-4)


def test_the_best_checkpoint_is_that_of_the_best_moving_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of averages that keep 0.9 of the one before; the best single epoch is another one here."""
    dice, averages = [0.5, 0.9, 0.6, 0.7, 0.1], [0.5, 0.54, 0.546, 0.5614, 0.51526]
    weights: list[dict[str, torch.Tensor]] = []
    validate = Trainer.validate

    def told(self: Trainer, stream: Iterator[Batch]) -> Validation:
        validation = validate(self, stream)
        weights.append({name: tensor.clone() for name, tensor in self.network.state_dict().items()})
        return replace(validation, dice=dice[len(weights) - 1])

    monkeypatch.setattr(Trainer, "validate", told)
    job = _job(tmp_path, epochs=5, iterations=1)
    assert train_fold(job, _quiet).best_ema == pytest.approx(0.5614)
    with (job.folder / "log.csv").open() as file:
        assert [float(row["ema_dice"]) for row in csv.DictReader(file)] == pytest.approx(averages)
    best = torch.load(job.folder / BEST, weights_only=True)
    assert best["current_epoch"] == 4 and best["_best_ema"] == pytest.approx(0.5614)
    kept = load_fold(job.folder / BEST).state
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights[3].items())
    assert any(not torch.equal(kept[name], tensor) for name, tensor in weights[4].items())
    progress = read_latest(job.folder / LATEST).progress
    assert (progress.ema, progress.best_ema) == (pytest.approx(0.51526), pytest.approx(0.5614))


def test_a_batch_that_does_not_divide_is_told() -> None:
    assert list(World(1, 2, torch.device("cpu")).share(4)) == [2, 3]
    with pytest.raises(InputError, match="batch_size: is 3 for 2 processes; expected a multiple of 2"):
        World(0, 2, torch.device("cpu")).share(3)


@pytest.mark.parametrize(
    ("own", "first", "processes", "name"),
    [
        (2, 24, 4, r"batch_size: is 2"),
        (0, 24, 2, r"batch_size \(the plan's\): is 3"),
        (4, 6, 4, r"pretrain\.batch_size: is 6"),
        (4, 0, 2, r"pretrain\.batch_size \(the plan's\): is 3"),
    ],
)
def test_batches_of_both_stages_are_looked_at_before_the_first_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: int, first: int, processes: int, name: str
) -> None:
    job = _ensemble(tmp_path, own, first)

    @contextmanager
    def several(device: str) -> Iterator[World]:
        yield World(0, processes, torch.device("cpu"))

    def never(job_: FoldJob, say: object) -> None:
        raise AssertionError(f"{job_.folder} has begun")

    monkeypatch.setattr(pipeline, "joined", several)
    monkeypatch.setattr(pipeline, "train_fold", never)
    with pytest.raises(InputError, match=f"^{name} for {processes} processes; expected a multiple of"):
        train_ensemble(job, _quiet)
    assert not job.output.exists()
    for alike in (1, 2, 3, 6):
        check_shares(_ensemble(tmp_path, 6, 24), alike)
    check_shares(replace(_ensemble(tmp_path, 6, 7), pretraining=None), 3)


def _ensemble(folder: Path, own: int, first: int) -> EnsembleJob:
    """Two data sets that share no patient, with the batches of both stages."""
    small, everyone = plan(features=4), tuple(phantoms.pair(name) for name in ("A", "B"))
    file = phantoms.write_plan(folder / "data", small)
    data = PreparedData(folder / "data", small, file, everyone, (FoldSplit(("A",), ("B",)),))
    synthetic = replace(data, pairs=tuple(replace(one, patient_id=one.patient_id + "x") for one in everyone))
    return EnsembleJob(
        data,
        folder / "out",
        config(batch_size=own),
        pretraining=synthetic,
        pretraining_config=config(batch_size=first, sampling="pretraining"),
        device="cpu",
    )


def two_processes(script: str, *arguments: object) -> tuple[list[int], list[str], list[str]]:
    """Run a script twice, as torchrun does it; exit codes, and what each has written to stdout and stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=CHECKOUT,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=180) for process in both]
    return [process.returncode for process in both], [one for one, _ in told], [other for _, other in told]


_SCRIPT = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from test.unit.training.test_train_fold import _job
from model.training.train_fold import train_fold
job = _job(Path(sys.argv[1]), epochs=2, iterations=2, deep_supervision=sys.argv[2] == "True")
train_fold(job, lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize("deep", [True, False])
def test_two_processes_learn_what_one_does(tmp_path: Path, deep: bool) -> None:
    alone = _job(tmp_path / "one", epochs=2, iterations=2, deep_supervision=deep)
    train_fold(alone, _quiet)
    codes, said, _ = two_processes(_SCRIPT, tmp_path / "two", deep)
    assert codes == [0, 0]
    assert "epoch 2/2" in said[0] and "fold" not in said[1]
    one, two = (read_latest(tmp_path / name / "out" / "fold_0" / LATEST) for name in ("one", "two"))
    for name in one.network:
        assert torch.allclose(one.network[name], two.network[name], atol=1e-5), name
    assert np.isclose(one.progress.ema or 0, two.progress.ema or 0, atol=1e-3)
