"""Segmentation of a PET/CT with a small random network: clicks, crop, axes, failures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.case.geometry import Box, Geometry
from model.case.tumor_clicks import ClickKind, TumorClick
from model.errors import LongilesionError
from model.inference.ensemble import Ensemble
from model.inference.options import ModelOptions
from model.interactive.segment_pet_ct import segment_pet_ct
from model.network.input_variants import InputVariant
from test.helpers.tiny_pet_ct import TINY_GEOMETRY, TINY_SHAPE, TINY_SPACING, tiny_pet_ct, tiny_pet_ct_model


def test_folds_are_averaged() -> None:
    ct, pet = tiny_pet_ct()
    both = segment_pet_ct(tiny_pet_ct_model(2), ct, pet, TINY_GEOMETRY)
    pair = tiny_pet_ct_model(2)
    singles = [
        segment_pet_ct(
            replace(pair, ensemble=Ensemble(pair.plan.network, [fold], ModelOptions(device="cpu"))),
            ct,
            pet,
            TINY_GEOMETRY,
        ).margin
        for fold in pair.ensemble.folds
    ]
    np.testing.assert_allclose(both.margin, (singles[0] + singles[1]) / 2, atol=1e-5)
    assert np.abs(singles[0] - singles[1]).max() > 0.01


def test_the_mask_is_where_tumour_is_more_probable() -> None:
    ct, pet = tiny_pet_ct()
    done = segment_pet_ct(tiny_pet_ct_model(), ct, pet, TINY_GEOMETRY)
    assert done.mask.shape == TINY_SHAPE and 0 < done.mask.sum() < done.mask.size
    np.testing.assert_array_equal(done.mask, done.probability() > 0.5)


def test_what_is_cropped_is_background_and_clicks_follow() -> None:
    ct, pet = tiny_pet_ct()
    click = TumorClick(ClickKind.TUMOR, (5.0, 6.0, 4.0))
    inner = segment_pet_ct(tiny_pet_ct_model(), ct, pet, TINY_GEOMETRY, [click])
    padded_ct, padded_pet = (np.pad(image, ((3, 2), (1, 0), (4, 1))) for image in (ct, pet))
    grid = Geometry(padded_ct.shape[::-1], TINY_SPACING[::-1], (0.0, 0.0, 0.0))
    moved = replace(click, point_zyx=(8.0, 7.0, 8.0))
    outer = segment_pet_ct(tiny_pet_ct_model(), padded_ct, padded_pet, grid, [moved])
    assert outer.box == Box.of_shape(TINY_SHAPE, (3, 1, 4))
    np.testing.assert_array_equal(outer.margin, inner.margin)
    assert outer.mask.sum() == inner.mask.sum() and not outer.probability()[:3].any()


def test_both_kinds_of_clicks_change_the_margin() -> None:
    ct, pet = tiny_pet_ct()
    point = (5.0, 6.0, 4.0)
    kinds: list[list[ClickKind]] = [[], [ClickKind.TUMOR], [ClickKind.BACKGROUND], list(ClickKind)]
    margins = [
        segment_pet_ct(
            tiny_pet_ct_model(), ct, pet, TINY_GEOMETRY, [TumorClick(kind, point) for kind in chosen]
        )
        for chosen in kinds
    ]
    for one, other in ((0, 1), (0, 2), (1, 2), (1, 3)):
        assert np.abs(margins[one].margin - margins[other].margin).max() > 1e-3
    assert margins[1].warnings == () and "same place" in margins[3].warnings[0]


def test_automatic_networks_leave_clicks_out_and_say_so() -> None:
    ct, pet = tiny_pet_ct()
    click = TumorClick(ClickKind.TUMOR, (5.0, 6.0, 4.0))
    done = segment_pet_ct(tiny_pet_ct_model(variant=InputVariant.PET_CT), ct, pet, TINY_GEOMETRY, [click])
    assert done.clicks == () and "takes no clicks" in done.warnings[0]


def test_an_output_that_is_not_finite_is_an_error() -> None:
    ct, pet = tiny_pet_ct()
    with pytest.raises(LongilesionError, match="tile 1 of .* not finite"):
        segment_pet_ct(tiny_pet_ct_model(scale=float("nan")), ct, pet, TINY_GEOMETRY)
