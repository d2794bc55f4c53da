"""Packing weights as safetensors, without optimizer state."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from .. import __version__
from ..case.atomic_files import atomic_write
from ..errors import WeightsError, one_line
from .checkpoint_file import CHECKSUM_KEY, HEAT_MAP_KEY, content_sha256
from .checksums import write_checksums
from .plan import PLANS_FILE
from .weights import (
    DATASET_FILE,
    PACKED,
    PICKLED,
    FoldWeights,
    available_folds,
    find_weights,
    first_not_finite,
    fold_file,
    load_fold,
    sha256,
)


def pack_weights(source: Path, target: Path, dtype: Literal["fp32", "fp16"] = "fp32") -> list[Path]:
    """Write each fold of a model as safetensors without optimizer state, its plan, and their checksums.

    Args:
        source: folder of the model.
        target: folder to write to; may be the same.
        dtype: type of the stored tensors.

    Returns:
        The files of the folds.

    Raises:
        WeightsError: there are no folds, a fold cannot be loaded, or its values do not fit the type.
        OutputError: a file cannot be written.
    """
    folder = find_weights(source)
    written = []
    for fold in available_folds(folder):
        original = fold_file(folder, fold, (PICKLED, PACKED))  # rather than what was packed of it
        weights = load_fold(original, None, organs=True)
        written.append(_pack_fold(weights, target / f"fold_{fold}" / PACKED, dtype))
    for name in (PLANS_FILE, DATASET_FILE):
        if (folder / name).is_file() and folder.resolve() != target.resolve():
            with atomic_write(target / name) as temporary:
                shutil.copyfile(folder / name, temporary)
    others = (target / name for name in (PLANS_FILE, DATASET_FILE))
    write_checksums(target, [*written, *(path for path in others if path.is_file())])
    return written


def _pack_fold(weights: FoldWeights, path: Path, dtype: str) -> Path:
    kind = {"fp32": torch.float32, "fp16": torch.float16}[dtype]
    state = {name: tensor.to(kind).contiguous() for name, tensor in weights.state.items()}
    beyond = first_not_finite(state)
    if beyond is not None:
        raise WeightsError(f"{weights.path}: {beyond} does not fit {dtype}; expected --dtype fp32")
    metadata = {
        "format": "pt",
        "trainer_name": weights.trainer_name,
        "configuration": weights.configuration,
        "channels": str(weights.variant.stem_channels),
        "mirror_axes": json.dumps(weights.mirror_axes),
        HEAT_MAP_KEY: str(weights.heat_map),
        "source_sha256": sha256(weights.path),
        "packed_by": f"longilesion {__version__}",
    }
    metadata[CHECKSUM_KEY] = content_sha256(state, metadata)
    with atomic_write(path) as temporary:
        try:
            save_file(state, temporary, metadata)
        except SafetensorError as error:
            raise OSError(one_line(error)) from error
    return path
