"""The prepared data set on disk."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from model.case.geometry import Box
from model.data.preprocess import PreparationJob, prepare_scan
from model.data.store import PreparedScan, read_prepared
from model.errors import InputError
from model.network.plan import Plan
from test.helpers.data_sets import GRID, write_raw_scan


def test_a_prepared_scan_can_be_pickled(tmp_path: Path, plan: Plan) -> None:
    prepare_scan(PreparationJob(write_raw_scan(tmp_path), GRID, plan, tmp_path / "store", 0))
    prepared = PreparedScan(tmp_path / "store")
    box = Box.of_shape((4, 4, 4), (3, 3, 3))
    before = prepared.read_ct(box)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(prepared)).read_ct(box), before)


def test_a_folder_without_prepared_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="index.json"):
        read_prepared(tmp_path)
    with pytest.raises(InputError, match="holds no prepared scan"):
        PreparedScan(tmp_path)
