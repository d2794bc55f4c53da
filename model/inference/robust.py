"""Which segmenter answers a series: the longitudinal model, a single-time-point one, or a user's own.

A user's own is any callable ``function(request: SegmentRequest) -> array`` named as ``module:function``. It
is asked for one lesion at a time and answers with an array (z, y, x) of the request's image: booleans, or
probabilities from 0 to 1 (above one half is lesion).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..case.case import LesionPrompt, LesionResult, PointSource, Scan
from ..case.geometry import Array, Box, Vector
from ..errors import InputError, LongilesionError, WeightsError, one_line
from ..extensions import load_object
from .boost_options import Boosting, BoostOptions
from .boosting import BoostedSegmenter
from .components import LIMIT_MM, result_at_point
from .options import DEFAULT_BOOST, ModelOptions
from .segmenter import LesionFailure, LesionSegmenter, lesion_result

log = logging.getLogger(__name__)

LONGITUDINAL, SINGLE = "longitudinal", "single"


@dataclass(frozen=True, eq=False)
class SegmentRequest:
    """One lesion in one scan, as a user's own segmenter is asked for it.

    Arrays are (z, y, x), points are voxel indices (z, y, x), spacings mm. The image is in HU and the number
    type of its file; it is only to be read. What belongs to the baseline is the scan that the lesion is
    followed from (or the image itself, where the lesion is seen for the first time).
    """

    prompt: LesionPrompt

    @property
    def lesion_id(self) -> int:
        return self.prompt.lesion_id

    @property
    def image(self) -> Array:
        return self.prompt.followup.ct

    @property
    def spacing_zyx(self) -> Vector:
        return self.prompt.followup.geometry.spacing_zyx

    @property
    def point_zyx(self) -> Vector:
        """Where the lesion is expected; fractions of voxels, inside of the image."""
        return self.prompt.followup_point.point_zyx

    @property
    def box(self) -> Box | None:
        """Half-open, in voxels of the image."""
        return self.prompt.followup_box

    @property
    def mask(self) -> npt.NDArray[np.bool_] | None:
        """Where the lesion is expected, on the image's grid; None where nothing is known of its shape."""
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
        return self.prompt.baseline.ct

    @property
    def baseline_spacing_zyx(self) -> Vector:
        return self.prompt.baseline.geometry.spacing_zyx

    @property
    def baseline_point_zyx(self) -> Vector:
        return self.prompt.baseline_point.point_zyx

    @property
    def baseline_mask(self) -> npt.NDArray[np.bool_] | None:
        """The lesion on the baseline's grid; None where it has no mask there."""
        if not self.prompt.has_mask or self.prompt.baseline.mask is None:
            return None
        return np.asarray(self.prompt.baseline.mask == self.lesion_id)


class FunctionSegmenter:
    """A user's own callable as a segmenter: whatever goes wrong in it is that lesion's failure."""

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
        """Ask for one lesion after the other."""
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

    def _checked(self, answer: Any, prompt: LesionPrompt) -> npt.NDArray[np.float32]:
        """The answer as probabilities; InputError for anything else."""
        array, shape = np.asarray(answer), prompt.followup.ct.shape
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
    """The callable of a name ``module:function``; modules of the current directory can be imported.

    Raises:
        InputError: the module cannot be imported, or has no such callable.
    """
    found = load_object(name, f"{LONGITUDINAL}, {SINGLE} or your own module:function")
    if not callable(found):
        raise InputError(f"{name}: is a {type(found).__name__}; expected a function")
    function: Callable[..., Any] = found
    return function


@dataclass(frozen=True, slots=True)
class SegmenterOptions:
    """Which segmenter, and what is done with its answers.

    ``component_rule`` keeps the component of an answer that lies at its point, at most
    ``component_limit_mm`` from it.
    """

    name: str = LONGITUDINAL
    weights_dir: Path | None = None
    model: ModelOptions = ModelOptions()
    boost: BoostOptions = field(default_factory=lambda: BoostOptions(Boosting(DEFAULT_BOOST)))
    component_rule: bool = True
    component_limit_mm: float = LIMIT_MM

    def settings(self) -> dict[str, Any]:
        """The options as they are written into the record of a series."""
        return {
            "name": self.name,
            "weights_dir": self.weights_dir,
            "device": self.model.device,
            "precision": self.model.precision,
            "folds": self.model.folds,
            "tta": self.model.tta,
            "deterministic": self.model.deterministic,
            "boost": asdict(self.boost),
            "component_rule": self.component_rule,
            "component_limit_mm": self.component_limit_mm,
        }


class ComponentSegmenter:
    """A segmenter whose answers are reduced to the component at their point.

    Where a mask is expected there, the pieces that overlap it stay too: a lesion may have split.
    """

    def __init__(self, inner: LesionSegmenter, limit_mm: float = LIMIT_MM) -> None:
        self._inner = inner
        self._limit_mm = limit_mm

    def segment(self, prompts: Sequence[LesionPrompt]) -> Iterator[LesionResult | LesionFailure]:
        """Answer each prompt once; an answer that cannot be reduced is that lesion's failure."""
        for answer in self._inner.segment(prompts):
            yield answer if isinstance(answer, LesionFailure) else self._reduced(answer)

    def _reduced(self, answer: LesionResult) -> LesionResult | LesionFailure:
        try:
            return result_at_point(answer, self._limit_mm, keep=answer.prompt.followup_mask)
        except Exception as error:
            log.exception("lesion %d: its answer makes no sense", answer.prompt.lesion_id)
            return LesionFailure(answer.prompt, error)


class SeriesSegmenter:
    """A segmenter with the component rule round it, and boosting where a point was propagated.

    A point or box that somebody gave is used as it is.

    Attributes:
        notes: what is to be told of the model, for the record.
        unprompted: the foreground probability at points (z, y, x) of a scan without any prompt; None if the
            segmenter cannot predict it.
    """

    def __init__(
        self,
        inner: LesionSegmenter,
        options: SegmenterOptions,
        notes: Mapping[str, Any] | None = None,
        unprompted: Callable[[Scan, Sequence[Vector]], Sequence[float]] | None = None,
    ) -> None:
        self._inner = inner
        self._options = options
        self.notes = dict(notes or {})
        self.unprompted = unprompted

    def segment(
        self, prompts: Sequence[LesionPrompt], extra_points: Mapping[int, Sequence[Vector]] | None = None
    ) -> Iterator[LesionResult | LesionFailure]:
        """Answer each prompt once.

        Args:
            extra_points: further points by lesion id, on the follow-up's grid, for the boosting that asks
                for a lesion at several; the prompts must then be of one scan.
        """
        options = self._options
        boosted = BoostedSegmenter(self._inner, options.boost, extra_points)
        carried = [prompt for prompt in prompts if _is_propagated(prompt)]
        given = [prompt for prompt in prompts if not _is_propagated(prompt)]
        for inner, mine in ((self._inner, given), (boosted, carried)):
            if mine:
                ruled = ComponentSegmenter(inner, options.component_limit_mm)
                yield from (ruled if options.component_rule else inner).segment(mine)


def _is_propagated(prompt: LesionPrompt) -> bool:
    return prompt.followup_point.source is PointSource.PROPAGATED


def make_segmenter(options: SegmenterOptions) -> SeriesSegmenter:
    """The segmenter of a name, its weights loaded.

    Raises:
        WeightsError: weights that are missing, corrupt, unsafe, or do not fit their plan.
        InputError: a name that is none, a user's module that fails, or a GPU that is not there.
    """
    keep_support = options.boost.uses_support
    if ":" in options.name:
        function = load_function(options.name)
        return SeriesSegmenter(
            FunctionSegmenter(function, options.name, keep_support), options, {"name": options.name}
        )
    if options.name == LONGITUDINAL:
        return _longitudinal(options, keep_support)
    if options.name == SINGLE:
        return _single(options, keep_support)
    raise InputError(
        f"segmenter {options.name!r} is unknown; expected {LONGITUDINAL}, {SINGLE}, or your own "
        "module:function"
    )


def _longitudinal(options: SegmenterOptions, keep_support: bool) -> SeriesSegmenter:
    from .load import load_model
    from .segmenter import Segmenter
    from .unprompted import unprompted_longitudinal

    model = load_model(options.weights_dir, options.model)
    segmenter = Segmenter(model.plan, model.ensemble, keep_support=keep_support)
    notes = {"name": options.name, "folds": list(options.model.folds), "weights": str(model.manifest.folder)}
    return SeriesSegmenter(segmenter, options, notes, unprompted_longitudinal(model))


def _single(options: SegmenterOptions, keep_support: bool) -> SeriesSegmenter:
    from .load import load_single_time_point
    from .single_timepoint import SingleTimePointSegmenter
    from .unprompted import unprompted_single_timepoint

    if options.weights_dir is None:
        raise WeightsError("--segmenter single needs --weights; expected a folder in LesionLocator's layout")
    models = load_single_time_point(options.weights_dir, options.model)
    notes = {
        "name": options.name,
        "folds": list(options.model.folds),
        "networks": [str(name) for name in models],
    }
    segmenter = SingleTimePointSegmenter(models, keep_support=keep_support)
    return SeriesSegmenter(segmenter, options, notes, unprompted_single_timepoint(models))
