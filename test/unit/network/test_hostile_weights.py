"""Weights and plans made to exhaust memory or time: refused in one line, before any of it is spent."""

from __future__ import annotations

import json
import resource
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from model.network.plan import read_plan
from model.network.weights import WeightsManifest, load_fold

from ...helpers.checkpoints import MODEL, Checkpoint, refusal, save_checkpoint


@pytest.fixture(autouse=True)
def within_bounds() -> Iterator[None]:
    """Each refusal takes moments, and less than 300 MB beyond what the tests had in use."""
    before, start = _peak_mib(), time.perf_counter()
    yield
    assert time.perf_counter() - start < 10
    assert _peak_mib() - before < 300


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _stem(checkpoint: Checkpoint) -> str:
    return next(str(key) for key in checkpoint["network_weights"] if key.endswith("stem.convs.0.conv.weight"))


def _set_stem(value: Callable[[torch.Tensor], Any]) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        name = _stem(checkpoint)
        checkpoint["network_weights"][name] = value(checkpoint["network_weights"][name])

    return change


TENSORS: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "one number repeated to 40 TB": (
        lambda t: torch.zeros(1).expand(10**7, 10**6),
        "take 40000000000000 bytes",
    ),
    "no values": (lambda t: torch.empty(t.shape, device="meta"), "no plain tensor"),
    "sparse": (lambda t: t.to_sparse(), "no plain tensor"),
    "whole numbers": (lambda t: t.to(torch.int64), "torch.int64"),
    "complex": (lambda t: t.to(torch.complex64), "torch.complex64"),
    "eight bits": (lambda t: t.to(torch.float8_e4m3fn), "float8"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_no_weights(name: str, tmp_path: Path) -> None:
    value, words = TENSORS[name]
    path = save_checkpoint(tmp_path / "fold_0" / "checkpoint.pth", _set_stem(value))
    refusal(lambda: load_fold(path), "fold_0", words)


def test_views_that_repeat_one_tensor_many_times(tmp_path: Path) -> None:
    def change(checkpoint: Checkpoint) -> None:
        shared = torch.zeros(10_000)
        checkpoint["network_weights"] |= {f"decoder.extra.{number}": shared for number in range(10_000)}

    path = save_checkpoint(tmp_path / "fold_0" / "checkpoint.pth", change)
    refusal(lambda: load_fold(path), "fold_0", "its tensors take")


def test_a_name_that_is_a_megabyte_long(tmp_path: Path) -> None:
    def change(checkpoint: Checkpoint) -> None:
        checkpoint["network_weights"]["module." * 150_000] = torch.zeros(1)

    path = save_checkpoint(tmp_path / "fold_0" / "checkpoint.pth", change)
    assert len(refusal(lambda: load_fold(path), "fold_0", "1050000 characters")) < 300


def test_nested_values_do_not_exhaust_the_stack(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    path = save_checkpoint(tmp_path / "fold_0" / "checkpoint.pth", lambda c: c.update(logging=deep))
    assert load_fold(path).state
    pickled = b"\x80\x02" + 10_000 * b"]" + 9_999 * b"a" + b"."
    path.write_bytes(pickled)
    refusal(lambda: load_fold(path), "fold_0")


@pytest.mark.slow
def test_a_zip_bomb(tmp_path: Path) -> None:
    good = save_checkpoint(tmp_path / "good.pth")
    bomb = tmp_path / "fold_0.pth"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bomb, "w") as target:
        for record in source.infolist():
            packed = record.filename.endswith("data/0")
            kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
            target.writestr(record.filename, bytes(1 << 26) if packed else source.read(record), kind)
    assert bomb.stat().st_size < 4 << 20
    refusal(lambda: load_fold(bomb), "fold_0", "unpack to")


def test_a_zip_whose_directory_promises_100_gb(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "fold_0.pth")
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(data)
    refusal(lambda: load_fold(path), "fold_0")


def _safetensors(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def _entry(shape: list[int], offsets: list[int], kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


def _header(**entries: Any) -> bytes:
    return json.dumps(entries).encode()


_STEM = "encoder.stem.convs.0.conv.weight"
SAFETENSORS = {
    "a header of 2^63 bytes": _safetensors(b"{}", length=1 << 63),
    "a header of 90 MB that is not there": _safetensors(b"{}", length=90_000_000),
    "overlapping offsets": _safetensors(_header(a=_entry([1], [0, 4]), b=_entry([1], [2, 6])), bytes(6)),
    "100 GB that are not there": _safetensors(
        _header(a=_entry([25_000_000_000], [0, 100_000_000_000])), bytes(8)
    ),
    "sizes whose product overflows": _safetensors(_header(a=_entry([1 << 33, 1 << 33], [0, 4])), bytes(4)),
    "offsets that run backwards": _safetensors(_header(a=_entry([1], [4, 0])), bytes(4)),
    "a negative size": _safetensors(_header(a=_entry([-1], [0, 4])), bytes(4)),
    "a name that is not UTF-8": _safetensors(
        b'{"\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)
    ),
    "an unknown type": _safetensors(_header(a=_entry([1], [0, 4], "F31")), bytes(4)),
    "whole numbers": _safetensors(_header(**{_STEM: _entry([1, 5, 1, 1, 1], [0, 40], "I64")}), bytes(40)),
    "a name twice": _safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "a nested header": _safetensors(10_000 * b"[" + 10_000 * b"]"),
    "nested axes": _safetensors(_header(__metadata__={"mirror_axes": 10_000 * "[" + 10_000 * "]"})),
    "axes that are text": _safetensors(_header(__metadata__={"mirror_axes": '"012"'})),
    "nothing": b"",
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_wild_safetensors(name: str, tmp_path: Path) -> None:
    path = tmp_path / "fold_0.safetensors"
    path.write_bytes(SAFETENSORS[name])
    refusal(lambda: load_fold(path), "fold_0.safetensors")


Plans = dict[str, Any]


def _set(*keys: str, value: Any) -> Callable[[Plans], None]:
    def change(plans: Plans) -> None:
        place = plans["configurations"]["3d_fullres"]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


_NETWORK = ("architecture", "arch_kwargs")
PLANS: dict[str, Callable[[Plans], None]] = {
    "a patch of 10^9": _set("patch_size", value=[10**9] * 3),
    "a patch of 10^30": _set("patch_size", value=[10**30] * 3),
    "a patch of 2^36 voxels": _set("patch_size", value=[4096] * 3),
    "10^9 stages": _set(*_NETWORK, "n_stages", value=10**9),
    "thousands of stages": lambda plans: plans["configurations"]["3d_fullres"]["architecture"][
        "arch_kwargs"
    ].update(n_stages=5000, features_per_stage=8, kernel_sizes=3, strides=[[1, 1, 1]] * 5000),
    "10^9 features": _set(*_NETWORK, "features_per_stage", value=10**9),
    "10^9 blocks": _set(*_NETWORK, "n_blocks_per_stage", value=10**9),
    "a kernel of 10^9 + 1": _set(*_NETWORK, "kernel_sizes", value=10**9 + 1),
    "text for numbers": _set("patch_size", value=["large", "large", "large"]),
    "a spacing of 10^-300 mm": _set("spacing", value=[1e-300] * 3),
    "a spacing of 10^300 mm": _set("spacing", value=[1e300] * 3),
    "a list for the network": _set("architecture", value=[]),
    "null": _set("patch_size", value=None),
}


@pytest.mark.parametrize("name", PLANS)
def test_absurd_plans(name: str, tmp_path: Path) -> None:
    plans = json.loads((MODEL / "plans.json").read_text())
    PLANS[name](plans)
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(plans))
    assert len(refusal(lambda: read_plan(path), "plans.json")) < 500


@pytest.mark.parametrize(
    "text",
    [
        10_000 * "[" + 10_000 * "]",
        10_000 * '{"configurations":',
        '{"configurations": ' + 10_000 * "9" + "}",
        '{"configurations": "\ud800"}',
        "[]",
        "",
    ],
)
def test_plans_that_are_no_plans(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    refusal(lambda: read_plan(path), "plans.json")


def test_a_plan_of_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    with path.open("wb") as file:
        file.write(b'{"configurations": "')
        file.truncate(1 << 30)
    refusal(lambda: read_plan(path), "plans.json", "more than")


@pytest.mark.parametrize(
    ("document", "notice"),
    [
        (json.dumps({"notice": "not for\nclinical \x1b[2Juse"}), "not for clinical [2Juse"),
        (json.dumps({"notice": 100_000 * "a"}), 1000 * "a"),
        (
            10_000 * "[" + 10_000 * "]",
            "dataset.json cannot be read; the model may have a notice for its users",
        ),
    ],
)
def test_a_notice_is_one_printable_line(document: str, notice: str | None, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(document)
    assert WeightsManifest(tmp_path, (), ()).notice == notice
