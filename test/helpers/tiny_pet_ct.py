"""A small PET/CT, and random networks for it that take milliseconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model.case.geometry import Geometry
from model.inference.ensemble import Ensemble
from model.inference.options import ModelOptions
from model.interactive.load_pet_ct import PetCtModel
from model.network.input_variants import InputVariant
from model.network.plan import Architecture, PetCtPlan
from model.network.resenc_unet import ResEncUNet
from model.network.weights import FoldWeights

from .golden_pet_ct import pet_ct_plan

TINY_SPACING = (3.0, 2.0, 2.0)
TINY_SHAPE = (14, 12, 10)
TINY_GEOMETRY = Geometry(TINY_SHAPE[::-1], TINY_SPACING[::-1], (0.0, 0.0, 0.0))


def tiny_pet_ct_plan() -> PetCtPlan:
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
        plan,
        network=replace(plan.network, architecture=tiny, patch_size_zyx=(8, 8, 8), spacing_zyx=TINY_SPACING),
    )


def tiny_pet_ct_model(
    folds: int = 1,
    variant: InputVariant = InputVariant.PET_CT_CLICKS,
    scale: float = 1.0,
    organ_classes: int = 0,
) -> PetCtModel:
    plan, weights = tiny_pet_ct_plan(), []
    for seed in range(folds):
        torch.manual_seed(seed)
        network = ResEncUNet(len(variant.channels), 2, plan.network.architecture)
        network.initialize()
        state = {name: tensor.detach() * scale for name, tensor in network.state_dict().items()}
        if organ_classes:
            head = "decoder.organ_seg_layers.0"
            state[f"{head}.weight"] = torch.randn(organ_classes, 4, 1, 1, 1)
            state[f"{head}.bias"] = torch.randn(organ_classes)
        weights.append(FoldWeights(Path(f"fold_{seed}"), state, "random", "3d_fullres", (), variant))
    return PetCtModel(plan, Ensemble(plan.network, weights, ModelOptions(device="cpu")), (), ())


def tiny_pet_ct() -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    return rng.integers(-900, 900, TINY_SHAPE).astype(np.int16), rng.uniform(0.5, 20, TINY_SHAPE).astype(
        np.float32
    )
