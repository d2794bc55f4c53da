"""Reading `plans.json`, and errors in one line for unusable ones."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.errors import WeightsError
from model.network.plan import CtNormalization, read_plan
from test.helpers.paths import GOLDEN_MODEL

# The tests' own model: the one that ships may change.
PUBLISHED = GOLDEN_MODEL / "plans.json"
Document = dict[str, Any]


@pytest.fixture
def document() -> Document:
    """A published plans document that each test may change."""
    plans: Document = json.loads(PUBLISHED.read_text())
    return plans


def _write(folder: Path, document: Any) -> Path:
    path = folder / "plans.json"
    path.write_text(json.dumps(document))
    return path


def _arch(document: Document) -> Document:
    kwargs: Document = document["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    return kwargs


def test_a_published_plan() -> None:
    plan = read_plan(PUBLISHED)
    assert plan.configuration == "3d_fullres"
    assert plan.spacing_zyx == (2.4, 1.2, 1.2)
    assert plan.patch_size_zyx == (32, 64, 64)
    assert plan.transpose_forward == (0, 1, 2)
    assert plan.normalization == CtNormalization(-831.0, 437.0, 52.31724548339844, 141.08517456054688)
    architecture = plan.architecture
    assert architecture.features_per_stage == (8, 16, 24, 24)
    assert architecture.kernel_sizes == ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert architecture.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert architecture.blocks_per_stage == (1, 2, 2, 2)
    assert architecture.decoder_convs_per_stage == (1, 1, 1)
    assert architecture.conv_bias and architecture.norm_affine
    # The plan does not name the slope: it is torch's default for the leaky ReLU.
    assert (architecture.norm_eps, architecture.negative_slope) == (1e-5, 0.01)


def test_single_numbers_apply_to_all_stages_and_axes(tmp_path: Path, document: Document) -> None:
    _arch(document).update(
        features_per_stage=8,
        kernel_sizes=3,
        strides=[1, 2, [1, 2, 2], 2],
        n_blocks_per_stage=2,
        n_conv_per_stage_decoder=1,
    )
    architecture = read_plan(_write(tmp_path, document)).architecture
    assert architecture.features_per_stage == (8, 8, 8, 8)
    assert architecture.kernel_sizes == ((3, 3, 3),) * 4
    assert architecture.strides == ((1, 1, 1), (2, 2, 2), (1, 2, 2), (2, 2, 2))
    assert architecture.blocks_per_stage == (2, 2, 2, 2)
    assert architecture.decoder_convs_per_stage == (1, 1, 1)


def test_a_configuration_inherits_through_two_levels(tmp_path: Path, document: Document) -> None:
    document["configurations"]["large"] = {"inherits_from": "3d_fullres", "batch_size": 24}
    document["configurations"]["larger"] = {"inherits_from": "large", "patch_size": [64, 64, 64]}
    plan, parent = read_plan(_write(tmp_path, document), "larger"), read_plan(PUBLISHED)
    assert plan.configuration == "larger"
    assert plan.patch_size_zyx == (64, 64, 64)
    assert plan.architecture == parent.architecture
    assert plan.spacing_zyx == parent.spacing_zyx


def test_another_order_of_axes_is_kept(tmp_path: Path, document: Document) -> None:
    document["transpose_forward"] = [2, 0, 1]
    assert read_plan(_write(tmp_path, document)).transpose_forward == (2, 0, 1)


@pytest.mark.slow
def test_reading_a_plan_does_not_import_torch() -> None:
    code = "import sys, model.network.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _line(path: Path, configuration: str = "3d_fullres") -> str:
    with pytest.raises(WeightsError) as raised:
        read_plan(path, configuration)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "expected" in message
    assert "\n" not in message
    return message


def test_missing_file(tmp_path: Path) -> None:
    assert "cannot be read" in _line(tmp_path / "plans.json")


@pytest.mark.parametrize(
    "content", [b"", b'{"configurations": ', b"\xff\xfe\x00", b"version https://git-lfs"]
)
def test_malformed_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plans.json"
    path.write_bytes(content)
    assert "not valid JSON" in _line(path) or content.startswith(b"\xff")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"mean": ', '"mean": true, "was": '),
        ('"n_stages": 4', '"n_stages": "4"'),
        ('"conv_bias": true', '"conv_bias": "yes"'),
        ('"std": ', '"std": "141.0", "was": '),
        ('"patch_size": ', '"patch_size": [16, 32, 32], "patch_size": '),
    ],
)
def test_numbers_as_text_and_keys_given_twice(tmp_path: Path, old: str, new: str) -> None:
    text = (GOLDEN_MODEL / "plans.json").read_text()
    assert text.count(old) == 1
    (tmp_path / "plans.json").write_text(text.replace(old, new))
    _line(tmp_path / "plans.json")


@pytest.mark.parametrize("content", [[], {}, 3, "plans", {"configurations": []}])
def test_json_of_another_kind(tmp_path: Path, content: Any) -> None:
    _line(_write(tmp_path, content))


def test_missing_configuration(tmp_path: Path, document: Document) -> None:
    message = _line(_write(tmp_path, document), "3d_lowres")
    assert "'3d_lowres'" in message and "3d_fullres" in message


def test_missing_parent_configuration(tmp_path: Path, document: Document) -> None:
    document["configurations"]["3d_fullres"]["inherits_from"] = "gone"
    assert "'gone'" in _line(_write(tmp_path, document))


def test_circular_inheritance(tmp_path: Path, document: Document) -> None:
    document["configurations"]["a"] = {"inherits_from": "b"}
    document["configurations"]["b"] = {"inherits_from": "a"}
    assert "inherits from itself" in _line(_write(tmp_path, document), "a")


# A place in the document, what is put there, what the line must name.
ARCH = "configurations/3d_fullres/architecture/arch_kwargs/"
FAULTS: list[tuple[str, Any, str]] = [
    ("transpose_forward", [0, 1, 1], "transpose_forward"),
    ("transpose_forward", [0, 1], "transpose_forward"),
    ("foreground_intensity_properties_per_channel", {}, "channel 0"),
    ("foreground_intensity_properties_per_channel/0/mean", None, "mean"),
    ("foreground_intensity_properties_per_channel/0/std", float("nan"), "std"),
    ("foreground_intensity_properties_per_channel/0/percentile_00_5", 500.0, "percentile"),
    ("configurations/3d_fullres/normalization_schemes", ["ZScoreNormalization"], "ZScoreNormalization"),
    ("configurations/3d_fullres/normalization_schemes", [], "normalization_schemes"),
    ("configurations/3d_fullres/normalization_schemes", ["CTNormalization"] * 2, "normalization_schemes"),
    ("configurations/3d_fullres/patch_size", [64, 64], "patch_size"),
    ("configurations/3d_fullres/patch_size", [32, 60, 64], "patch_size"),
    ("configurations/3d_fullres/patch_size", [32, 0, 64], "patch_size"),
    ("configurations/3d_fullres/spacing", [1.0, 1.0], "spacing"),
    ("configurations/3d_fullres/spacing", [1.0, -1.0, 1.0], "spacing"),
    ("configurations/3d_fullres/inherits_from", ["3d_fullres"], "inherits_from"),
    ("configurations/3d_fullres/architecture", None, "architecture"),
    ("configurations/3d_fullres/architecture/network_class_name", "x.PlainConvUNet", "PlainConvUNet"),
    (ARCH + "conv_op", "torch.nn.modules.conv.Conv2d", "Conv2d"),
    (ARCH + "norm_op", "torch.nn.modules.batchnorm.BatchNorm3d", "BatchNorm3d"),
    (ARCH + "norm_op_kwargs", {"eps": "tiny"}, "eps"),
    (ARCH + "nonlin", "torch.nn.GELU", "GELU"),
    (ARCH + "dropout_op", "torch.nn.modules.dropout.Dropout3d", "dropout_op"),
    (ARCH + "n_stages", 1, "n_stages"),
    (ARCH + "n_stages", 5, "features_per_stage"),
    (ARCH + "features_per_stage", [8, 16, 24], "features_per_stage"),
    (ARCH + "kernel_sizes", [[1, 3, 3]] * 3, "kernel_sizes"),
    (ARCH + "kernel_sizes", [[3, 3]] * 4, "kernel_sizes"),
    (ARCH + "kernel_sizes", [[2, 2, 2]] * 4, "kernel_sizes"),
    (ARCH + "strides", [[1, 1, 1]] * 5, "strides"),
    (ARCH + "strides", [2, 2, 2, 2], "strides"),
    (ARCH + "n_blocks_per_stage", [1, 2, 2, 0], "n_blocks_per_stage"),
    (ARCH + "n_conv_per_stage_decoder", [1, 1, 1, 1], "n_conv_per_stage_decoder"),
]


@pytest.mark.parametrize(("place", "value", "named"), FAULTS)
def test_plans_of_other_networks_are_refused(
    tmp_path: Path, document: Document, place: str, value: Any, named: str
) -> None:
    changed = copy.deepcopy(document)
    *parents, last = place.split("/")
    entry = changed
    for part in parents:
        entry = entry[part]
    entry[last] = value
    assert named in _line(_write(tmp_path, changed))
