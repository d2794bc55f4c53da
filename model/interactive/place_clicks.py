"""Clicks on a scan: those outside are moved to its border or dropped; unusual ones give a warning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..case.geometry import Geometry
from ..case.tumor_clicks import ClickKind, TumorClick
from ..network.pet_ct import PetCtGrid, click_voxels
from ..propagation.points import CLIP_LIMIT_MM

# Of each kind, in training ([Rokuss2025b]).
_MOST_TRAINED = 10


def usable_clicks(
    clicks: Iterable[TumorClick], geometry: Geometry, grid: PetCtGrid, takes_clicks: bool
) -> tuple[tuple[TumorClick, ...], list[str]]:
    """Place clicks on a scan, and collect warnings about them.

    Args:
        clicks: voxel indices (z, y, x) on the axial scan.
        geometry: of the axial scan.
        grid: network grid of the scan.
        takes_clicks: False for a model of CT and PET alone, for which all clicks are left out.

    Returns:
        The clicks that are used, and a sentence for each peculiarity.
    """
    placed, notes = place_clicks(clicks, geometry)
    if placed and not takes_clicks:
        notes.append(f"the model takes no clicks; {len(placed)} clicks are left out")
        placed = ()
    return placed, [*notes, *unusual_counts(placed), *contradictions(placed, grid)]


def place_clicks(
    clicks: Iterable[TumorClick], geometry: Geometry
) -> tuple[tuple[TumorClick, ...], list[str]]:
    """Move clicks up to 5 mm outside of the scan to its border, and drop those further out.

    Args:
        clicks: voxel indices (z, y, x) on the axial scan.
        geometry: of the axial scan.

    Returns:
        The clicks that are used, and a sentence for each that was changed.
    """
    placed, notes = [], []
    for number, click in enumerate(clicks, 1):
        outside_mm = -geometry.depth_mm(click.point_zyx)
        name = f"{click.kind} click {number} of the list"
        if outside_mm > CLIP_LIMIT_MM:
            notes.append(f"{name} lies {outside_mm:.1f} mm outside of the scan; it is left out")
            continue
        if outside_mm > 0:
            notes.append(f"{name} lies {outside_mm:.1f} mm outside of the scan; it is moved to the border")
            click = replace(click, point_zyx=geometry.clip(click.point_zyx))
        placed.append(click)
    return tuple(placed), notes


def unusual_counts(clicks: Sequence[TumorClick]) -> list[str]:
    """A sentence for each kind that has more clicks than in training, e.g. in scribbles."""
    counts = {kind: sum(click.kind is kind for click in clicks) for kind in ClickKind}
    return [
        f"{count} {kind} clicks: the published networks were trained with up to {_MOST_TRAINED} of each "
        "kind, and never with scribbles; look at the mask"
        for kind, count in counts.items()
        if count > _MOST_TRAINED
    ]


def contradictions(clicks: Sequence[TumorClick], grid: PetCtGrid) -> list[str]:
    """A sentence for each network voxel that is marked as tumour and as background.

    Args:
        clicks: voxel indices (z, y, x) on the axial scan.
        grid: network grid of the scan.
    """
    voxels = click_voxels(clicks, grid)
    both = sorted(set(voxels[ClickKind.TUMOR]) & set(voxels[ClickKind.BACKGROUND]))
    if not both:
        return []
    points = [
        [round(value, 2) for value in reversed(click.point_zyx)]
        for click in clicks
        if click.kind is ClickKind.TUMOR and grid.click_voxel(click.point_zyx) in both
    ]
    return [
        f"tumor and background clicks mark the same place, near voxel (x, y, z) {points[0]}"
        + (f" and {len(both) - 1} more" if len(both) > 1 else "")
        + "; the network gets both"
    ]
