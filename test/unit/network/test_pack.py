"""Packed weights: the same numbers in safetensors; and the command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model.cli import main as cli
from model.network.checkpoint_file import CHECKSUM_KEY
from model.network.encoding import HeatMap
from model.network.pack import pack_weights
from model.network.plan import read_plan
from model.network.weights import build_network, inspect_weights, load_fold, load_folds

from ...helpers.checkpoints import (
    FOLD,
    MODEL,
    Checkpoint,
    refusal,
    save_checkpoint,
    small_model,
    with_heat_map,
)


def test_packed_weights_are_preferred_and_equal(tmp_path: Path) -> None:
    written = pack_weights(small_model(tmp_path / "m"), tmp_path / "packed")
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


def test_damaged_packed_weights_are_refused_by_their_checksum(tmp_path: Path) -> None:
    packed, other = pack_weights(small_model(tmp_path / "m"), tmp_path / "packed", "fp16")
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 1  # of a mantissa, which nothing else tells
    packed.write_bytes(content)
    refusal(lambda: load_fold(packed), str(packed), "differs from its checksum")
    renamed = other.read_bytes().replace(b"longilesion ", b"longilesiom ")  # in the metadata
    other.write_bytes(renamed)
    refusal(lambda: load_fold(other), str(other), "differs from its checksum")


def test_packed_weights_without_a_checksum_are_read(tmp_path: Path) -> None:
    """Those of earlier versions."""
    packed, _ = pack_weights(small_model(tmp_path / "m"), tmp_path / "packed")
    with safe_open(packed, framework="pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    del metadata[CHECKSUM_KEY]
    save_file(state, packed, metadata)
    loaded, original = load_fold(packed).state, load_fold(FOLD).state
    assert all(torch.equal(loaded[key], tensor) for key, tensor in original.items())


def test_packing_in_place(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")
    written = pack_weights(model, model)
    assert inspect_weights(model, (0, 1)).files == tuple(written)
    assert (model / "fold_0" / FOLD.name).is_file()


def test_packing_again_starts_from_the_checkpoint(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")
    pack_weights(model, model, "fp16")
    (file, _) = pack_weights(model, model, "fp32")
    original, packed = load_fold(FOLD), load_fold(file)
    assert all(torch.equal(packed.state[key], tensor) for key, tensor in original.state.items())


@pytest.mark.slow
def test_half_precision_weights_have_half_the_size(tmp_path: Path) -> None:
    single, _ = pack_weights(small_model(tmp_path / "m"), tmp_path / "single")
    half, _ = pack_weights(tmp_path / "m", tmp_path / "half", "fp16")
    assert half.stat().st_size < 0.55 * single.stat().st_size
    network = build_network(read_plan(MODEL / "plans.json"), load_fold(half))
    for key, tensor in load_fold(FOLD).state.items():
        loaded = network.state_dict()[key]
        assert loaded.dtype is torch.float32
        torch.testing.assert_close(loaded, tensor, rtol=2**-11, atol=2**-25)


def test_weights_beyond_the_range_of_half_precision_are_refused(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")

    def change(checkpoint: Checkpoint) -> None:
        checkpoint["network_weights"]["backbone.decoder.seg_layers.2.bias"][0] = 1e6

    save_checkpoint(model / "fold_0" / FOLD.name, change)
    refusal(lambda: pack_weights(model, tmp_path / "p", "fp16"), "decoder.seg_layers.2.bias", "fp32")
    assert not list((tmp_path / "p").rglob("*.safetensors"))


def test_the_fold_of_all_patients_is_packed(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")
    (model / "fold_1").rename(model / "fold_all")
    written = pack_weights(model, tmp_path / "packed")
    assert [file.parent.name for file in written] == ["fold_0", "fold_all"]
    assert inspect_weights(tmp_path / "packed", ("all",)).files == (written[1],)


def test_packing_a_model_without_folds(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    shutil.copyfile(MODEL / "plans.json", tmp_path / "m" / "plans.json")
    refusal(lambda: pack_weights(tmp_path / "m", tmp_path / "p"), "no folds")


@pytest.mark.parametrize("in_settings", [False, True])
def test_the_kind_of_heat_map_is_read_and_packed(tmp_path: Path, in_settings: bool) -> None:
    model = small_model(tmp_path / "m")
    for fold in (0, 1):
        save_checkpoint(model / f"fold_{fold}" / FOLD.name, with_heat_map("unit-volume", in_settings))
    pack_weights(model, model)
    pickled = [load_fold(model / f"fold_{fold}" / FOLD.name) for fold in (0, 1)]
    packed = list(load_folds(inspect_weights(model, (0, 1))))
    assert {fold.path.suffix for fold in packed} == {".safetensors"}
    assert {fold.heat_map for fold in (*pickled, *packed)} == {HeatMap.UNIT_VOLUME}


def test_the_command_packs_and_logs_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = small_model(tmp_path / "m"), tmp_path / "p"
    assert cli.main(["weights", "pack", str(source), str(target), "--dtype", "fp16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("MB" in line for line in lines)
    assert cli.main(["weights", "pack", str(tmp_path / "gone"), str(target)]) == 3
    assert "gone" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", [[], ["segment"], ["weights"], ["weights", "pack"]])
def test_help_imports_neither_torch_nor_simpleitk(command: list[str]) -> None:
    code = (
        "import sys\nfrom model.cli.main import main\n"
        f"try: main({[*command, '--help']!r})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'SimpleITK'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=20)
