"""Draws the floors of cases in the platform's layout, at the points that `segment` would use."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..case.case import Slot
from ..case.challenge import discover, read_case, write_labelmaps
from ..case.geometry import Array, Geometry
from ..errors import InputError, OutputError, one_line
from ..evaluation.floor_scores import FloorPrediction
from ..inference.lazy_backend import LazyBackend
from ..inference.locate import Locator
from ..propagation.pair_registrations import RegistrationCache
from .floor_segmenter import floor_labelmaps
from .floors import ALL_FLOORS, Floor

log = logging.getLogger(__name__)

_FIRST_SOCKET = Path("images") / "primary-followup-ct"
_INPUT_FOLDER = "input"


def draw_floors(cases: Path, output: Path, backend: str | None = None) -> tuple[FloorPrediction, ...]:
    """Draw the lesions of cases by each floor, and write them as the platform's algorithms do.

    Follow-up points are the clicks; a lesion without one gets a propagated point, as by `segment`. Labelmaps
    of an earlier call are removed.

    Args:
        cases: folder of a case, or one that holds such folders at any depth.
        output: gets ``FLOOR/CASE/images/…/segmentation.mha``.
        backend: registration for the warped floor and for propagated points; None takes the default.

    Returns:
        The folder of each floor, and warnings about lesions that could not be drawn.

    Raises:
        InputError: there is no case, a file of it cannot be used, or the back end is unknown.
        OutputError: a labelmap cannot be written.
    """
    LazyBackend(backend).load()  # an unknown name is reported before any work
    found = case_folders(cases)
    for floor in ALL_FLOORS:
        _empty(output / floor)
    warnings: dict[Floor, list[str]] = {floor: [] for floor in ALL_FLOORS}
    for number, (name, folder) in enumerate(found.items(), 1):
        log.info("%s: drawing the floor (%d/%d)", folder, number, len(found))
        for floor, reasons in _draw_case(folder, name, output, backend).items():
            warnings[floor] += [f"{folder}: {reason}" for reason in reasons]
    return tuple(
        FloorPrediction(floor, floor.in_words, output / floor, tuple(warnings[floor])) for floor in ALL_FLOORS
    )


def case_folders(root: Path) -> dict[str, Path]:
    """Find the folders of cases in the platform's layout.

    Args:
        root: folder of a case, or one that holds such folders at any depth.

    Returns:
        Name of the case -> its folder. The name is the path below ``root``, without a last "input"; a single
        case has the name of its folder.

    Raises:
        InputError: no case is found, or two cases have the same name.
    """
    found: dict[str, Path] = {}
    for folder in _case_folders(root):
        own = folder.parent if folder.name == _INPUT_FOLDER and folder != root else folder
        name = root.resolve().name if own == root else own.relative_to(root).as_posix()
        if name in found:
            raise InputError(
                f"{folder}: has the same name as {found[name]}; expected one folder for each case"
            )
        found[name] = folder
    if not found:
        raise InputError(
            f"{root}: holds no case of the interface; expected a folder with {_FIRST_SOCKET.as_posix()}, or "
            "folders of such cases"
        )
    return found


def _case_folders(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below.sort()
        if "inputs.json" in names or Path(folder, _FIRST_SOCKET).is_dir():
            below.clear()
            yield Path(folder)


def _draw_case(folder: Path, name: str, output: Path, backend: str | None) -> dict[Floor, list[str]]:
    """Draw and write one case; returns the reasons why lesions could not be drawn."""
    case, registrations = read_case(discover(folder)), RegistrationCache(LazyBackend(backend))
    located = Locator(case, registrations).locate()
    reasons = {
        floor: [f"lesion {one.lesion_id}: {one.reason}" for one in located.failures] for floor in ALL_FLOORS
    }
    labelmaps: dict[Floor, dict[Slot, tuple[Array, Geometry]]] = {floor: {} for floor in ALL_FLOORS}
    for scan in case.followup.scans:
        prompts = [prompt for prompt in located.prompts if prompt.followup is scan]
        for floor, drawn in floor_labelmaps(scan, prompts, registrations).items():
            reasons[floor] += drawn.failed.values()
            if not prompts or len(drawn.failed) < len(prompts):  # else the floor has no labelmap here
                labelmaps[floor][scan.slot] = (drawn.labels, scan.file_geometry)
    for floor, of_slots in labelmaps.items():
        write_labelmaps(of_slots, output / floor / name)
    return reasons


def _empty(folder: Path) -> None:
    """Make an empty folder, which stays if the floor can be drawn for no case."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be replaced ({error.strerror or one_line(error)}); expected a writable folder"
        ) from error
