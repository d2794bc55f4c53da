"""Names of the floors: ways to draw a follow-up lesion that a network has to be better than."""

from __future__ import annotations

from enum import StrEnum


class Floor(StrEnum):
    """A way to draw a lesion in the follow-up without a network."""

    PASTED = "pasted"  # the baseline mask, moved so that its point lies on the follow-up point
    WARPED = "warped"  # the baseline mask, warped by the registration of both scans
    GROWN = "grown"  # the region of similar HU around the follow-up point

    @property
    def in_words(self) -> str:
        """The floor in words, for tables."""
        return _TITLES[self]

    @property
    def version(self) -> str:
        """Counts changes of how lesions are drawn; those drawn by another version are drawn again."""
        return _VERSIONS[self]


ALL_FLOORS = tuple(Floor)

_TITLES = {
    Floor.PASTED: "baseline mask pasted at the point",
    Floor.WARPED: "baseline mask warped by registration",
    Floor.GROWN: "region growing at the point",
}
_VERSIONS = {Floor.PASTED: "1", Floor.WARPED: "1", Floor.GROWN: "2"}
