"""Topology of a U-Net by nnU-Net's rules: its stages along each axis, and its feature voxels.

Implemented from their description ([Isensee2021], and [Isensee2024] for the residual-encoder presets) and
tested against the numbers of the published planner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...case.geometry import Index

MIN_EDGE = 4
"""Minimum length of each axis of a feature map, in voxels."""


@dataclass(frozen=True, slots=True)
class NetworkTopology:
    """The stages of a U-Net, full resolution first.

    Attributes:
        patch_size: patch in voxels (z, y, x), a multiple of `divisor`.
        kernel_sizes: kernel (z, y, x) of each stage.
        strides: stride (z, y, x) of each stage.
    """

    patch_size: Index
    kernel_sizes: tuple[Index, ...]
    strides: tuple[Index, ...]

    @property
    def divisor(self) -> Index:
        """The product of the strides (z, y, x), which divides the patch."""
        a, b, c = (math.prod(stride[axis] for stride in self.strides) for axis in range(3))
        return (a, b, c)


def topology_for(spacing: Sequence[float], patch: Sequence[float]) -> NetworkTopology:
    """Derive the stages for a patch, which is enlarged to a multiple of their strides.

    An axis is halved while it is 8 voxels long or more and its spacing is less than twice that of the finest
    axis that can still be halved; the last axis left needs 12. A kernel has 3 voxels along an axis from the
    stage on at which its spacing is less than twice the finest one.

    Args:
        spacing: target spacing (z, y, x) in mm.
        patch: desired patch (z, y, x) in voxels.
    """
    current, size = [float(value) for value in spacing], [float(value) for value in patch]
    kernel = [1, 1, 1]
    strides: list[Index] = [(1, 1, 1)]
    kernels: list[Index] = []
    while halved := _axes_to_halve(current, size):
        finest = min(current)
        kernel = [3 if k == 3 or s / finest < 2 else 1 for k, s in zip(kernel, current, strict=True)]
        kernels.append((kernel[0], kernel[1], kernel[2]))
        strides.append((1 + (0 in halved), 1 + (1 in halved), 1 + (2 in halved)))
        for axis in halved:
            current[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
    kernels.append((3, 3, 3))
    a, b, c = (math.prod(stride[axis] for stride in strides) for axis in range(3))
    z, y, x = (math.ceil(n / d) * d for n, d in zip(patch, (a, b, c), strict=True))
    return NetworkTopology((z, y, x), tuple(kernels), tuple(strides))


def _axes_to_halve(spacing: Sequence[float], size: Sequence[float]) -> list[int]:
    long_enough = [axis for axis in range(3) if size[axis] >= 2 * MIN_EDGE]
    if not long_enough:
        return []
    finest = min(spacing[axis] for axis in long_enough)
    chosen = [axis for axis in long_enough if spacing[axis] / finest < 2]
    if len(chosen) == 1 and size[chosen[0]] < 3 * MIN_EDGE:
        return []
    return chosen


def feature_count(
    topology: NetworkTopology, features: Sequence[int], blocks: Sequence[int], classes: int = 2
) -> int:
    """Count the output voxels of all convolutions of a residual-encoder U-Net for one patch.

    nnU-Net compares this number with a reference to decide whether a patch fits into memory: stem, two
    convolutions of each block and that of its skip if it changes shape or features, up-convolution and one
    convolution of each decoder stage, and the segmentation at full resolution.

    Args:
        topology: the stages.
        features: feature maps of each stage.
        blocks: residual blocks of each encoder stage.
        classes: classes of the segmentation.
    """
    sizes: list[int] = []
    shape = list(topology.patch_size)
    for stride in topology.strides:
        shape = [n // s for n, s in zip(shape, stride, strict=True)]
        sizes.append(math.prod(shape))
    total = features[0] * sizes[0]  # the stem
    inputs = features[0]
    for stage, (voxels, outputs, count) in enumerate(zip(sizes, features, blocks, strict=True)):
        changes = inputs != outputs or topology.strides[stage] != (1, 1, 1)
        total += outputs * voxels * (2 * count + changes)
        inputs = outputs
    for voxels, outputs in zip(sizes[:-1], features[:-1], strict=True):
        total += 2 * outputs * voxels
    return total + classes * sizes[0]
