"""Segmenters written by users: any callable ``function(request: SegmentRequest) -> array``.

It is named as ``module:function`` and called for one lesion at a time. It returns an array (z, y, x) of the
shape of the request's image: booleans, or probabilities from 0 to 1 (above one half is lesion).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..case.case import LesionPrompt, LesionResult
from ..case.geometry import Array, Box, Vector
from ..errors import InputError, LongilesionError, one_line
from ..extensions import load_object
from .segmenter import LesionFailure, lesion_result

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SegmentRequest:
    """One lesion to segment in one scan.

    Arrays are (z, y, x), points are voxel indices (z, y, x), spacings are (z, y, x) in mm. The image is in HU
    with the number type of its file, and must not be written to. The baseline is the scan that the lesion is
    followed from (or the image itself if the lesion is seen for the first time).
    """

    prompt: LesionPrompt

    @property
    def lesion_id(self) -> int:
        """Id of the lesion."""
        return self.prompt.lesion_id

    @property
    def image(self) -> Array:
        """CT to segment the lesion in, HU (z, y, x)."""
        return _read_only(self.prompt.followup.ct)

    @property
    def spacing_zyx(self) -> Vector:
        """Voxel size of the image in mm."""
        return self.prompt.followup.geometry.spacing_zyx

    @property
    def point_zyx(self) -> Vector:
        """Expected position of the lesion: fractional voxel index inside the image."""
        return self.prompt.followup_point.point_zyx

    @property
    def box(self) -> Box | None:
        """Box prompt in voxels of the image, half-open, or None."""
        return self.prompt.followup_box

    @property
    def mask(self) -> npt.NDArray[np.bool_] | None:
        """Expected shape of the lesion, booleans on the image's grid; None if it is unknown."""
        expected = self.prompt.followup_mask
        if expected is None:
            return None
        mask = np.zeros(self.image.shape, bool)
        inside = expected.box.intersection(Box.of_shape(mask.shape))
        if not inside.is_empty:
            mask[inside.slices] = expected.voxels[inside.relative_to(expected.box).slices]
        return mask

    @property
    def baseline_image(self) -> Array:
        """CT of the baseline, HU (z, y, x)."""
        return _read_only(self.prompt.baseline.ct)

    @property
    def baseline_spacing_zyx(self) -> Vector:
        """Voxel size of the baseline in mm."""
        return self.prompt.baseline.geometry.spacing_zyx

    @property
    def baseline_point_zyx(self) -> Vector:
        """Position of the lesion in the baseline: fractional voxel index."""
        return self.prompt.baseline_point.point_zyx

    @property
    def baseline_mask(self) -> npt.NDArray[np.bool_] | None:
        """The lesion's mask, booleans on the baseline's grid; None if it has none there."""
        if not self.prompt.has_mask or self.prompt.baseline.mask is None:
            return None
        return np.asarray(self.prompt.baseline.mask == self.lesion_id)


def _read_only(array: Array) -> Array:
    """A view that refuses to be written to: the array is the caller's own."""
    view = array.view()
    view.flags.writeable = False
    return view


class FunctionSegmenter:
    """Wraps a user's callable as a segmenter; an error in it is a failure of that lesion only.

    Args:
        function: called with a `SegmentRequest`; returns an array (z, y, x) of the image's shape.
        name: of the function, for messages.
        keep_support: keep the probabilities of the whole image, not only of the lesion.
    """

    def __init__(
        self,
        function: Callable[[SegmentRequest], Any],
        name: str = "the segmenter",
        keep_support: bool = False,
    ) -> None:
        self._function = function
        self._name = name
        self._keep_support = keep_support

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Segment one lesion after the other."""
        for prompt in prompts:
            try:
                values = self._checked(self._function(SegmentRequest(prompt)), prompt)
                yield lesion_result(prompt, Box.of_shape(values.shape), values, self._keep_support)
            except LongilesionError as error:
                yield LesionFailure(prompt, error)
            except Exception as error:
                log.debug("", exc_info=error)
                yield LesionFailure(
                    prompt, InputError(f"{self._name} failed: {type(error).__name__}: {one_line(error)}")
                )

    def _checked(self, returned: Any, prompt: LesionPrompt) -> npt.NDArray[np.float32]:
        """The returned array as float32 probabilities; InputError for anything else."""
        array, shape = np.asarray(returned), prompt.followup.ct.shape
        if array.shape != shape:
            raise InputError(f"{self._name} gave an array of shape {array.shape}; expected {shape}")
        if array.dtype.kind not in "biuf":
            raise InputError(f"{self._name} gave values of type {array.dtype}; expected booleans or numbers")
        values = array.astype(np.float32)
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # NaN as well
            raise InputError(f"{self._name} gave values from {low:g} to {high:g}; expected 0 to 1")
        return values


def load_function(name: str) -> Callable[..., Any]:
    """Load the callable named ``module:function``; modules in the current directory can be imported.

    Raises:
        InputError: the module cannot be imported, or has no such callable.
    """
    loaded = load_object(name, "longitudinal, single or your own module:function")
    if not callable(loaded):
        raise InputError(f"{name}: is a {type(loaded).__name__}; expected a function")
    function: Callable[..., Any] = loaded
    return function
