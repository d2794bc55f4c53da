"""Whole runs on PET/CT against the published masks and margins, without mirroring.

`test/end_to_end/test_pet_ct.py` holds another case.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from model.case.images import read_image
from model.inference.options import ModelOptions
from model.interactive.load_pet_ct import PetCtModel, load_pet_ct_model
from model.interactive.segment_pet_ct import predict_margin, segment_pet_ct
from model.network.pet_ct import click_voxels, margin_on_scan
from test.helpers.golden_pet_ct import PET_CT_MODEL, GoldenPetCt

pytestmark = pytest.mark.slow


@cache
def _model() -> PetCtModel:
    return load_pet_ct_model([PET_CT_MODEL], ModelOptions(device="cpu"))


def test_the_mask_of_a_cropped_scan_is_equal() -> None:
    case = GoldenPetCt("p7_zero_margin_crop")
    done = segment_pet_ct(_model(), case.ct, case.pet, case.geometry, case.clicks)
    (file,) = (case.expected / "fp32_no_tta_fixed_clicks").rglob("*.mha")
    np.testing.assert_array_equal(done.mask, read_image(file).array > 0)


def test_margins_and_mask_of_thick_slices() -> None:
    case = GoldenPetCt("p5_thick_slices_small_z")
    margin = predict_margin(_model(), case.images, click_voxels(case.clicks, case.grid))
    stored = case.stored("margin.npz", "margin_fp32_no_tta")
    assert stored is not None and margin.shape == stored.shape
    difference, near = np.abs(margin - stored.astype(np.float32)), np.abs(stored) < 2
    assert difference[near].max() <= 2e-3 and difference.max() <= 8e-3
    box, on_scan = margin_on_scan(margin, case.grid)
    assert box.shape_zyx == case.ct.shape
    (file,) = (case.expected / "fp32_no_tta").rglob("*.mha")
    np.testing.assert_array_equal(on_scan > 0, read_image(file).array > 0)
