"""The table as Markdown and CSV, and the noise curves as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

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


_SCORES = (
    *("Dice ↑", "95 % interval", "FNvol ↓ (voxels)", "FPvol ↓ (voxels)", "FNvol ↓ (ml)", "FPvol ↓ (ml)"),
    *("lesions", "patients"),
)
_FULL = ("Setting", "folds", *_SCORES)
_TIMED = (*_FULL, "minutes trained")
_BY_POINTS = ("Setting", "folds", "points", *_SCORES)
_MORE = ("Setting", "folds", "recall", "precision", "NSD 2 mm", "failed")
_CHANGES = (
    *("Setting", "folds", "log-slope", "its 95 % interval", "vanished, left empty", "present, drawn"),
    *("false ml: mean", "median"),
)

_COLLAPSED = "As above, but collapsed folds count as empty predictions. Above they are left out."
_PAIRED = (
    "Paired by lesion, averaged as above, on the folds that both have; p by Wilcoxon's signed-rank test over "
    "patients, for one comparison alone."
)
_FLOOR = "Difference in Dice to each floor, paired in the same way, with its 95 % interval."
_CHANGED = (
    "Log-slope of drawn on true change in volume, over the lesions that were drawn: 1 follows the change, 0 "
    "ignores it. Lesions that have vanished should be left empty, present ones drawn; false ml is the volume "
    "drawn for a vanished lesion."
)
_POINTS = (
    "A propagated point comes from a registration of both scans, a given one is the true one. A lesion "
    "without one of them is predicted at the other."
)
_NOISE = (
    "The propagated point is shifted along each axis by a whole number of voxels of the network's grid, "
    "uniform from -n to n."
)
_TEST = "On patients who are in no fold and no pretraining."


def table_markdown(table: Table) -> str:
    """All sections that have lines."""
    floors = {row.name for row in FLOOR_ROWS}
    paired = [_paired_cells(line) for line in table.paired if line.other not in floors]
    beside = _beside_floors([line for line in table.paired if line.other in floors])
    rows, collapsed, folds, points, noise, ensemble = (
        [_cells(line) for line in table.section(section)]
        for section in ("rows", "collapsed", "folds", "points", "noise", "ensemble")
    )
    parts = [*table.heading]
    for title, text, lines, columns in (
        ("Rows", "", rows, _TIMED),
        ("Rows against each other", _PAIRED, paired, (*paired[0],) if paired else ()),
        ("Rows less the floor", _FLOOR, beside, (*beside[0],) if beside else ()),
        ("What happened to lesions", _CHANGED, rows, _CHANGES),
        ("Rows with collapsed folds", _COLLAPSED, collapsed, _FULL),
        ("More of the same rows", "", rows, _MORE),
        ("Single folds", "", folds, _TIMED),
        ("Propagated against given points", _POINTS, points, _BY_POINTS),
        ("Noise of the follow-up point", _NOISE, noise, _BY_POINTS),
        ("Ensemble against single folds", _TEST, ensemble, ("Setting", "points", *_SCORES)),
    ):
        if lines:
            parts += [f"## {title}", *([text] if text else []), _grid(lines, columns)]
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
    score = line.score

    def number(name: str, decimals: int = 0, scale: float = 1) -> str:
        value = None if score is None else getattr(score, name)
        return _MISSING if value is None else f"{scale * value:.{decimals}f}"

    without_score = "collapsed" if line.collapsed and not line.not_run else _NOT_RUN
    pretraining = f"{line.pretraining_minutes:.0f} + " if line.pretraining_minutes else ""

    def interval(name: str, scale: float = 1) -> str:
        low, high = number(f"{name}_low", 2, scale), number(f"{name}_high", 2, scale)
        return _MISSING if _MISSING in (low, high) else f"{low} to {high}"

    def share(name: str, of: str) -> str:
        return _MISSING if score is None else f"{getattr(score, name)} of {getattr(score, of)}"

    return {
        "Setting": line.title,
        "folds": folds_text(line),
        "points": line.setting,
        "Dice ↑": without_score if score is None else number("dice", 2, 100),
        "95 % interval": interval("dice", 100),
        "FNvol ↓ (voxels)": number("fn_voxels"),
        "FPvol ↓ (voxels)": number("fp_voxels"),
        "FNvol ↓ (ml)": number("fn_ml", 2),
        "FPvol ↓ (ml)": number("fp_ml", 2),
        "lesions": number("lesions"),
        "patients": number("patients"),
        "recall": number("recall", 2, 100),
        "precision": number("precision", 2, 100),
        "NSD 2 mm": number("nsd", 2, 100),
        "log-slope": number("log_slope", 2),
        "its 95 % interval": interval("log_slope"),
        "vanished, left empty": share("vanished_found", "vanished"),
        "present, drawn": share("present_drawn", "present"),
        "false ml: mean": number("false_ml", 2),
        "median": number("false_ml_median", 2),
        "failed": number("failed"),
        "minutes trained": _MISSING if line.minutes is None else f"{pretraining}{line.minutes:.0f}",
    }


def folds_text(line: ResultLine) -> str:
    """The folds of a line in words, e.g. "0-4" or "0, 2 (1 collapsed; 3, 4 not run)"."""
    missing = "; ".join(
        f"{_fold_range(names)} {state}"
        for names, state in ((line.collapsed, "collapsed"), (line.not_run, _NOT_RUN))
        if names
    )
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
    mean = interval = better = patients = _MISSING
    if (dice := line.dice) is not None:
        mean, low, high = (
            _MISSING if value is None else f"{100 * value:+.2f}" for value in (dice.mean, dice.low, dice.high)
        )
        interval = _MISSING if dice.low is None else f"{low} to {high}"
        better, patients = f"{line.better}, {line.worse}", str(dice.patients)
    return {
        "Setting": line.title,
        "less": line.other_title,
        "folds": _fold_range(line.folds) if line.folds else _NOT_RUN,
        "Dice": mean,
        "95 % interval": interval,
        "lesions better, worse": better,
        "p": _MISSING if line.p_patients is None else f"{line.p_patients:.3f}",
        "patients": patients,
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
    numbers = [field.name for field in fields(part_kind)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["question" if name == "setting" else name for name in own]
    writer.writerow([*header, *(prefix + name for name in numbers)])
    for line in lines:
        values = asdict(line)
        of_part = values[part] or dict.fromkeys(numbers)
        writer.writerow(map(_csv_cell, (*(values[n] for n in own), *(of_part[n] for n in numbers))))
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, tuple):
        return " ".join(value)
    return "" if value is None else str(value)


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
