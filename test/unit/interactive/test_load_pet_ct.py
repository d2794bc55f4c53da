"""Networks for PET/CT: published and packed, with and without heads for organs, several models, refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.errors import WeightsError
from model.inference.options import ModelOptions
from model.interactive.load_pet_ct import PetCtModel, load_pet_ct_model
from model.network.input_variants import Family, InputVariant
from model.network.pack import pack_weights
from model.network.weights import load_fold
from test.helpers.checkpoints import refusal
from test.helpers.golden_pet_ct import PET_CT_MODEL
from test.helpers.paths import GOLDEN_MODEL

Checkpoint = dict[str, Any]
NAME = "checkpoint_final.pth"
EDT2 = "autopetTrainerInteractiveClickGen10ptsRatio80_20EDT2"


def _changed(folder: Path, change: Callable[[Checkpoint], None], folds: tuple[int, ...] = (0,)) -> Path:
    """A model of some folds of the golden one, each changed."""
    for fold in folds:
        checkpoint = torch.load(PET_CT_MODEL / f"fold_{fold}" / NAME, weights_only=True)
        change(checkpoint)
        (folder / f"fold_{fold}").mkdir(parents=True)
        torch.save(checkpoint, folder / f"fold_{fold}" / NAME)
    shutil.copyfile(PET_CT_MODEL / "plans.json", folder / "plans.json")
    return folder


def _trainer(name: str, channels: int = 4, organs: bool = True) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        checkpoint["trainer_name"] = name
        state = checkpoint["network_weights"]
        for key in list(state):
            if ".stem." in key and state[key].ndim == 5:
                state[key] = state[key].repeat(1, 2, 1, 1, 1)[:, :channels].clone()
            if "organ_seg_layers" in key and not organs:
                del state[key]

    return change


def _loaded(*folders: Path, **options: Any) -> PetCtModel:
    return load_pet_ct_model(folders, ModelOptions(device="cpu"), **options)


def test_all_published_folds_load_and_organ_heads_are_ignored() -> None:
    model = _loaded(PET_CT_MODEL)
    assert [fold.path.parent.name for fold in model.ensemble.folds] == [
        "fold_0",
        "fold_1",
        "fold_2",
        "fold_3",
    ]
    assert model.ensemble.variant is InputVariant.PET_CT_CLICKS and model.takes_clicks
    assert not any("organ" in name for fold in model.ensemble.folds for name in fold.state)
    assert model.warnings == () and model.ensemble.folds[0].mirror_axes == (0, 1, 2)


@pytest.mark.slow
def test_organ_heads_are_kept_on_request_and_in_packed_weights(tmp_path: Path) -> None:
    model = _loaded(PET_CT_MODEL, folds=[1], organs=True)
    assert model.ensemble.organ_classes == 11 and _loaded(PET_CT_MODEL, folds=[1]).ensemble.organ_classes == 0
    with_heads = _changed(tmp_path / "a", _trainer(EDT2))
    pack_weights(with_heads, tmp_path / "packed")
    assert _loaded(tmp_path / "packed", organs=True).ensemble.organ_classes == 11
    without = _changed(tmp_path / "b", _trainer(EDT2, organs=False))
    refusal(lambda: _loaded(without, organs=True), NAME, "no heads for organs")
    refusal(lambda: _loaded(with_heads, without, organs=True), "0 classes of organs", "expected 11")


@pytest.mark.slow
def test_chosen_folds_and_several_models(tmp_path: Path) -> None:
    other = _changed(tmp_path, _trainer(EDT2 + "_2000ep"), (1, 3))
    model = _loaded(PET_CT_MODEL, other, folds=[3, 1])
    names = [(fold.path.parts[-3], fold.path.parent.name) for fold in model.ensemble.folds]
    assert names == [("model", "fold_3"), ("model", "fold_1"), (other.name, "fold_3"), (other.name, "fold_1")]
    assert len(_loaded(PET_CT_MODEL, other).ensemble.folds) == 6
    refusal(lambda: _loaded(other, folds=[0]), "fold_0")
    refusal(lambda: _loaded(other, folds=[]), "no folds")
    for fold in other.glob("fold_*"):
        fold.rename(other / "fold_all") if fold.name == "fold_1" else shutil.rmtree(fold)
    assert [fold.path.parent.name for fold in _loaded(other).ensemble.folds] == ["fold_all"]
    refusal(lambda: _loaded(), "no model")


def test_packed_weights_are_the_same(tmp_path: Path) -> None:
    files = pack_weights(PET_CT_MODEL, tmp_path)
    assert len(files) == 4
    published, packed = (
        load_fold(path, Family.PET_CT) for path in (PET_CT_MODEL / "fold_2" / NAME, files[2])
    )
    assert packed.state.keys() == published.state.keys()
    assert all(torch.equal(tensor, published.state[name]) for name, tensor in packed.state.items())
    assert (packed.trainer_name, packed.mirror_axes) == (published.trainer_name, published.mirror_axes)
    assert [fold.path for fold in _loaded(tmp_path).ensemble.folds] == files


@pytest.mark.parametrize(
    ("trainer", "channels", "organs", "variant", "warned"),
    [
        (EDT2, 4, True, InputVariant.PET_CT_CLICKS, 0),
        ("autopetTrainerInteractiveClickGenEDT2_bugfix", 4, False, InputVariant.PET_CT_CLICKS, 0),
        ("autopetTrainerInteractiveNoOrgans", 4, False, InputVariant.PET_CT_CLICKS, 1),
        ("autoPET3_Trainer", 2, True, InputVariant.PET_CT, 0),
        ("autoPET3_Trainer_2000ep", 2, False, InputVariant.PET_CT, 0),
    ],
)
def test_variants_of_the_family(
    tmp_path: Path, trainer: str, channels: int, organs: bool, variant: InputVariant, warned: int
) -> None:
    model = _loaded(_changed(tmp_path, _trainer(trainer, channels, organs)))
    assert model.ensemble.variant is variant and model.takes_clicks is (channels == 4)
    assert len(model.warnings) == warned and all(trainer in warning for warning in model.warnings)


@pytest.mark.parametrize(
    ("trainer", "channels"),
    [
        ("autopetTrainerInteractiveClickGen", 4),
        ("autopetTrainerInteractiveClickGenSigma3", 4),
        ("autopetTrainerInteractiveClickGenEDT3", 4),
        ("autopetTrainerInteractiveNoOrgansEDT4", 4),
        (EDT2, 2),
        ("autoPET3_Trainer", 4),
        ("nnUNetTrainer", 4),
        ("AutoPETTrainerCrossSecPoint", 2),
        ("", 4),
    ],
)
def test_others_are_refused_by_name(tmp_path: Path, trainer: str, channels: int) -> None:
    folder = _changed(tmp_path, _trainer(trainer, channels))
    refusal(lambda: _loaded(folder), trainer or "(unnamed)", "fold_0")


def test_the_longitudinal_model_is_refused_and_refuses() -> None:
    refusal(lambda: _loaded(GOLDEN_MODEL), "CT and PET")
    refusal(lambda: load_fold(PET_CT_MODEL / "fold_0" / NAME), EDT2)


@pytest.mark.slow
def test_models_must_share_plan_and_channels(tmp_path: Path) -> None:
    automatic = _changed(tmp_path / "automatic", _trainer("autoPET3_Trainer", 2))
    refusal(lambda: _loaded(PET_CT_MODEL, automatic), str(automatic), f"as {PET_CT_MODEL}")
    other = _changed(tmp_path / "other", _trainer(EDT2))
    document = json.loads((other / "plans.json").read_text())
    document["foreground_intensity_properties_per_channel"]["1"]["mean"] = 7.0
    (other / "plans.json").write_text(json.dumps(document))
    refusal(lambda: _loaded(PET_CT_MODEL, other), "plans.json", "one plan")


@pytest.mark.slow
def test_only_common_mirrored_views_are_used(tmp_path: Path) -> None:
    def change(checkpoint: Checkpoint) -> None:
        checkpoint["inference_allowed_mirroring_axes"] = (1, 2)

    model = _loaded(PET_CT_MODEL, _changed(tmp_path, change), folds=[0])
    assert [fold.mirror_axes for fold in model.ensemble.folds] == [(1, 2), (1, 2)]
    assert "[1, 2]" in model.warnings[0]


def test_a_fold_without_weights_of_the_plan_is_refused(tmp_path: Path) -> None:
    def change(checkpoint: Checkpoint) -> None:
        del checkpoint["network_weights"]["decoder.seg_layers.2.weight"]

    with pytest.raises(WeightsError, match="does not fit its plan: decoder.seg_layers.2.weight"):
        _loaded(_changed(tmp_path, change))
