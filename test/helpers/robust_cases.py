"""The recipes of `test.benchmark.robustness`: what makes two scans of a patient hard to align."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .robust_pairs import RobustCase, View

# Away from the ends of the source, beyond which the deformed body has no image.
_INNER = View(z=(0.06, 0.94))
_TRUNKS = ("trunk", "other-trunk")
_CHESTS = ("chest", "breathing-chest")
_PARTS = ("chest", "breathing-chest", "liver", "pelvis")

_TEMPLATES: tuple[tuple[RobustCase, Sequence[str]], ...] = (
    # What follow-ups usually look like.
    (
        RobustCase("ordinary", "", followup=_INNER, shift_mm=(3.0, -5.0, 40.0)),
        ("breathing-chest", "liver", "thigh"),
    ),
    # Another part of the body.
    (RobustCase("chest of trunk", "", followup=View(z=(0.56, 0.95)), shift_mm=(0.0, 5.0, 60.0)), _TRUNKS),
    (RobustCase("trunk of chest", "", View(z=(0.55, 1.0)), _INNER, shift_mm=(0.0, 5.0, -60.0)), _TRUNKS),
    (RobustCase("pelvis of trunk", "", View(z=(0.05, 0.4)), _INNER, shift_mm=(4.0, 5.0, 30.0)), _TRUNKS),
    (RobustCase("441 and 55 slices", "", View(slices=441), View(z=(0.5, 0.95), slices=55)), _TRUNKS),
    # Little or nothing in common.
    (
        RobustCase("quarter in common", "", View(z=(0.0, 0.62)), View(z=(0.4, 0.95))),
        ("breathing-chest", "pelvis"),
    ),
    (RobustCase("tenth in common", "", View(z=(0.0, 0.55)), View(z=(0.46, 0.95))), (*_PARTS, *_TRUNKS)),
    (RobustCase("4 % in common", "", View(z=(0.0, 0.52)), View(z=(0.48, 0.95))), _TRUNKS),
    (RobustCase("disjoint", "", View(z=(0.0, 0.47)), View(z=(0.54, 0.95))), (*_PARTS, *_TRUNKS)),
    (RobustCase("far apart", "", View(z=(0.0, 0.3)), View(z=(0.65, 0.95))), _TRUNKS),
    # Positions of the couch, and headers.
    (RobustCase("couch 300 mm", "", followup=_INNER, shift_mm=(20.0, -60.0, 300.0)), ("chest", "pelvis")),
    (
        RobustCase(
            "couch, half in common", "", View(z=(0.0, 0.7)), View(z=(0.3, 0.95)), shift_mm=(30, 40, -300)
        ),
        (*_PARTS, "trunk"),
    ),
    (RobustCase("wrong origin", "", followup=_INNER, shift_mm=(200.0, 150.0, 1500.0)), ("liver", "trunk")),
    (RobustCase("feet first", "", View(is_feet_first=True), _INNER, shift_mm=(0.0, 5.0, 30.0)), _CHESTS),
    (RobustCase("half turn", "", followup=_INNER, turn_deg=(0.0, 0.0, 180.0)), ("chest", "pelvis")),
    # Posture.
    (RobustCase("arms", "", followup=replace(_INNER, has_arms=True), shift_mm=(0.0, 5.0, 30.0)), _CHESTS),
    (RobustCase("narrow", "", View(x=(0.25, 0.62)), _INNER, shift_mm=(10.0, 5.0, 30.0)), ("chest", "liver")),
    (RobustCase("other position", "", followup=_INNER, peak_mm=20.0, turn_deg=(8.0, 5.0, 20.0)), _PARTS),
    (RobustCase("large deformation", "", followup=_INNER, peak_mm=30.0), _PARTS),
    # Quality of the image.
    (RobustCase("noise", "", View(noise_hu=120.0), replace(_INNER, noise_hu=120.0)), ("liver", "pelvis")),
    (RobustCase("metal", "", followup=replace(_INNER, has_metal=True), shift_mm=(0.0, 5.0, 30.0)), _CHESTS),
    (
        RobustCase(
            "1 and 8 mm slices", "", View(spacing_xyz=(3, 3, 1)), replace(_INNER, spacing_xyz=(2, 2, 8))
        ),
        ("breathing-chest", "liver"),
    ),
)
_REAL = (RobustCase("lung, two dates", "lung"), RobustCase("breathing", "breathing"))


def robust_cases(repeats: int = 1) -> list[RobustCase]:
    """All recipes, ``repeats`` of each with other seeds; the real pairs once."""
    made = [
        replace(template, source=source, seed=100 * repeat + 10 * row + column)
        for repeat in range(repeats)
        for row, (template, sources) in enumerate(_TEMPLATES)
        for column, source in enumerate(sources)
    ]
    return [*_REAL, *made]
