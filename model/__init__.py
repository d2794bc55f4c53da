"""Promptable longitudinal lesion segmentation in whole-body CT.

The public names below are the Python API (docs/python_api.md). They are imported when they are first used:
importing this package imports neither torch nor SimpleITK nor numpy.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # a library is silent unless logging is set up

if TYPE_CHECKING:
    from . import interactive
    from .api import evaluate, load_model, read_scan, register, segment, track
    from .api_results import Lesion, PairRegistration, Segmentation
    from .case.case import Scan
    from .errors import (
        AllLesionsFailedError,
        InputError,
        LongilesionError,
        MemoryExhaustedError,
        WeightsError,
    )
    from .evaluation.evaluate_arrays import ArrayEvaluation
    from .inference.user_segmenter import SegmentRequest

__all__ = [
    "AllLesionsFailedError",
    "ArrayEvaluation",
    "InputError",
    "Lesion",
    "LongilesionError",
    "MemoryExhaustedError",
    "PairRegistration",
    "Scan",
    "SegmentRequest",
    "Segmentation",
    "WeightsError",
    "__version__",
    "evaluate",
    "interactive",
    "load_model",
    "read_scan",
    "register",
    "segment",
    "track",
]

_ELSEWHERE = {
    "Lesion": ".api_results",
    "PairRegistration": ".api_results",
    "Segmentation": ".api_results",
    "Scan": ".case.case",
    "AllLesionsFailedError": ".errors",
    "ArrayEvaluation": ".evaluation.evaluate_arrays",
    "InputError": ".errors",
    "LongilesionError": ".errors",
    "MemoryExhaustedError": ".errors",
    "WeightsError": ".errors",
    "SegmentRequest": ".inference.user_segmenter",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "interactive":
        return import_module(".interactive", __name__)  # a package, which is set as an attribute by that
    value = getattr(import_module(_ELSEWHERE.get(name, ".api"), __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
