"""JSON documents and tables (CSV), read and written; a fault of a file is one sentence with file and line.

All commands read these files here, so that nothing a file may hold surprises a parser: nesting without end,
numbers beyond any type, keys given twice, quotes that are never closed, other encodings, gigabytes.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, LongilesionError, one_line
from .input_files import open_input

_MOST_BYTES = 100_000_000
_MOST_DIGITS = 400
_DELIMITERS = ",;\t"
# An escape that may be half of a letter, which no other text can hold.
_HALF_LETTER = re.compile(r"\\u[dD][89a-fA-F]")
# A row of its own after the last one of a table, unless a quote is open.
_END = "\x1f"


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a table: the line of the file on which it ends, and its cells by column, stripped."""

    line: int
    cells: dict[str, str]


def read_text(path: Path, expected: str) -> str:
    """Read a text file.

    Args:
        path: the file, in UTF-8 with or without a byte order mark.
        expected: what it should be, with which errors end.

    Raises:
        InputError: it cannot be read, is too large, or is in another encoding or no text.
    """
    with open_input(path, expected) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise _unreadable(path, f"it has more than {_MOST_BYTES // 10**6} MB", expected)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _unreadable(path, "it is text in UTF-16", f"{expected}, in UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unreadable(path, f"line {line} is not in UTF-8", f"{expected}, in UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise _unreadable(path, f"line {line} holds a zero byte", f"{expected}, in UTF-8")
    return text


def _unreadable(path: Path, reason: str, expected: str) -> InputError:
    return InputError(f"{path}: cannot be read ({reason}); expected {expected}")


def read_json(
    path: Path, expected: str, *, allow_nan: bool = False, fault: type[LongilesionError] = InputError
) -> Any:
    """Read a JSON document.

    Args:
        path: the file, in UTF-8.
        expected: what it should be, with which errors end.
        allow_nan: take ``NaN`` and ``Infinity``, which are no JSON but which Python writes; the caller checks
            numbers then.
        fault: class of the error.

    Raises:
        InputError: or another class, ``fault``: it cannot be read, is no JSON, holds a number that is not
            finite or too long, a key twice in one object, or is nested too deeply.
    """

    def constant(name: str) -> float:
        if allow_nan:
            return float(name)
        raise ValueError(f"{name} is no number")

    try:
        text = read_text(path, expected)
        document = json.loads(
            text, parse_constant=constant, parse_float=_float, parse_int=_int, object_pairs_hook=_object
        )
        if _HALF_LETTER.search(text):
            json.dumps(document, ensure_ascii=False).encode("utf-8")
        return document
    except RecursionError as error:
        raise fault(f"{path}: is not valid JSON (nested too deeply); expected {expected}") from error
    except ValueError as error:
        raise fault(f"{path}: is not valid JSON ({one_line(error)}); expected {expected}") from error
    except InputError as error:
        raise fault(str(error)) from error


def written_number(text: str) -> float:
    """Parse a number as files hold it; refuse Python's own spellings (``1_000``, digits of other scripts).

    Returns:
        The number, also NaN and infinity.

    Raises:
        ValueError: the text is not such a number.
    """
    if not text.isascii() or "_" in text:
        raise ValueError(f"{text[:40]!r} is no number")
    return float(text)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS or not math.isfinite(float(digits)):
        raise ValueError(f"the number {digits[:40]}... is too large")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return entries


def read_table(path: Path, expected: str) -> tuple[list[str], Iterator[TableRow]]:
    """Read a table: CSV with commas, semicolons or tabs, with a row of column names.

    Rows without any value are passed over, as are blanks around values.

    Args:
        path: the file, in UTF-8.
        expected: what it should be, with which errors end.

    Returns:
        The names of the columns, and the rows.

    Raises:
        InputError: it cannot be read, or a column is there twice; while the rows are taken also: a quote that
            is never closed, a cell beyond 131 072 characters, more cells than columns, or a last row that is
            cut.
    """
    text = read_text(path, expected)
    first, _, rest = text.partition("\n")
    if first.strip().lower() in ("sep=,", "sep=;", "sep=\t"):  # a line that Excel understands
        text = "\n" + rest
    names_line = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=lambda sign: (names_line.count(sign), sign == ","))
    lines = io.StringIO(f"{text}\n{_END}", newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows = _rows(path, reader, text, expected)
    _, names = next(rows, (0, []))
    while names and not names[-1]:  # of columns that a spreadsheet has left blank
        names.pop()
    if twice := sorted(name for name, count in Counter(names).items() if name and count > 1):
        listed = ", ".join(map(repr, twice[:5]))
        raise InputError(f"{path}: the column {listed} appears twice; expected {expected}")
    return names, _cells(path, names, rows, is_ended=text.endswith(("\n", "\r")))


def _rows(path: Path, reader: Any, text: str, expected: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and cells of each row that has any value, up to the mark of the end."""
    while True:
        begins = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:  # a cell beyond the limit, which may be an open quote
            rest = text.split("\n", begins - 1)[-1]
            if rest.count('"') % 2 == 0:
                limit = csv.field_size_limit()
                raise InputError(
                    f"{path}: line {begins} has a cell of more than {limit} characters; expected {expected}"
                ) from error
            row = None
        if row == [_END]:
            return
        if row is None or (row and _END in row[-1]):
            raise InputError(
                f"{path}: line {begins} begins a quote that is never closed; expected {expected}"
            )
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield reader.line_num, cells


def _cells(
    path: Path, names: Sequence[str], rows: Iterator[tuple[int, list[str]]], is_ended: bool
) -> Iterator[TableRow]:
    row: list[str] = list(names)
    for line, row in rows:
        if any(row[len(names) :]):
            raise InputError(
                f"{path}: row {line}: has more cells than the header; expected {len(names)} cells in each row"
            )
        yield TableRow(line, dict(zip(names, row, strict=False)))
    # Spreadsheets leave out last cells without a value, but end each line.
    if len(row) < len(names) and not is_ended:
        raise InputError(
            f"{path}: is cut, its last row has {len(row)} cells; expected {len(names)} as in the header"
        )


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Write a table as CSV: None is an empty cell, floats have six digits."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        ["" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row]
        for row in rows
    )
    return text.getvalue()


def aligned_text(rows: Sequence[Sequence[str]]) -> str:
    """Write a table as text, with columns padded to one width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
