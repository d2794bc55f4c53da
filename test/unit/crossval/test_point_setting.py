"""Follow-up points of an evaluation: their choice and source, and noise in whole network voxels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.case.case import PointSource
from model.case.geometry import Geometry, Vector, flip_order
from model.case.raw_lesion import RawLesion
from model.crossval.pairs import EvaluationPair
from model.crossval.point_setting import PointSetting
from model.data.dataset import RawScan
from model.data.prepared_grid import prepared_grid
from model.errors import InputError
from model.network.plan import Plan

from ...helpers import training_phantoms as phantoms
from ...helpers.crossval_cases import GRIDS

SCAN = RawScan("anna_t1", "anna", 1, Path("ct.mha"))
PAIR = EvaluationPair("anna", "a-to-b", SCAN, SCAN, ())
LESION = RawLesion(7, "a", "b", (7,), (1.0, 2.0, 3.0), (10.0, 11.0, 12.0), (13.5, 14.25, 15.0))


def _network_voxel(point_xyz: Vector, grid: Geometry, plan: Plan) -> tuple[int, int, int]:
    axial = grid.axial_map().point(flip_order(point_xyz), grid.shape_zyx)
    return prepared_grid(grid, grid, plan).index(axial)


def test_the_setting_prefers_its_kind_of_point() -> None:
    plan, grid = phantoms.plan(), GRIDS[0]
    propagated, true = PointSetting(), PointSetting("given")
    assert propagated.point_xyz(PAIR, LESION, grid, plan) == (13.5, 14.25, 15.0)
    assert true.point_xyz(PAIR, LESION, grid, plan) == (10.0, 11.0, 12.0)
    assert propagated.source_of(LESION) is PointSource.PROPAGATED
    assert true.source_of(LESION) is PointSource.GIVEN
    unregistered = replace(LESION, propagated_point_xyz=None)
    assert propagated.point_xyz(PAIR, unregistered, grid, plan) == (10.0, 11.0, 12.0)
    assert propagated.source_of(unregistered) is PointSource.GIVEN
    vanished = replace(LESION, followup_ids=(), followup_point_xyz=None)
    assert true.point_xyz(PAIR, vanished, grid, plan) == (13.5, 14.25, 15.0)
    assert true.source_of(vanished) is PointSource.PROPAGATED
    assert PointSetting("given", 4).source_of(LESION) is PointSource.GIVEN  # an imprecise click


@pytest.mark.slow
@given(
    point=st.tuples(st.floats(0, 31), st.floats(0, 33), st.floats(0, 29)),
    lesion_id=st.integers(1, 65535),
    noise=st.integers(1, 8),
    seed=st.integers(0, 5),
    spacing=st.sampled_from([(1.0, 1.0, 1.0), (3.0, 2.0, 2.0), (0.7, 0.7, 0.7), (1.2, 1.3, 1.1)]),
    grid=st.sampled_from(GRIDS),
)
def test_noise_shifts_by_whole_voxels_inside_the_scan(
    point: Vector, lesion_id: int, noise: int, seed: int, spacing: Vector, grid: Geometry
) -> None:
    plan = replace(phantoms.plan(), spacing_zyx=spacing)
    lesion = replace(LESION, lesion_id=lesion_id, propagated_point_xyz=point)
    shifted = PointSetting("propagated", noise, seed).point_xyz(PAIR, lesion, grid, plan)
    assert grid.depth_mm(flip_order(shifted)) >= 0
    before, after = (np.asarray(_network_voxel(one, grid, plan)) for one in (point, shifted))
    assert (np.abs(after - before) <= noise).all()
    assert shifted == PointSetting("propagated", noise, seed).point_xyz(PAIR, lesion, grid, plan)


@pytest.mark.slow
def test_noise_is_uniform_and_drawn_for_each_lesion() -> None:
    plan = replace(phantoms.plan(), spacing_zyx=(1.2, 1.3, 1.1))
    setting, middle = PointSetting("given", 2), replace(LESION, followup_point_xyz=(16.0, 17.0, 15.0))
    centre = np.asarray(_network_voxel((16.0, 17.0, 15.0), GRIDS[1], plan))
    steps = np.asarray(
        [
            np.asarray(
                _network_voxel(
                    setting.point_xyz(PAIR, replace(middle, lesion_id=n), GRIDS[1], plan), GRIDS[1], plan
                )
            )
            - centre
            for n in range(1, 2001)
        ]
    )
    for axis in range(3):
        counts = np.bincount(steps[:, axis] + 2, minlength=5)
        assert len(counts) == 5 and (abs(counts - 400) < 100).all()
    other = replace(PAIR, name="c-to-d")
    assert setting.point_xyz(PAIR, middle, GRIDS[1], plan) != setting.point_xyz(other, middle, GRIDS[1], plan)
    reseeded = PointSetting("given", 2, 1)
    assert setting.point_xyz(PAIR, middle, GRIDS[1], plan) != reseeded.point_xyz(PAIR, middle, GRIDS[1], plan)


def test_names() -> None:
    settings = (
        PointSetting(),
        PointSetting("given"),
        PointSetting("propagated", 4),
        PointSetting("given", 2, 1),
    )
    assert [one.name for one in settings] == [
        "propagated",
        "given",
        "propagated-noise4",
        "given-noise2-seed1",
    ]
    with pytest.raises(InputError, match="expected propagated or given"):
        PointSetting("true")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected numbers from 0 on"):
        PointSetting(noise_voxels=-1)
