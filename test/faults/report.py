"""One trial of a fault, and how it is reported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """A fault that was tried.

    Attributes:
        name: what was done to which command.
        faults: what went wrong beyond what is promised; empty if all is well.
    """

    name: str
    faults: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The trial in words, one line per fault."""
        return [
            f"{'FAULT' if self.faults else 'ok':5} {self.name}",
            *(f"      {fault}" for fault in self.faults),
        ]
