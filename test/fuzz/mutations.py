"""Mutations of bytes, text lines, tables and JSON documents; each is one small accident."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

# In the place of a value: other numbers, other types, nothing.
TOKENS = (
    *("0", "-1", "1", "3", "NaN", "inf", "-inf", "1e308", "1e400", "1e-320", "-0.0", "0.5", "7"),
    *("65536", "2147483648", "99999999999999999999", "true", "null", "abc", "", "None", "1 2", "0x10", "1,5"),
)
VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 7, 0.5, -0.0, 1e308, 65_536, 2**31, 10**20, 10**400, 1e-320),
    *(float("nan"), float("inf"), float("-inf"), True, False, None, "", "abc", "7", "1.5"),
    *([], [1, 2, 3], {}, {"name": 1}, "\ud800", "\0", "../up"),
)
_LONGEST_PIECE = 40


class Pairs(list[tuple[str, Any]]):
    """A JSON object as pairs, which may hold a key twice."""


def damaged_bytes(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Flip, overwrite, cut, insert, move or repeat bytes; returns them with words for it."""
    changes: Sequence[Callable[[Random, bytearray], str]] = (
        _flip,
        _flip,
        _overwrite,
        _remove,
        _insert,
        _truncate,
        _extend,
        _splice,
        _blank,
    )
    content = bytearray(data)
    words = rng.choice(changes)(rng, content)
    return bytes(content), words


def _place(rng: Random, content: bytearray) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.randint(1, _LONGEST_PIECE))


def _flip(rng: Random, content: bytearray) -> str:
    places = [rng.randrange(len(content)) for _ in range(rng.choice((1, 1, 1, 3)))] if content else []
    for place in places:
        content[place] ^= 1 << rng.randrange(8)
    return f"bits flipped in bytes {places}"


def _overwrite(rng: Random, content: bytearray) -> str:
    start, stop = _place(rng, content)
    content[start:stop] = bytes(rng.randrange(256) for _ in range(stop - start))
    return f"bytes {start} to {stop} overwritten"


def _remove(rng: Random, content: bytearray) -> str:
    start, stop = _place(rng, content)
    del content[start:stop]
    return f"bytes {start} to {stop} removed"


def _insert(rng: Random, content: bytearray) -> str:
    start, stop = _place(rng, content)
    content[start:start] = rng.choice((bytes(stop - start), content[start:stop], b"\n", b" ", b"\xff"))
    return f"bytes inserted at {start}"


def _truncate(rng: Random, content: bytearray) -> str:
    stop = max(0, len(content) - rng.choice((1, 2, 4, 8, rng.randrange(len(content) + 1))))
    del content[stop:]
    return f"cut after {stop} bytes"


def _extend(rng: Random, content: bytearray) -> str:
    rest = rng.choice((b"\0", b"\n", bytes(1000), b"x", content[-_LONGEST_PIECE:], bytes(content)))
    content += rest
    return f"{len(rest)} bytes added to the end"


def _splice(rng: Random, content: bytearray) -> str:
    (start, stop), target = _place(rng, content), rng.randrange(len(content) + 1)
    content[target : target + stop - start] = content[start:stop]
    return f"bytes {start} to {stop} copied over those at {target}"


def _blank(rng: Random, content: bytearray) -> str:
    start = rng.randrange(len(content) + 1)
    stop = min(len(content), start + rng.choice((8, 64, 512)))
    content[start:stop] = bytes(stop - start)
    return f"bytes {start} to {stop} set to zero"


def damaged_lines(rng: Random, text: str, signs: str) -> tuple[str, str]:
    """Drop, repeat or move a line ``name SIGN value``, or give it another value or name.

    Args:
        rng: source of randomness.
        text: lines of fields.
        signs: the characters between name and value.
    """
    lines = text.split("\n")
    number = rng.randrange(len(lines))
    place = next((lines[number].index(sign) + 1 for sign in signs if sign in lines[number]), 0)
    name, value = lines[number][:place], lines[number][place:]
    words = value.split(" ")
    what = rng.choice(("drop", "repeat", "move", "value", "value", "word", "word", "name", "second"))
    if what == "drop":
        del lines[number]
    elif what == "repeat":
        lines.insert(number, lines[number])
    elif what == "move":
        lines.insert(rng.randrange(len(lines)), lines.pop(number))
    elif what == "value":
        lines[number] = f"{name} {rng.choice(TOKENS)}"
    elif what == "word":
        words[rng.randrange(len(words))] = rng.choice(TOKENS)
        lines[number] = name + " ".join(words)
    elif what == "name":
        lines[number] = rng.choice((name.lower(), name.upper(), f" {name}", name[1:], "Unknown =")) + value
    else:
        lines.insert(number + rng.randrange(2), f"{name} {rng.choice(TOKENS)}")
    return "\n".join(lines), f"line {number} ({name.strip()[:30]}): {what}"


def damaged_table(rng: Random, text: str) -> tuple[str, str]:
    """Drop, repeat or move rows and columns, or change a cell of a CSV."""
    rows = [list(row) for row in csv.reader(io.StringIO(text))]
    what = rng.choice(
        ("cell", "cell", "cell", "copy", "drop row", "repeat row", "move row", "column", "repeat column")
        + ("move column", "blank row", "short", "long", "quote", "delimiter")
    )
    row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
    cells = rows[row]
    if what == "cell":
        cells[column] = rng.choice((*TOKENS, '"', "a;b", " x ", "2024-13-40", "../up", "secondary", "1>2"))
    elif what == "copy":
        cells[column] = rng.choice(rng.choice(rows))
    elif what == "drop row":
        del rows[row]
    elif what == "repeat row":
        rows.insert(rng.randrange(len(rows)), list(cells))
    elif what == "move row":
        rows.insert(rng.randrange(len(rows)), rows.pop(row))
    elif what == "column":
        rows = [line[:column] + line[column + 1 :] for line in rows]
    elif what == "repeat column":
        rows = [[*line, line[column]] for line in rows]
    elif what == "move column":
        rows = [[*line[:column], *line[column + 1 :], line[column]] for line in rows]
    elif what == "blank row":
        rows.insert(row, rng.choice(([], [""] * len(cells), [" "])))
    elif what == "short":
        rows[row] = cells[: rng.randrange(len(cells) + 1)]
    elif what == "long":
        cells.append(rng.choice(TOKENS))
    out = io.StringIO()
    csv.writer(out, delimiter=rng.choice(";\t|") if what == "delimiter" else ",").writerows(rows)
    written = out.getvalue()
    if what == "quote":
        place = rng.randrange(len(written) + 1)
        written = written[:place] + '"' + written[place:]
    return written, f"{what} (row {row}, column {column})"


def damaged_json(rng: Random, text: str) -> tuple[str, str]:
    """Drop, repeat, rename, move or replace a value anywhere in a JSON document."""
    document = [json.loads(text, object_pairs_hook=Pairs)]
    places: list[tuple[list[Any], int]] = []
    _collect(document, places)
    holder, index = rng.choice(places)
    is_object = isinstance(holder, Pairs)
    what = rng.choice(("drop", "repeat", "second", "replace", "replace", "replace", "move", "wrap", "rename"))
    old = holder[index]
    value = old[1] if is_object else old
    if what == "drop":
        del holder[index]
    elif what in ("repeat", "second"):
        new = rng.choice(VALUES) if what == "second" else value
        holder.insert(rng.randrange(len(holder) + 1), (old[0], new) if is_object else new)
    elif what == "move":
        holder.insert(rng.randrange(len(holder)), holder.pop(index))
    elif what == "rename" and is_object:
        holder[index] = (rng.choice((old[0].upper(), f"{old[0]} ", "", "other")), value)
    else:
        other, at = rng.choice(places)
        foreign = None if isinstance(other, Pairs) or isinstance(other[at], list) else other[at]
        choices = (*VALUES, [value], Pairs([("a", value)]), str(value), foreign)
        new = [value] if what == "wrap" else rng.choice(choices)
        holder[index] = (old[0], new) if is_object else new
    name = old[0] if is_object else f"[{index}]"
    return "".join(map(_json_text, document)), f"{what} of {name}"


def _collect(holder: list[Any], places: list[tuple[list[Any], int]]) -> None:
    for index, entry in enumerate(holder):
        places.append((holder, index))
        value = entry[1] if isinstance(holder, Pairs) else entry
        if isinstance(value, list):
            _collect(value, places)


def _json_text(value: Any) -> str:
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{json.dumps(name)}: {_json_text(entry)}" for name, entry in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json_text, value)) + "]"
    return json.dumps(value)
