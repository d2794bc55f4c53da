"""The network with heads for organs: the tumour's numbers stay, the organs' are those of their heads."""

from __future__ import annotations

import torch

from model.network.organ_unet import OrganUNet
from model.network.resenc_unet import ResEncUNet
from test.helpers.golden_pet_ct import pet_ct_plan


def test_logits_of_tumour_and_organs() -> None:
    plan = pet_ct_plan().network.architecture
    torch.manual_seed(0)
    network, plain = OrganUNet(4, 2, 5, plan).eval(), ResEncUNet(4, 2, plan).eval()
    state = network.state_dict()
    last = len(plan.features_per_stage) - 2
    # The first two organs get the head of the tumour, the others that head upside down.
    head, organs = (f"decoder.{kind}.{last}" for kind in ("seg_layers", "organ_seg_layers"))
    for part in ("weight", "bias"):
        tumour = state[f"{head}.{part}"]
        state[f"{organs}.{part}"] = torch.cat((tumour, -tumour, tumour[:1]))
    network.load_state_dict(state)
    plain.load_state_dict({name: value for name, value in state.items() if "organ" not in name})
    with torch.inference_mode():
        channels = torch.randn(1, 4, 16, 16, 16)
        logits, expected = network(channels), plain(channels)
    assert logits.shape == (1, 7, 16, 16, 16)
    assert torch.equal(logits[:, :2], expected)
    torch.testing.assert_close(logits[:, 2:4], expected)
    torch.testing.assert_close(logits[:, 4:6], -expected)
