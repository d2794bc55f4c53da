"""Scribbles on the errors of a segmentation, as autoPET V corrects it step by step.

The largest component of all errors, over- and under-segmentation apart, gets one scribble in the axial slice
that holds most of it: background on what is too much, tumour on what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from ..case.connected_components import label_components
from ..case.tumor_clicks import ClickKind, TumorClick
from .challenge_clicks import as_clicks
from .click_regions import BoolArray

_TRIMMED_SHARE = 0.1
_SHORTEST_TRIMMED = 11  # voxels
_WALKED_SHARE = 0.2
_LEAST_WALK = 2
_NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]

Pixels = npt.NDArray[np.intp]
"""Pixel indices (N, 2) in the order (y, x)."""


class ScribbleStyle(StrEnum):
    """How a scribble is drawn in its slice."""

    CENTERLINE = "centerline"  # along the skeleton, without a tenth at both ends
    RANDOM = "random"  # a straight line between two random voxels, where it lies on the error
    BOUNDARY = "boundary"  # a walk along a fifth of the boundary, from a random voxel


def error_scribble(
    reference: BoolArray, prediction: BoolArray, style: ScribbleStyle, rng: np.random.Generator
) -> tuple[TumorClick, ...]:
    """Draw a scribble on the largest error of a segmentation.

    Args:
        reference: all tumour, booleans (z, y, x) in axial order.
        prediction: booleans of the same shape.
        style: of the scribble.
        rng: source of random numbers.

    Returns:
        The voxels of the scribble as clicks of one kind: voxel indices (z, y, x), each on the error; none if
        both masks are equal. Of an error too small for the style all voxels in the slice are taken.
    """
    missing, excess = (_largest(mask) for mask in (reference & ~prediction, prediction & ~reference))
    is_missing = np.count_nonzero(missing) >= np.count_nonzero(excess)
    error = missing if is_missing else excess
    if not error.any():
        return ()
    number = int(np.argmax(np.count_nonzero(error, axis=(1, 2))))
    pixels = _STYLES[style](error[number], rng)
    kind = ClickKind.TUMOR if is_missing else ClickKind.BACKGROUND
    return tuple(as_clicks(kind, [(number, int(y), int(x)) for y, x in pixels]))


def _largest(mask: BoolArray) -> BoolArray:
    """The largest component of a mask, the first of equally large ones; empty if the mask is."""
    labels, count = label_components(mask)
    if not count:
        return mask
    largest: BoolArray = labels == 1 + np.argmax(np.bincount(labels[mask])[1:])
    return largest


def _centerline(error: BoolArray, _rng: np.random.Generator) -> Pixels:
    from skimage.graph import route_through_array  # not needed for inference
    from skimage.measure import label
    from skimage.morphology import skeletonize

    parts = label(skeletonize(error), connectivity=2)
    skeleton = parts == 1 + np.argmax(np.bincount(parts.ravel(), minlength=2)[1:])
    ends = np.argwhere(skeleton)
    if len(ends) < 2:
        return np.argwhere(error)
    distances = cdist(ends, ends)
    first, last = np.unravel_index(np.argmax(distances), distances.shape)
    costs = np.where(skeleton, 1.0, -1.0)  # negative ones cannot be passed
    route, _ = route_through_array(costs, ends[first], ends[last], fully_connected=True, geometric=False)
    if len(route) >= _SHORTEST_TRIMMED:
        route = route[int(len(route) * _TRIMMED_SHARE) : int(len(route) * (1 - _TRIMMED_SHARE))]
    return np.asarray(route, np.intp)


def _random_line(error: BoolArray, rng: np.random.Generator) -> Pixels:
    from skimage.draw import line

    pixels = np.argwhere(error)
    start, end = pixels[rng.integers(len(pixels), size=2)]
    y, x = line(*start, *end)
    on_error = error[y, x]
    return np.stack([y[on_error], x[on_error]], axis=1)


def _boundary_walk(error: BoolArray, rng: np.random.Generator) -> Pixels:
    from skimage.segmentation import find_boundaries

    boundary = {(int(y), int(x)) for y, x in np.argwhere(find_boundaries(error, mode="inner"))}
    if len(boundary) < 2:
        return np.argwhere(error)
    walked = [sorted(boundary)[rng.integers(len(boundary))]]
    for _ in range(max(_LEAST_WALK, int(_WALKED_SHARE * len(boundary)))):
        y, x = walked[-1]
        ahead = [(y + dy, x + dx) for dy, dx in _NEIGHBOURS]
        following = [pixel for pixel in ahead if pixel in boundary and pixel not in walked]
        if not following:
            break
        walked.append(following[0])
    return np.asarray(walked, np.intp)


_STYLES: Mapping[ScribbleStyle, Callable[[BoolArray, np.random.Generator], Pixels]] = {
    ScribbleStyle.CENTERLINE: _centerline,
    ScribbleStyle.RANDOM: _random_line,
    ScribbleStyle.BOUNDARY: _boundary_walk,
}
