"""Segmenters for benchmarks: a classical one that uses only the click, and one that caches results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from model.case.case import LesionPrompt, LesionResult
from model.case.geometry import Box
from model.inference.components import keep_component
from model.inference.segmenter import LesionFailure, LesionSegmenter, lesion_result

_Result = LesionResult | LesionFailure

REACH_MM = 18.0
LIMIT_MM = 8.0
LEAST_CONTRAST_HU = 40.0
SOFTNESS_HU = 15.0


class ClickSegmenter:
    """Region growing from a click, without learning.

    Within 18 mm of the point the smoothed image is thresholded by Otsu's method; the brighter component at
    the point, or the nearest one within 8 mm, is the lesion. If the two classes differ by less than 40 HU
    there is no lesion. The probability is a sigmoid of 15 HU around the threshold. As with all region
    growing, vessels and the chest wall may be connected with a lesion.
    """

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[_Result]:
        for prompt in prompts:
            try:
                yield self._segment(prompt)
            except Exception as error:
                yield LesionFailure(prompt, error)

    def _segment(self, prompt: LesionPrompt) -> LesionResult:
        scan, point = prompt.followup, np.asarray(prompt.followup_point.point_zyx)
        spacing = np.asarray(scan.geometry.spacing_zyx)
        reach = np.ceil(REACH_MM / spacing).astype(int) + 1
        start = np.maximum(np.round(point).astype(int) - reach, 0)
        stop = np.minimum(np.round(point).astype(int) + reach + 1, scan.ct.shape)
        box = Box.of_shape(stop - start, start)
        hu = ndimage.gaussian_filter(scan.ct[box.slices].astype(np.float32), 1.0 / spacing)
        centre = point - start
        grid = np.moveaxis(np.indices(hu.shape), 0, -1)
        ball = np.linalg.norm((grid - centre) * spacing, axis=-1) <= REACH_MM
        threshold = _otsu(hu[ball])
        bright = ball & (hu > threshold)
        if not bright.any() or hu[bright].mean() - hu[ball & ~bright].mean() < LEAST_CONTRAST_HU:
            return lesion_result(prompt, box, np.zeros_like(hu), keep_support=True)
        z, y, x = (float(value) for value in centre)
        kept = keep_component(bright, scan.geometry.spacing_zyx, (z, y, x), LIMIT_MM)
        near = ndimage.binary_dilation(kept, iterations=2) & ball & ~(bright & ~kept)
        logits = np.clip((hu - threshold) / SOFTNESS_HU, -30, 30)
        values = np.where(near, 1 / (1 + np.exp(-logits)), 0).astype(np.float32)
        return lesion_result(prompt, box, values, keep_support=True)


def _otsu(values: npt.NDArray[np.float32]) -> float:
    """Threshold that separates values into two classes of minimum variance."""
    counts, edges = np.histogram(np.clip(values, -1000, 400), bins=140)
    middles = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts), np.cumsum(counts * middles)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return float(edges[1:][np.nanargmax(np.where(below * above > 0, between, 0))])


class CachingSegmenter:
    """Caches the results of a segmenter; ``calls`` counts prompts as if they were not cached."""

    def __init__(self, inner: LesionSegmenter) -> None:
        self._inner = inner
        self._cache: dict[tuple[object, ...], _Result] = {}
        self.calls = 0

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[_Result]:
        self.calls += len(prompts)
        new = {_key(prompt): prompt for prompt in prompts if _key(prompt) not in self._cache}
        for result in self._inner.segment(list(new.values())):
            self._cache[_key(result.prompt)] = result
        for prompt in prompts:
            yield replace(self._cache[_key(prompt)], prompt=prompt)


def _key(prompt: LesionPrompt) -> tuple[object, ...]:
    """Key of a prompt within one pair of scans: lesion, both points, and rotation of the scan."""
    points = prompt.baseline_point.point_zyx, prompt.followup_point.point_zyx
    return (prompt.lesion_id, prompt.followup.axes, *points)
