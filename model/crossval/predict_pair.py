"""Predict one pair of scans by the steps of `segment`: prompts, network with boosting, one labelmap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..case.case import LesionPrompt, PointSource, PromptPoint, Scan
from ..case.geometry import Vector, flip_order
from ..errors import one_line
from ..inference.lesion_steps import predict_lesions
from ..inference.merge import merge
from ..inference.options import CaseOptions
from ..inference.segmenter import LesionSegmenter
from ..network.plan import Plan
from .loaded_scans import LoadedScan
from .pairs import EvaluationPair
from .point_setting import PointSetting

CASE_OPTIONS = CaseOptions()
"""Pairs are predicted with the defaults of `segment`."""


@dataclass(frozen=True, eq=False)
class PairPrediction:
    """The prediction of one pair.

    Attributes:
        labels: uint16 (z, y, x) on the grid of the follow-up's file, ids of the baseline.
        failed: lesion without a prediction -> reason.
    """

    labels: npt.NDArray[np.uint16]
    failed: Mapping[int, str]


def predict_pair(
    pair: EvaluationPair,
    baseline: LoadedScan,
    followup: LoadedScan,
    setting: PointSetting,
    plan: Plan,
    segmenter: LesionSegmenter,
) -> PairPrediction:
    """Segment all lesions of a pair.

    Args:
        pair: the pair.
        baseline: its loaded baseline.
        followup: its loaded follow-up.
        setting: the follow-up points.
        plan: of the network.
        segmenter: from `robust.case_segmenter`.

    Raises:
        MemoryExhaustedError: out of memory after every smaller way of computing.
    """
    predicted = predict_lesions(pair_prompts(pair, baseline, followup, setting, plan), segmenter)
    failed = {failure.prompt.lesion_id: one_line(failure.error) for failure in predicted.failures}
    labels = merge(followup.scan, predicted.results, CASE_OPTIONS.overlap, np.uint16)
    return PairPrediction(labels, failed)


def pair_prompts(
    pair: EvaluationPair, baseline: LoadedScan, followup: LoadedScan, setting: PointSetting, plan: Plan
) -> list[LesionPrompt]:
    """Build the prompts of a pair, one for each lesion.

    Args:
        pair: the pair.
        baseline: its loaded baseline; its points count as given.
        followup: its loaded follow-up.
        setting: the follow-up points and their sources.
        plan: of the network.
    """
    grid = followup.scan.file_geometry
    return [
        LesionPrompt(
            lesion_id=lesion.lesion_id,
            baseline=baseline.scan,
            baseline_point=_prompt_point(baseline.scan, lesion.baseline_point_xyz, PointSource.GIVEN),
            followup=followup.scan,
            followup_point=_prompt_point(
                followup.scan, setting.point_xyz(pair, lesion, grid, plan), setting.source_of(lesion)
            ),
            has_mask=lesion.lesion_id in baseline.boxes,
        )
        for lesion in pair.lesions
    ]


def _prompt_point(scan: Scan, point_xyz: Vector | None, source: PointSource) -> PromptPoint:
    assert point_xyz is not None, "lesions of evaluation pairs have a point in each scan"
    return PromptPoint(scan.axes.point(flip_order(point_xyz), scan.file_geometry.shape_zyx), source)
