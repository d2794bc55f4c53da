"""Measure the floors for pairs of scans, at the points that networks are evaluated at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..evaluation.measure_scan import Labelmap
from ..evaluation.records import LesionRecord
from ..floor.floor_segmenter import FloorSegmenter
from ..floor.floors import ALL_FLOORS, Floor
from ..inference.lazy_backend import LazyBackend
from ..network.plan import Plan
from ..propagation.pair_registrations import RegistrationCache
from .loaded_scans import ScanReader
from .measure_pair import measure_pair, reference_of
from .pairs import EvaluationPair
from .point_setting import PointSetting
from .predict_pair import predict_pair


def floor_records(
    pairs: Sequence[EvaluationPair],
    settings: Sequence[PointSetting],
    plan: Plan,
    floors: Sequence[Floor] = ALL_FLOORS,
    backend: str | None = None,
) -> dict[tuple[Floor, PointSetting], list[LesionRecord]]:
    """Draw and measure the lesions of pairs by each floor at each setting; scans are registered once.

    Args:
        pairs: the pairs of scans.
        settings: the follow-up points.
        plan: of the network, whose voxels the noise of a setting is counted in.
        floors: those to measure.
        backend: registration of the warped floor; None takes the default.

    Returns:
        The records of all pairs, by floor and setting.

    Raises:
        InputError: a file cannot be read, or the back end is unknown.
    """
    measured: dict[tuple[Floor, PointSetting], list[LesionRecord]] = {
        (floor, setting): [] for floor in floors for setting in settings
    }
    reader = ScanReader()
    for pair in pairs:
        baseline, followup = reader.read(pair)
        reference, registrations = reference_of(pair, followup), RegistrationCache(LazyBackend(backend))
        for floor in floors:
            segmenter = FloorSegmenter(floor, registrations)
            for setting in settings:
                drawn = predict_pair(pair, baseline, followup, setting, plan, segmenter)
                labelmap = Labelmap(Path(pair.name), drawn.labels, followup.scan.file_geometry)
                failed = frozenset(drawn.failed)
                measured[floor, setting] += measure_pair(pair, baseline, reference, labelmap, failed)
    return measured
