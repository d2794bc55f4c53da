"""The network: fresh weights, published names, initial weights of other widths, ways back to inference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.errors import WeightsError
from model.network.input_variants import InputVariant
from model.network.pack import pack_weights
from model.network.plan import read_plan
from model.network.weights import build_network, load_fold
from model.training.augment import VARIANTS
from model.training.checkpoint import Progress, RunIdentity, network_checkpoint, write_checkpoint
from model.training.initial_weights import load_initial
from model.training.training_network import new_network, published_state, scales_of
from test.helpers.paths import GOLDEN_MODEL

from ...helpers.training_phantoms import config, plan, write_plan

GOLDEN = GOLDEN_MODEL
STEM = "encoder.stem.convs.0.conv.weight"
VARIANT_NAMES = ("longitudinal", "mask-and-point", "point")


def _saved(folder: Path, **changes: object) -> Path:
    settings = config(**changes)
    network = new_network(plan(), settings)
    path = folder / "fold_0" / "checkpoint_final.pth"
    identity = RunIdentity("3d_fullres", "0", "")
    write_checkpoint(path, network_checkpoint(network, settings, identity, Progress()))
    write_plan(folder, plan())
    return path


def test_the_seed_alone_makes_the_weights() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (new_network(plan(), config(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one.state_dict()[STEM], same.state_dict()[STEM])
    assert not torch.equal(one.state_dict()[STEM], other.state_dict()[STEM])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_published_names_are_those_of_a_published_checkpoint() -> None:
    network = new_network(read_plan(GOLDEN / "plans.json"), config())
    checkpoint = torch.load(GOLDEN / "fold_0" / "checkpoint_final.pth", weights_only=True)
    state = published_state(network)
    assert state.keys() == checkpoint["network_weights"].keys()
    assert all(state[key].shape == value.shape for key, value in checkpoint["network_weights"].items())


@pytest.mark.parametrize("variant", VARIANT_NAMES)
@pytest.mark.parametrize("sampling", ["pairs", "pretraining"])
def test_an_exported_fold_predicts_the_same(tmp_path: Path, variant: str, sampling: str) -> None:
    path = _saved(tmp_path, variant=variant, sampling=sampling)
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
    path = _saved(tmp_path / "model")
    (packed,) = pack_weights(tmp_path / "model", tmp_path / "packed")
    state, own = load_fold(packed).state, load_fold(path).state
    assert state.keys() == own.keys() and all(torch.equal(state[key], own[key]) for key in own)


def test_twins_are_stored_once(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    count = sum(tensor.numel() for tensor in load_fold(path).state.values())
    assert path.stat().st_size < 4 * count * 1.3 + 200_000


@pytest.mark.parametrize("source", VARIANT_NAMES)
@pytest.mark.parametrize("target", VARIANT_NAMES)
def test_the_stem_takes_the_channels_that_it_knows(tmp_path: Path, source: str, target: str) -> None:
    path = _saved(tmp_path, variant=source, seed=1)
    network = new_network(plan(), config(variant=target, seed=2))
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    given = load_fold(path).state
    ours, theirs = VARIANTS[target].channels, VARIANTS[source].channels  # type: ignore[index]
    lines = load_initial(network, path, ours, with_heads=False)
    state = network.state_dict()
    for number, channel in enumerate(ours):
        copied = channel in theirs
        expected = given[STEM][:, theirs.index(channel)] if copied else fresh[STEM][:, number]
        assert torch.equal(state[STEM][:, number], expected)
    for name, tensor in state.items():
        if name != STEM:
            kept = name.startswith("decoder.seg_layers")
            assert torch.equal(tensor, fresh[name] if kept else given[name])
    assert ("initialised" in lines[0]) == (not set(ours) <= set(theirs))
    assert ("left out" in lines[0]) == (not set(theirs) <= set(ours))
    assert lines[1] == "last layers: initialised"


def test_heads_are_copied_when_asked_for(tmp_path: Path) -> None:
    path = _saved(tmp_path, seed=1)
    network = new_network(plan(), config(seed=2))
    lines = load_initial(network, path, InputVariant.LONGITUDINAL.channels, with_heads=True)
    given = load_fold(path).state
    assert all(torch.equal(tensor, given[name]) for name, tensor in network.state_dict().items())
    assert lines[1] == "last layers: copied"


def test_a_network_of_another_kind_gives_its_ct(tmp_path: Path) -> None:
    """As one with eight channels, of which only the first is known to be a CT."""
    path = tmp_path / "other.pth"
    state = new_network(plan(), config(seed=1)).state_dict()
    state[STEM] = torch.randn(8, 8, 3, 3, 3)
    state["decoder.organ_seg_layers.0.weight"] = torch.zeros(1)
    wrapped = {f"_orig_mod.{name}": tensor for name, tensor in state.items()}
    torch.save({"network_weights": wrapped, "trainer_name": "nnInteractiveTrainer"}, path)
    network = new_network(plan(), config(seed=2))
    lines = load_initial(network, path, (0, 1, 2, 3, 4), with_heads=False)
    assert torch.equal(network.state_dict()[STEM][:, 0], state[STEM][:, 0])
    assert lines[0].startswith("stem, 8 -> 5 channels: copied follow-up CT; initialised baseline CT")
    assert "7 left out" in lines[0] and lines[2].startswith("1 tensors of other.pth")


@pytest.mark.parametrize("name", ["gone.pth", "gone.safetensors"])
def test_weights_that_are_not_there_are_told(tmp_path: Path, name: str) -> None:
    network = new_network(plan(features=4), config())
    message = "{}: {}; expected a checkpoint, .pth or .safetensors"
    with pytest.raises(WeightsError) as caught:
        load_initial(network, tmp_path / name, (0, 1, 2, 3, 4), with_heads=False)
    assert str(caught.value) == message.format(tmp_path / name, "is missing")
    with pytest.raises(WeightsError) as caught:
        load_initial(network, tmp_path, (0, 1, 2, 3, 4), with_heads=False)
    assert str(caught.value) == message.format(tmp_path, "is a folder")


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    with pytest.raises(WeightsError, match=r"other|by the plan"):
        load_initial(new_network(plan(features=4), config()), path, (0, 1, 2, 3, 4), with_heads=False)
    with pytest.raises(WeightsError, match="expected a residual-encoder U-Net as the plan has it"):
        golden = new_network(read_plan(GOLDEN / "plans.json"), config())
        load_initial(golden, path, (0, 1, 2, 3, 4), with_heads=False)
