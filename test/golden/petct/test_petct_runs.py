"""Whole runs on PET/CT against the published masks and margins, without mirroring."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from model.case.images import read_image
from model.inference.options import ModelOptions
from model.interactive.load_pet_ct import PetCtModel, load_pet_ct_model
from model.interactive.segment_pet_ct import TumorSegmentation, predict_margin, segment_pet_ct
from model.network.pet_ct import click_voxels, margin_on_scan
from test.helpers.golden_pet_ct import PET_CT_MODEL, GoldenPetCt

pytestmark = pytest.mark.slow

# The published masks of each case by the rules that hold here.
RUNS = {
    "p7_zero_margin_crop": "fp32_no_tta_fixed_clicks",
    "p8_clicks_outside": "fp32_no_tta_outside_clipped_5mm",
}


@cache
def _model() -> PetCtModel:
    return load_pet_ct_model([PET_CT_MODEL], ModelOptions(device="cpu"))


@cache
def _segmented(name: str) -> TumorSegmentation:
    case = GoldenPetCt(name)
    return segment_pet_ct(_model(), case.ct, case.pet, case.geometry, case.clicks)


@pytest.mark.parametrize(("name", "variant"), RUNS.items())
def test_masks_are_equal(name: str, variant: str) -> None:
    (file,) = (GoldenPetCt(name).expected / variant).rglob("*.mha")
    np.testing.assert_array_equal(_segmented(name).mask, read_image(file).array > 0)


def test_margins_probabilities_and_mask_of_thick_slices() -> None:
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
