"""Options of a model and of the segmentation of a case. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import InputError

DEFAULT_FOLDS = (0, 1, 2, 3, 4)
DEVICE_PATTERN = r"auto|cpu|cuda(:[0-9]+)?"

BOOSTS = ("none", "reprompt", "additive", "merged-probabilities", "perturbed", "click-majority", "rotated")
DEFAULT_BOOST = "merged-probabilities"  # by measurement, see docs/benchmarks.md

Precision = Literal["fp32", "fp16", "bf16"]
PointRounding = Literal["truncate", "round"]
OverlapRule = Literal["probability", "max-id"]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Loading and computation of a model's folds.

    Attributes:
        device: ``auto`` (the first usable GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` is bf16 if the GPU supports it, fp16 on other GPUs, fp32 on the CPU.
        folds: numbers of the folds to load; "all" is the name of a fold trained on all patients.
        tta: average over the mirrored views that the checkpoint allows (test-time augmentation).
        deterministic: bit-for-bit reproducible results on the same machine.
        batch: patches per forward pass; None chooses it for the network and the device.
        point_rounding: network voxel of a point of the longitudinal networks: ``truncate`` as they were
            trained and published, ``round`` to the nearest one.
    """

    device: str = "auto"
    precision: Precision | Literal["auto"] = "auto"
    folds: tuple[int | str, ...] = DEFAULT_FOLDS
    tta: bool = False
    deterministic: bool = False
    batch: int | None = None
    point_rounding: PointRounding = "truncate"

    def __post_init__(self) -> None:
        _check("point_rounding", self.point_rounding, get_args(PointRounding))
        _check("precision", self.precision, ("auto", *get_args(Precision)))
        if not re.fullmatch(DEVICE_PATTERN, self.device):
            raise InputError(f"device: is {self.device!r}; expected auto, cpu, cuda or cuda:N")
        if not self.folds:
            raise InputError("folds: is empty; expected at least one number")

    @property
    def rounds_points(self) -> bool:
        """True if points are rounded to the nearest network voxel."""
        return self.point_rounding == "round"

    @property
    def registration_device(self) -> str:
        """Device for registrations: gradient-based ones have no deterministic mode on a GPU."""
        return "cpu" if self.deterministic else self.device


@dataclass(frozen=True, slots=True)
class CaseOptions:
    """Locating, segmenting and merging of the lesions of one case.

    Attributes:
        overlap: assign a voxel claimed by several lesions to the more probable one, or to the highest id.
        backend: registration back end for lesions without a follow-up click, a name or ``module:function``;
            None is the default of all commands.
        boost: boosting method for lesions with a propagated follow-up point, one of `BOOSTS`.
        keep_probabilities: keep each lesion's probabilities over its whole patch.
        segment_baseline: segment baseline lesions that have no mask first, and give them to the network as
            its mask; for networks that take no mask the former is always done.
    """

    overlap: OverlapRule = "probability"
    backend: str | None = None
    boost: str = DEFAULT_BOOST
    keep_probabilities: bool = False
    segment_baseline: bool = False

    def __post_init__(self) -> None:
        _check("overlap", self.overlap, get_args(OverlapRule))
        _check("boost", self.boost, BOOSTS)


def _check(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name}: is {value!r}; expected one of {', '.join(choices)}")
