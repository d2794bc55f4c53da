"""Columns of a Markdown table, and how numbers stand in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

NOTHING, NOT_RUN = "–", "not run"

L = TypeVar("L")


@dataclass(frozen=True, slots=True)
class Column(Generic[L]):
    """``text`` is the cell of a line."""

    title: str
    text: Callable[[L], str]


def grid(lines: Sequence[L], columns: Sequence[Column[L]]) -> str:
    """A Markdown table."""
    rows = [[column.title for column in columns]]
    rows += [[column.text(line) for column in columns] for line in lines]
    widths = [max(3, *(len(row[place]) for row in rows)) for place in range(len(columns))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(row) + " |" for row in padded)


def run_of(names: Sequence[str]) -> str:
    """Folds in words: "0, 1", and "0-4" of three or more in a row."""
    numbers = [int(name) for name in names]
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{names[0]}-{names[-1]}"
    return ", ".join(names)


def cell(value: object) -> str:
    """A value in a CSV: empty where there is none, several with spaces between."""
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
