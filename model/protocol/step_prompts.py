"""Prompts of a case, step by step: the first clicks of a list, or one more scribble on the last errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..case.images import read_image
from ..case.tumor_clicks import ClickKind, TumorClick, read_tumor_clicks
from ..click_simulation.challenge_clicks import ChallengeRules, first_clicks
from ..click_simulation.error_scribbles import ScribbleStyle, error_scribble
from .case_record import clicks_path, mask_path
from .loaded_case import BoolArray, LoadedCase, simulated_clicks
from .protocol_options import ProtocolOptions, ProtocolPrompt

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StepState:
    """Clicks of a step, and its mask, booleans (z, y, x); both on the axial grid."""

    clicks: tuple[TumorClick, ...]
    mask: BoolArray


Prompts = Callable[[int, StepState | None], tuple[TumorClick, ...]]
"""Clicks on the axial grid for a step, from the step before; None before the first one."""


def case_style(options: ProtocolOptions, number: int) -> ScribbleStyle | None:
    """The style of a case's scribbles; None for clicks.

    Args:
        options: of the run.
        number: of the case among all that were found, from 0 on; without a chosen style all take turns.
    """
    if options.kind is ProtocolPrompt.CLICKS:
        return None
    return options.style or list(ScribbleStyle)[number % len(ScribbleStyle)]


def case_prompts(
    case: LoadedCase, options: ProtocolOptions, style: ScribbleStyle | None
) -> tuple[Prompts, list[str]]:
    """The prompts of a case, and warnings about them.

    Args:
        case: scan and reference.
        options: of the run.
        style: of scribbles; None for clicks.

    Raises:
        LongilesionError: clicks cannot be simulated by the published rules.
    """
    if style is not None:
        return _scribbles(case, style, options.seed), []
    clicks = case.scan.clicks if options.given_clicks else _simulated(case, options)
    notes = []
    for kind in ClickKind:
        count, most = sum(click.kind is kind for click in clicks), max(options.steps)
        is_needed = kind is ClickKind.BACKGROUND or bool(case.truth.any())
        if is_needed and count < most:
            notes.append(f"{case.name}: {count} {kind} clicks in place of {most}; later steps have no more")
    return (lambda step, _last: first_clicks(clicks, step)), notes


def _simulated(case: LoadedCase, options: ProtocolOptions) -> tuple[TumorClick, ...]:
    most = max(options.steps)
    rules = ChallengeRules(published=options.published)
    if most > rules.tumor:
        rules = replace(rules, tumor=most, background=most)
    return simulated_clicks(case, rules, options.seed)


def _scribbles(case: LoadedCase, style: ScribbleStyle, seed: int) -> Prompts:
    truth = case.on_axial(case.truth)

    def prompts(step: int, last: StepState | None) -> tuple[TumorClick, ...]:
        if last is None:
            return ()
        rng = np.random.default_rng([seed, step])
        return (*last.clicks, *error_scribble(truth, last.mask, style, rng))

    return prompts


def read_step_state(output: Path, case: LoadedCase, step: int) -> StepState:
    """Read clicks and mask of a step that was done before.

    Args:
        output: folder of the run.
        case: the case, for its grid.
        step: a recorded one.

    Raises:
        InputError: a file cannot be read.
    """
    grid = case.scan.file_grid
    clicks = read_tumor_clicks(clicks_path(output, case.name, step))
    mask = read_image(mask_path(output, case.name, step)).array > 0
    return StepState(
        tuple(replace(click, point_zyx=grid.axial_point(click.point_zyx)) for click in clicks),
        case.on_axial(mask),
    )
