"""The table as Markdown and CSV, and the noise curves as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from ..case.atomic_files import atomic_write, write_text
from ..crossval.scores import Score
from ..evaluation.averages import Average
from .results import PairedLine, ResultLine, Section
from .steps import NOISE_SETTINGS
from .variants import FLOOR_ROWS

_MISSING, _NOT_RUN = "–", "not run"


@dataclass(frozen=True, slots=True)
class Table:
    """All lines, and the paragraphs above them."""

    lines: tuple[ResultLine, ...]
    heading: tuple[str, ...] = ()
    paired: tuple[PairedLine, ...] = ()

    def section(self, section: Section) -> tuple[ResultLine, ...]:
        """The lines of one section."""
        return tuple(line for line in self.lines if line.section == section)


def write_report(table: Table, folder: Path) -> None:
    """Write `table.md`, `table.csv`, `paired.csv` and, if there are any, the noise curves in `noise.png`.

    Raises:
        OutputError: a file cannot be written.
    """
    write_text(folder / "table.md", table_markdown(table))
    write_text(folder / "table.csv", table_csv(table.lines))
    write_text(folder / "paired.csv", paired_csv(table.paired))
    _draw_noise_curves(noise_curves(table), folder / "noise.png")


# Column -> field of `Score`, decimals, factor.
_NUMBERS = {
    "FNvol ↓ (voxels)": ("fn_voxels", 0, 1),
    "FPvol ↓ (voxels)": ("fp_voxels", 0, 1),
    "FNvol ↓ (ml)": ("fn_ml", 2, 1),
    "FPvol ↓ (ml)": ("fp_ml", 2, 1),
    "lesions": ("lesions", 0, 1),
    "patients": ("patients", 0, 1),
    "recall": ("recall", 2, 100),
    "precision": ("precision", 2, 100),
    "NSD 2 mm": ("nsd", 2, 100),
    "failed": ("failed", 0, 1),
    "log-slope": ("log_slope", 2, 1),
    "false ml: mean": ("false_ml", 2, 1),
    "median": ("false_ml_median", 2, 1),
}
_SCORES = ("Dice ↑", "95 % interval", *[*_NUMBERS][:6])
_FULL = ("Setting", "folds", *_SCORES)
_TIMED = (*_FULL, "minutes trained")
_BY_POINTS = ("Setting", "folds", "points", *_SCORES)
_MORE = ("Setting", "folds", *[*_NUMBERS][6:10])
_CHANGES = (
    *("Setting", "folds", "log-slope", "its 95 % interval", "vanished, left empty", "present, drawn"),
    *("false ml: mean", "median"),
)

# Title -> section, columns, text.
_SECTIONS: dict[str, tuple[Section | Literal["paired", "floors"], Sequence[str], str]] = {
    "Rows": ("rows", _TIMED, ""),
    "Rows against each other": (
        "paired",
        (),
        "Paired by lesion, averaged as above, on the folds that both have; p by Wilcoxon's signed-rank test "
        "over patients, for one comparison alone.",
    ),
    "Rows less the floor": (
        "floors",
        (),
        "Difference in Dice to each floor, paired in the same way, with its 95 % interval.",
    ),
    "What happened to lesions": (
        "rows",
        _CHANGES,
        "Log-slope of drawn on true change in volume, over the lesions that were drawn: 1 follows the "
        "change, 0 ignores it. Lesions that have vanished should be left empty, present ones drawn; false ml "
        "is the volume drawn for a vanished lesion.",
    ),
    "Rows with collapsed folds": (
        "collapsed",
        _FULL,
        "As above, but collapsed folds count as empty predictions. Above they are left out.",
    ),
    "More of the same rows": ("rows", _MORE, ""),
    "Single folds": ("folds", _TIMED, ""),
    "Propagated against given points": (
        "points",
        _BY_POINTS,
        "A propagated point comes from a registration of both scans, a given one is the true one. A lesion "
        "without one of them is predicted at the other.",
    ),
    "Noise of the follow-up point": (
        "noise",
        _BY_POINTS,
        "The propagated point is shifted along each axis by a whole number of voxels of the network's grid, "
        "uniform from -n to n.",
    ),
    "Ensemble against single folds": (
        "ensemble",
        ("Setting", "points", *_SCORES),
        "On patients who are in no fold and no pretraining.",
    ),
}


def table_markdown(table: Table) -> str:
    """All sections that have lines."""
    floors, parts = {row.name for row in FLOOR_ROWS}, [*table.heading]
    for title, (section, columns, text) in _SECTIONS.items():
        if section == "paired":
            cells = [_paired_cells(line) for line in table.paired if line.other not in floors]
        elif section == "floors":
            cells = _beside_floors([line for line in table.paired if line.other in floors])
        else:
            cells = [_cells(line) for line in table.section(section)]
        if cells:
            parts += [f"## {title}", *([text] if text else []), _grid(cells, columns or [*cells[0]])]
    return "\n\n".join(parts) + "\n"


def _grid(lines: Iterable[Mapping[str, str]], columns: Sequence[str]) -> str:
    """A Markdown table whose columns are padded to one width."""
    rows = [[*columns], *([line[name] for name in columns] for line in lines)]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def _cells(line: ResultLine) -> dict[str, str]:
    """All columns of a line."""
    score = asdict(line.score) if line.score is not None else {}

    def number(name: str, decimals: int, factor: float) -> str:
        value = score.get(name)
        return _MISSING if value is None else f"{factor * value:.{decimals}f}"

    def interval(name: str, factor: float) -> str:
        ends = [number(f"{name}_{end}", 2, factor) for end in ("low", "high")]
        return _MISSING if _MISSING in ends else " to ".join(ends)

    without_score = "collapsed" if line.collapsed and not line.not_run else _NOT_RUN
    pretraining = f"{line.pretraining_minutes:.0f} + " if line.pretraining_minutes else ""
    return {name: number(*form) for name, form in _NUMBERS.items()} | {
        "Setting": line.title,
        "folds": folds_text(line),
        "points": line.setting,
        "Dice ↑": number("dice", 2, 100) if score else without_score,
        "95 % interval": interval("dice", 100),
        "its 95 % interval": interval("log_slope", 1),
        "vanished, left empty": f"{score['vanished_found']} of {score['vanished']}" if score else _MISSING,
        "present, drawn": f"{score['present_drawn']} of {score['present']}" if score else _MISSING,
        "minutes trained": _MISSING if line.minutes is None else f"{pretraining}{line.minutes:.0f}",
    }


def folds_text(line: ResultLine) -> str:
    """The folds of a line in words, e.g. "0-4" or "0, 2 (1 collapsed; 3, 4 not run)"."""
    states = ((line.collapsed, "collapsed"), (line.not_run, _NOT_RUN))
    missing = "; ".join(f"{_fold_range(names)} {state}" for names, state in states if names)
    if not line.folds:
        return missing or _MISSING
    return _fold_range(line.folds) + (f" ({missing})" if missing else "")


def _fold_range(names: Sequence[str]) -> str:
    """Folds as "0, 1", or "0-4" if three or more follow each other."""
    if len(names) > 2 and [*names] == [str(n) for n in range(int(names[0]), int(names[-1]) + 1)]:
        return f"{names[0]}-{names[-1]}"
    return ", ".join(names)


def _paired_cells(line: PairedLine) -> dict[str, str]:
    """All columns of a paired line; differences in percent points."""
    dice, mean, interval = line.dice, _MISSING, _MISSING
    if dice is not None and dice.mean is not None:
        mean = f"{100 * dice.mean:+.2f}"
    if dice is not None and dice.low is not None and dice.high is not None:
        interval = f"{100 * dice.low:+.2f} to {100 * dice.high:+.2f}"
    return {
        "Setting": line.title,
        "less": line.other_title,
        "folds": _fold_range(line.folds) if line.folds else _NOT_RUN,
        "Dice": mean,
        "95 % interval": interval,
        "lesions better, worse": _MISSING if dice is None else f"{line.better}, {line.worse}",
        "p": _MISSING if line.p_patients is None else f"{line.p_patients:.3f}",
        "patients": _MISSING if dice is None else str(dice.patients),
    }


def _beside_floors(lines: Sequence[PairedLine]) -> list[dict[str, str]]:
    """A column for each floor; ``lines`` has all floors of a row after each other."""
    rows = []
    for own in zip(*[iter(lines)] * len(FLOOR_ROWS), strict=True):
        folds = max((line.folds for line in own), key=len)
        row = {"Setting": own[0].title, "folds": _fold_range(folds) if folds else _NOT_RUN}
        for line in own:
            cells = _paired_cells(line)
            interval = "" if cells["95 % interval"] == _MISSING else f" ({cells['95 % interval']})"
            fewer = f", folds {cells['folds']}" if line.folds and line.folds != folds else ""
            row[f"less {line.other_title.removeprefix('Floor: ')}"] = cells["Dice"] + interval + fewer
        rows.append(row)
    return rows


def table_csv(lines: Iterable[ResultLine]) -> str:
    """All lines with all numbers as they are; shares from 0 to 1, empty cells for missing numbers."""
    return _csv(lines, ResultLine, "score", Score)


def paired_csv(lines: Iterable[PairedLine]) -> str:
    """All paired lines with all numbers as they are; differences of shares from -1 to 1."""
    return _csv(lines, PairedLine, "dice", Average, prefix="dice_")


def _csv(
    lines: Iterable[ResultLine | PairedLine], kind: type, part: str, part_kind: type, prefix: str = ""
) -> str:
    """The fields of each line, followed by those of its ``part``."""
    own = [field.name for field in fields(kind) if field.name != part]
    names = [prefix + field.name for field in fields(part_kind)]
    header, text = ["question" if name == "setting" else name for name in own], io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, *names])
    for line in lines:
        values = asdict(line)
        numbers = values[part].values() if values[part] is not None else [None] * len(names)
        cells = (*(values[name] for name in own), *numbers)
        writer.writerow(" ".join(cell) if isinstance(cell, tuple) else cell for cell in cells)
    return text.getvalue()


def noise_curves(table: Table) -> dict[str, list[tuple[int, float]]]:
    """(noise in voxels, Dice) of each row and its folds, if there are two points or more."""
    noise = {setting.name: setting.noise_voxels for setting in NOISE_SETTINGS}
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in table.section("noise"):
        if line.score is not None and line.score.dice is not None:
            curve = curves.setdefault(f"{line.title}, folds {', '.join(line.folds)}", [])
            curve.append((noise[line.setting], line.score.dice))
    return {title: curve for title, curve in curves.items() if len(curve) > 1}


def _draw_noise_curves(curves: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Draw the curves, if there are any and matplotlib is installed."""
    if not curves:
        return
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for title, points in curves.items():
        axes.plot([noise for noise, _ in points], [100 * dice for _, dice in points], marker="o", label=title)
    axes.set(xlabel="noise of the follow-up point in voxels, uniform from -n to n", ylabel="Dice in percent")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
