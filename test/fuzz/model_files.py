"""Files of a model: plan, data set, checkpoints as pickles and as safetensors."""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.numpy import load as load_safetensors

from model.errors import ExitCode
from model.network.pack import pack_weights
from model.network.plan import read_plan
from model.network.weights import WeightsManifest, load_fold

from ..helpers.paths import GOLDEN_MODEL
from .judge import Files, Kind, Mutant, Seed
from .lesion_files import Reading, strict_json, text_mutations
from .mutations import VALUES, damaged_bytes, damaged_json

_WEIGHTS = frozenset({int(ExitCode.WEIGHTS)})
_PICKLE, _PACKED = "checkpoint_final.pth", "checkpoint_final.safetensors"


def _plan_seeds() -> tuple[Seed, ...]:
    plans = json.loads((GOLDEN_MODEL / "plans.json").read_text())
    settings = plans["configurations"]["3d_fullres"]
    heir = json.loads(json.dumps(plans))
    heir["configurations"]["3d_fullres"] = {"inherits_from": "base", "patch_size": [16, 32, 32]}
    heir["configurations"]["base"] = settings
    return tuple(
        Seed(name, {"plans.json": json.dumps(document).encode()}, "plans.json")
        for name, document in (("plan", plans), ("inherited", heir))
    )


def _read_plan(path: Path) -> Reading:
    return asdict(read_plan(path)), ()


def _reference_plan(path: Path) -> Any:
    """The values of a plan where nnU-Net has them."""
    plans = strict_json(path)
    settings: dict[str, Any] = {}
    name: Any = "3d_fullres"
    while name is not None:
        parent = plans["configurations"][name]
        settings = {**parent, **settings}
        name = parent.get("inherits_from")
    network = settings["architecture"]["arch_kwargs"]
    stages = network["n_stages"]
    heat = plans["foreground_intensity_properties_per_channel"]["0"]
    norm, nonlin = network.get("norm_op_kwargs") or {}, network.get("nonlin_kwargs") or {}
    spread = {
        key: network[key] if isinstance(network[key], list) else [network[key]] * count
        for key, count in (
            *(("features_per_stage", stages), ("kernel_sizes", stages), ("strides", stages)),
            *(("n_blocks_per_stage", stages), ("n_conv_per_stage_decoder", stages - 1)),
        )
    }
    triples = {
        key: [v if isinstance(v, list) else [v] * 3 for v in spread[key]]
        for key in ("kernel_sizes", "strides")
    }
    return {
        "configuration": "3d_fullres",
        "spacing_zyx": _floats(settings["spacing"]),
        "patch_size_zyx": settings["patch_size"],
        "transpose_forward": plans.get("transpose_forward", [0, 1, 2]),
        "normalization": {
            "lower": _float(heat["percentile_00_5"]),
            "upper": _float(heat["percentile_99_5"]),
            "mean": _float(heat["mean"]),
            "std": _float(heat["std"]),
        },
        "architecture": {
            "features_per_stage": spread["features_per_stage"],
            **triples,
            "blocks_per_stage": spread["n_blocks_per_stage"],
            "decoder_convs_per_stage": spread["n_conv_per_stage_decoder"],
            "conv_bias": network.get("conv_bias", False),
            "norm_eps": _float(norm.get("eps", 1e-5)),
            "norm_affine": norm.get("affine", False),
            "negative_slope": _float(nonlin.get("negative_slope", 0.01)),
        },
    }


def _float(value: Any) -> float:
    assert type(value) in (int, float)
    return float(value)


def _floats(values: Any) -> list[float]:
    return [_float(value) for value in values]


PLANS = Kind("plans.json", _plan_seeds, text_mutations(damaged_json), _read_plan, _reference_plan, _WEIGHTS)


def _data_set_seeds() -> tuple[Seed, ...]:
    document = json.loads((GOLDEN_MODEL / "dataset.json").read_text()) | {"notice": "Not for clinical use."}
    return (Seed("dataset.json", {"dataset.json": json.dumps(document).encode()}, "dataset.json"),)


def _read_data_set(path: Path) -> Reading:
    notice = WeightsManifest(path.parent, (), ()).notice
    return notice, ("a notice",) if notice and "cannot be read" in notice else ()


def _reference_data_set(path: Path) -> Any:
    notice = strict_json(path).get("notice")
    assert notice is None or isinstance(notice, str)
    return " ".join(notice.split()) if notice and notice.isprintable() and notice.strip() else None


DATA_SETS = Kind(
    "dataset.json",
    _data_set_seeds,
    text_mutations(damaged_json),
    _read_data_set,
    _reference_data_set,
    _WEIGHTS,
)


@cache
def _checkpoint_bytes() -> tuple[bytes, bytes]:
    """A fold as a pickle and packed, without what inference leaves out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("plans.json", "dataset.json"):
            (folder / file).write_bytes((GOLDEN_MODEL / file).read_bytes())
        (folder / "fold_0").mkdir()
        pickled = (GOLDEN_MODEL / "fold_0" / _PICKLE).read_bytes()
        (folder / "fold_0" / _PICKLE).write_bytes(pickled)
        (packed,) = pack_weights(folder, folder)
        return pickled, packed.read_bytes()


def _checkpoint_seeds() -> tuple[Seed, ...]:
    return tuple(
        Seed(name, {name: content}, name)
        for name, content in zip((_PICKLE, _PACKED), _checkpoint_bytes(), strict=True)
    )


def _mutate_checkpoint(rng: Random, seed: Seed) -> Mutant:
    content = seed.files[seed.main]
    if rng.random() < 0.5:
        # Most bytes are weights: aim at the directory and the header, too.
        start, stop = rng.choice(((0, len(content)), (0, 4000), (len(content) - 12_000, len(content))))
        damaged, words = damaged_bytes(rng, content[start:stop])
        changed = content[:start] + damaged + content[stop:]
        is_header = seed.main == _PACKED and start < 8 + int.from_bytes(content[:8], "little")
        return Mutant({seed.main: changed}, f"{words} from {start} on", has_proof=not is_header)
    if seed.main == _PICKLE:
        return Mutant(*_altered_pickle(rng, content))
    length = int.from_bytes(content[:8], "little")
    text, words = damaged_json(rng, content[8 : 8 + length].decode())
    header = text.encode("utf-8", "surrogatepass")
    return Mutant({seed.main: len(header).to_bytes(8, "little") + header + content[8 + length :]}, words)


def _altered_pickle(rng: Random, content: bytes) -> tuple[Files, str]:
    checkpoint = torch.load(io.BytesIO(content), weights_only=True)
    state = checkpoint["network_weights"]
    name = rng.choice(list(state))
    what = rng.choice(("entry", "drop entry", "drop", "shape", "type", "nan", "value", "rename", "other"))
    if what == "entry":
        checkpoint[rng.choice(list(checkpoint))] = rng.choice(VALUES)
    elif what == "drop entry":
        del checkpoint[rng.choice(list(checkpoint))]
    elif what == "drop":
        del state[name]
    elif what == "shape":
        state[name] = state[name][:1]
    elif what == "type":
        state[name] = state[name].to(rng.choice((torch.float16, torch.int32, torch.float64)))
    elif what == "nan":
        state[name].view(-1)[0] = rng.choice((float("nan"), float("inf")))
    elif what == "value":
        state[name] = rng.choice(VALUES)
    elif what == "rename":
        state[f"module.{name}"] = state.pop(name)
    else:
        state["other.weight"] = torch.zeros(3)
    out = io.BytesIO()
    torch.save(checkpoint, out)
    return {_PICKLE: out.getvalue()}, f"{what} of {name}"


def _read_fold(path: Path) -> Reading:
    fold = load_fold(path)
    named = (fold.trainer_name, fold.configuration, fold.mirror_axes, fold.variant.name, fold.heat_map.value)
    return ({name: tensor.numpy() for name, tensor in fold.state.items()}, *named), ()


def _reference_fold(path: Path) -> Any:
    """Tensors and metadata as torch and safetensors have them; names as in the seed."""
    if path.suffix == ".pth":
        checkpoint = torch.load(path, weights_only=True)
        state = {key: value.numpy() for key, value in checkpoint["network_weights"].items()}
        axes = checkpoint.get("inference_allowed_mirroring_axes")
        trainer = str(checkpoint.get("trainer_name", ""))
        configuration = checkpoint["init_args"]["configuration"]
        heat_map = checkpoint.get("heat_map", "unit-peak")
    else:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        state, axes = load_safetensors(content), json.loads(metadata.get("mirror_axes", "[]"))
        trainer, configuration = metadata.get("trainer_name", ""), metadata.get("configuration", "3d_fullres")
        heat_map = metadata.get("heat_map", "unit-peak")
    state = {
        _canonical(name): tensor
        for name, tensor in state.items()
        if "decoder.encoder." not in name and "all_modules" not in name
    }
    return (state, trainer, configuration, tuple(axes or ()), "LONGITUDINAL", heat_map)


def _canonical(name: str) -> str:
    for prefix in ("module.", "_orig_mod.", "backbone."):
        name = name.removeprefix(prefix)
    return name


CHECKPOINTS = Kind(
    "checkpoints", _checkpoint_seeds, _mutate_checkpoint, _read_fold, _reference_fold, _WEIGHTS
)
