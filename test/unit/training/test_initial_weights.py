"""Initial weights from checkpoints with other input channels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.errors import WeightsError
from model.network.difference_weighting import BLOCK
from model.network.input_variants import STEM_CHANNELS, InputVariant
from model.network.pet_ct import PET_CT_CHANNELS
from model.network.plan import read_plan
from model.network.weights import load_fold
from model.training.augment import VARIANTS
from model.training.initial_weights import load_initial
from model.training.training_network import new_network

from ...helpers.paths import GOLDEN_MODEL
from ...helpers.training_jobs import saved_checkpoint
from ...helpers.training_phantoms import config, plan

STEM = "encoder.stem.convs.0.conv.weight"
VARIANT_NAMES = (
    *("longitudinal", "mask-and-point", "point", "early-fusion", "difference-weighting"),
    "interactive",
)


def _stem_channels(variant: str) -> tuple[int, ...]:
    return VARIANTS[variant].stem_meaning  # type: ignore[index]


@pytest.mark.parametrize("source", VARIANT_NAMES)
@pytest.mark.parametrize("target", VARIANT_NAMES)
def test_stem_channels_are_copied_by_meaning(tmp_path: Path, source: str, target: str) -> None:
    path = saved_checkpoint(tmp_path, variant=source, seed=1)
    network = new_network(plan(), config(variant=target, seed=2))
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    saved = load_fold(path, None).state
    channels, saved_channels = _stem_channels(target), _stem_channels(source)
    lines = load_initial(network, path, channels, with_heads=False)
    state = network.state_dict()
    for number, channel in enumerate(channels):
        copied = channel in saved_channels
        expected = saved[STEM][:, saved_channels.index(channel)] if copied else fresh[STEM][:, number]
        assert torch.equal(state[STEM][:, number], expected)
    for name, tensor in state.items():
        if name != STEM:
            kept = name.startswith("decoder.seg_layers") or name not in saved
            assert torch.equal(tensor, fresh[name] if kept else saved[name])
            assert name in saved or name.startswith(BLOCK)
    assert ("initialised" in lines[0]) == (not set(channels) <= set(saved_channels))
    assert ("left out" in lines[0]) == (not set(saved_channels) <= set(channels))
    assert lines[1] == "last layers: initialised"
    if target == "difference-weighting":
        assert lines[2] == f"difference weighting: {'copied' if source == target else 'initialised'}"
    elif source == "difference-weighting":
        assert lines[2].startswith("6 tensors of checkpoint")


def test_the_ct_is_the_only_channel_in_common_of_pairs_and_pet_ct() -> None:
    pairs, pet_ct = _stem_channels("longitudinal"), _stem_channels("interactive")
    assert set(pairs) & set(pet_ct) == {0} and len(pet_ct) == 4
    assert [STEM_CHANNELS[channel] for channel in pet_ct][1:] == list(PET_CT_CHANNELS[1:])


def test_the_stem_of_multitalent_for_ct_and_pet_is_renamed(tmp_path: Path) -> None:
    """Its checkpoints have a stem for each data set, and list the encoder twice."""
    source = new_network(plan(), config(seed=1)).state_dict()
    stem, generator = "encoder.stem.", torch.manual_seed(3)
    named = {name: tensor for name, tensor in source.items() if not name.startswith(stem)}
    for key, inputs in (("221", 2), ("351_5", 1)):
        for name, tensor in source.items():
            if name.startswith(stem):
                shape = (8, inputs, 3, 3, 3) if name == STEM else tensor.shape
                named[f"{stem}{key}.{name.removeprefix(stem)}"] = torch.randn(shape, generator=generator)
    named |= {f"decoder.{name}": tensor for name, tensor in named.items() if name.startswith("encoder.")}
    path = tmp_path / "multitalent.pth"
    torch.save({"network_weights": named, "trainer_name": "MultiTalent_trainer_multistems_4000ep"}, path)
    network = new_network(plan(), config(variant="interactive", organs=3, seed=2))
    fresh = network.state_dict()[STEM].clone()
    lines = load_initial(network, path, _stem_channels("interactive"), with_heads=False)
    state = network.state_dict()
    assert torch.equal(state[STEM][:, :2], named["encoder.stem.221.convs.0.conv.weight"])
    assert torch.equal(state[STEM][:, 2:], fresh[:, 2:])
    norm = "convs.0.norm.weight"
    assert torch.equal(state[f"{stem}{norm}"], named[f"{stem}221.{norm}"])
    assert lines[0] == (
        "stem, 2 -> 4 channels: copied follow-up CT, PET; initialised tumor clicks, background clicks"
    )
    del_221 = {name: tensor for name, tensor in named.items() if ".stem.221." not in name}
    torch.save({"network_weights": del_221, "trainer_name": "MultiTalent"}, path)
    with pytest.raises(WeightsError, match=r"has stems 351_5; expected one without a name, or 221"):
        load_initial(network, path, _stem_channels("interactive"), with_heads=False)


def test_heads_are_copied_on_request(tmp_path: Path) -> None:
    path = saved_checkpoint(tmp_path, seed=1)
    network = new_network(plan(), config(seed=2))
    lines = load_initial(network, path, InputVariant.LONGITUDINAL.channels, with_heads=True)
    saved = load_fold(path).state
    assert all(torch.equal(tensor, saved[name]) for name, tensor in network.state_dict().items())
    assert lines[1] == "last layers: copied"


def test_only_the_ct_channel_is_copied_from_an_unknown_network(tmp_path: Path) -> None:
    """E.g. from one with eight channels, of which only the first is known to be a CT."""
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


def test_a_block_of_which_a_part_is_missing_is_refused(tmp_path: Path) -> None:
    network = new_network(plan(), config(variant="difference-weighting"))
    path, channels = tmp_path / "part.pth", (0, 3)
    state = dict(network.state_dict())
    del state[f"{BLOCK}norm_1.bias"]
    torch.save({"network_weights": state, "trainer_name": "LongiSegTrainerTrackingDiffWeighting"}, path)
    with pytest.raises(WeightsError, match=r"part.pth: has no skip_diff_weighting.norm_1.bias; expected"):
        load_initial(network, path, channels, with_heads=False)
    state[f"{BLOCK}norm_1.bias"] = torch.zeros(3)
    torch.save({"network_weights": state, "trainer_name": "LongiSegTrainerTrackingDiffWeighting"}, path)
    with pytest.raises(WeightsError, match=r"norm_1.bias is \[3\]; expected \[16\] by the plan"):
        load_initial(network, path, channels, with_heads=False)


@pytest.mark.parametrize("name", ["gone.pth", "gone.safetensors"])
def test_missing_initial_weights_are_refused(tmp_path: Path, name: str) -> None:
    network = new_network(plan(features=4), config())
    message = "{}: {}; expected a checkpoint, .pth or .safetensors"
    with pytest.raises(WeightsError) as caught:
        load_initial(network, tmp_path / name, (0, 1, 2, 3, 4), with_heads=False)
    assert str(caught.value) == message.format(tmp_path / name, "is missing")
    with pytest.raises(WeightsError) as caught:
        load_initial(network, tmp_path, (0, 1, 2, 3, 4), with_heads=False)
    assert str(caught.value) == message.format(tmp_path, "is a folder")


def test_initial_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = saved_checkpoint(tmp_path)
    with pytest.raises(WeightsError, match=r"other|by the plan"):
        load_initial(new_network(plan(features=4), config()), path, (0, 1, 2, 3, 4), with_heads=False)
    with pytest.raises(WeightsError, match="expected the residual-encoder U-Net of the plan"):
        golden = new_network(read_plan(GOLDEN_MODEL / "plans.json"), config())
        load_initial(golden, path, (0, 1, 2, 3, 4), with_heads=False)
