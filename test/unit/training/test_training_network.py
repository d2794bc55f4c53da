"""The network: fresh weights, published names, loading by inference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.network.pack import pack_weights
from model.network.plan import read_plan
from model.network.weights import build_network, load_fold
from model.training.augment import VARIANTS
from model.training.training_network import new_network, published_state, scales_of

from ...helpers.paths import GOLDEN_MODEL
from ...helpers.training_jobs import saved_checkpoint
from ...helpers.training_phantoms import config, plan

STEM = "encoder.stem.convs.0.conv.weight"
VARIANT_NAMES = ("longitudinal", "mask-and-point", "point")


def test_the_seed_determines_the_weights() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (new_network(plan(), config(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one.state_dict()[STEM], same.state_dict()[STEM])
    assert not torch.equal(one.state_dict()[STEM], other.state_dict()[STEM])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_exported_names_are_those_of_a_published_checkpoint() -> None:
    network = new_network(read_plan(GOLDEN_MODEL / "plans.json"), config())
    checkpoint = torch.load(GOLDEN_MODEL / "fold_0" / "checkpoint_final.pth", weights_only=True)
    state = published_state(network)
    assert state.keys() == checkpoint["network_weights"].keys()
    assert all(state[key].shape == value.shape for key, value in checkpoint["network_weights"].items())


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


def test_an_exported_fold_is_packed(tmp_path: Path) -> None:
    path = saved_checkpoint(tmp_path / "model")
    (packed,) = pack_weights(tmp_path / "model", tmp_path / "packed")
    state, own = load_fold(packed).state, load_fold(path).state
    assert state.keys() == own.keys() and all(torch.equal(state[key], own[key]) for key in own)


def test_duplicate_tensors_are_stored_once(tmp_path: Path) -> None:
    path = saved_checkpoint(tmp_path)
    count = sum(tensor.numel() for tensor in load_fold(path).state.values())
    assert path.stat().st_size < 4 * count * 1.3 + 200_000
