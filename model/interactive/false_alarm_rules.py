"""Which rules against false alarms are on; they need no training, and all are off by default."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError

LEAST_SUV = 1.5
"""SUV of the first rule unless another one is given."""
COVER_RADIUS_MM = 5.0
"""Radius of the ball that becomes tumour around a tumour click outside of the mask."""


@dataclass(frozen=True, slots=True)
class FalseAlarmRules:
    """Rules, applied in this order.

    Attributes:
        min_suv: components that nowhere reach this SUV are removed; None keeps all.
        remove_clicked: components in which a background click lies are removed.
        cover_clicks: around a tumour click outside of the mask a ball of 5 mm becomes tumour.
    """

    min_suv: float | None = None
    remove_clicked: bool = False
    cover_clicks: bool = False

    def __post_init__(self) -> None:
        if self.min_suv is not None and not 0 < self.min_suv < math.inf:
            raise InputError(f"min_suv: is {self.min_suv:g}; expected a positive number")

    @property
    def are_off(self) -> bool:
        """True if no rule is on."""
        return self == FalseAlarmRules()
