"""Safe reading of a file of weights.

A `.pth` is a pickle from an untrusted source: only tensors, plain containers and the numpy number types named
here are allowed. A `.safetensors` holds only tensors and metadata.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import pickle
import re
import struct
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from zlib_ng import zlib_ng

from ..errors import WeightsError, one_line
from .encoding import HeatMap
from .plan import DEFAULT_CONFIGURATION
from .resenc_unet import STEM

# Key of the kind of heat maps in checkpoints and packed weights.
HEAT_MAP_KEY = "heat_map"
# Key of the checksum in packed weights.
CHECKSUM_KEY = "content_sha256"

# Values beside tensors: published checkpoints have some MB, most of it the training's log.
_MOST_VALUE_BYTES = 256 << 20
_LONGEST_NAME = 1000
_WEIGHT_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

# Torch has one allow-list per process: a thread that has finished would reset it for one that still reads.
_ALLOW_LIST = threading.Lock()


@dataclass(frozen=True, eq=False)
class RawCheckpoint:
    """Content of a file of weights of any network; names and types of tensors as stored."""

    state: dict[str, Tensor]
    trainer_name: str
    configuration: str
    mirror_axes: tuple[int, ...]
    heat_map: HeatMap


def read_checkpoint(path: Path) -> RawCheckpoint:
    """Read a `.safetensors`, or otherwise a pickle, without running any code in it.

    Raises:
        WeightsError: corrupt, truncated, refused as unsafe, or not a checkpoint of the trainer family.
    """
    raw = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    _check_tensors(path, raw.state)
    return raw


def check_total(path: Path, state: Mapping[str, Tensor]) -> None:
    """Check that tensors take no more bytes than their file has: a view may repeat one number at will.

    Args:
        path: the file, whose tensors are not compressed.
        state: its tensors of any shape, each once.

    Raises:
        WeightsError: they take more.
    """
    needed, size = (
        sum(tensor.numel() * tensor.element_size() for tensor in state.values()),
        path.stat().st_size,
    )
    if needed > size:
        raise WeightsError(
            f"{path}: is corrupt, its tensors take {needed} bytes; expected at most its {size}"
        )


def content_sha256(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Checksum of packed weights, which the format itself lacks.

    Args:
        state: tensors of any shape by name, on the CPU.
        metadata: of the file; an older checksum in it is left out.

    Returns:
        SHA-256 in hexadecimal, over the metadata and over name, type, shape and values of each tensor.
    """
    digest = hashlib.sha256()
    kept = {name: text for name, text in metadata.items() if name != CHECKSUM_KEY}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are no weights, before anything is computed with their values."""
    for name, tensor in state.items():
        if len(name) > _LONGEST_NAME:
            raise WeightsError(
                f"{path}: has a tensor with a name of {len(name)} characters; expected weights"
            )
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise WeightsError(f"{path}: {name} is no plain tensor with values; expected weights")
        if tensor.dtype not in _WEIGHT_TYPES:
            raise WeightsError(
                f"{path}: {name} is of type {tensor.dtype}; expected weights of 16, 32 or 64 bits"
            )
        check_total(path, {name: tensor})


def _check_archive(path: Path) -> None:
    """Refuse a zip that would unpack to more than its own size, by its directory: torch does not compress."""
    if not zipfile.is_zipfile(path):
        return  # torch's old format
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    values = max((record.file_size for record in records if record.filename.endswith("data.pkl")), default=0)
    total, size = sum(record.file_size for record in records), path.stat().st_size
    is_packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    if is_packed or total > size or values > _MOST_VALUE_BYTES:
        raise WeightsError(
            f"{path}: is refused, its {len(records)} records unpack to {total} bytes ({values} of values "
            f"beside tensors) and it has {size}; expected a checkpoint as torch.save writes it"
        )
    _check_sums(path, records)


def _check_sums(path: Path, records: list[zipfile.ZipInfo]) -> None:
    """Compare each record with its checksum, which torch leaves out: damaged weights give other lesions."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for record in records:
            lengths = struct.unpack_from("<2H", content, record.header_offset + 26)  # of name and extra field
            start = record.header_offset + 30 + sum(lengths)
            with memoryview(content) as view, view[start : start + record.file_size] as data:
                is_whole = zlib_ng.crc32(data) == record.CRC
            if not is_whole:
                raise WeightsError(
                    f"{path}: is corrupt, its record {record.filename[-80:]!r} differs from its checksum; "
                    "expected a checkpoint as torch.save writes it"
                )


def _read_pickle(path: Path) -> RawCheckpoint:
    try:
        _check_archive(path)
        with _ALLOW_LIST, torch.serialization.safe_globals(_allowed_globals()):
            checkpoint = _load(path)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except (MemoryError, WeightsError):
        raise
    except Exception as error:  # a corrupt pickle can raise any of them
        raise WeightsError(
            f"{path}: is corrupt or truncated ({one_line(error)[:120]}); expected a checkpoint"
        ) from error
    return _checked_checkpoint(path, checkpoint)


def _allowed_globals() -> list[Any]:
    """The numpy number types that training logs leave in checkpoints, also under their names in numpy 1."""
    scalar = np.float64(0).__reduce__()[0]  # not public in numpy
    kinds = ("Float64", "Float32", "Float16", "Int64", "Int32", "Int16", "Int8", "UInt8", "Bool")
    return [
        (scalar, "numpy._core.multiarray.scalar"),
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        *(getattr(np.dtypes, f"{kind}DType") for kind in kinds),
    ]


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(path, map_location="cpu", weights_only=True)  # a file in torch's old format


def _refusal(path: Path, error: pickle.UnpicklingError) -> WeightsError:
    """Torch's long message in one line, with the name of the refused object if there is one."""
    refused = re.search(r"GLOBAL (\S+)|class (\S+)|global (\S+)", str(error))
    name = next((name for name in refused.groups() if name), None) if refused else None
    fault = (
        f"is refused, it would run {name.strip(chr(39))} while loading, which"
        if name
        else "cannot be read safely, it is corrupt or holds more than weights, and"
    )
    return WeightsError(f"{path}: {fault} was not run; expected tensors and plain values only")


def _checked_checkpoint(path: Path, checkpoint: Any) -> RawCheckpoint:
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("network_weights"), dict):
        raise WeightsError(f"{path}: holds no 'network_weights'; expected a checkpoint of the trainer family")
    state = checkpoint["network_weights"]
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise WeightsError(f"{path}: 'network_weights' is not a state dict; expected names and tensors")
    arguments = checkpoint.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    return RawCheckpoint(
        state,
        str(checkpoint.get("trainer_name", "")),
        str(configuration or DEFAULT_CONFIGURATION),
        _mirror_axes(path, () if axes is None else axes),
        _heat_map(path, _named_heat_map(checkpoint)),
    )


def _read_safetensors(path: Path) -> RawCheckpoint:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
        axes = json.loads(metadata.get("mirror_axes", "[]"))
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: is corrupt or truncated ({one_line(error)[:120]}); expected packed weights"
        ) from error
    if metadata.get(CHECKSUM_KEY, "") not in ("", content_sha256(state, metadata)):
        raise WeightsError(f"{path}: is corrupt, it differs from its checksum; expected packed weights")
    count = str(state[STEM].shape[1]) if STEM in state and state[STEM].ndim == 5 else "no"
    if metadata.get("channels", count) != count:
        raise WeightsError(
            f"{path}: has {count} input channels; expected {metadata['channels']} by its metadata"
        )
    configuration = metadata.get("configuration", DEFAULT_CONFIGURATION)
    return RawCheckpoint(
        state,
        metadata.get("trainer_name", ""),
        configuration,
        _mirror_axes(path, axes),
        _heat_map(path, metadata.get(HEAT_MAP_KEY)),
    )


def _named_heat_map(checkpoint: dict[str, Any]) -> Any:
    """The name of a checkpoint's heat maps; early ones of `train run` have it in their settings only."""
    settings = checkpoint.get("training_config")
    return checkpoint.get(HEAT_MAP_KEY, settings.get(HEAT_MAP_KEY) if isinstance(settings, dict) else None)


def _heat_map(path: Path, name: Any) -> HeatMap:
    """The kind of a checkpoint's heat maps; published checkpoints do not name it."""
    try:
        return HeatMap.UNIT_PEAK if name is None else HeatMap(name)
    except ValueError:
        raise WeightsError(f"{path}: its heat maps are {name!r}; expected {' or '.join(HeatMap)}") from None


def _mirror_axes(path: Path, axes: Any) -> tuple[int, ...]:
    if not isinstance(axes, list | tuple) or any(axis not in (0, 1, 2) for axis in axes):
        raise WeightsError(f"{path}: mirroring axes are {axes!r}; expected some of 0, 1, 2")
    return tuple(int(axis) for axis in axes)
