"""Planner: target spacing, patch, topology and batch from a fingerprint, by nnU-Net's rules for ResEncL.

The rules are those of [Isensee2021] and [Isensee2024] (docs/model_recipe.md, Planning). Presets differ in
their memory target, the small ones also in the width of the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...case.geometry import Index, Vector
from ...errors import InputError
from ...network.resample import resampled_shape
from .fingerprint import Fingerprint
from .topology import MIN_EDGE, NetworkTopology, feature_count, topology_for

# Ratio from which slices count as thick and as few (nnU-Net's threshold of anisotropy).
_ANISOTROPY = 3
_MIN_BATCH = 2
_REFERENCE_BATCH = 2
# Number of voxels of the first patch that is tried.
_FIRST_PATCH_VOXELS = 256**3
# For thick slices the target is that of a finely sampled scan, so that few are interpolated.
_THICK_PERCENTILE = 10


@dataclass(frozen=True, slots=True)
class Preset:
    """A family of networks.

    Attributes:
        name: on the command line.
        memory_gb: GPU memory to plan for.
        reference: feature voxels at batch 2 that fill this memory.
        base_features: feature maps of the first stage.
        max_features: maximum of feature maps.
        blocks: residual blocks of each encoder stage; deeper networks repeat the last number.
        plans_name: name of the plans in `plans.json`.
        planner: name of the planner in `plans.json`.
    """

    name: str
    memory_gb: float
    reference: float
    base_features: int
    max_features: int
    blocks: tuple[int, ...]
    plans_name: str
    planner: str

    def features(self, stages: int) -> tuple[int, ...]:
        """Feature maps of each stage of a network with this number of stages."""
        return tuple(min(self.max_features, self.base_features * 2**stage) for stage in range(stages))

    def blocks_of(self, stages: int) -> tuple[int, ...]:
        """Residual blocks of each encoder stage of a network with this number of stages."""
        return tuple(self.blocks[min(stage, len(self.blocks) - 1)] for stage in range(stages))


_PUBLISHED = "nnUNetPlannerResEnc"

PRESETS = {
    preset.name: preset
    for preset in (
        # The published presets.
        Preset(
            "resenc-l", 24, 2.1e9, 32, 320, (1, 3, 4, 6), "nnUNetResEncUNetLPlans", "nnUNetPlannerResEncL"
        ),
        Preset("resenc-m", 8, 6.8e8, 32, 320, (1, 3, 4, 6), "nnUNetResEncUNetMPlans", "nnUNetPlannerResEncM"),
        # Presets of this project: half the width for a GPU of 4 GB, and networks that two CPU cores can
        # train in an evening (patches of about 32 x 64 x 64).
        Preset("small", 4, 1.4e8, 16, 128, (1, 2, 3, 3), "LongilesionSmallPlans", "longilesion"),
        Preset("compact", 1, 8e6, 8, 64, (1, 1, 2, 2), "LongilesionCompactPlans", "longilesion"),
        Preset("tiny", 1, 8e6, 8, 32, (1, 1, 2, 2), "LongilesionTinyPlans", "longilesion"),
    )
}
DEFAULT_PRESET = "resenc-l"


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Options of the planner; None leaves the value to its rules.

    Attributes:
        preset: name of the preset.
        memory_gb: GPU memory to plan for, in place of the preset's.
        spacing_zyx: target spacing in mm.
        patch_zyx: patch in voxels.
        batch_size: patches per step.
    """

    preset: str = DEFAULT_PRESET
    memory_gb: float | None = None
    spacing_zyx: Vector | None = None
    patch_zyx: Index | None = None
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """Patch, topology and batch for one spacing.

    Attributes:
        topology: the stages and the patch.
        features: feature maps of each stage.
        blocks: residual blocks of each encoder stage.
        batch_size: patches per step.
        feature_voxels: `feature_count` of one patch.
    """

    topology: NetworkTopology
    features: tuple[int, ...]
    blocks: tuple[int, ...]
    batch_size: int
    feature_voxels: int


@dataclass(frozen=True, slots=True)
class PlannedConfiguration:
    """The planned network and its grid.

    Attributes:
        preset: the family of the network.
        spacing_zyx: target spacing in mm.
        median_shape_zyx: median shape of the scans in voxels after resampling.
        network: the network.
    """

    preset: Preset
    spacing_zyx: Vector
    median_shape_zyx: Vector
    network: NetworkPlan

    @property
    def batch_dice(self) -> bool:
        """True if Dice is summed over a batch: patches show less than an eighth of the median scan.

        The published planner does so if it also plans a coarser network, which is at about the same size.
        """
        return math.prod(self.network.topology.patch_size) < math.prod(self.median_shape_zyx) / 8


def plan_configuration(fingerprint: Fingerprint, options: PlanOptions) -> PlannedConfiguration:
    """Plan a network for a data set.

    Axes keep their order. nnU-Net would put the coarsest first, which the published export does not undo.

    Raises:
        InputError: an unknown preset, or a spacing or patch that cannot be used.
    """
    if options.preset not in PRESETS:
        raise InputError(f"--preset: is {options.preset!r}; expected one of {', '.join(PRESETS)}")
    preset = PRESETS[options.preset]
    spacing = options.spacing_zyx or target_spacing(fingerprint)
    shapes = [
        resampled_shape(shape, old, spacing)
        for shape, old in zip(fingerprint.shapes_zyx, fingerprint.spacings_zyx, strict=True)
    ]
    z, y, x = np.median(np.asarray(shapes), 0).tolist()
    network = plan_network(spacing, (z, y, x), preset, options.memory_gb, options.patch_zyx)
    if options.batch_size is not None:
        network = NetworkPlan(
            network.topology, network.features, network.blocks, options.batch_size, network.feature_voxels
        )
    return PlannedConfiguration(preset, spacing, (z, y, x), network)


def target_spacing(fingerprint: Fingerprint) -> Vector:
    """Choose the target spacing: the median, or for thick and few slices that of a finely sampled scan.

    Returns:
        Spacing (z, y, x) in mm; across thick slices it is not finer than the coarsest other axis.
    """
    spacings, shapes = np.asarray(fingerprint.spacings_zyx), np.asarray(fingerprint.shapes_zyx)
    target, shape = np.percentile(spacings, 50, 0), np.percentile(shapes, 50, 0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    coarsest = max(target[axis] for axis in others)
    is_thick = target[worst] > _ANISOTROPY * coarsest
    if is_thick and shape[worst] * _ANISOTROPY < min(shape[axis] for axis in others):
        fine = float(np.percentile(spacings[:, worst], _THICK_PERCENTILE))
        # As in the published planner, this axis stays the coarsest by a tiny margin.
        target[worst] = fine if fine >= coarsest else coarsest + 1e-5
    z, y, x = target.tolist()
    return (z, y, x)


def plan_network(
    spacing: Sequence[float],
    median_shape: Sequence[float],
    preset: Preset,
    memory_gb: float | None = None,
    patch: Index | None = None,
) -> NetworkPlan:
    """Plan a network for the given patch, or for the largest one that fits into memory.

    Args:
        spacing: target spacing (z, y, x) in mm.
        median_shape: median shape (z, y, x) of the scans at this spacing; patches have its proportions.
        preset: the family of networks.
        memory_gb: GPU memory to plan for, in place of the preset's.
        patch: patch (z, y, x) in voxels.

    Returns:
        The network, with a batch that fills the memory, of two patches at least.

    Raises:
        InputError: the given patch is too small, or not a multiple of its strides.
    """
    reference = preset.reference * ((memory_gb or preset.memory_gb) / preset.memory_gb)
    if patch is not None:
        topology = topology_for(spacing, patch)
        if topology.patch_size != patch:
            suggested = " ".join(map(str, topology.patch_size))
            raise InputError(
                f"--patch: {' '.join(map(str, patch))} is not divided by the network's strides; expected "
                f"multiples of {' '.join(map(str, topology.divisor))}, such as {suggested}"
            )
    else:
        topology = _largest(spacing, median_shape, preset, reference)
    stages = len(topology.strides)
    if stages < 2:
        size = " ".join(map(str, topology.patch_size))
        raise InputError(f"--patch, --spacing: a patch of {size} is too small; expected 12 voxels an axis")
    cost = _cost(topology, preset)
    batch = max(round(reference / cost * _REFERENCE_BATCH), _MIN_BATCH)
    return NetworkPlan(topology, preset.features(stages), preset.blocks_of(stages), batch, cost)


def _largest(
    spacing: Sequence[float], median_shape: Sequence[float], preset: Preset, reference: float
) -> NetworkTopology:
    """Start from a patch that is too large, and shorten the axis that covers most of the median scan."""
    inverse = 1 / np.asarray(spacing, np.float64)
    scale = (_FIRST_PATCH_VOXELS / np.prod(inverse)) ** (1 / 3)
    first = [min(round(float(a * scale)), n) for a, n in zip(inverse, median_shape, strict=True)]
    topology = topology_for(spacing, first)
    while _cost(topology, preset) > reference:
        patch = topology.patch_size
        covered = [p / n for p, n in zip(patch, median_shape, strict=True)]
        by_share = sorted(range(3), key=lambda a: (covered[a], a), reverse=True)
        # Each axis stays long enough to be halved once; scans of usual shapes never get there.
        axis = next((a for a in by_share if patch[a] - topology.divisor[a] >= 2 * MIN_EDGE), None)
        if axis is None:
            break
        # A smaller patch may be halved less often, and then smaller steps are possible.
        smaller = topology_for(spacing, _shortened(patch, axis, topology.divisor[axis]))
        topology = topology_for(spacing, _shortened(patch, axis, smaller.divisor[axis]))
    return topology


def _shortened(patch: Index, axis: int, step: int) -> Index:
    z, y, x = (n - step * (a == axis) for a, n in enumerate(patch))
    return (z, y, x)


def _cost(topology: NetworkTopology, preset: Preset) -> int:
    stages = len(topology.strides)
    return feature_count(topology, preset.features(stages), preset.blocks_of(stages))
