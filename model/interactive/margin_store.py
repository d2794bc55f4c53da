"""Margins of tiles in memory, up to a limit."""

from __future__ import annotations

from collections.abc import Container, Hashable

from ..network.resample import FloatVolume


class MarginStore:
    """Margins of tiles by what they depend on.

    Args:
        limit_bytes: of all margins together; what does not fit is not stored.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._margins: dict[Hashable, FloatVolume] = {}  # the longest unused first

    @property
    def size_bytes(self) -> int:
        """Memory of the margins that are stored."""
        return sum(margin.nbytes for margin in self._margins.values())

    def get(self, key: Hashable) -> FloatVolume | None:
        """Find a margin.

        Args:
            key: as it was stored.

        Returns:
            float32 of a tile's shape, not to be changed; None if it is not stored.
        """
        margin = self._margins.pop(key, None)
        if margin is not None:
            self._margins[key] = margin
        return margin

    def put(self, key: Hashable, margin: FloatVolume, keep: Container[Hashable]) -> None:
        """Store a copy of a margin if there is room, or if others can give way.

        Args:
            key: all that it depends on.
            margin: float32 of a tile's shape.
            keep: keys that stay; others give way, the longest unused first.
        """
        room = self._limit - self.size_bytes
        for other in [other for other in self._margins if other not in keep]:
            if room >= margin.nbytes:
                break
            room += self._margins.pop(other).nbytes
        if room >= margin.nbytes:
            self._margins[key] = margin.copy()  # a view would hold its whole batch
