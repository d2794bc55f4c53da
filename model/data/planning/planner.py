"""From a fingerprint to a plan: target spacing, patch, topology, batch, by nnU-Net's rules for ResEncL.

The presets differ in how much memory they plan for, and the small ones in the width of the network too.
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

# Slices count as thick, and few, from this ratio on (nnU-Net's threshold of anisotropy).
_ANISOTROPY = 3
_MIN_BATCH = 2
_REFERENCE_BATCH = 2
# The patch to start from has as many voxels as this one.
_FIRST_PATCH_VOXELS = 256**3
# Of thick slices the target is a fine scan's, so that few are interpolated.
_THICK_PERCENTILE = 10


@dataclass(frozen=True, slots=True)
class Preset:
    """A family of networks. ``reference`` feature voxels at batch 2 fill ``memory_gb`` of a GPU.

    ``blocks`` are those of the encoder's stages; deeper networks repeat the last number.
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
        return tuple(min(self.max_features, self.base_features * 2**stage) for stage in range(stages))

    def blocks_of(self, stages: int) -> tuple[int, ...]:
        return tuple(self.blocks[min(stage, len(self.blocks) - 1)] for stage in range(stages))


_PUBLISHED = "nnUNetPlannerResEnc"

PRESETS = {
    preset.name: preset
    for preset in (
        # The published presets, number by number.
        Preset(
            "resenc-l", 24, 2.1e9, 32, 320, (1, 3, 4, 6), "nnUNetResEncUNetLPlans", "nnUNetPlannerResEncL"
        ),
        Preset("resenc-m", 8, 6.8e8, 32, 320, (1, 3, 4, 6), "nnUNetResEncUNetMPlans", "nnUNetPlannerResEncM"),
        # Ours for lesser machines: half the width for a GPU of 4 GB or a patient processor, and what two
        # cores train in an evening (patches of some 32 x 64 x 64).
        Preset("small", 4, 1.4e8, 16, 128, (1, 2, 3, 3), "LongilesionSmallPlans", "longilesion"),
        Preset("tiny", 1, 8e6, 8, 32, (1, 1, 2, 2), "LongilesionTinyPlans", "longilesion"),
    )
}
DEFAULT_PRESET = "resenc-l"


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What is asked of the planner; None leaves it to its rules. Spacing in mm, patch in voxels."""

    preset: str = DEFAULT_PRESET
    memory_gb: float | None = None
    spacing_zyx: Vector | None = None
    patch_zyx: Index | None = None
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """Patch, topology and batch for one spacing; ``feature_voxels`` is what one patch costs."""

    topology: NetworkTopology
    features: tuple[int, ...]
    blocks: tuple[int, ...]
    batch_size: int
    feature_voxels: int


@dataclass(frozen=True, slots=True)
class PlannedConfiguration:
    """All that a plan says; spacing in mm, the median shape after resampling to it, (z, y, x)."""

    preset: Preset
    spacing_zyx: Vector
    median_shape_zyx: Vector
    network: NetworkPlan

    @property
    def batch_dice(self) -> bool:
        """Whether Dice is summed over a batch: where patches show an eighth of the scan or less.

        The published planner does so where it plans a coarser network beside this one, which is about then.
        """
        return math.prod(self.network.topology.patch_size) < math.prod(self.median_shape_zyx) / 8


def plan_configuration(fingerprint: Fingerprint, options: PlanOptions) -> PlannedConfiguration:
    """Plan a network for a data set.

    Axes keep their order: where the coarsest is not that across the slices nnU-Net would put it first, which
    the published export does not undo.

    Raises:
        InputError: an unknown preset, or a spacing, patch or batch that cannot be used.
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
    """The median spacing; where slices are thick and few a fine scan's, but no finer than in-plane."""
    spacings, shapes = np.asarray(fingerprint.spacings_zyx), np.asarray(fingerprint.shapes_zyx)
    target, shape = np.percentile(spacings, 50, 0), np.percentile(shapes, 50, 0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    coarsest = max(target[axis] for axis in others)
    is_thick = target[worst] > _ANISOTROPY * coarsest
    if is_thick and shape[worst] * _ANISOTROPY < min(shape[axis] for axis in others):
        fine = float(np.percentile(spacings[:, worst], _THICK_PERCENTILE))
        # The published planner's hair's breadth, which keeps this axis the coarsest one.
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
    """The largest patch of the scans' proportions that fits into memory, or the given one, and its network.

    Raises:
        InputError: the given patch cannot be halved often enough to be divided by its own strides.
    """
    reference = preset.reference * ((memory_gb or preset.memory_gb) / preset.memory_gb)
    if patch is not None:
        topology = topology_for(spacing, patch)
        if topology.patch_size != patch:
            wanted = " ".join(map(str, topology.patch_size))
            raise InputError(
                f"--patch: {' '.join(map(str, patch))} is not divided by the network's strides; expected "
                f"multiples of {' '.join(map(str, topology.divisor))}, such as {wanted}"
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
    """From a patch that is too large, a step at a time off the axis that shows most of the median scan."""
    inverse = 1 / np.asarray(spacing, np.float64)
    scale = (_FIRST_PATCH_VOXELS / np.prod(inverse)) ** (1 / 3)
    first = [min(round(float(a * scale)), n) for a, n in zip(inverse, median_shape, strict=True)]
    topology = topology_for(spacing, first)
    while _cost(topology, preset) > reference:
        patch = topology.patch_size
        shown = [p / n for p, n in zip(patch, median_shape, strict=True)]
        by_share = sorted(range(3), key=lambda a: (shown[a], a), reverse=True)
        # An axis that can just be halved once is left alone, which no scan of a usual shape needs.
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
