"""Weights: found, read safely, recognised, checked against their plan, packed; and each way to fail."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from model import cli
from model.errors import WeightsError
from model.network import weights
from model.network.plan import read_plan
from model.network.prompts import HeatMap
from model.network.weights import (
    Family,
    InputVariant,
    build_network,
    find_weights,
    inspect_weights,
    load_fold,
    load_folds,
    load_plan,
    pack_weights,
)

# The tests' own model: the one that ships may change.
MODEL = Path(__file__).parents[2] / "golden" / "model"
FOLD = MODEL / "fold_0" / "checkpoint_final.pth"
STEM = "backbone.encoder.stem.convs.0.conv.weight"
Checkpoint = dict[str, Any]
Change = Callable[[Checkpoint], None]


def _checkpoint() -> Checkpoint:
    checkpoint: Checkpoint = torch.load(FOLD, weights_only=True)
    return checkpoint


def _saved(path: Path, change: Change | None = None, **options: Any) -> Path:
    """A fold's checkpoint, changed, under the name of one."""
    checkpoint = _checkpoint()
    if change is not None:
        change(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, path, **options)
    return path


def _with_channels(count: int, trainer: str) -> Change:
    """Another number of input channels: every copy of the stem's weight is cut."""

    def change(checkpoint: Checkpoint) -> None:
        checkpoint["trainer_name"] = trainer
        state = checkpoint["network_weights"]
        for key in [key for key in state if ".stem." in key and state[key].ndim == 5]:
            state[key] = state[key].repeat(1, 2, 1, 1, 1)[:, :count].clone()

    return change


def _model(folder: Path) -> Path:
    """A small model of two folds, free to be spoilt."""
    for fold in (0, 1):
        (folder / f"fold_{fold}").mkdir(parents=True)
        shutil.copyfile(FOLD, folder / f"fold_{fold}" / FOLD.name)
    for name in ("plans.json", "dataset.json"):
        shutil.copyfile(MODEL / name, folder / name)
    return folder


def _line(action: Callable[[], Any], *parts: str) -> str:
    """The action's WeightsError as one line that holds all the parts."""
    with pytest.raises(WeightsError) as raised:
        action()
    message = str(raised.value)
    assert "expected" in message and "\n" not in message
    for part in parts:
        assert part in message
    return message


def _with_heat_map(kind: object, in_settings: bool = False) -> Change:
    """Trained with another kind of heat map; its settings alone say so in the first ones of `train run`."""

    def change(checkpoint: Checkpoint) -> None:
        (checkpoint.setdefault("training_config", {}) if in_settings else checkpoint)["heat_map"] = kind

    return change


# --- finding ---------------------------------------------------------------------------------------------


def test_the_given_folder_comes_first(tmp_path: Path) -> None:
    assert find_weights(_model(tmp_path / "mine")) == tmp_path / "mine"


def test_a_model_one_folder_down_is_found(tmp_path: Path) -> None:
    nested = _model(tmp_path / "AutoPETTrainer__nnUNetResEncUNetLPlans__3d_fullres")
    assert find_weights(tmp_path) == nested


def test_the_mounted_model_comes_before_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MOUNTED_WEIGHTS", tmp_path)
    assert find_weights() == weights.SHIPPED_WEIGHTS  # an empty mount holds no model
    assert find_weights(None) == weights.SHIPPED_WEIGHTS
    _model(tmp_path / "model")
    assert find_weights() == tmp_path / "model"


def test_nothing_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _line(lambda: find_weights(tmp_path), str(tmp_path), "holds no model")
    _line(lambda: find_weights(tmp_path / "gone"), "gone", "holds no model")
    monkeypatch.setattr(weights, "MOUNTED_WEIGHTS", tmp_path)
    monkeypatch.setattr(weights, "SHIPPED_WEIGHTS", tmp_path / "shipped")
    _line(find_weights, str(tmp_path), "shipped")


def test_two_models_in_one_folder(tmp_path: Path) -> None:
    _model(tmp_path / "a")
    _model(tmp_path / "b")
    _line(lambda: find_weights(tmp_path), "several models", "a, b")


# --- the files of an ensemble ----------------------------------------------------------------------------


def test_any_subset_of_the_folds(tmp_path: Path) -> None:
    manifest = inspect_weights(MODEL, (3, 1))
    assert manifest.folds == (3, 1)
    assert [file.parent.name for file in manifest.files] == ["fold_3", "fold_1"]
    assert load_plan(manifest) == read_plan(MODEL / "plans.json")


def test_a_missing_fold(tmp_path: Path) -> None:
    model = _model(tmp_path / "m")
    _line(lambda: inspect_weights(model, (0, 1, 2)), str(model / "fold_2"), "missing")


def test_hashes_name_every_file(tmp_path: Path) -> None:
    hashes = inspect_weights(MODEL, (0, 4)).hashes()
    assert set(hashes) == {"plans.json", "fold_0/checkpoint_final.pth", "fold_4/checkpoint_final.pth"}
    assert all(len(value) == 64 for value in hashes.values())


def test_a_fold_with_other_channels_than_the_first(tmp_path: Path) -> None:
    model = _model(tmp_path / "m")
    _saved(model / "fold_1" / FOLD.name, _with_channels(2, "AutoPETTrainerCrossSecPoint"))
    _line(lambda: list(load_folds(inspect_weights(model, (0, 1)))), "fold_1", "2 channels", "5")


def test_a_configuration_that_the_plan_lacks(tmp_path: Path) -> None:
    model = _model(tmp_path / "m")

    def change(checkpoint: Checkpoint) -> None:
        checkpoint["init_args"]["configuration"] = "3d_fullres_bs24"

    _saved(model / "fold_0" / FOLD.name, change)
    _line(lambda: load_plan(inspect_weights(model, (0,))), "plans.json", "3d_fullres_bs24")


# --- reading a checkpoint --------------------------------------------------------------------------------


def test_a_published_checkpoint_is_read_without_its_training_state() -> None:
    fold = load_fold(FOLD)
    assert fold.trainer_name == "AutoPETTrainerPretrained1e3"
    assert fold.configuration == "3d_fullres"
    assert fold.mirror_axes == (0, 1, 2)
    assert fold.variant is InputVariant.LONGITUDINAL
    assert not any("all_modules" in key or "decoder.encoder" in key for key in fold.state)


def test_torchs_old_format_is_read(tmp_path: Path) -> None:
    old = load_fold(_saved(tmp_path / "old.pth", _use_new_zipfile_serialization=False))
    assert all(torch.equal(old.state[key], tensor) for key, tensor in load_fold(FOLD).state.items())


def test_numpy_numbers_of_a_training_log_are_let_through(tmp_path: Path) -> None:
    kinds = (np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_)

    def change(checkpoint: Checkpoint) -> None:
        checkpoint["logging"] = {"dice": [kind(1) for kind in kinds], "device": torch.device("cuda", 0)}
        checkpoint["_best_ema"] = np.float64(0.7)

    path = _saved(tmp_path / "new.pth", change)
    assert load_fold(path).state.keys() == load_fold(FOLD).state.keys()


def test_numpy_1_names_are_let_through(tmp_path: Path) -> None:
    path = _saved(
        tmp_path / "np1.pth",
        lambda checkpoint: checkpoint.update(_best_ema=np.float64(0.7)),
        _use_new_zipfile_serialization=False,
    )
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    path.write_bytes(content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert load_fold(path).trainer_name == "AutoPETTrainerPretrained1e3"


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch '{self.marker}'",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "ran"
    path = _saved(
        tmp_path / "bad.pth",
        lambda checkpoint: checkpoint.update(logging=_Hostile(marker)),
        _use_new_zipfile_serialization=zipped,
    )
    _line(lambda: load_fold(path), str(path), f"{os.system.__module__}.system", "not run")
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_hostile_pickle_is_refused_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    marker, path = tmp_path / "ran", tmp_path / "bad.pth"
    path.write_bytes(pickle.dumps({"network_weights": _Hostile(marker)}, protocol))
    _line(lambda: load_fold(path), str(path), "not run")
    assert not marker.exists()


def test_any_other_class_is_refused_by_name(tmp_path: Path) -> None:
    path = _saved(tmp_path / "odd.pth", lambda checkpoint: checkpoint.update(logging=Path("x")))
    _line(lambda: load_fold(path), "athlib", "not run")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.99, 0.9999])
def test_a_truncated_checkpoint(tmp_path: Path, part: float) -> None:
    content, path = FOLD.read_bytes(), tmp_path / "cut.pth"
    path.write_bytes(content[: int(len(content) * part)])
    _line(lambda: load_fold(path), str(path))


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04", b"\0" * 99]
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    for name in ("x.pth", "x.safetensors"):
        path = tmp_path / name
        path.write_bytes(content)
        _line(lambda path=path: load_fold(path), str(path))  # type: ignore[misc]


def test_flipped_bytes_never_end_in_another_error(tmp_path: Path) -> None:
    content, path, rng = FOLD.read_bytes(), tmp_path / "flipped.pth", np.random.default_rng(1)
    for _ in range(60):
        spoilt = bytearray(content)
        for place in rng.integers(0, 20_000, 20):  # the pickle lies at the front
            spoilt[place] = rng.integers(256)
        path.write_bytes(spoilt)
        try:
            load_fold(path)
        except WeightsError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    "change",
    [
        lambda checkpoint: checkpoint.pop("network_weights"),
        lambda checkpoint: checkpoint.update(network_weights=[1]),
        lambda checkpoint: checkpoint.update(network_weights={"a": 1}),
        lambda checkpoint: checkpoint.update(network_weights={}),
        lambda checkpoint: checkpoint.update(inference_allowed_mirroring_axes=("x",)),
        lambda checkpoint: checkpoint.update(inference_allowed_mirroring_axes=(3,)),
        lambda checkpoint: checkpoint.update(inference_allowed_mirroring_axes=1),
    ],
    ids=["none", "a list", "no tensors", "empty", "axes text", "axis 3", "axes a number"],
)
def test_a_checkpoint_of_another_kind(tmp_path: Path, change: Change) -> None:
    path = _saved(tmp_path / "x.pth", change)
    _line(lambda: load_fold(path), str(path))


@pytest.mark.parametrize("kind", ["value", "shape", "type"])
def test_twins_that_differ(tmp_path: Path, kind: str) -> None:
    def change(checkpoint: Checkpoint) -> None:
        state = checkpoint["network_weights"]
        twin = STEM.replace("encoder.stem", "decoder.encoder.stem")
        wrong = {"value": state[twin] + 1, "shape": state[twin][:1], "type": state[twin].half()}
        state[twin] = wrong[kind].clone()

    _line(lambda: load_fold(_saved(tmp_path / "x.pth", change)), "decoder.encoder.stem", "twin")


def test_folds_load_in_parallel() -> None:
    """The allow-list is global in torch: one thread's end must not take it from another."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                load_fold(FOLD)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- which variant of the trainer family -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "trainer", "variant"),
    [
        (5, "AutoPETTrainer", InputVariant.LONGITUDINAL),
        (5, "AutoPETTrainerPretrained1e3", InputVariant.LONGITUDINAL),
        (5, "LongiSegTrainerTrackingFinetuning", InputVariant.LONGITUDINAL),
        (5, "SomebodysOwnTrainer", InputVariant.LONGITUDINAL),
        (3, "AutoPETTrainerCrossSecMask", InputVariant.POINT_MASK),
        (3, "AutoPETTrainerCrossSecMaskPretrained1e3", InputVariant.POINT_MASK),
        (2, "AutoPETTrainerCrossSecPoint", InputVariant.POINT),
    ],
)
def test_the_checkpoint_says_what_it_is(
    tmp_path: Path, count: int, trainer: str, variant: InputVariant
) -> None:
    fold = load_fold(_saved(tmp_path / "x.pth", _with_channels(count, trainer)))
    assert fold.variant is variant
    assert len(variant.channels) == count
    network = build_network(read_plan(MODEL / "plans.json"), fold)
    with torch.inference_mode():
        assert network(torch.zeros(1, count, 8, 16, 16)).shape == (1, 2, 8, 16, 16)


def test_published_weights_name_no_heat_map() -> None:
    assert "heat_map" not in _checkpoint() and load_fold(FOLD).heat_map is HeatMap.UNIT_PEAK


@pytest.mark.parametrize("in_settings", [False, True])
def test_the_kind_of_heat_map_is_read_and_packed(tmp_path: Path, in_settings: bool) -> None:
    model = _model(tmp_path / "m")
    for fold in (0, 1):
        _saved(model / f"fold_{fold}" / FOLD.name, _with_heat_map("unit-volume", in_settings))
    pack_weights(model, model)
    pickled = [load_fold(model / f"fold_{fold}" / FOLD.name) for fold in (0, 1)]
    packed = list(load_folds(inspect_weights(model, (0, 1))))
    assert {fold.path.suffix for fold in packed} == {".safetensors"}
    assert {fold.heat_map for fold in (*pickled, *packed)} == {HeatMap.UNIT_VOLUME}


@pytest.mark.parametrize("packed", [False, True])
def test_folds_with_different_heat_maps_are_refused(tmp_path: Path, packed: bool) -> None:
    model = _model(tmp_path / "m")
    _saved(model / "fold_1" / FOLD.name, _with_heat_map("unit-volume"))
    if packed:
        pack_weights(model, model)
    _line(
        lambda: list(load_folds(inspect_weights(model, (0, 1)))),
        "fold_1", "trained with unit-volume heat maps; expected unit-peak as fold_0 was",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["unit-length", 1, ["unit-peak"]])
def test_an_unknown_kind_of_heat_map(tmp_path: Path, kind: object) -> None:
    path = _saved(tmp_path / "x.pth", _with_heat_map(kind))
    _line(lambda: load_fold(path), str(path), repr(kind), "unit-peak or unit-volume")


def test_the_variants_channels() -> None:
    assert InputVariant.LONGITUDINAL.channels == (0, 1, 2, 3, 4)
    assert InputVariant.POINT_MASK.channels == (0, 2, 3)
    assert InputVariant.POINT.channels == (0, 3)


@pytest.mark.parametrize(
    ("count", "trainer"),
    [
        (5, "AutoPETTrainerCrossSecPoint"),
        (5, "AutoPETTrainerCrossSecMask"),
        (3, "AutoPETTrainerCrossSecPoint"),
        (2, "AutoPETTrainerCrossSecMask"),
        (2, "AutoPETTrainer"),
        (2, "LesionLocatorTrainer"),
        (2, "LesionLocatorTrainerSegment"),
        (2, "LesionLocatorTrainerTrack"),
        (3, "SomebodysOwnTrainer"),
        (4, "AutoPETTrainer"),
        (5, "LongiSegTrainerTrackingDiffWeighting"),
    ],
)
def test_a_contradiction_or_another_family(tmp_path: Path, count: int, trainer: str) -> None:
    _line(lambda: load_fold(_saved(tmp_path / "x.pth", _with_channels(count, trainer))), trainer)


# --- single-time-point networks (whole answers: test/unit/inference/test_single.py) -----------------------


def _single(path: Path) -> Callable[[], Any]:
    return lambda: load_fold(path, Family.SINGLE_TIME_POINT)


@pytest.mark.parametrize("prefix", ["", "unet.", "module.segmenter."])
@pytest.mark.parametrize(
    "trainer", ["LesionLocatorTrainerSegment", "LesionLocatorTrainerTrack", "SomebodysOwnTrainer"]
)
def test_a_single_time_point_network_is_found_whatever_it_is_called(
    tmp_path: Path, prefix: str, trainer: str
) -> None:
    def change(checkpoint: Checkpoint) -> None:
        _with_channels(2, trainer)(checkpoint)
        state = checkpoint["network_weights"]
        unet = {prefix + key.removeprefix("backbone."): tensor for key, tensor in state.items()}
        # What registers scans lies beside it, and may hold anything.
        other = {"registration.encoder.stem.convs.0.conv.weight": torch.full((4, 6, 3, 3, 3), torch.nan)}
        checkpoint["network_weights"] = unet | other if prefix else unet

    fold = load_fold(_saved(tmp_path / "x.pth", change), Family.SINGLE_TIME_POINT)
    assert fold.variant is InputVariant.PROMPT and fold.variant.channels == (0, 1)
    network = build_network(read_plan(MODEL / "plans.json"), fold)
    with torch.inference_mode():
        assert network(torch.zeros(1, 2, 8, 16, 16)).shape == (1, 2, 8, 16, 16)


@pytest.mark.parametrize(
    ("count", "trainer"),
    [
        (5, "AutoPETTrainer"),
        (3, "LesionLocatorTrainerSegment"),
        (2, "AutoPETTrainerCrossSecPoint"),
        (2, "LongiSegTrainerTrackingDiffWeighting"),
    ],
)
def test_what_is_no_single_time_point_network(tmp_path: Path, count: int, trainer: str) -> None:
    _line(_single(_saved(tmp_path / "x.pth", _with_channels(count, trainer))), trainer)


def test_two_networks_that_could_be_meant(tmp_path: Path) -> None:
    def change(checkpoint: Checkpoint) -> None:
        _with_channels(2, "LesionLocatorTrainerTrack")(checkpoint)
        state = checkpoint["network_weights"]
        state |= {key.replace("backbone.", "another.", 1): tensor for key, tensor in state.items()}

    _line(_single(_saved(tmp_path / "x.pth", change)), "several U-Nets")


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
    path = _saved(tmp_path / "x.pth", lambda checkpoint: _renamed(checkpoint, "seg_layers.1.weight", None))
    _line(_built(path), str(path), "decoder.seg_layers.1.weight", "nothing", "[2, 16, 1, 1, 1]")


def test_a_tensor_too_many(tmp_path: Path) -> None:
    path = _saved(
        tmp_path / "x.pth", lambda checkpoint: _renamed(checkpoint, "transpconvs.2", "transpconvs.9")
    )
    _line(_built(path), str(path), "decoder.transpconvs")


def test_another_shape(tmp_path: Path) -> None:
    document = json.loads((MODEL / "plans.json").read_text())
    arch = document["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arch["features_per_stage"] = [8, 16, 24, 32]
    (tmp_path / "plans.json").write_text(json.dumps(document))
    plan = read_plan(tmp_path / "plans.json")
    _line(lambda: build_network(plan, load_fold(FOLD)), str(FOLD), "[24", "[32")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    def change(checkpoint: Checkpoint) -> None:
        checkpoint["network_weights"]["backbone.decoder.seg_layers.2.bias"][0] = value

    path = _saved(tmp_path / "x.pth", change)
    _line(_built(path), str(path), "decoder.seg_layers.2.bias")


# --- packing ---------------------------------------------------------------------------------------------


def test_packed_weights_are_preferred_and_the_same(tmp_path: Path) -> None:
    written = pack_weights(_model(tmp_path / "m"), tmp_path / "packed")
    assert [file.parent.name for file in written] == ["fold_0", "fold_1"]
    assert not list((tmp_path / "packed").rglob("*writing*"))
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in written)  # a container's user is another one
    assert (tmp_path / "packed" / "dataset.json").is_file()
    original, packed = load_fold(FOLD), load_fold(written[0])
    assert packed.state.keys() == original.state.keys()
    assert all(torch.equal(packed.state[key], tensor) for key, tensor in original.state.items())
    for name in ("trainer_name", "configuration", "mirror_axes", "variant", "heat_map"):
        assert getattr(packed, name) == getattr(original, name)
    assert read_plan(tmp_path / "packed" / "plans.json") == read_plan(MODEL / "plans.json")


def test_packing_in_place_makes_the_loader_prefer_what_it_wrote(tmp_path: Path) -> None:
    model = _model(tmp_path / "m")
    written = pack_weights(model, model)
    assert inspect_weights(model, (0, 1)).files == tuple(written)
    assert (model / "fold_0" / FOLD.name).is_file()


def test_packing_again_starts_from_the_checkpoint(tmp_path: Path) -> None:
    model = _model(tmp_path / "m")
    pack_weights(model, model, "fp16")
    (file, _) = pack_weights(model, model, "fp32")
    original, packed = load_fold(FOLD), load_fold(file)
    assert all(torch.equal(packed.state[key], tensor) for key, tensor in original.state.items())


def test_half_precision_is_half_the_size_and_computed_in_single(tmp_path: Path) -> None:
    single, _ = pack_weights(_model(tmp_path / "m"), tmp_path / "single")
    half, _ = pack_weights(tmp_path / "m", tmp_path / "half", "fp16")
    assert half.stat().st_size < 0.55 * single.stat().st_size
    network = build_network(read_plan(MODEL / "plans.json"), load_fold(half))
    for key, tensor in load_fold(FOLD).state.items():
        loaded = network.state_dict()[key]
        assert loaded.dtype is torch.float32
        torch.testing.assert_close(loaded, tensor, rtol=2**-11, atol=2**-25)


def test_weights_beyond_half_precision_are_not_packed(tmp_path: Path) -> None:
    model = _model(tmp_path / "m")

    def change(checkpoint: Checkpoint) -> None:
        checkpoint["network_weights"]["backbone.decoder.seg_layers.2.bias"][0] = 1e6

    _saved(model / "fold_0" / FOLD.name, change)
    _line(lambda: pack_weights(model, tmp_path / "p", "fp16"), "decoder.seg_layers.2.bias", "fp32")
    assert not list((tmp_path / "p").rglob("*.safetensors"))


def test_nothing_to_pack(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    shutil.copyfile(MODEL / "plans.json", tmp_path / "m" / "plans.json")
    _line(lambda: pack_weights(tmp_path / "m", tmp_path / "p"), "no folds")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_truncated_packed_weights(tmp_path: Path, part: float) -> None:
    file, _ = pack_weights(_model(tmp_path / "m"), tmp_path / "p")
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])
    _line(lambda: load_fold(file), str(file))


@pytest.mark.parametrize(
    "metadata",
    [
        {"mirror_axes": "null"},
        {"mirror_axes": "[7]"},
        {"mirror_axes": "[[0]]"},
        {"mirror_axes": "{"},
        {"channels": "2"},
        {"heat_map": "unit-length"},
    ],
)
def test_packed_weights_with_wrong_notes(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "x.safetensors"
    notes = {"trainer_name": "AutoPETTrainer", "channels": "5", "mirror_axes": "[0]"} | metadata
    save_file({key: tensor.clone() for key, tensor in load_fold(FOLD).state.items()}, path, notes)
    _line(lambda: load_fold(path), str(path))


def test_the_command_packs_and_tells_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = _model(tmp_path / "m"), tmp_path / "p"
    assert cli.main(["weights", "pack", str(source), str(target), "--dtype", "fp16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("MB" in line for line in lines)
    assert cli.main(["weights", "pack", str(tmp_path / "gone"), str(target)]) == 3
    assert "gone" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", [[], ["segment"], ["weights"], ["weights", "pack"]])
def test_help_imports_neither_torch_nor_simpleitk(command: list[str]) -> None:
    code = (
        "import sys\nfrom model.cli import main\n"
        f"try: main({[*command, '--help']!r})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'SimpleITK'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=20)
