"""Checkpoint files: reading, refusal of unsafe ones, and corruption."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from model.errors import WeightsError
from model.network.encoding import HeatMap
from model.network.input_variants import InputVariant
from model.network.pack import pack_weights
from model.network.weights import load_fold

from ...helpers.checkpoints import (
    FOLD,
    Change,
    Checkpoint,
    load_published,
    refusal,
    save_checkpoint,
    small_model,
    with_heat_map,
)


def test_a_published_checkpoint_is_read_without_its_training_state() -> None:
    fold = load_fold(FOLD)
    assert fold.trainer_name == "AutoPETTrainerPretrained1e3"
    assert fold.configuration == "3d_fullres"
    assert fold.mirror_axes == (0, 1, 2)
    assert fold.variant is InputVariant.LONGITUDINAL
    assert not any("all_modules" in key or "decoder.encoder" in key for key in fold.state)


def test_torchs_old_format_is_read(tmp_path: Path) -> None:
    old = load_fold(save_checkpoint(tmp_path / "old.pth", _use_new_zipfile_serialization=False))
    assert all(torch.equal(old.state[key], tensor) for key, tensor in load_fold(FOLD).state.items())


def test_numpy_numbers_of_a_training_log_are_allowed(tmp_path: Path) -> None:
    kinds = (np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_)

    def change(checkpoint: Checkpoint) -> None:
        checkpoint["logging"] = {"dice": [kind(1) for kind in kinds], "device": torch.device("cuda", 0)}
        checkpoint["_best_ema"] = np.float64(0.7)

    path = save_checkpoint(tmp_path / "new.pth", change)
    assert load_fold(path).state.keys() == load_fold(FOLD).state.keys()


def test_numpy_1_names_are_allowed(tmp_path: Path) -> None:
    path = save_checkpoint(
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
    path = save_checkpoint(
        tmp_path / "bad.pth",
        lambda checkpoint: checkpoint.update(logging=_Hostile(marker)),
        _use_new_zipfile_serialization=zipped,
    )
    refusal(lambda: load_fold(path), str(path), f"{os.system.__module__}.system", "not run")
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_hostile_pickle_is_refused_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    marker, path = tmp_path / "ran", tmp_path / "bad.pth"
    path.write_bytes(pickle.dumps({"network_weights": _Hostile(marker)}, protocol))
    refusal(lambda: load_fold(path), str(path), "not run")
    assert not marker.exists()


def test_any_other_class_is_refused_by_name(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "odd.pth", lambda checkpoint: checkpoint.update(logging=Path("x")))
    refusal(lambda: load_fold(path), "athlib", "not run")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.99, 0.9999])
def test_a_truncated_checkpoint(tmp_path: Path, part: float) -> None:
    content, path = FOLD.read_bytes(), tmp_path / "cut.pth"
    path.write_bytes(content[: int(len(content) * part)])
    refusal(lambda: load_fold(path), str(path))


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04", b"\0" * 99]
)
def test_malformed_checkpoints(tmp_path: Path, content: bytes) -> None:
    for name in ("x.pth", "x.safetensors"):
        path = tmp_path / name
        path.write_bytes(content)
        refusal(lambda path=path: load_fold(path), str(path))  # type: ignore[misc]


def test_flipped_bytes_raise_no_other_error(tmp_path: Path) -> None:
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
def test_other_kinds_of_checkpoints_are_refused(tmp_path: Path, change: Change) -> None:
    path = save_checkpoint(tmp_path / "x.pth", change)
    refusal(lambda: load_fold(path), str(path))


@pytest.mark.parametrize("kind", ["value", "shape", "type"])
def test_duplicate_tensors_that_differ_are_refused(tmp_path: Path, kind: str) -> None:
    def change(checkpoint: Checkpoint) -> None:
        state = checkpoint["network_weights"]
        twin = "backbone.decoder.encoder.stem.convs.0.conv.weight"
        wrong = {"value": state[twin] + 1, "shape": state[twin][:1], "type": state[twin].half()}
        state[twin] = wrong[kind].clone()

    refusal(lambda: load_fold(save_checkpoint(tmp_path / "x.pth", change)), "decoder.encoder.stem", "twin")


@pytest.mark.slow
def test_folds_load_in_parallel() -> None:
    """The allow-list is global in torch: a thread that ends must not reset it for another."""
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


# --- heat maps -------------------------------------------------------------------------------------------


def test_published_weights_have_unit_peak_heat_maps() -> None:
    assert "heat_map" not in load_published() and load_fold(FOLD).heat_map is HeatMap.UNIT_PEAK


@pytest.mark.parametrize("kind", ["unit-length", 1, ["unit-peak"]])
def test_an_unknown_kind_of_heat_map_is_refused(tmp_path: Path, kind: object) -> None:
    path = save_checkpoint(tmp_path / "x.pth", with_heat_map(kind))
    refusal(lambda: load_fold(path), str(path), repr(kind), "unit-peak or unit-volume")


# --- packed files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_truncated_packed_weights(tmp_path: Path, part: float) -> None:
    file, _ = pack_weights(small_model(tmp_path / "m"), tmp_path / "p")
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])
    refusal(lambda: load_fold(file), str(file))


@pytest.mark.slow
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
def test_packed_weights_with_wrong_metadata(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "x.safetensors"
    notes = {"trainer_name": "AutoPETTrainer", "channels": "5", "mirror_axes": "[0]"} | metadata
    save_file({key: tensor.clone() for key, tensor in load_fold(FOLD).state.items()}, path, notes)
    refusal(lambda: load_fold(path), str(path))


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_damaged_weight_is_noticed_by_its_checksum(tmp_path: Path, place: float) -> None:
    content = bytearray(FOLD.read_bytes())
    content[int(len(content) * place)] ^= 1
    path = tmp_path / "fold_0" / FOLD.name
    path.parent.mkdir()
    path.write_bytes(content)
    refusal(lambda: load_fold(path), "fold_0", "checksum")
