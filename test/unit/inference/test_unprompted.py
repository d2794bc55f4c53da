"""Foreground probability without a prompt, and points chosen by it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from model.case.case import Scan
from model.case.geometry import Vector
from model.errors import InputError, MemoryExhaustedError
from model.inference.load import LoadedModel
from model.inference.options import ModelOptions
from model.inference.prediction import Encode, Prediction
from model.inference.robust import RobustSegmenter, SegmenterOptions
from model.inference.unprompted import UnpromptedModel, unprompted_longitudinal, unprompted_single_timepoint
from model.inference.user_segmenter import FunctionSegmenter
from model.network.input_variants import PromptNetwork
from model.network.plan import Architecture, CtNormalization, Plan
from model.network.resample import FloatVolume
from model.prompts.sampling import ChoiceOptions, Sampling, SamplingOptions
from model.tracking.series import TrackingOptions
from model.tracking.tracker import track_time_points

from ...helpers.moving_lesions import NAMES, Ball, Patient, ShiftBackend, bright, point_of

LESION, TISSUE, FAR = (10.0, 11.0, 11.0), (10.0, 15.0, 11.0), (10.0, 30.0, 30.0)
ARCHITECTURE = Architecture((4,), ((3, 3, 3),), ((1, 1, 1),), (1,), (), True, 1e-5, True, 0.01)
PLAN = Plan(
    "3d_fullres",
    (2.0, 2.0, 2.0),
    (12, 12, 12),
    (0, 1, 2),
    CtNormalization(-500.0, 500.0, 50.0, 10.0),
    ARCHITECTURE,
)


class Bright:
    """Stands for an ensemble: voxels brighter than 50 HU are lesion."""

    folds = (0, 1)
    options = ModelOptions()

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.seen: list[FloatVolume] = []

    def predict(self, encodes: Sequence[Encode]) -> Iterator[Prediction]:
        for index, encode in enumerate(encodes):
            if self.error is not None:
                raise self.error
            self.seen.append(encode())
            yield Prediction(index, margin=self.seen[-1][0])


def _model(kind: str, ensemble: Bright) -> UnpromptedModel:
    model = LoadedModel(PLAN, ensemble, None)  # type: ignore[arg-type]
    return (
        unprompted_longitudinal(model)
        if kind == "longitudinal"
        else unprompted_single_timepoint({PromptNetwork.BOX: model})
    )


def _scan() -> Scan:
    return Patient().series().time_points[0].scans[0]


@pytest.mark.parametrize("kind", ["longitudinal", "single"])
def test_network_gets_the_scan_without_prompt(kind: str) -> None:
    ensemble = Bright()
    found = _model(kind, ensemble)(_scan(), [LESION, TISSUE, FAR])
    assert found[0] > 0.9 and found[1] < 0.1 and math.isnan(found[2])
    (channels,) = ensemble.seen
    cts = 2 if kind == "longitudinal" else 1
    assert channels.shape == ((5, 12, 12, 12) if cts == 2 else (2, 12, 12, 12))
    assert (
        not channels[cts:].any() and channels[0].max() == 5 and np.array_equal(channels[0], channels[cts - 1])
    )


def test_point_network_is_preferred_without_prompt() -> None:
    model = LoadedModel(PLAN, Bright(), None)  # type: ignore[arg-type]
    other = LoadedModel(PLAN, Bright(), None)  # type: ignore[arg-type]
    chosen = unprompted_single_timepoint({PromptNetwork.TRACK: other, PromptNetwork.POINT: model})
    assert chosen.ensemble is model.ensemble and chosen.is_averaged


def test_probabilities_are_nan_if_the_network_fails() -> None:
    found = _model("single", Bright(ValueError("no")))(_scan(), [LESION, TISSUE])
    assert all(map(math.isnan, found))
    with pytest.raises(MemoryExhaustedError):
        _model("single", Bright(MemoryExhaustedError("full")))(_scan(), [LESION])


# --- choosing points ------------------------------------------------------------------------------------


def _segmenter(values: Any) -> RobustSegmenter:
    return RobustSegmenter(FunctionSegmenter(bright), SegmenterOptions().robust, unprompted=values)


def test_track_chooses_points_by_unprompted_probability() -> None:
    scans: list[str] = []

    def upper_half(scan: Scan, points: Sequence[Vector]) -> list[float]:
        scans.append(scan.name)
        return [0.9 if z > 10 else 0.1 for z, _, _ in points]

    choice = ChoiceOptions(SamplingOptions(Sampling.UNIFORM, 20), min_probability=0.5)
    patient = Patient({1: Ball((10, 11, 11))})
    result = patient.track(TrackingOptions(choice=choice), segmenter=_segmenter(upper_half))
    assert scans == ["primary-t0"] and point_of(result, "t0")[0] > 10
    assert all(patient.dice(result, name, 1) == 1 for name in NAMES)


def test_choosing_by_probability_needs_an_unprompted_model() -> None:
    options = TrackingOptions(choice=ChoiceOptions(min_probability=0.5))
    for segmenter in (_segmenter(None), FunctionSegmenter(bright)):
        with pytest.raises(InputError, match="cannot be chosen by probability"):
            track_time_points(Patient().series(), segmenter, ShiftBackend(), options)
