"""Tables of voxels to draw points from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from model.case.geometry import Box
from model.data.point_tables import MAX_VOXELS, sample_voxels
from model.data.preprocess import PreparationJob, prepare_scan
from model.data.store import PreparedScan
from model.network.plan import Plan
from test.helpers.data_sets import GRID, LESIONS, write_raw_scan


def test_tables_of_lesions_of_any_size_hold_voxels_and_squared_depths(tmp_path: Path, plan: Plan) -> None:
    prepare_scan(PreparationJob(write_raw_scan(tmp_path), GRID, plan, tmp_path / "store", 0))
    prepared = PreparedScan(tmp_path / "store")
    labels = prepared.read_labels(Box.of_shape(prepared.shape_zyx))
    for lesion_id in LESIONS:
        table = prepared.voxels(lesion_id)
        assert 0 < len(table.weights) <= MAX_VOXELS
        assert np.all(labels[tuple(table.voxels_zyx.T)] == lesion_id)
        mask = np.pad(labels == lesion_id, 1)
        depth = distance_transform_edt(mask, sampling=plan.spacing_zyx)[1:-1, 1:-1, 1:-1]
        np.testing.assert_allclose(table.weights, depth[tuple(table.voxels_zyx.T)] ** 2, rtol=1e-5)
    assert len(prepared.voxels(12345).weights) == 0


def test_large_lesions_keep_a_thousand_voxels_by_the_seed() -> None:
    mask = np.ones((20, 20, 20), bool)
    tables = [sample_voxels(mask, (1, 2, 3), (1, 1, 1), np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert len(tables[0].weights) == MAX_VOXELS
    np.testing.assert_array_equal(tables[0].voxels_zyx, tables[1].voxels_zyx)
    assert not np.array_equal(tables[0].voxels_zyx, tables[2].voxels_zyx)
    assert tables[0].voxels_zyx.min(0).tolist() >= [1, 2, 3]
    single = sample_voxels(np.ones((1, 1, 1), bool), (0, 0, 0), (3.0, 1.0, 1.0), np.random.default_rng(0))
    assert single.weights.tolist() == [1.0]
