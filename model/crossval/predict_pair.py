"""The answer for one pair of scans, by the way that a run takes: prompts, patches, network, one labelmap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..case.case import LesionPrompt, PointSource, PromptPoint, Scan
from ..case.geometry import Vector, flip_order
from ..errors import one_line
from ..inference.merge import merge
from ..inference.options import OverlapRule
from ..inference.segment_case import predict_lesions
from ..inference.segmenter import LesionSegmenter
from ..network.plan import Plan
from .loaded_scans import LoadedScan
from .pairs import EvaluationPair
from .point_setting import PointSetting

# Who gets a voxel that several lesions claim, as a run decides it unless told otherwise.
_OVERLAP_RULE: OverlapRule = "probability"


@dataclass(frozen=True, eq=False)
class PairPrediction:
    """``labels``: uint16 (z, y, x) on the follow-up's grid as its file stores it, ids of the baseline.

    ``failed``: lesion id -> why it has no answer.
    """

    labels: npt.NDArray[np.uint16]
    failed: Mapping[int, str]


def prompts_of(
    pair: EvaluationPair, baseline: LoadedScan, followup: LoadedScan, question: PointSetting, plan: Plan
) -> list[LesionPrompt]:
    """What the network is told of each lesion, as if both points had been clicked."""
    grid = followup.scan.file_geometry
    return [
        LesionPrompt(
            lesion_id=lesion.lesion_id,
            baseline=baseline.scan,
            baseline_point=_clicked(baseline.scan, lesion.baseline_point_xyz),
            followup=followup.scan,
            followup_point=_clicked(followup.scan, question.point_xyz(pair, lesion, grid, plan)),
            has_mask=lesion.lesion_id in baseline.boxes,
        )
        for lesion in pair.lesions
    ]


def _clicked(scan: Scan, point_xyz: Vector | None) -> PromptPoint:
    assert point_xyz is not None, "lesions of evaluation pairs have a point in each scan"
    point = scan.axes.point(flip_order(point_xyz), scan.file_geometry.shape_zyx)
    return PromptPoint(point, PointSource.GIVEN)


def answer(
    pair: EvaluationPair,
    baseline: LoadedScan,
    followup: LoadedScan,
    question: PointSetting,
    plan: Plan,
    segmenter: LesionSegmenter,
) -> PairPrediction:
    """Ask about all lesions of a pair.

    Raises:
        MemoryExhaustedError: out of memory after every smaller way of computing.
    """
    predicted = predict_lesions(prompts_of(pair, baseline, followup, question, plan), segmenter)
    failed = {failure.prompt.lesion_id: one_line(failure.error) for failure in predicted.failures}
    return PairPrediction(merge(followup.scan, predicted.results, _OVERLAP_RULE, np.uint16), failed)
