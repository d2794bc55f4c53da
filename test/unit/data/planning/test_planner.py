"""Planner against the numbers of the published one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.case.geometry import Index, Vector
from model.cli.train_prepare import PRESET_NAMES
from model.data.planning.fingerprint import Fingerprint, Intensities
from model.data.planning.planner import PRESETS, PlanOptions, plan_configuration, plan_network, target_spacing
from model.data.planning.topology import MIN_EDGE
from model.errors import InputError

FOREGROUND = Intensities(
    mean=-63.0, median=-20.0, std=282.4, min=-1024, max=1500, percentile_00_5=-918.0, percentile_99_5=723.0
)

FLAT, CUBE = ((1, 2, 2), (1, 3, 3)), ((2, 2, 2), (3, 3, 3))


def _fingerprint(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Fingerprint:
    return Fingerprint(
        spacings_zyx=(spacing,), shapes_zyx=(shape,), foreground=FOREGROUND, sampled_voxels=100
    )


@pytest.mark.parametrize(
    ("spacing", "shape", "patch", "stages", "first", "last"),
    [
        # What the published planner gives for whole-body CTs (all of them at batch 2).
        ((3, 0.78, 0.78), (150, 512, 512), (80, 256, 256), 7, FLAT, (1, 2, 2)),
        ((2, 0.8, 0.8), (300, 512, 512), (128, 224, 192), 6, FLAT, (2, 2, 2)),
        ((1.5, 0.8, 0.8), (450, 512, 512), (192, 192, 192), 6, CUBE, (2, 2, 2)),
        ((1, 0.8, 0.8), (310, 512, 513), (128, 224, 256), 6, CUBE, (2, 2, 2)),
        ((3, 0.9766, 0.9766), (350, 512, 512), (128, 224, 192), 6, FLAT, (2, 2, 2)),
        ((2, 0.9766, 0.9766), (450, 512, 512), (160, 192, 160), 6, FLAT, (2, 2, 2)),
        ((2, 0.8, 0.8), (450, 512, 512), (160, 192, 160), 6, FLAT, (2, 2, 2)),
        ((1.5, 0.9766, 0.9766), (600, 512, 512), (192, 192, 192), 6, CUBE, (2, 2, 2)),
        ((1, 1, 1), (900, 500, 500), (256, 192, 160), 6, CUBE, (2, 2, 2)),
        ((2.5, 0.8, 0.8), (400, 512, 512), (128, 224, 192), 6, FLAT, (2, 2, 2)),
        ((3, 0.8, 0.8), (330, 512, 512), (112, 224, 224), 6, FLAT, (2, 2, 2)),
        ((5, 0.8, 0.8), (200, 512, 512), (80, 256, 224), 7, FLAT, (2, 2, 1)),
        ((3, 2.0364, 2.0364), (326, 400, 400), (160, 224, 192), 6, CUBE, (2, 2, 2)),
    ],
)
def test_resenc_l_equals_the_published_planner(
    spacing: Vector, shape: Index, patch: Index, stages: int, first: tuple[Index, Index], last: Index
) -> None:
    network = plan_network(spacing, shape, PRESETS["resenc-l"])
    topology = network.topology
    assert topology.patch_size == patch
    assert len(topology.strides) == len(topology.kernel_sizes) == stages
    assert (topology.strides[1], topology.kernel_sizes[0]) == first
    assert topology.strides[-1] == last and topology.kernel_sizes[-1] == (3, 3, 3)
    assert network.batch_size == 2
    assert network.features == (32, 64, 128, 256, 320, 320, 320)[:stages]
    assert network.blocks == (1, 3, 4, 6, 6, 6, 6)[:stages]


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.5, 8),
    st.floats(0.4, 1.5),
    st.tuples(st.integers(24, 900), st.integers(96, 700), st.integers(96, 700)),
    st.sampled_from(sorted(PRESETS)),
)
def test_every_plan_satisfies_the_rules(slices: float, pixels: float, shape: Index, name: str) -> None:
    spacing = (slices, pixels, pixels)
    preset = PRESETS[name]
    network = plan_network(spacing, shape, preset)
    topology = network.topology
    smallest = [p // d for p, d in zip(topology.patch_size, topology.divisor, strict=True)]
    assert all(p % d == 0 for p, d in zip(topology.patch_size, topology.divisor, strict=True))
    assert min(smallest) >= MIN_EDGE
    assert network.feature_voxels <= preset.reference and network.batch_size >= 2


def test_thick_slices_get_a_fine_target_spacing() -> None:
    spacings = tuple((z, 0.8, 0.8) for z in (2.5, 5.0, 5.0, 5.0, 6.0))
    fingerprint = Fingerprint(
        spacings_zyx=spacings, shapes_zyx=((100, 512, 512),) * 5, foreground=FOREGROUND, sampled_voxels=1
    )
    assert target_spacing(fingerprint) == pytest.approx((3.5, 0.8, 0.8))  # the tenth percentile
    many = fingerprint.model_copy(update={"shapes_zyx": ((400, 512, 512),) * 5})
    assert target_spacing(many) == pytest.approx((5.0, 0.8, 0.8))
    thin = fingerprint.model_copy(update={"spacings_zyx": ((0.5, 0.8, 0.8), *spacings[1:4], (5.0, 0.8, 0.8))})
    assert target_spacing(thin)[0] >= 0.8


def test_spacing_patch_memory_and_batch_can_be_given() -> None:
    fingerprint = _fingerprint((2.5, 1.2, 1.2), (70, 90, 105))
    given = PlanOptions("tiny", spacing_zyx=(2.4, 1.2, 1.2), patch_zyx=(32, 64, 64), batch_size=5)
    planned = plan_configuration(fingerprint, given)
    assert planned.spacing_zyx == (2.4, 1.2, 1.2) and planned.network.topology.patch_size == (32, 64, 64)
    assert planned.network.batch_size == 5
    less = plan_configuration(fingerprint, PlanOptions("resenc-l", memory_gb=4)).network
    assert less.feature_voxels <= PRESETS["resenc-l"].reference / 6
    with pytest.raises(InputError, match="not divided"):
        plan_configuration(fingerprint, replace(given, patch_zyx=(33, 64, 64)))
    with pytest.raises(InputError, match="expected one of"):
        plan_configuration(fingerprint, PlanOptions("huge"))


def test_presets_are_those_of_the_command() -> None:
    assert tuple(PRESETS) == PRESET_NAMES
