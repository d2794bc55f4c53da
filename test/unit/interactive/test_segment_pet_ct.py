"""Segmentation of a PET/CT with a small random network: clicks, crop, axes, failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from model.case.geometry import Box, Geometry
from model.case.tumor_clicks import ClickKind, TumorClick
from model.errors import LongilesionError
from model.inference.ensemble import Ensemble
from model.inference.options import ModelOptions
from model.interactive.load_pet_ct import PetCtModel
from model.interactive.segment_pet_ct import segment_pet_ct
from model.network.input_variants import InputVariant
from model.network.plan import Architecture, PetCtPlan
from model.network.resenc_unet import ResEncUNet
from model.network.weights import FoldWeights
from test.helpers.golden_pet_ct import pet_ct_plan

SPACING = (3.0, 2.0, 2.0)
SHAPE = (14, 12, 10)
GEOMETRY = Geometry(SHAPE[::-1], SPACING[::-1], (0.0, 0.0, 0.0))


def _plan() -> PetCtPlan:
    tiny = Architecture(
        features_per_stage=(4, 4),
        kernel_sizes=((3, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (2, 2, 2)),
        blocks_per_stage=(1, 1),
        decoder_convs_per_stage=(1,),
        conv_bias=True,
        norm_eps=1e-5,
        norm_affine=True,
        negative_slope=0.01,
    )
    plan = pet_ct_plan()
    return replace(
        plan, network=replace(plan.network, architecture=tiny, patch_size_zyx=(8, 8, 8), spacing_zyx=SPACING)
    )


def _model(
    folds: int = 1, variant: InputVariant = InputVariant.PET_CT_CLICKS, scale: float = 1.0
) -> PetCtModel:
    plan, weights = _plan(), []
    for seed in range(folds):
        torch.manual_seed(seed)
        network = ResEncUNet(len(variant.channels), 2, plan.network.architecture)
        network.initialize()
        state = {name: tensor.detach() * scale for name, tensor in network.state_dict().items()}
        weights.append(FoldWeights(Path(f"fold_{seed}"), state, "random", "3d_fullres", (), variant))
    return PetCtModel(plan, Ensemble(plan.network, weights, ModelOptions(device="cpu")), (), ())


def _images() -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    return rng.integers(-900, 900, SHAPE).astype(np.int16), rng.uniform(0.5, 20, SHAPE).astype(np.float32)


def test_folds_are_averaged() -> None:
    ct, pet = _images()
    both = segment_pet_ct(_model(2), ct, pet, GEOMETRY)
    pair = _model(2)
    singles = [
        segment_pet_ct(
            replace(pair, ensemble=Ensemble(pair.plan.network, [fold], ModelOptions(device="cpu"))),
            ct,
            pet,
            GEOMETRY,
        ).margin
        for fold in pair.ensemble.folds
    ]
    np.testing.assert_allclose(both.margin, (singles[0] + singles[1]) / 2, atol=1e-5)
    assert np.abs(singles[0] - singles[1]).max() > 0.01


def test_the_mask_is_where_tumour_is_more_probable() -> None:
    ct, pet = _images()
    done = segment_pet_ct(_model(), ct, pet, GEOMETRY)
    assert done.mask.shape == SHAPE and 0 < done.mask.sum() < done.mask.size
    np.testing.assert_array_equal(done.mask, done.probability() > 0.5)


def test_what_is_cropped_is_background_and_clicks_follow() -> None:
    ct, pet = _images()
    click = TumorClick(ClickKind.TUMOR, (5.0, 6.0, 4.0))
    inner = segment_pet_ct(_model(), ct, pet, GEOMETRY, [click])
    padded_ct, padded_pet = (np.pad(image, ((3, 2), (1, 0), (4, 1))) for image in (ct, pet))
    grid = Geometry(padded_ct.shape[::-1], SPACING[::-1], (0.0, 0.0, 0.0))
    moved = replace(click, point_zyx=(8.0, 7.0, 8.0))
    outer = segment_pet_ct(_model(), padded_ct, padded_pet, grid, [moved])
    assert outer.box == Box.of_shape(SHAPE, (3, 1, 4))
    np.testing.assert_array_equal(outer.margin, inner.margin)
    assert outer.mask.sum() == inner.mask.sum() and not outer.probability()[:3].any()


def test_both_kinds_of_clicks_change_the_margin() -> None:
    ct, pet = _images()
    point = (5.0, 6.0, 4.0)
    kinds: list[list[ClickKind]] = [[], [ClickKind.TUMOR], [ClickKind.BACKGROUND], list(ClickKind)]
    margins = [
        segment_pet_ct(_model(), ct, pet, GEOMETRY, [TumorClick(kind, point) for kind in chosen])
        for chosen in kinds
    ]
    for one, other in ((0, 1), (0, 2), (1, 2), (1, 3)):
        assert np.abs(margins[one].margin - margins[other].margin).max() > 1e-3
    assert margins[1].warnings == () and "same place" in margins[3].warnings[0]


def test_automatic_networks_leave_clicks_out_and_say_so() -> None:
    ct, pet = _images()
    click = TumorClick(ClickKind.TUMOR, (5.0, 6.0, 4.0))
    done = segment_pet_ct(_model(variant=InputVariant.PET_CT), ct, pet, GEOMETRY, [click])
    assert done.clicks == () and "takes no clicks" in done.warnings[0]


def test_an_output_that_is_not_finite_is_an_error() -> None:
    ct, pet = _images()
    with pytest.raises(LongilesionError, match="tile 1 of .* not finite"):
        segment_pet_ct(_model(scale=float("nan")), ct, pet, GEOMETRY)
