"""Connected components agree with SciPy's, also where a mask is one voxel wide."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy import ndimage

from model.case.connected_components import label_components

Connectivity = Literal[6, 18, 26]
_RANKS = {6: 1, 18: 2, 26: 3}

masks = st_numpy.arrays(bool, st_numpy.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5))


@pytest.mark.slow
@given(masks, st.sampled_from([6, 18, 26]))
def test_components_are_those_of_scipy(mask: npt.NDArray[np.bool_], connectivity: Connectivity) -> None:
    labels, count = label_components(mask, connectivity)
    structure = ndimage.generate_binary_structure(3, _RANKS[connectivity])
    expected, expected_count = ndimage.label(mask, structure)
    assert count == expected_count
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3, 1), (3, 1, 1)])
def test_two_voxels_in_a_row_with_a_gap(shape: tuple[int, int, int]) -> None:
    mask = np.array([True, False, True]).reshape(shape)
    labels, count = label_components(mask)
    assert count == 2 and labels.shape == shape and labels.ravel().tolist() == [1, 0, 2]
