"""Options of a run of the protocol, as they are recorded beside its results."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..click_simulation.challenge_clicks import CHALLENGE_CLICKS, CHALLENGE_SEED
from ..click_simulation.error_scribbles import ScribbleStyle


class ProtocolPrompt(StrEnum):
    """The kind of prompt in each step."""

    CLICKS = "clicks"  # autoPET/CT IV: as many clicks in tumour as in background
    SCRIBBLES = "scribbles"  # autoPET V: one scribble more on the largest error of the step before


CLICK_STEPS = tuple(range(CHALLENGE_CLICKS + 1))
SCRIBBLE_STEPS = tuple(range(6))


@dataclass(frozen=True, slots=True)
class ProtocolOptions:
    """Options of a run of the protocol.

    Attributes:
        kind: of the prompts.
        steps: numbers of clicks of each kind, ascending; of scribbles from 0 on without a gap.
        seed: of simulated prompts, for each case anew.
        published: simulate clicks with the deviations of the published script.
        given_clicks: clicks are read from files, and the seed has no meaning.
        style: of scribbles; None lets the cases take turns.
    """

    kind: ProtocolPrompt = ProtocolPrompt.CLICKS
    steps: tuple[int, ...] = CLICK_STEPS
    seed: int = CHALLENGE_SEED
    published: bool = False
    given_clicks: bool = False
    style: ScribbleStyle | None = None
