"""Ensemble: memory ladder, batches, mirrored views and failures, with small networks on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import expit

from model.errors import MemoryExhaustedError, WeightsError
from model.inference import ensemble as module
from model.inference.ensemble import Ensemble
from model.inference.memory import Rung
from model.inference.options import ModelOptions
from model.inference.time_budget import FoldPace, TimeBudget
from model.network.input_variants import InputVariant
from model.network.resenc_unet import ResEncUNet
from model.network.weights import FoldWeights, build_network, inspect_weights, load_folds, load_plan
from test.helpers.clocks import HandClock
from test.helpers.paths import GOLDEN_DIFFERENCE, GOLDEN_MODEL

# The golden model: the shipped one may change.
MODEL = GOLDEN_MODEL
MANIFEST = inspect_weights(MODEL, (0, 1))
PLAN = replace(load_plan(MANIFEST), patch_size_zyx=(16, 32, 32))  # small, to be fast
FOLDS = list(load_folds(MANIFEST))
PATCHES = [
    np.random.default_rng(i).normal(size=(5, *PLAN.patch_size_zyx)).astype(np.float32) for i in range(3)
]

Forward = Callable[[Ensemble, ResEncUNet, torch.Tensor], torch.Tensor]


def _ensemble(**options: object) -> Ensemble:
    return Ensemble(PLAN, FOLDS, ModelOptions(device="cpu", **options))  # type: ignore[arg-type]


def _channels(index: int) -> npt.NDArray[np.float32]:
    return PATCHES[index]


def _margins(ensemble: Ensemble) -> list[npt.NDArray[np.float32]]:
    found = {
        p.index: p.margin for p in ensemble.predict([partial(_channels, i) for i in range(len(PATCHES))])
    }
    margins = [found[index] for index in range(len(PATCHES))]
    assert all(margin is not None for margin in margins)
    return [margin for margin in margins if margin is not None]


def test_fewer_folds_within_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folds of 10 s for three patches: the first patch gets both, later ones what is left."""
    clock, computed = HandClock(), Ensemble._scores

    def slow(ensemble: Ensemble, network: ResEncUNet, channels: torch.Tensor) -> torch.Tensor:
        clock.now += 10
        return computed(ensemble, network, channels)

    monkeypatch.setattr(Ensemble, "_scores", slow)
    whole, first = _margins(_ensemble(batch=1)), _margins(Ensemble(PLAN, FOLDS[:1], ModelOptions("cpu")))
    for seconds, folds in ((61, (2, 2, 2)), (51, (1, 2, 2)), (31, (1, 1, 1)), (5, (1, 1, 1))):
        ensemble, clock.now = _ensemble(batch=1), 0
        budget = TimeBudget(seconds, clock)
        ensemble.pace = FoldPace(budget, len(PATCHES))
        margins = _margins(ensemble)
        assert ensemble.forwards == sum(folds) and bool(budget.notes) is (sum(folds) < 6)
        for margin, count, both, one in zip(margins, folds, whole, first, strict=True):
            expected = both if count == 2 else 2 * one
            assert np.allclose(margin, expected, atol=1e-4)


@pytest.fixture(scope="module")
def undisturbed() -> list[npt.NDArray[np.float32]]:
    """Each fold alone, each lesion alone, summed."""
    networks = [build_network(PLAN, fold) for fold in FOLDS]
    with torch.inference_mode():
        logits = [sum(net(torch.from_numpy(p)[None])[0] for net in networks) for p in PATCHES]
    return [(values[1] - values[0]).numpy() for values in logits if isinstance(values, torch.Tensor)]


def _close(got: list[npt.NDArray[np.float32]], wanted: list[npt.NDArray[np.float32]]) -> bool:
    """Margins reach 50 here, where float32 has steps of 4e-6, so they are compared as probabilities too."""
    pairs = list(zip(got, wanted, strict=True))
    return all(np.abs(a - b).max() < 1e-4 and np.abs(expit(a) - expit(b)).max() <= 1e-5 for a, b in pairs)


def _refusing(monkeypatch: pytest.MonkeyPatch, refuse: Callable[[Ensemble, torch.Tensor], bool]) -> list[str]:
    """Let forward passes run out of memory if ``refuse`` says so; returns the rungs on which they did."""
    forward, refused = Ensemble._forward, []

    def wrapped(self: Ensemble, network: ResEncUNet, channels: torch.Tensor) -> torch.Tensor:
        if refuse(self, channels):
            refused.append(self.rung.describe())
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, network, channels)

    monkeypatch.setattr(Ensemble, "_forward", wrapped)
    return refused


@pytest.mark.slow
def test_margins_are_summed_over_the_folds(undisturbed: list[npt.NDArray[np.float32]]) -> None:
    assert _close(_margins(_ensemble()), undisturbed)


@pytest.mark.slow
def test_out_of_memory_halves_the_batch(
    monkeypatch: pytest.MonkeyPatch, undisturbed: list[npt.NDArray[np.float32]]
) -> None:
    refused = _refusing(monkeypatch, lambda _, channels: len(channels) > 1)
    ensemble = _ensemble(batch=3)
    assert _close(_margins(ensemble), undisturbed)
    assert len(refused) == 1 and ensemble.rung.batch == 1 and ensemble.rung.resident
    assert "out of memory" in ensemble.notes[0]


@pytest.mark.slow
def test_out_of_memory_loads_one_fold_at_a_time(
    monkeypatch: pytest.MonkeyPatch, undisturbed: list[npt.NDArray[np.float32]]
) -> None:
    _refusing(monkeypatch, lambda ensemble, _: ensemble.rung.resident)
    built: list[FoldWeights] = []

    def counted(plan: object, fold: FoldWeights, device: str = "cpu") -> ResEncUNet:
        built.append(fold)
        return build_network(PLAN, fold, device)

    monkeypatch.setattr(module, "build_network", counted)
    ensemble = _ensemble()
    assert _close(_margins(ensemble), undisturbed)
    assert not ensemble.rung.resident and ensemble.rung.batch == 1
    one_at_a_time = built[len(FOLDS) :]  # what came before was the resident attempt
    assert [fold.path for fold in one_at_a_time] == [fold.path for fold in FOLDS]  # never once per lesion


@pytest.mark.slow
def test_out_of_memory_moves_from_a_gpu_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch, undisturbed: list[npt.NDArray[np.float32]]
) -> None:
    """The CPU stands in for a GPU: only the name of the rung's device differs."""
    refused = _refusing(monkeypatch, lambda ensemble, _: ensemble.rung.device != "cpu")
    ensemble = _ensemble(precision="fp32")
    ensemble.rung = Rung("cpu:0", "fp32", 4, resident=True)
    assert _close(_margins(ensemble), undisturbed)
    assert ensemble.rung.device == "cpu"
    steps = ["batch 4, all", "batch 2, all", "batch 1, all", "batch 1, one fold"]
    assert len(refused) == len(steps)
    assert all(step in rung for step, rung in zip(steps, refused, strict=True))


@pytest.mark.slow
def test_out_of_memory_on_the_last_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    _refusing(monkeypatch, lambda *_: True)
    with pytest.raises(MemoryExhaustedError, match="out of memory even with cpu"):
        _margins(_ensemble())


@pytest.mark.slow
def test_finished_lesions_are_not_predicted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))
    _refusing(monkeypatch, lambda ensemble, _: ensemble.rung.batch == 2 and next(calls) == 2)
    encoded: list[int] = []

    def encode(index: int) -> npt.NDArray[np.float32]:
        encoded.append(index)
        return PATCHES[index]

    done = [p.index for p in _ensemble().predict([partial(encode, i) for i in range(3)])]
    assert sorted(done) == [0, 1, 2] and encoded.count(0) == encoded.count(1) == 1


@pytest.mark.parametrize("resident", [True, False])
def test_a_failed_forward_pass_does_not_affect_other_lesions(
    resident: bool, monkeypatch: pytest.MonkeyPatch, undisturbed: list[npt.NDArray[np.float32]]
) -> None:
    forward = Ensemble._forward

    def jinxed(self: Ensemble, network: ResEncUNet, channels: torch.Tensor) -> torch.Tensor:
        if any(torch.equal(c.contiguous(), torch.from_numpy(PATCHES[1])) for c in channels):
            raise ValueError("jinxed")
        return forward(self, network, channels)

    monkeypatch.setattr(Ensemble, "_forward", jinxed)
    ensemble = _ensemble()
    ensemble.rung = replace(ensemble.rung, resident=resident)
    found = {p.index: p for p in ensemble.predict([partial(_channels, i) for i in range(3)])}
    assert "jinxed" in str(found[1].error)
    for index in (0, 2):
        margin = found[index].margin
        assert margin is not None and np.abs(margin - undisturbed[index]).max() < 1e-4


def test_a_failed_encoding_does_not_affect_other_lesions() -> None:
    def encode(index: int) -> npt.NDArray[np.float32]:
        if index == 0:
            raise ValueError("no patch")
        return PATCHES[index]

    found = {p.index: p.error for p in _ensemble().predict([partial(encode, i) for i in range(3)])}
    assert str(found[0]) == "no patch" and found[1] is None and found[2] is None


@pytest.mark.slow
def test_mirrored_views_are_averaged() -> None:
    axes = FOLDS[0].mirror_axes
    views = list(chain.from_iterable(combinations([a + 2 for a in axes], n) for n in range(len(axes) + 1)))
    channels = torch.from_numpy(PATCHES[0])[None]
    expected = torch.zeros(1, 2, *PLAN.patch_size_zyx)
    with torch.inference_mode():
        for fold in FOLDS:
            network = build_network(PLAN, fold)
            for view in views:
                logits = network(channels.flip(view))
                assert isinstance(logits, torch.Tensor)
                expected += logits.flip(view) / len(views)
    margin = next(iter(_ensemble(tta=True).predict([partial(_channels, 0)]))).margin
    assert len(views) == 8 and margin is not None
    assert np.abs(margin - (expected[0, 1] - expected[0, 0]).numpy()).max() < 1e-4


@pytest.mark.slow
def test_a_forward_pass_that_overflows_half_precision_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, seen = ResEncUNet.forward, []

    def overflowing(self: ResEncUNet, channels: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        seen.append(torch.is_autocast_enabled("cpu"))
        if seen[-1]:
            return torch.full((len(channels), 2, *channels.shape[2:]), torch.inf)
        return forward(self, channels)

    monkeypatch.setattr(ResEncUNet, "forward", overflowing)
    ensemble = _ensemble(precision="fp16")
    assert all(np.isfinite(margin).all() for margin in _margins(ensemble))
    assert seen[:2] == [True, False] and "half precision" in ensemble.notes[0]


def test_only_the_patch_that_overflows_takes_the_repeated_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(_: ResEncUNet, channels: torch.Tensor) -> torch.Tensor:
        value = 1.0 if torch.is_autocast_enabled("cpu") else 5.0
        logits = torch.zeros((len(channels), 2, *channels.shape[2:]))
        logits[:, 1] = value
        if value == 1 and torch.equal(channels[0], torch.from_numpy(PATCHES[0])):
            logits[0] = torch.inf
        return logits

    monkeypatch.setattr(ResEncUNet, "forward", overflowing)
    margins = _margins(_ensemble(precision="fp16", batch=2))
    assert [float(margin.mean()) for margin in margins] == [5 * len(FOLDS), len(FOLDS), len(FOLDS)]


def test_batches_are_filled_if_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def counting(_: ResEncUNet, channels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(channels))
        return torch.zeros((len(channels), 2, *channels.shape[2:]))

    monkeypatch.setattr(ResEncUNet, "forward", counting)
    monkeypatch.setattr(Ensemble, "_is_narrow_on_cpu", False)
    for fills, expected in ((False, {2, 1}), (True, {2})):
        sizes.clear()
        _margins(Ensemble(PLAN, FOLDS, ModelOptions(device="cpu", batch=2), fills_batches=fills))
        assert set(sizes) == expected


@pytest.mark.parametrize(
    ("variant", "trainer"),
    [
        (InputVariant.POINT, "AutoPETTrainerCrossSecPoint"),
        (InputVariant.POINT_MASK, "AutoPETTrainerCrossSecMaskPretrained1e3"),
    ],
)
def test_cross_sectional_networks_use_their_channels(variant: InputVariant, trainer: str) -> None:
    network = ResEncUNet(len(variant.channels), 2, PLAN.architecture)
    network.initialize()
    fold = FoldWeights(FOLDS[0].path, network.state_dict(), trainer, "3d_fullres", (), variant)
    ensemble = Ensemble(PLAN, [fold], ModelOptions(device="cpu"))
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(PATCHES[0][list(variant.channels)])[None])
    assert isinstance(logits, torch.Tensor)
    margin = next(iter(ensemble.predict([partial(_channels, 0)]))).margin
    assert margin is not None
    assert np.abs(margin - (logits[0, 1] - logits[0, 0]).numpy()).max() < 1e-4


def test_a_cross_sectional_model_is_recognised_by_its_checkpoint(tmp_path: Path) -> None:
    """Two of the five channels are used, with the mirror axes of the checkpoint."""
    checkpoint = torch.load(FOLDS[0].path, weights_only=True)
    checkpoint |= {"trainer_name": "AutoPETTrainerCrossSecPoint", "inference_allowed_mirroring_axes": (2,)}
    state = checkpoint["network_weights"]
    for key in [key for key in state if ".stem." in key and state[key].ndim == 5]:
        state[key] = state[key][:, [0, 3]].clone()
    (tmp_path / "fold_0").mkdir()
    torch.save(checkpoint, tmp_path / "fold_0" / "checkpoint_final.pth")
    (fold,) = load_folds(inspect_weights(tmp_path, (0,)))
    assert fold.variant is InputVariant.POINT
    ensemble = Ensemble(PLAN, [fold], ModelOptions(device="cpu", tta=True))
    changed = PATCHES[0].copy()
    changed[[1, 2, 4]] = 9  # channels that the network does not use
    first, second = (p.margin for p in ensemble.predict([lambda: PATCHES[0], lambda: changed]))
    assert first is not None and second is not None and np.array_equal(first, second)
    assert ensemble.forwards == 2  # both lesions in one batch, two views


@pytest.mark.parametrize(("name", "tta"), [("dw_iso4", True), ("dw_iso4", False), ("fusion4_iso4", False)])
def test_networks_of_two_points_get_their_channels(name: str, tta: bool) -> None:
    """All flips of all channels of both time points together, as published."""
    manifest = inspect_weights(GOLDEN_DIFFERENCE / "networks" / name, (0,))
    stored = np.load(manifest.folder / "io.npz")
    options = ModelOptions(device="cpu", folds=(0,), tta=tta)
    ensemble = Ensemble(load_plan(manifest), list(load_folds(manifest)), options)
    logits = stored["logits_mirrored" if tta else "logits"]
    margin = next(ensemble.predict([lambda: stored["input"]])).margin
    assert margin is not None
    assert np.abs(margin - (logits[1] - logits[0])).max() <= 2e-4  # 1e-4 of each logit


@pytest.mark.parametrize("resident", [True, False])
def test_a_prediction_that_is_not_finite_is_a_failure_of_that_lesion(resident: bool) -> None:
    ensemble = _ensemble(batch=3)
    ensemble.rung = replace(ensemble.rung, resident=resident)
    spoilt = np.full_like(PATCHES[0], np.nan)
    encode = [lambda: PATCHES[0], lambda: spoilt, lambda: PATCHES[2]]
    errors = {p.index: p.error for p in ensemble.predict(encode)}
    assert errors[0] is None and errors[2] is None
    assert isinstance(errors[1], ArithmeticError)


@pytest.mark.slow
def test_patches_are_encoded_just_in_time() -> None:
    cut: list[int] = []

    def encode(index: int) -> npt.NDArray[np.float32]:
        cut.append(index)
        return PATCHES[index % 3]

    predictions = _ensemble(batch=2).predict([partial(encode, index) for index in range(12)])
    next(predictions)
    assert len(cut) <= 4  # this batch and the next
    assert [prediction.index for prediction in predictions] == list(range(1, 12))


@pytest.mark.slow
def test_out_of_memory_while_encoding_steps_down_too(undisturbed: list[npt.NDArray[np.float32]]) -> None:
    """It is not a failure of that lesion."""
    refusals = iter([True])

    def encode(index: int) -> npt.NDArray[np.float32]:
        if next(refusals, False):
            raise MemoryError
        return PATCHES[index]

    ensemble = _ensemble()
    found = {p.index: p.margin for p in ensemble.predict([partial(encode, i) for i in range(3)])}
    margins = [found[index] for index in range(3)]
    assert _close([margin for margin in margins if margin is not None], undisturbed)
    assert ensemble.rung.batch == 1


def test_other_errors_do_not_step_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(module, "build_network", broken)
    ensemble = _ensemble()
    with pytest.raises(RuntimeError, match="no such kernel"):
        _margins(ensemble)
    assert ensemble.notes == []


def test_missing_folds_and_folds_of_another_plan_are_refused() -> None:
    with pytest.raises(WeightsError, match="no folds"):
        Ensemble(PLAN, [], ModelOptions(device="cpu"))
    wider = replace(PLAN.architecture, features_per_stage=(8, 16, 24, 32))
    with pytest.raises(WeightsError, match="does not fit its plan"):
        Ensemble(replace(PLAN, architecture=wider), FOLDS, ModelOptions(device="cpu"))
