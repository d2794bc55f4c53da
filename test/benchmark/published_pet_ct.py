"""The published way for PET/CT, written plainly: tile by tile, batch 1, one fold loaded after the other.

Both images are normalised and resampled as a whole by scikit-image, both logits are kept for the whole grid
and resampled as a whole. It shares the network and the reading of files with the product, and no other step.

    python -m test.benchmark.published_pet_ct CASE WEIGHTS OUT.npz
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.transform import resize

from model.network.checkpoint_file import read_checkpoint
from model.network.input_variants import Family
from model.network.plan import CtNormalization, read_pet_ct_plan
from model.network.weights import available_folds, build_network, inspect_weights, load_fold
from model.timing import Timings

from .published_program import run

Volume = npt.NDArray[np.float32]
_KINDS = ("tumor", "background")


def segment(case: Path, weights: Path, timings: Timings) -> npt.NDArray[np.bool_]:
    """The mask (z, y, x) of the tumour; images must not be 0 in a margin, and spacing not be anisotropic."""
    with timings.stage("read"):
        ct, pet = (_image(case, name) for name in ("ct", "pet"))
        clicks = json.loads((case / "lesion-clicks.json").read_text())["points"]
    manifest = inspect_weights(weights, available_folds(weights))
    plan = read_pet_ct_plan(manifest.plan_file, read_checkpoint(manifest.files[0]).configuration)
    shape, spacing = ct[0].shape, ct[1]
    size = [round(s / t * n) for s, t, n in zip(spacing, plan.network.spacing_zyx, shape, strict=True)]
    with timings.stage("preprocess"):
        images = [
            _resized(_normalised(array, scheme), size, 3)
            for (array, _), scheme in ((ct, plan.network.normalization), (pet, plan.pet))
        ]
        channels = np.stack([*images, *(_click_map(clicks, kind, shape, size) for kind in _KINDS)])
    logits: Volume = np.zeros((2, *size), np.float32)
    for file in manifest.files:
        with timings.stage("load weights"):
            network = build_network(plan.network, load_fold(file, Family.PET_CT))
        with timings.stage("predict"):
            logits += _windowed(network, channels, plan.network.patch_size_zyx)
    with timings.stage("export"):
        tumour, background = (_resized(one / len(manifest.files), shape, 1) for one in logits[::-1])
        return tumour > background


def _image(case: Path, name: str) -> tuple[npt.NDArray[Any], tuple[float, ...]]:
    image = sitk.ReadImage(str(next((case / "images" / name).glob("*.mha"))))
    return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]


def _normalised(array: npt.NDArray[Any], scheme: CtNormalization) -> Volume:
    image = array.astype(np.float32)
    np.clip(image, np.float32(scheme.lower), np.float32(scheme.upper), out=image)
    image -= np.float32(scheme.mean)
    image /= np.float32(max(scheme.std, 1e-8))
    return image


def _resized(volume: Volume, shape: Sequence[int], order: int) -> Volume:
    if volume.shape == tuple(shape):
        return volume
    resized: Volume = resize(
        volume.astype(np.float64), tuple(shape), order, mode="edge", anti_aliasing=False
    ).astype(np.float32)
    return resized


def _click_map(clicks: list[dict[str, Any]], kind: str, shape: Sequence[int], size: Sequence[int]) -> Volume:
    squares = np.square(np.indices((5, 5, 5)) - 2).sum(0)
    mark = distance_transform_edt(squares <= 4)
    mark = (mark / mark.max()).astype(np.float32)
    padded = np.zeros([n + 4 for n in size], np.float32)
    for click in clicks:
        if click["name"] == kind:
            start = [
                round(min(max(p, 0), n - 1) * m / n)
                for p, n, m in zip(click["point"][::-1], shape, size, strict=True)
            ]
            part = padded[tuple(slice(s, s + 5) for s in start)]
            np.maximum(part, mark, out=part)
    return padded[2:-2, 2:-2, 2:-2]


def _windowed(network: torch.nn.Module, channels: Volume, patch: Sequence[int]) -> Volume:
    """Both logits over the whole grid, the weighted mean over the tiles."""
    shape = channels.shape[1:]
    padding = [
        (max(p - n, 0) // 2, max(p - n, 0) - max(p - n, 0) // 2) for p, n in zip(patch, shape, strict=True)
    ]
    padded = np.pad(channels, [(0, 0), *padding])
    weight = np.zeros(patch)
    weight[tuple(p // 2 for p in patch)] = 1
    weight = gaussian_filter(weight, [p / 8 for p in patch], mode="constant")
    weight = (weight / weight.max() * 10).astype(np.float32)
    weight[weight == 0] = weight[weight > 0].min()
    logits, total = np.zeros((2, *padded.shape[1:]), np.float32), np.zeros(padded.shape[1:], np.float32)
    starts = [_starts(n, p) for n, p in zip(padded.shape[1:], patch, strict=True)]
    for corner in product(*starts):
        tile = tuple(slice(s, s + p) for s, p in zip(corner, patch, strict=True))
        with torch.inference_mode():
            values = network(torch.from_numpy(padded[(slice(None), *tile)])[None])[0].numpy()
        logits[(slice(None), *tile)] += values * weight
        total[tile] += weight
    logits /= total
    inner = tuple(slice(before, before + n) for (before, _), n in zip(padding, shape, strict=True))
    return logits[(slice(None), *inner)]


def _starts(length: int, patch: int) -> list[int]:
    count = math.ceil((length - patch) / (patch / 2)) + 1
    return [round(number * (length - patch) / max(count - 1, 1)) for number in range(count)]


def main() -> None:
    run(
        (__doc__ or "").splitlines()[0],
        lambda case, weights, timings: {"mask": segment(case, weights, timings)},
    )


if __name__ == "__main__":
    main()
