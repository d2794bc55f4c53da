"""The files of a baseline and a follow-up as a user names them. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PairInput:
    """Two CTs, and what is known of their lesions.

    Attributes:
        baseline: the baseline CT.
        followup: the follow-up CT.
        baseline_mask: labelmap on the baseline's grid, label = lesion id; None without one.
        baseline_clicks: click file of the baseline; None without one.
        followup_clicks: click file of the follow-up; None without one.
    """

    baseline: Path
    followup: Path
    baseline_mask: Path | None = None
    baseline_clicks: Path | None = None
    followup_clicks: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that were named."""
        named = (self.baseline, self.followup, self.baseline_mask, self.baseline_clicks, self.followup_clicks)
        return tuple(path for path in named if path is not None)
