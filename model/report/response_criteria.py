"""Thresholds of all response criteria and repeatability limits, with their sources (docs/references.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SizeCriteria:
    """Thresholds on the sum of the target lesions' sizes.

    Attributes:
        name: of the criteria.
        measure: ``diameter``: longest axial diameter, of nodes the perpendicular, in mm; ``volume``: ml.
        partial_percent: change against the baseline at or below which the response is partial.
        progression_percent: change against the nadir at or above which the disease progresses.
        progression_least: smallest increase against the nadir that is a progression, in mm or ml.
        max_targets: most target lesions.
        max_per_organ: most of them in one organ, where organs are known.
        measurable_mm: least longest axial diameter of a target that is no node.
        measurable_slices: and that many times the distance of slices.
        node_target_mm: least perpendicular of a node that is a target.
        node_normal_mm: a node with a shorter perpendicular is normal.
        too_small_mm: a lesion that is seen has at least this diameter.
    """

    name: str
    measure: Literal["diameter", "volume"]
    partial_percent: float
    progression_percent: float
    progression_least: float
    max_targets: int = 5
    max_per_organ: int = 2
    measurable_mm: float = 10.0
    measurable_slices: float = 2.0
    node_target_mm: float = 15.0
    node_normal_mm: float = 10.0
    too_small_mm: float = 5.0

    @property
    def unit(self) -> str:
        """Unit of the sum."""
        return "mm" if self.measure == "diameter" else "ml"


# [Eisenhauer2009].
RECIST = SizeCriteria("RECIST 1.1", "diameter", -30.0, 20.0, 5.0)

# RECIST's thresholds for a ball: 0.7 ** 3 - 1 and 1.2 ** 3 - 1. Targets are those of RECIST.
VOLUMETRIC = SizeCriteria("volumetric", "volume", -65.0, 73.0, 0.0)


@dataclass(frozen=True, slots=True)
class ImmuneCriteria:
    """What confirms a progression ([Seymour2017]).

    Attributes:
        name: of the criteria.
        increase_mm: increase of the targets' or the new lesions' sum since the unconfirmed progression.
        least_days: between unconfirmed and confirmed progression, where dates are known.
    """

    name: str = "iRECIST"
    increase_mm: float = 5.0
    least_days: int = 28


IRECIST = ImmuneCriteria()


@dataclass(frozen=True, slots=True)
class RepeatabilityLimit:
    """Change of a volume that repeated scans stay within in 95 % of cases.

    Attributes:
        from_mm: least longest axial diameter of the earlier measurement.
        percent: change of the volume, up or down.
        source: where the figure comes from.
    """

    from_mm: float
    percent: float
    source: str


_TUMOURS = "QIBA CT tumor volume change [Qiba2018]"
_NODULES = "QIBA small lung nodules [Qiba2018b]"

# Largest first; lesions below the last limit, and above `LARGEST_MM`, have no published figure. Those of
# nodules are 1.96 * sqrt(2) times the coefficient of variation (0.29, 0.23, 0.19, 0.16).
REPEATABILITY = (
    RepeatabilityLimit(50.0, 24.0, _TUMOURS),
    RepeatabilityLimit(35.0, 29.0, _TUMOURS),
    RepeatabilityLimit(10.0, 39.0, _TUMOURS),
    RepeatabilityLimit(9.0, 44.0, _NODULES),
    RepeatabilityLimit(8.0, 53.0, _NODULES),
    RepeatabilityLimit(7.0, 64.0, _NODULES),
    RepeatabilityLimit(6.0, 80.0, _NODULES),
)
LARGEST_MM = 100.0


def repeatability_limit(diameter_mm: float) -> RepeatabilityLimit | None:
    """The limit for a lesion by its longest axial diameter; None if none is published for its size."""
    if diameter_mm > LARGEST_MM:
        return None
    return next((limit for limit in REPEATABILITY if diameter_mm >= limit.from_mm), None)
