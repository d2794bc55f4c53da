"""Our network against dynamic-network-architectures, the library of the published one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

from model.network.plan import Architecture
from model.network.resenc_unet import ResEncUNet, canonical_state


def _plan(stages: int, kind: str, rng: np.random.Generator) -> Architecture:
    """A small random topology with a number of stages; `kind` names its anisotropic stages."""
    flat = {"isotropic": 0, "first-flat": 1, "two-flat": 2, "last-flat": 1}[kind]
    strides = [(1, 1, 1)] + [(1, 2, 2) if s <= flat else (2, 2, 2) for s in range(1, stages)]
    if kind == "last-flat":
        strides[-1] = (2, 2, 1)
    kernels = [(1, 3, 3) if s < flat else (3, 3, 3) for s in range(stages)]
    return Architecture(
        features_per_stage=tuple(int(v) for v in rng.integers(2, 5, stages).cumsum()),
        kernel_sizes=tuple(kernels),
        strides=tuple(strides),
        blocks_per_stage=tuple(int(v) for v in rng.integers(1, 4, stages)),
        decoder_convs_per_stage=tuple(int(v) for v in rng.integers(1, 3, stages - 1)),
        conv_bias=bool(rng.integers(2)),
        norm_eps=1e-5,
        norm_affine=True,
        negative_slope=0.01,
    )


def _oracle(inputs: int, plan: Architecture, deep_supervision: bool) -> ResidualEncoderUNet:
    return ResidualEncoderUNet(
        inputs,
        len(plan.features_per_stage),
        plan.features_per_stage,
        torch.nn.Conv3d,
        plan.kernel_sizes,
        plan.strides,
        plan.blocks_per_stage,
        2,
        plan.decoder_convs_per_stage,
        plan.conv_bias,
        torch.nn.InstanceNorm3d,
        {"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
    ).eval()


@pytest.mark.slow
@pytest.mark.parametrize("stages", [4, 5, 6, 7])
@pytest.mark.parametrize("kind", ["isotropic", "first-flat", "two-flat", "last-flat"])
@pytest.mark.parametrize("deep_supervision", [False, True])
def test_the_network_equals_the_reference_on_random_plans(
    stages: int, kind: str, deep_supervision: bool
) -> None:
    rng = np.random.default_rng([stages, len(kind), deep_supervision])
    plan, inputs = _plan(stages, kind, rng), int(rng.integers(2, 6))
    # The deepest features keep two voxels on an axis: instance norm of a single voxel is an error.
    patch = [int(np.prod([s[a] for s in plan.strides])) * (2 if a == 0 else 1) for a in range(3)]
    torch.manual_seed(stages)
    oracle, ours = _oracle(inputs, plan, deep_supervision), ResEncUNet(inputs, 2, plan, deep_supervision)
    for tensor in oracle.state_dict().values():
        tensor.copy_(torch.randn_like(tensor) * 0.2 + (0.5 if tensor.ndim == 1 else 0))
    ours.load_state_dict({f"backbone.{key}": value for key, value in oracle.state_dict().items()})
    channels = torch.randn(2 if stages < 7 else 1, inputs, *patch)
    with torch.inference_mode():
        wanted, got = oracle(channels), ours.eval()(channels)
    pairs = zip(wanted, got, strict=True) if deep_supervision else [(wanted, got)]
    for expected, actual in pairs:
        assert expected.shape == actual.shape
        assert float((expected - actual).abs().max()) <= 1e-5


def _state() -> dict[str, torch.Tensor]:
    plan = _plan(4, "first-flat", np.random.default_rng(0))
    return {f"backbone.{k}": v for k, v in _oracle(5, plan, True).state_dict().items()}


def test_canonical_names_hold_each_tensor_once() -> None:
    network = ResEncUNet(5, 2, _plan(4, "first-flat", np.random.default_rng(0)))
    assert canonical_state(_state()).keys() == network.state_dict().keys()


def test_duplicate_tensors_that_differ() -> None:
    state = _state()
    key = next(key for key in state if "decoder.encoder" in key)
    state[key] = state[key] + 1
    with pytest.raises(ValueError, match="differs from its twin"):
        canonical_state(state)


def test_a_state_dict_with_a_missing_tensor() -> None:
    network = ResEncUNet(5, 2, _plan(4, "first-flat", np.random.default_rng(0)))
    state = {key: value for key, value in _state().items() if "seg_layers.0" not in key}
    with pytest.raises(RuntimeError, match="seg_layers"):
        network.load_state_dict(state)


def test_initial_weights_are_finite_and_trainable() -> None:
    network = ResEncUNet(5, 2, _plan(4, "isotropic", np.random.default_rng(0)))
    network.initialize()
    network(torch.randn(1, 5, 16, 16, 16)).mean().backward()
    gradients = [p.grad for name, p in network.named_parameters() if "seg_layers" not in name]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
