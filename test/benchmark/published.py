"""The published way, written plainly: whole volumes, one lesion at a time.

Both CTs are normalised and resampled as a whole, the mask once per id, each lesion goes through the network
alone, and its probabilities of both classes are pasted into a whole volume and resampled to the follow-up's
grid. It shares the network and the reading of files with the product, and no other step. Benchmarks time it;
tests use it as the twin that the fast way must equal.

    python -m test.benchmark.published CASE WEIGHTS OUT.npz
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from model.network.plan import Plan
from model.network.resenc_unet import ResEncUNet
from model.network.weights import build_network, inspect_weights, load_folds, load_plan
from model.timing import Timings

from .published_program import run

Volume = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Scan:
    """A CT as stored, and as a whole on the network's grid."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    resampled: Volume


@dataclass
class PublishedResult:
    """The labelmap, and each lesion's foreground probability on the whole follow-up grid if kept."""

    labelmap: npt.NDArray[np.uint16]
    probabilities: dict[int, Volume] = field(default_factory=dict)


def segment(case: Path, weights: Path, timings: Timings, keep: bool = False) -> PublishedResult:
    """Segment every lesion that is clicked in the primary baseline and follow-up."""
    with timings.stage("read"):
        baseline, followup = _read(case, "primary-baseline-ct"), _read(case, "primary-followup-ct")
        mask = _read(case, "primary-baseline-ct-tumor-lesion-seg")[0]
        clicks = [_clicks(case, name) for name in ("baseline", "followup")]
    with timings.stage("load weights"):
        manifest = inspect_weights(weights, range(5))
        plan = load_plan(manifest)
        networks = [build_network(plan, fold) for fold in load_folds(manifest)]
    ids = [lesion_id for lesion_id in clicks[0] if lesion_id in clicks[1]]
    with timings.stage("preprocess"):
        before, after = _prepared(*baseline, plan), _prepared(*followup, plan)
        # The published code resamples the background's indicator as well.
        masks = {lesion_id: _resampled_mask(mask, lesion_id, before) for lesion_id in [0, *ids]}
    result = PublishedResult(np.zeros(after.shape, np.uint16))
    for lesion_id in ids:
        with timings.stage("predict"):
            points = _index(clicks[0][lesion_id], before, plan), _index(clicks[1][lesion_id], after, plan)
            probability, start = _predict(points, before, after, masks[lesion_id], networks, plan)
        with timings.stage("export"):
            whole = _exported(probability, start, after)
            np.maximum(result.labelmap, (whole[1] > 0.5) * np.uint16(lesion_id), out=result.labelmap)
            if keep:
                result.probabilities[lesion_id] = whole[1]
    return result


def _read(case: Path, slug: str) -> tuple[npt.NDArray[np.int16], tuple[float, ...]]:
    image = sitk.ReadImage(str(next((case / "images" / slug).glob("*.mha"))))
    return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]


def _clicks(case: Path, name: str) -> dict[int, list[float]]:
    document = json.loads((case / f"primary-{name}-lesion-clicks.json").read_text())
    return {int(entry["name"].split()[-1]): entry["point"][::-1] for entry in document["points"]}


def _prepared(array: npt.NDArray[np.int16], spacing: tuple[float, ...], plan: Plan) -> _Scan:
    scheme = plan.normalization
    image = array.astype(np.float32)
    np.clip(image, np.float32(scheme.lower), np.float32(scheme.upper), out=image)
    image -= np.float32(scheme.mean)
    image /= np.float32(max(scheme.std, 1e-8))
    shape = [round(s / t * n) for s, t, n in zip(spacing, plan.spacing_zyx, array.shape, strict=True)]
    return _Scan(array.shape, spacing, _interpolated(image, shape))


def _interpolated(volume: Volume, shape: list[int] | tuple[int, ...]) -> Volume:
    if tuple(shape) == volume.shape[-3:]:
        return volume
    tensor = torch.from_numpy(volume)[(None,) * (5 - volume.ndim)]
    resampled = interpolate(tensor, size=tuple(shape), mode="trilinear", align_corners=False)
    return resampled.reshape(*volume.shape[:-3], *shape).numpy()


def _resampled_mask(mask: npt.NDArray[np.int16], lesion_id: int, scan: _Scan) -> npt.NDArray[np.int8]:
    soft = _interpolated((mask == lesion_id).astype(np.float32), scan.resampled.shape)
    return (soft > 0.5).astype(np.int8)


def _index(point: list[float], scan: _Scan, plan: Plan) -> list[int]:
    return [int(p * s / t) for p, s, t in zip(point, scan.spacing, plan.spacing_zyx, strict=True)]


def _predict(
    points: tuple[list[int], list[int]],
    before: _Scan,
    after: _Scan,
    mask: npt.NDArray[np.int8],
    networks: list[ResEncUNet],
    plan: Plan,
) -> tuple[Volume, list[int]]:
    """Softmax [2, *patch] of the summed logits, and where the patch starts on the follow-up."""
    b, f = points
    start = [
        (n - p) // 2 if n < p else min(max(c - p // 2, 0), n - p)
        for c, n, p in zip(f, after.resampled.shape, plan.patch_size_zyx, strict=True)
    ]
    start_before = [s + c - d for s, c, d in zip(start, b, f, strict=True)]
    patch = plan.patch_size_zyx
    channels = np.stack(
        [
            _cut(after.resampled, start, patch),
            _cut(before.resampled, start_before, patch),
            _cut(mask, start_before, patch),
            _heat_map(f, start, patch, after.resampled.shape),
            _heat_map(b, start_before, patch, before.resampled.shape),
        ]
    ).astype(np.float32)
    with torch.inference_mode():
        logits = sum(network(torch.from_numpy(channels)[None])[0] for network in networks)
        assert isinstance(logits, torch.Tensor)
        return torch.softmax(logits, 0).numpy(), start


def _valid(start: list[int], patch: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(max(s, 0), min(s + p, n)) for s, p, n in zip(start, patch, shape, strict=True))


def _cut(volume: Volume | npt.NDArray[np.int8], start: list[int], patch: tuple[int, ...]) -> Volume:
    valid = _valid(start, patch, volume.shape)
    padding = [(v.start - s, s + p - v.stop) for v, s, p in zip(valid, start, patch, strict=True)]
    return np.pad(volume[valid], padding)


def _heat_map(point: list[int], start: list[int], patch: tuple[int, ...], shape: tuple[int, ...]) -> Volume:
    valid = _valid(start, patch, shape)
    delta = np.zeros([v.stop - v.start for v in valid], np.float32)
    peak = tuple(c - v.start for c, v in zip(point, valid, strict=True))
    delta[peak] = 1
    blob = gaussian_filter(delta, 1)
    padding = [(v.start - s, s + p - v.stop) for v, s, p in zip(valid, start, patch, strict=True)]
    return np.pad(blob / blob[peak], padding)


def _exported(probability: Volume, start: list[int], scan: _Scan) -> Volume:
    """Both classes on the whole follow-up grid, float32 [2, z, y, x]."""
    whole = np.zeros((2, *scan.resampled.shape), np.float32)
    whole[0] = 1
    valid = _valid(start, probability.shape[1:], scan.resampled.shape)
    inner = tuple(slice(v.start - s, v.stop - s) for v, s in zip(valid, start, strict=True))
    whole[(slice(None), *valid)] = probability[(slice(None), *inner)]
    return _interpolated(whole, scan.shape)


def main() -> None:
    run(
        (__doc__ or "").splitlines()[0],
        lambda case, weights, timings: {"labelmap": segment(case, weights, timings).labelmap},
    )


if __name__ == "__main__":
    main()
