"""Clicks of a training sample, drawn inside the augmented patch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...case.geometry import Index
from ...case.tumor_clicks import ClickKind
from ...click_simulation.challenge_clicks import ChallengeRules, challenge_clicks
from ...click_simulation.noisy_clicks import NoisyRules, noisy_clicks
from ...network.pet_ct import Mark
from ...network.resample import FloatVolume
from ..interactive_settings import MOST_CLICKS, InteractiveSettings

# Few clicks are drawn more often than many: log 12 for none … log 2 for ten, normalised.
_WEIGHTS = np.log(np.arange(MOST_CLICKS + 2, 1, -1))
CLICK_PROBABILITIES: npt.NDArray[np.float64] = _WEIGHTS / _WEIGHTS.sum()
"""Probability of each number of clicks, 0 to `MOST_CLICKS`."""


def draw_clicks(
    tumor: npt.NDArray[np.bool_], pet: FloatVolume, settings: InteractiveSettings, rng: np.random.Generator
) -> Mark:
    """Draw the numbers of tumour and background clicks independently of each other, then the clicks.

    The published code drops the tumour clicks of samples without background clicks; here they are kept, as
    users may click tumour alone.

    Args:
        tumor: booleans (z, y, x) of the patch.
        pet: normalised uptake of the same shape.
        settings: share of the second scheme, offset of the clicks.
        rng: source of the draws.

    Returns:
        Voxels (z, y, x) of the patch by kind; none of tumour in a patch without tumour.
    """
    tumors, background = rng.choice(len(CLICK_PROBABILITIES), 2, p=CLICK_PROBABILITIES).tolist()
    offset = settings.click_offset
    if rng.random() < settings.noisy_clicks:
        rules = NoisyRules(tumors, background, offset_voxels=offset)
        clicks = noisy_clicks(tumor, pet, rules, rng)
    else:
        # Normalised uptake is clipped: the hottest voxels may all have one value, the percentile's.
        rule = ChallengeRules(tumors, background, inclusive=True, offset_voxels=offset)
        clicks = challenge_clicks(tumor, pet, rule, rng)
    voxels: Mark = {kind: [] for kind in ClickKind}
    for click in clicks:
        z, y, x = (int(value) for value in click.point_zyx)
        voxels[click.kind].append(_index(z, y, x))
    return voxels


def _index(z: int, y: int, x: int) -> Index:
    return (z, y, x)
