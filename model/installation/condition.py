"""The condition of a part of the machine, and what to do about it. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Health(StrEnum):
    """How well a part works; in rising order of concern."""

    OK = "ok"
    WARNING = "warning"  # runs, but slower or not in all ways
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Condition:
    """One part that was examined.

    Attributes:
        part: what was examined.
        health: how well it works.
        found: what is there.
        action: what to do; "" if it works.
    """

    part: str
    health: Health
    found: str
    action: str = ""

    def __post_init__(self) -> None:
        assert bool(self.action) is (self.health is not Health.OK)

    def document(self) -> dict[str, Any]:
        """The condition as it is written to JSON."""
        return {"part": self.part, "health": self.health, "found": self.found, "action": self.action}


def works(part: str, found: str) -> Condition:
    """A part that works."""
    return Condition(part, Health.OK, found)


def doubtful(part: str, found: str, action: str) -> Condition:
    """A part with which runs are slower or some are not possible."""
    return Condition(part, Health.WARNING, found, action)


def broken(part: str, found: str, action: str) -> Condition:
    """A part that has to be mended before anything runs as intended."""
    return Condition(part, Health.BROKEN, found, action)


def worst(conditions: Iterable[Condition]) -> Health:
    """The worst health of all conditions."""
    order = list(Health)
    return max((condition.health for condition in conditions), key=order.index, default=Health.OK)
