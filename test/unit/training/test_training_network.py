"""The network: fresh weights, published names, loading by inference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.network.pack import pack_weights
from model.network.plan import read_plan
from model.network.weights import build_network, load_fold
from model.training.augment import VARIANTS
from model.training.loss import SegmentationLoss
from model.training.training_network import new_network, published_state, scales_of

from ...helpers.paths import GOLDEN_DIFFERENCE, GOLDEN_MODEL
from ...helpers.training_jobs import saved_checkpoint
from ...helpers.training_phantoms import config, plan

STEM = "encoder.stem.convs.0.conv.weight"
VARIANT_NAMES = ("longitudinal", "mask-and-point", "point", "early-fusion", "difference-weighting")


def test_the_seed_determines_the_weights() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (new_network(plan(), config(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one.state_dict()[STEM], same.state_dict()[STEM])
    assert not torch.equal(one.state_dict()[STEM], other.state_dict()[STEM])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("folder", "variant"),
    [
        (GOLDEN_MODEL, "longitudinal"),
        (GOLDEN_DIFFERENCE / "networks" / "dw_aniso5", "difference-weighting"),
        (GOLDEN_DIFFERENCE / "networks" / "fusion4_iso4", "early-fusion"),
    ],
)
def test_exported_names_are_those_of_a_published_checkpoint(folder: Path, variant: str) -> None:
    network = new_network(read_plan(folder / "plans.json"), config(variant=variant))
    checkpoint = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=True)
    state = published_state(network)
    assert state.keys() == checkpoint["network_weights"].keys()
    assert all(state[key].shape == value.shape for key, value in checkpoint["network_weights"].items())


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANT_NAMES)
@pytest.mark.parametrize("sampling", ["pairs", "pretraining"])
def test_an_exported_fold_predicts_the_same(tmp_path: Path, variant: str, sampling: str) -> None:
    path = saved_checkpoint(tmp_path, variant=variant, sampling=sampling)
    fold = load_fold(path)
    assert fold.variant is VARIANTS[variant]  # type: ignore[index]
    assert (fold.mirror_axes, fold.configuration) == ((0, 1, 2), "3d_fullres")
    network = new_network(plan(), config(variant=variant, sampling=sampling)).eval()
    channels = torch.randn(1, len(fold.variant.channels), 24, 24, 24)
    with torch.no_grad():
        expected = scales_of(network(channels))
        loaded = build_network(read_plan(tmp_path / "plans.json"), fold)(channels)
    assert [scale.shape[2] for scale in expected] == [24, 12]
    assert torch.equal(expected[0], loaded)


def test_a_training_step_with_difference_weighting_is_the_published_one() -> None:
    """Logits and loss of all scales, and the gradient of every parameter."""
    folder = GOLDEN_DIFFERENCE / "networks" / "dw_iso4"
    stored, expected = (
        np.load(folder / "training_step.npz"),
        json.loads((folder / "training_step.json").read_text()),
    )
    network = new_network(read_plan(folder / "plans.json"), config(variant="difference-weighting"))
    fold = load_fold(folder / "fold_0" / "checkpoint_final.pth")
    network.load_state_dict(fold.state)
    scales = scales_of(network(torch.from_numpy(stored["input"])[:, list(fold.variant.channels)]))
    for number, scale in enumerate(scales):
        assert np.abs(scale.detach().numpy() - stored[f"logits_scale_{number}"]).max() <= 1e-4
    loss = SegmentationLoss(batch_dice=False, smooth=1e-5)(scales, torch.from_numpy(stored["target"][:, 0]))
    assert float(loss.detach()) == pytest.approx(expected["loss"], abs=1e-4)
    loss.backward()
    found = {
        f"backbone.{name}": float(p.grad.norm())
        for name, p in network.named_parameters()
        if p.grad is not None
    }
    found = {
        name.removeprefix("backbone.") if "skip_diff" in name else name: norm for name, norm in found.items()
    }
    assert found.keys() - expected["gradient_norms"].keys() == set(expected["no_gradient"])
    # A bias before an instance norm has no gradient but noise.
    norms = {name: norm for name, norm in expected["gradient_norms"].items() if norm >= 1e-5}
    assert {name: found[name] for name in norms} == pytest.approx(norms, rel=1e-3) and len(norms) > 70


def test_an_exported_fold_is_packed(tmp_path: Path) -> None:
    path = saved_checkpoint(tmp_path / "model")
    (packed,) = pack_weights(tmp_path / "model", tmp_path / "packed")
    state, own = load_fold(packed).state, load_fold(path).state
    assert state.keys() == own.keys() and all(torch.equal(state[key], own[key]) for key in own)


def test_duplicate_tensors_are_stored_once(tmp_path: Path) -> None:
    path = saved_checkpoint(tmp_path)
    count = sum(tensor.numel() for tensor in load_fold(path).state.values())
    assert path.stat().st_size < 4 * count * 1.3 + 200_000
