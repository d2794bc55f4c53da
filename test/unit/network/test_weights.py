"""Weights: finding, loading, checks against their plan, notices, and errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.inference.load import load_model
from model.inference.options import ModelOptions
from model.network import weights
from model.network.pack import pack_weights
from model.network.plan import read_plan
from model.network.weights import (
    DATASET_FILE,
    SHIPPED_WEIGHTS,
    WeightsManifest,
    available_folds,
    build_network,
    ensemble_folds,
    find_weights,
    inspect_weights,
    load_fold,
    load_folds,
    load_plan,
)

from ...helpers.checkpoints import (
    FOLD,
    MODEL,
    Checkpoint,
    refusal,
    save_checkpoint,
    small_model,
    with_channels,
    with_heat_map,
)

# --- finding ---------------------------------------------------------------------------------------------


def test_the_given_folder_is_preferred(tmp_path: Path) -> None:
    assert find_weights(small_model(tmp_path / "mine")) == tmp_path / "mine"


def test_a_model_one_folder_down_is_found(tmp_path: Path) -> None:
    nested = small_model(tmp_path / "AutoPETTrainer__nnUNetResEncUNetLPlans__3d_fullres")
    assert find_weights(tmp_path) == nested


def test_the_mounted_model_is_preferred_to_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MOUNTED_WEIGHTS", tmp_path)
    assert find_weights() == weights.SHIPPED_WEIGHTS  # an empty mount holds no model
    assert find_weights(None) == weights.SHIPPED_WEIGHTS
    small_model(tmp_path / "model")
    assert find_weights() == tmp_path / "model"


def test_no_model_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal(lambda: find_weights(tmp_path), str(tmp_path), "holds no model")
    refusal(lambda: find_weights(tmp_path / "gone"), "gone", "holds no model")
    monkeypatch.setattr(weights, "MOUNTED_WEIGHTS", tmp_path)
    monkeypatch.setattr(weights, "SHIPPED_WEIGHTS", tmp_path / "shipped")
    refusal(find_weights, str(tmp_path), "shipped", "--weights", "Zenodo record")


def test_two_models_in_one_folder(tmp_path: Path) -> None:
    small_model(tmp_path / "a")
    small_model(tmp_path / "b")
    refusal(lambda: find_weights(tmp_path), "several models", "a, b")


# --- the files of an ensemble ----------------------------------------------------------------------------


def test_any_subset_of_the_folds(tmp_path: Path) -> None:
    manifest = inspect_weights(MODEL, (3, 1))
    assert manifest.folds == (3, 1)
    assert [file.parent.name for file in manifest.files] == ["fold_3", "fold_1"]
    assert load_plan(manifest) == read_plan(MODEL / "plans.json")


def test_the_fold_of_all_patients_is_taken_by_name(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")
    (model / "fold_0").rename(model / "fold_all")
    (file,) = inspect_weights(model, ("all",)).files
    assert file.parent == model / "fold_all"
    refusal(lambda: inspect_weights(model, (0,)), str(model / "fold_0"), "missing", "holds fold_1, fold_all")
    assert available_folds(model) == (1, "all") and ensemble_folds(model) == (1,)
    shutil.rmtree(model / "fold_1")
    assert available_folds(model) == ensemble_folds(model) == ("all",)


def test_a_missing_fold(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")
    refusal(lambda: inspect_weights(model, (0, 1, 2)), str(model / "fold_2"), "missing")


def test_hashes_of_all_files(tmp_path: Path) -> None:
    hashes = inspect_weights(MODEL, (0, 4)).hashes()
    assert set(hashes) == {"plans.json", "fold_0/checkpoint_final.pth", "fold_4/checkpoint_final.pth"}
    assert all(len(value) == 64 for value in hashes.values())


def test_a_fold_with_other_channels_than_the_first(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")
    save_checkpoint(model / "fold_1" / FOLD.name, with_channels(2, "AutoPETTrainerCrossSecPoint"))
    refusal(lambda: list(load_folds(inspect_weights(model, (0, 1)))), "fold_1", "2 channels", "5")


def test_a_configuration_that_the_plan_lacks(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")

    def change(checkpoint: Checkpoint) -> None:
        checkpoint["init_args"]["configuration"] = "3d_fullres_bs24"

    save_checkpoint(model / "fold_0" / FOLD.name, change)
    refusal(lambda: load_plan(inspect_weights(model, (0,))), "plans.json", "3d_fullres_bs24")


@pytest.mark.parametrize("packed", [False, True])
def test_folds_with_different_heat_maps_are_refused(tmp_path: Path, packed: bool) -> None:
    model = small_model(tmp_path / "m")
    save_checkpoint(model / "fold_1" / FOLD.name, with_heat_map("unit-volume"))
    if packed:
        pack_weights(model, model)
    refusal(
        lambda: list(load_folds(inspect_weights(model, (0, 1)))),
        "fold_1",
        "trained with unit-volume heat maps; expected unit-peak as fold_0 was",
    )


# --- plan and checkpoint ---------------------------------------------------------------------------------


def test_a_network_is_built_as_stored() -> None:
    fold = load_fold(FOLD)
    network = build_network(read_plan(MODEL / "plans.json"), fold)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(fold.state[key], tensor) for key, tensor in network.state_dict().items())


def _built(path: Path) -> Callable[[], Any]:
    return lambda: build_network(read_plan(MODEL / "plans.json"), load_fold(path))


def _renamed(checkpoint: Checkpoint, old: str, new: str | None) -> None:
    state = checkpoint["network_weights"]
    for key in [key for key in state if old in key]:
        tensor = state.pop(key)
        if new is not None:
            state[key.replace(old, new)] = tensor


def test_a_missing_tensor(tmp_path: Path) -> None:
    path = save_checkpoint(
        tmp_path / "x.pth", lambda checkpoint: _renamed(checkpoint, "seg_layers.1.weight", None)
    )
    refusal(_built(path), str(path), "decoder.seg_layers.1.weight", "nothing", "[2, 16, 1, 1, 1]")


def test_an_unexpected_tensor(tmp_path: Path) -> None:
    path = save_checkpoint(
        tmp_path / "x.pth", lambda checkpoint: _renamed(checkpoint, "transpconvs.2", "transpconvs.9")
    )
    refusal(_built(path), str(path), "decoder.transpconvs")


def test_a_tensor_of_another_shape(tmp_path: Path) -> None:
    document = json.loads((MODEL / "plans.json").read_text())
    arch = document["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arch["features_per_stage"] = [8, 16, 24, 32]
    (tmp_path / "plans.json").write_text(json.dumps(document))
    plan = read_plan(tmp_path / "plans.json")
    refusal(lambda: build_network(plan, load_fold(FOLD)), str(FOLD), "[24", "[32")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_or_infinity_are_refused(tmp_path: Path, value: float) -> None:
    def change(checkpoint: Checkpoint) -> None:
        checkpoint["network_weights"]["backbone.decoder.seg_layers.2.bias"][0] = value

    path = save_checkpoint(tmp_path / "x.pth", change)
    refusal(_built(path), str(path), "decoder.seg_layers.2.bias")


# --- notices ---------------------------------------------------------------------------------------------


def test_the_notice_of_the_shipped_weights_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    model = load_model(SHIPPED_WEIGHTS, ModelOptions(device="cpu", folds=(0,)))
    (warning,) = model.warnings
    assert "demonstration weights, not for clinical use" in warning and str(SHIPPED_WEIGHTS) in warning
    assert [record.getMessage() for record in caplog.records].count(warning) == 1


DAMAGED = "dataset.json cannot be read; the model may have a notice for its users"


@pytest.mark.parametrize(
    ("text", "notice"),
    [
        (json.dumps({"notice": "research\n  only"}), "research only"),
        (json.dumps({"notice": ""}), None),
        (json.dumps({"notice": None}), None),
        (json.dumps({"notice": 3}), DAMAGED),
        (json.dumps({"labels": {}}), None),
        ("[]", DAMAGED),
        ("null", DAMAGED),
        ("{broken", DAMAGED),
        (None, None),
    ],
)
def test_notices_of_models(tmp_path: Path, text: str | None, notice: str | None) -> None:
    if text is not None:
        (tmp_path / DATASET_FILE).write_text(text)
    assert WeightsManifest(tmp_path, (), ()).notice == notice
