"""Small scans, prompts and results for tests that work on a segmenter's results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.case.case import LesionPrompt, LesionResult, MaskPrompt, PointSource, PromptPoint, Scan, Slot
from model.case.geometry import Array, AxisMap, Box, Geometry, Vector
from model.inference.segmenter import LesionFailure, lesion_result

# Different along every axis.
SPACING_ZYX = (3.0, 1.0, 0.5)
SHAPE = (12, 20, 24)


def make_scan(
    ct: Array | None = None,
    spacing_zyx: Vector = SPACING_ZYX,
    direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    name: str = "followup",
) -> Scan:
    array = np.zeros(SHAPE, np.int16) if ct is None else ct
    z, y, x = array.shape
    geometry = Geometry(
        (x, y, z), (spacing_zyx[2], spacing_zyx[1], spacing_zyx[0]), (7.0, -30.0, 11.0), tuple(direction)
    )
    return Scan(name, Slot.PRIMARY, Path("ct.mha"), geometry, AxisMap(), array)


def make_prompt(
    point: Vector, lesion_id: int = 1, followup: Scan | None = None, baseline: Scan | None = None
) -> LesionPrompt:
    after = followup or make_scan()
    before = baseline or make_scan(name="baseline")
    return LesionPrompt(
        lesion_id,
        before,
        PromptPoint((3.0, 4.0, 5.0), PointSource.GIVEN),
        after,
        PromptPoint(point, PointSource.PROPAGATED),
    )


def make_result(
    prompt: LesionPrompt, volume: npt.NDArray[np.float32], keep_support: bool = False
) -> LesionResult:
    """A result from the probabilities of a whole scan."""
    return lesion_result(prompt, Box.of_shape(volume.shape), volume.astype(np.float32), keep_support)


def volume_of(result: LesionResult, with_support: bool = False) -> npt.NDArray[np.float32]:
    """A result's probabilities over the whole scan."""
    whole = np.zeros(result.prompt.followup.geometry.shape_zyx, np.float32)
    if with_support:
        assert result.support is not None and result.support_probability is not None
        whole[result.support.slices] = result.support_probability
    else:
        whole[result.box.slices] = result.probability
    return whole


def cuboid(*bounds: tuple[int, int], shape: Sequence[int] = SHAPE, value: float = 0.9) -> Array:
    """A volume with a value within [start, stop) of each axis, otherwise 0."""
    volume = np.zeros(shape, np.float32)
    volume[tuple(slice(a, b) for a, b in bounds)] = value
    return volume


def mask_prompt(volume: Array) -> MaskPrompt:
    """A mask of the voxels that are not 0, over their smallest box."""
    found = np.argwhere(volume)
    start, stop = found.min(axis=0), found.max(axis=0) + 1
    box = Box.of_shape(stop - start, start)
    return MaskPrompt(box, volume[box.slices] > 0)


def with_shapes(prompt: LesionPrompt, volume: Array) -> LesionPrompt:
    """The prompt with the box and mask of a volume's voxels."""
    mask = mask_prompt(volume)
    return replace(prompt, followup_box=mask.box, followup_mask=mask)


class FakeSegmenter:
    """A segmenter that returns the probabilities of a function, or its error as a failure.

    It records the batches of prompts, and returns results in reverse order, as the order is not specified.
    """

    def __init__(
        self, volume: Callable[[LesionPrompt], npt.NDArray[np.float32]], keep_support: bool = False
    ) -> None:
        self._volume = volume
        self._keep_support = keep_support
        self.batches: list[list[LesionPrompt]] = []

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        self.batches.append(list(prompts))
        for prompt in reversed(prompts):
            try:
                volume = self._volume(prompt)
            except ValueError as error:
                yield LesionFailure(prompt, error)
                continue
            yield make_result(prompt, volume, self._keep_support)
