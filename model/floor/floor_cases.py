"""Draws the floors of cases in the platform's layout, at the points that `segment` would use."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..case.case import Slot
from ..case.challenge import discover, output_paths, read_case, write_labelmaps
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


class CaseFloors:
    """Draws the floors of cases; a `FloorSource` of the evaluation.

    Follow-up points are the clicks; a lesion without one gets a propagated point, as by `segment`.

    Args:
        cases: folder of a case, or one that holds such folders at any depth.
        backend: registration for the warped floor and for propagated points; None takes the default.

    Raises:
        InputError: there is no case, or the back end is unknown.
    """

    def __init__(self, cases: Path, backend: str | None = None) -> None:
        LazyBackend(backend).load()  # an unknown name is reported before any work
        self._backend = backend
        self._cases = case_folders(cases)

    def labelmaps(self) -> list[Path]:
        """The labelmaps of each floor: ``CASE/images/…/segmentation.mha`` for each follow-up scan."""
        return [path for name, folder in self._cases.items() for path in _labelmaps(name, folder)]

    def draw(self, output: Path, wanted: Collection[Path]) -> tuple[FloorPrediction, ...]:
        """Draw lesions by each floor, and write them as the platform's algorithms do.

        Labelmaps of an earlier call are removed. A case that cannot be read is left out with a warning, as
        are the floors that need a mask for a case without one.

        Args:
            output: gets ``FLOOR/CASE/images/…/segmentation.mha``.
            wanted: those of `labelmaps` to draw; cases without one are not read.

        Returns:
            The folder of each floor, what it lacks, and warnings about lesions that could not be drawn.

        Raises:
            OutputError: a labelmap cannot be written.
        """
        for floor in ALL_FLOORS:
            _empty(output / floor)
        own = {name: set(_labelmaps(name, folder)) & set(wanted) for name, folder in self._cases.items()}
        drawn = [name for name, paths in own.items() if paths]
        warnings: dict[Floor, list[str]] = {floor: [] for floor in ALL_FLOORS}
        left_out: dict[Floor, set[Path]] = {floor: set() for floor in ALL_FLOORS}
        for number, name in enumerate(drawn, 1):
            folder = self._cases[name]
            log.info("%s: drawing the floor (%d/%d)", folder, number, len(drawn))
            for floor, of_floor in _draw_case(folder, name, output, self._backend).items():
                warnings[floor] += [f"{folder}: {reason}" for reason in of_floor.reasons]
                left_out[floor] |= own[name] if of_floor.is_left_out else set()
        return tuple(
            FloorPrediction(
                floor, floor.in_words, output / floor, frozenset(left_out[floor]), tuple(warnings[floor])
            )
            for floor in ALL_FLOORS
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


def _labelmaps(name: str, folder: Path) -> list[Path]:
    """Labelmaps of a case below the folder of a floor; for an unreadable case, by the folders of its CTs."""
    try:
        slots = [scan.slot for scan in discover(folder, needs_masks=False).followup]
    except InputError:
        slots = [slot for slot in Slot if (folder / "images" / f"{slot}-followup-ct").is_dir()]
    return output_paths(Path(name), slots or [Slot.PRIMARY])


@dataclass(frozen=True, slots=True)
class _CaseByFloor:
    """A case as drawn by a floor: reasons why lesions, or the whole case, are not drawn."""

    reasons: tuple[str, ...]
    is_left_out: bool = False


def _draw_case(folder: Path, name: str, output: Path, backend: str | None) -> dict[Floor, _CaseByFloor]:
    """Draw and write one case."""
    try:
        files = discover(folder, needs_masks=False)
        case = read_case(files)
    except InputError as error:
        return dict.fromkeys(ALL_FLOORS, _CaseByFloor((f"left out of the floors: {error}",), True))
    left_out: dict[Floor, _CaseByFloor] = {}
    if any(scan.mask is None for scan in files.baseline):
        reason = "has no baseline mask; neither the pasted nor the warped floor is drawn"
        left_out = dict.fromkeys((Floor.PASTED, Floor.WARPED), _CaseByFloor((reason,), True))
    floors = [floor for floor in ALL_FLOORS if floor not in left_out]
    registrations = RegistrationCache(LazyBackend(backend))
    located = Locator(case, registrations).locate()
    failed = [f"lesion {one.lesion_id}: {one.reason}" for one in located.failures]
    reasons = {floor: list(failed) for floor in floors}
    labelmaps: dict[Floor, dict[Slot, tuple[Array, Geometry]]] = {floor: {} for floor in floors}
    for scan in case.followup.scans:
        prompts = [prompt for prompt in located.prompts if prompt.followup is scan]
        for floor, drawn in floor_labelmaps(scan, prompts, registrations, floors).items():
            reasons[floor] += drawn.failed.values()
            if not prompts or len(drawn.failed) < len(prompts):  # else the floor has no labelmap here
                labelmaps[floor][scan.slot] = (drawn.labels, scan.file_geometry)
    for floor, of_slots in labelmaps.items():
        write_labelmaps(of_slots, output / floor / name)
    return left_out | {floor: _CaseByFloor(tuple(of_floor)) for floor, of_floor in reasons.items()}


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
