"""Networks with difference weighting, and early fusion, against what the published classes make of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.network.difference_weighting import DifferenceWeightedUNet
from model.network.input_variants import InputVariant
from model.network.plan import Plan
from model.network.resenc_unet import ResEncUNet
from model.network.weights import FoldWeights, build_network, inspect_weights, load_folds, load_plan
from test.helpers.paths import GOLDEN_DIFFERENCE

TOLERANCE = 1e-4
WEIGHTED = ["dw_iso4", "dw_aniso5", "dw_nobias_2dec", "dw_resencl6"]


def _golden(name: str) -> tuple[ResEncUNet, FoldWeights, Plan, dict[str, torch.Tensor]]:
    folder = GOLDEN_DIFFERENCE / "networks" / name
    manifest = inspect_weights(folder, (0,))
    plan, (fold,) = load_plan(manifest), load_folds(manifest)
    stored = {key: torch.from_numpy(values) for key, values in np.load(folder / "io.npz").items()}
    return build_network(plan, fold), fold, plan, stored


def _logits(network: ResEncUNet, fold: FoldWeights, encoded: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits = network(encoded[list(fold.variant.channels)][None])
    assert isinstance(logits, torch.Tensor)
    return logits[0]


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max())


@pytest.mark.parametrize("name", [*WEIGHTED, "fusion4_iso4"])
def test_logits(name: str) -> None:
    network, fold, _, stored = _golden(name)
    fused = name.startswith("fusion")
    assert fold.variant is (InputVariant.EARLY_FUSION if fused else InputVariant.DIFFERENCE_WEIGHTING)
    assert _difference(_logits(network, fold, stored["input"]), stored["logits"]) <= TOLERANCE
    same = stored["input"].clone()
    same[1], same[4] = same[0], same[3]
    assert _difference(_logits(network, fold, same), stored["logits_baseline_is_followup"]) <= TOLERANCE


@pytest.mark.parametrize("name", ["dw_iso4", "fusion4_iso4"])
def test_the_baseline_mask_does_not_matter_and_the_order_of_time_points_does(name: str) -> None:
    network, fold, _, stored = _golden(name)
    unmasked = stored["input"].clone()
    assert unmasked[2].any()
    unmasked[2] = 0
    logits = _logits(network, fold, stored["input"])
    assert torch.equal(_logits(network, fold, unmasked), logits)
    swapped = stored["input"][[1, 0, 2, 4, 3]]
    assert _difference(_logits(network, fold, swapped), logits) > 0.5


def test_the_block_stage_by_stage() -> None:
    network, _, plan, stored = _golden("dw_iso4")
    assert isinstance(network, DifferenceWeightedUNet)
    stages = range(len(plan.architecture.features_per_stage))
    skips = [torch.stack([stored[f"skip_followup_{s}"], stored[f"skip_baseline_{s}"]]) for s in stages]
    with torch.inference_mode():
        joined = network.skip_diff_weighting(skips)
    assert all(_difference(joined[s][0], stored[f"fused_{s}"]) <= TOLERANCE for s in stages)
    assert not skips  # freed stage by stage


def test_samples_of_a_batch_do_not_mix() -> None:
    network, fold, _, stored = _golden("dw_iso4")
    channels = stored["input"][list(fold.variant.channels)]
    others = torch.randn_like(channels)
    with torch.inference_mode():
        logits = network(torch.stack([others, channels]))
    assert isinstance(logits, torch.Tensor)
    assert _difference(logits[1], stored["logits"]) <= TOLERANCE


def test_the_epsilon_of_the_block_is_not_that_of_the_plan() -> None:
    network, _, plan, _ = _golden("dw_nobias_2dec")
    assert isinstance(network, DifferenceWeightedUNet) and plan.architecture.norm_eps == 1e-3
    norms = list(network.skip_diff_weighting.children())
    assert [norm.eps for norm in norms] == [1e-5] * len(plan.architecture.features_per_stage)


def test_a_fresh_block_leaves_equal_time_points_as_they_are() -> None:
    _, _, plan, _ = _golden("dw_iso4")
    network = DifferenceWeightedUNet(2, plan.architecture)
    network.initialize()
    same = torch.randn(1, 2, 16, 16, 16).repeat(1, 2, 1, 1, 1)
    with torch.inference_mode():
        skips = network.encoder(same[:, :2])
        joined = network.skip_diff_weighting([torch.cat([skip, skip]) for skip in skips])
    assert all(torch.equal(one, other) for one, other in zip(joined, skips, strict=True))


def test_gradients_reach_every_weight() -> None:
    _, _, plan, _ = _golden("dw_iso4")
    network = DifferenceWeightedUNet(2, plan.architecture, deep_supervision=True)
    network.initialize()
    logits = network(torch.randn(2, 4, 16, 16, 16))
    assert isinstance(logits, list) and len(logits) == len(plan.architecture.features_per_stage) - 1
    torch.stack([scale.square().mean() for scale in logits]).sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
