"""Training of the heads for organs: published names, logits, and their loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from model.data.pet_ct.prepared_study import UNKNOWN_ORGAN
from model.network.input_variants import InputVariant, marks_are_assumed
from model.network.pack import pack_weights
from model.network.weights import build_network, load_fold
from model.training.checkpoint import Progress, RunIdentity, network_checkpoint, write_checkpoint
from model.training.pet_ct.organ_loss import organ_loss
from model.training.training_network import new_network, published_state, scales_of

from ....helpers.golden_pet_ct import PET_CT_MODEL, pet_ct_plan
from ....helpers.training_phantoms import config, plan


def test_exported_names_are_those_of_a_published_checkpoint() -> None:
    path = PET_CT_MODEL / "fold_0" / "checkpoint_final.pth"
    published = torch.load(path, weights_only=True)["network_weights"]
    organs = published["decoder.organ_seg_layers.0.weight"].shape[0] - 1
    network = new_network(pet_ct_plan().network, config(variant="interactive", organs=organs))
    state = {name.removeprefix("backbone."): tensor for name, tensor in published_state(network).items()}
    assert state.keys() == published.keys()
    assert all(state[name].shape == tensor.shape for name, tensor in published.items())


@pytest.mark.parametrize("organs", [0, 3])
def test_an_exported_fold_predicts_the_same_lesion(tmp_path: Path, organs: int) -> None:
    settings = config(variant="interactive", organs=organs, seed=4)
    network = new_network(plan(), settings).eval()
    path = tmp_path / "fold_0" / "checkpoint_final.pth"
    path.parent.mkdir()
    (tmp_path / "plans.json").write_text("{}")
    identity = RunIdentity("3d_fullres", "0", "")
    write_checkpoint(path, network_checkpoint(network, settings, identity, Progress()))
    channels = torch.randn(1, 4, 24, 24, 24, generator=torch.manual_seed(1))
    scales = [scale.detach() for scale in scales_of(network(channels))]
    assert [scale.shape[1] for scale in scales] == [2 + (organs and organs + 1)] * len(scales)
    (packed,) = pack_weights(tmp_path, tmp_path / "packed")
    for file in (path, packed):
        fold = load_fold(file, None)
        assert fold.variant is InputVariant.PET_CT_CLICKS and not marks_are_assumed(fold.trainer_name)
        assert ("NoOrgans" in fold.trainer_name) == (organs == 0)
        assert torch.equal(build_network(plan(), fold)(channels), scales[0][:, :2])


def test_without_deep_supervision_there_is_one_tensor() -> None:
    network = new_network(plan(), config(variant="interactive", organs=2, deep_supervision=False))
    assert network(torch.zeros(1, 4, 24, 24, 24)).shape == (1, 5, 24, 24, 24)


def _loss_by_hand(logits: torch.Tensor, organs: torch.Tensor, batch_dice: bool) -> float:
    probability, target = torch.softmax(logits, 1), one_hot(organs, logits.shape[1]).movedim(-1, 1)
    axes = (0, 2, 3, 4) if batch_dice else (2, 3, 4)
    common, total = (probability * target).sum(axes), (probability + target).sum(axes)
    dice = ((2 * common + 0.1) / (total + 0.1))[..., 1:].mean()
    return float(cross_entropy(logits, organs) - dice)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_the_loss_is_cross_entropy_minus_dice_of_all_organs(batch_dice: bool) -> None:
    generator = torch.manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, 7, generator=generator)
    organs = torch.randint(0, 4, (2, 5, 6, 7), generator=generator)
    found = organ_loss([logits], organs.to(torch.uint8), batch_dice, 0.1)
    assert float(found) == pytest.approx(_loss_by_hand(logits, organs, batch_dice), abs=1e-5)


def test_unknown_organs_do_not_count() -> None:
    generator = torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, 4, generator=generator).requires_grad_()
    organs = torch.randint(0, 3, (2, 4, 4, 4), generator=generator).to(torch.uint8)
    organs[1] = UNKNOWN_ORGAN
    alone = organ_loss([logits[:1]], organs[:1], False, 0.1)
    both = organ_loss([logits], organs, False, 0.1)
    assert float(both) == pytest.approx(float(alone), abs=1e-6)
    none = organ_loss([logits, logits[:, :, ::2, ::2, ::2]], torch.full_like(organs, UNKNOWN_ORGAN), True, 0)
    assert float(none) == 0
    none.backward()
    assert logits.grad is not None and not logits.grad.any()
    assert np.isfinite(float(both))
