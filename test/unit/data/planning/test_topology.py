"""Topology of planned networks."""

from __future__ import annotations

import pytest

from model.data.planning.topology import feature_count, topology_for


def test_feature_count_equals_that_of_the_network_library() -> None:
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    import torch

    topology = topology_for((3, 0.8, 0.8), (20, 96, 80))
    features, blocks = (4, 8, 8, 8, 8), (1, 2, 2, 1, 1)
    assert len(topology.strides) == len(features)
    network = unet.ResidualEncoderUNet(
        1,
        len(features),
        features,
        torch.nn.Conv3d,
        topology.kernel_sizes,
        topology.strides,
        blocks,
        2,
        [1] * 4,
        True,
        torch.nn.InstanceNorm3d,
        {},
        None,
        {},
        torch.nn.LeakyReLU,
        {},
    )
    assert feature_count(topology, features, blocks) == network.compute_conv_feature_map_size(
        topology.patch_size
    )
