"""The challenge's click simulation (autoPET/CT IV, Task 1; also four fifths of the clicks in [Rokuss2025b]).

Tumour: up to ten lesions are drawn, and the deepest voxel of each is clicked; missing clicks go round over
the drawn lesions, a random border voxel each. Background: the same over the components of unlabelled voxels
whose PET exceeds its 99.75th percentile among all unlabelled ones. Where background clicks are missing, the
published script deviates from its own rule, see `ChallengeRules.published`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..case.connected_components import label_components
from ..case.geometry import Array, Index
from ..case.tumor_clicks import ClickKind, TumorClick
from ..errors import LongilesionError
from .click_regions import BoolArray, ClickRegion, RandomNumbers, Voxels, click_regions

CHALLENGE_SEED = 42
"""Seed of the published script, for every case anew: ``numpy.random.RandomState(CHALLENGE_SEED)``."""
CHALLENGE_CLICKS = 10
"""Clicks of each kind."""

_SHIFT_TRIES = 10


@dataclass(frozen=True, slots=True)
class ChallengeRules:
    """Rules of the challenge's simulation.

    Attributes:
        tumor: number of tumour clicks.
        background: number of background clicks.
        percentile: of the PET's unlabelled voxels, above which background is clicked.
        inclusive: also voxels exactly at the percentile, for images clipped at their upper end.
        offset_voxels: largest random shift of a click to either side along each axis; it stays in its class.
        published: repeat what the published script does where background clicks are missing. It takes a
            random voxel of the whole component instead of its border, and of the whole image outside of the
            component if all its voxels are equally deep. Where there is no component it never ends, which is
            an error here; without this option there is no click then.
    """

    tumor: int = CHALLENGE_CLICKS
    background: int = CHALLENGE_CLICKS
    percentile: float = 99.75
    inclusive: bool = False
    offset_voxels: int = 0
    published: bool = False


def challenge_clicks(
    lesions: BoolArray, pet: Array, rules: ChallengeRules, rng: RandomNumbers
) -> tuple[TumorClick, ...]:
    """Simulate clicks by the challenge's rules.

    Args:
        lesions: booleans (z, y, x): all tumour.
        pet: uptake of the same shape; voxels that are not finite (padding may be NaN) are not clicked.
        rules: numbers of clicks and deviations.
        rng: source of random numbers.

    Returns:
        Voxel indices (z, y, x), tumour first. A small lesion may be clicked twice at one place. There is no
        tumour click without a lesion, and no background click without a component above the percentile.

    Raises:
        LongilesionError: the published script would not end, or stop at a click of the wrong class.
    """
    tumor = _clicks_on(lesions, rules.tumor, rng, _border_voxel)
    refill: _Refill = partial(_published_voxel, lesions) if rules.published else _border_voxel
    hot = hot_voxels(lesions, pet, rules.percentile, rules.inclusive)
    if rules.published and rules.background and not hot.any():
        raise LongilesionError(
            "no unlabelled voxel exceeds the percentile of the PET, and the published simulation never ends; "
            "expected the mended rules"
        )
    background = _clicks_on(hot, rules.background, rng, refill)
    if rules.offset_voxels:
        tumor = [shifted_click(voxel, lesions, rules.offset_voxels, rng) for voxel in tumor]
        background = [shifted_click(voxel, ~lesions, rules.offset_voxels, rng) for voxel in background]
    return (*as_clicks(ClickKind.TUMOR, tumor), *as_clicks(ClickKind.BACKGROUND, background))


_Refill = Callable[[ClickRegion, RandomNumbers], Index]


def _clicks_on(mask: BoolArray, count: int, rng: RandomNumbers, refill: _Refill) -> list[Index]:
    """Click on components of a mask in turn, up to a number of clicks; no click if the mask is empty."""
    labels, number = label_components(mask)
    if not number:
        return []
    drawn = rng.choice(np.arange(1, number + 1), min(count, number), replace=False)
    regions = click_regions(labels, drawn)
    voxels = [region.deepest() for region in regions]
    while len(voxels) < count:
        voxels += [refill(region, rng) for region in regions[: count - len(voxels)]]
    return voxels


def _border_voxel(region: ClickRegion, rng: RandomNumbers) -> Index:
    return _drawn(region.border(), rng)


def _published_voxel(lesions: BoolArray, region: ClickRegion, rng: RandomNumbers) -> Index:
    """A voxel by the published script, which looks for the border outside and finds nothing or everything."""
    voxels = region.voxels()
    if region.depth[region.mask].max() > region.depth[region.mask].min():
        return _drawn(voxels, rng)
    voxel = _drawn_outside(voxels, lesions.shape, rng)
    if lesions[voxel]:
        raise LongilesionError(
            "the published simulation draws a background click inside of a lesion, and stops; expected the "
            "mended rules"
        )
    return voxel


def _drawn(voxels: Voxels, rng: RandomNumbers) -> Index:
    z, y, x = voxels[rng.choice(len(voxels))].tolist()
    return (z, y, x)


def _drawn_outside(voxels: Voxels, shape_zyx: Sequence[int], rng: RandomNumbers) -> Index:
    """A random voxel of the image that is not among the given ones, counted in (x, y, z) order."""
    shape_xyz = tuple(shape_zyx)[::-1]
    inside = np.ravel_multi_index(tuple(voxels[:, ::-1].T), shape_xyz)  # ascending
    number = rng.choice(int(np.prod(shape_xyz)) - len(inside))
    # The number of voxels left out before the drawn one.
    skipped = np.searchsorted(inside - np.arange(len(inside)), number, side="right")
    x, y, z = np.unravel_index(number + int(skipped), shape_xyz)
    return (int(z), int(y), int(x))


def hot_voxels(lesions: BoolArray, pet: Array, percentile: float, inclusive: bool = False) -> BoolArray:
    """Unlabelled voxels above a percentile of the PET among all unlabelled ones.

    Args:
        lesions: booleans (z, y, x).
        pet: uptake of the same shape.
        percentile: 0 to 100.
        inclusive: also voxels exactly at the percentile.

    Returns:
        Booleans (z, y, x); voxels that are not finite neither count nor are chosen.
    """
    candidates = ~lesions & np.isfinite(pet)
    values = pet[candidates].astype(np.float64)
    if not values.size:
        return candidates
    threshold = np.percentile(values, percentile)
    above: BoolArray = pet >= threshold if inclusive else pet > threshold
    return above & candidates


def shifted_click(voxel: Index, allowed: BoolArray, offset: int, rng: RandomNumbers) -> Index:
    """Shift a click at random; of ten tries the first within a mask counts, else it stays.

    Args:
        voxel: voxel index (z, y, x) of the mask.
        allowed: booleans (z, y, x).
        offset: largest shift along each axis, in voxels.
        rng: source of random numbers.

    Returns:
        Voxel index (z, y, x).
    """
    for _ in range(_SHIFT_TRIES):
        z, y, x = (np.asarray(voxel) + rng.choice(2 * offset + 1, 3) - offset).tolist()
        is_inside = all(0 <= index < size for index, size in zip((z, y, x), allowed.shape, strict=True))
        if is_inside and allowed[z, y, x]:
            return (z, y, x)
    return voxel


def as_clicks(kind: ClickKind, voxels: Sequence[Index]) -> list[TumorClick]:
    """Clicks of one kind at given voxels.

    Args:
        kind: of all of them.
        voxels: voxel indices (z, y, x).
    """
    return [TumorClick(kind, (float(z), float(y), float(x))) for z, y, x in voxels]


def first_clicks(clicks: Sequence[TumorClick], count: int) -> tuple[TumorClick, ...]:
    """The first clicks of each kind, as one step of the challenge's loop gets them.

    Args:
        clicks: in the order in which they are given.
        count: of each kind.

    Returns:
        Tumour first.
    """
    return tuple(
        click for kind in ClickKind for click in [click for click in clicks if click.kind is kind][:count]
    )
