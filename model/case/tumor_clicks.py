"""Click files for PET/CT: points in tumour and in background (interface of autoPET/CT IV, Task 1).

Two forms are read: the platform's ``{"points": [{"name": "tumor", "point": [x, y, z]}]}``, and lists by kind,
``{"tumor": [[x, y, z]], "background": []}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ..errors import InputError
from .geometry import Vector, flip_order
from .lesion_json import Triple, read_document, write_json
from .text_files import read_json

_EXAMPLE = '{"points": [{"name": "tumor" or "background", "point": [x, y, z]}]}'


class ClickKind(StrEnum):
    """What a click marks, by its name in click files."""

    TUMOR = "tumor"
    BACKGROUND = "background"


_NAMES = {"tumor": ClickKind.TUMOR, "tumour": ClickKind.TUMOR, "background": ClickKind.BACKGROUND}


@dataclass(frozen=True, slots=True)
class TumorClick:
    """A click: its kind and its voxel index (z, y, x), may be fractional and lie outside the scan."""

    kind: ClickKind
    point_zyx: Vector


class _NamedPoint(BaseModel):
    # Strict: a string or a boolean in place of a coordinate is a mistake.
    model_config = ConfigDict(strict=True)

    name: str
    point: Triple


class _PointList(BaseModel):
    points: list[_NamedPoint]


class _ListsByKind(BaseModel):
    model_config = ConfigDict(strict=True)

    tumor: list[Triple] = []
    background: list[Triple] = []


def read_tumor_clicks(path: Path) -> tuple[TumorClick, ...]:
    """Read a click file for PET/CT.

    Args:
        path: the file; points are voxel indices (x, y, z).

    Returns:
        The clicks in the order of the file.

    Raises:
        InputError: malformed JSON, a point without three finite numbers, or another name than tumor or
            background (in any case of letters).
    """
    document = read_json(path, f"a click JSON, {_EXAMPLE}", allow_nan=True)
    if isinstance(document, dict) and "points" not in document and set(document) & set(ClickKind):
        _check_lists(path, document)
        lists = read_document(path, _ListsByKind, "click", _EXAMPLE)
        return (
            *(_click(ClickKind.TUMOR, point) for point in lists.tumor),
            *(_click(ClickKind.BACKGROUND, point) for point in lists.background),
        )
    named = read_document(path, _PointList, "click", _EXAMPLE)
    return tuple(_click(_kind(path, entry.name), entry.point) for entry in named.points)


def _check_lists(path: Path, document: Mapping[str, Any]) -> None:
    """Raise InputError for a list of another kind: its clicks would be left out."""
    other = next((k for k, v in document.items() if isinstance(v, list) and k not in set(ClickKind)), None)
    if other is not None:
        raise InputError(f"{path}: has a list named {other[:80]!r}; expected 'tumor' and 'background'")


def click_kind(name: str) -> ClickKind | None:
    """The kind of a click by its name, in any case of letters; None for another name."""
    return _NAMES.get(name.strip().lower())


def _kind(path: Path, name: str) -> ClickKind:
    kind = click_kind(name)
    if kind is None:
        raise InputError(f"{path}: has a click named {name[:80]!r}; expected 'tumor' or 'background'")
    return kind


def _click(kind: ClickKind, point_xyz: Sequence[float]) -> TumorClick:
    return TumorClick(kind, flip_order(point_xyz))


def write_tumor_clicks(
    path: Path, clicks: Sequence[TumorClick], file_point: Callable[[Vector], Vector] | None = None
) -> None:
    """Write a click file in the platform's form.

    Args:
        path: the file.
        clicks: in order.
        file_point: converts a click's voxel index (z, y, x) to that of the CT's file; None keeps it.

    Raises:
        OutputError: it cannot be written.
    """
    points = [
        (click.kind, click.point_zyx if file_point is None else file_point(click.point_zyx))
        for click in clicks
    ]
    entries = [{"point": list(flip_order(point_zyx)), "name": kind.value} for kind, point_zyx in points]
    document = {"version": {"major": 1, "minor": 0}, "type": "Multiple points", "points": entries}
    write_json(path, document)
