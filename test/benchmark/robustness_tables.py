"""Tables of `test.benchmark.robustness` from its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from model.case.geometry import FloatArray

FAR_MM = 25.0
"""A point with a larger error is lost."""

LARGE_MM = 10.0
"""Flags and estimated errors should find points with a larger error."""

# Points this near to the border of a scan may be taken to lie on either side of it.
_BORDER_MM = 10.0
_LEAST_POINTS = 10
_BOUNDS_MM = (0.0, 3.0, 5.0, 10.0, 20.0, 50.0, np.inf)
_COLUMNS = (
    "kind",
    "back end",
    "pairs",
    "failed",
    "median, mm",
    "95 %, mm",
    "beyond 25 mm",
    "wrongly out of view",
    "out of view seen as such",
    "of these flagged",
    "seconds",
    "CPU seconds",
)
Rows = Sequence[dict[str, Any]]


def print_tables(rows: Rows) -> None:
    """Print failures by kind and in total, and how well estimated errors and flags find large errors."""
    _print(_COLUMNS)
    _print(("---",) * len(_COLUMNS))
    by_kind, by_backend = defaultdict(list), defaultdict(list)
    for row in rows:
        by_kind[row["kind"], row["backend"]].append(row)
        by_backend["**all**", row["backend"]].append(row)
    for (kind, name), group in [*by_kind.items(), *by_backend.items()]:
        _print((kind, name, *_figures(group)))
    print()
    for (_, name), group in by_backend.items():
        _print_flags(name, group)


def has_failed(row: dict[str, Any]) -> bool:
    """An error, or more than half of the points in both scans are lost."""
    if "error" in row:
        return True
    errors = _values(_points([row], "both"), "error_mm")
    return len(errors) >= _LEAST_POINTS and float(np.mean(~(errors <= FAR_MM))) > 0.5


def _figures(rows: Rows) -> tuple[str, ...]:
    errors = _values(_points(rows, "both"), "error_mm")
    inside, outside = _points(rows, "inside"), _points(rows, "outside")
    return (
        str(len(rows)),
        str(sum(map(has_failed, rows))),
        f"{np.nanmedian(errors):.1f}" if len(errors) else "",
        f"{np.nanpercentile(errors, 95):.1f}" if len(errors) else "",
        _share(~(errors <= FAR_MM)),
        _share(~_values(inside, "in_view").astype(bool)),
        _share(~_values(outside, "in_view").astype(bool)),
        _share(_values(outside, "is_flagged").astype(bool)),
        *(f"{np.mean([row[key] for row in rows if key in row]):.1f}" for key in ("seconds", "cpu_seconds")),
    )


def _points(rows: Rows, where: str) -> list[dict[str, Any]]:
    """Points whose place is in the target (both), well inside of it, or well outside of it."""
    points = (point for row in rows for point in row.get("points", ()))
    if where == "both":
        return [point for point in points if point["depth_mm"] >= 0]
    sign = 1 if where == "inside" else -1
    return [point for point in points if sign * point["depth_mm"] > _BORDER_MM]


def _values(points: Iterable[dict[str, Any]], key: str) -> FloatArray:
    return np.array([point[key] for point in points], np.float64)


def _share(values: Any) -> str:
    return f"{100 * np.mean(values):.1f} %" if len(values) else ""


def _print_flags(name: str, rows: Rows) -> None:
    points = [
        p for row in rows for p in row.get("points", ()) if p["in_view"] and abs(p["depth_mm"]) > _BORDER_MM
    ]
    errors, stated = _values(points, "error_mm"), _values(points, "confidence_mm")
    is_large = ~(errors <= LARGE_MM)
    flagged = _values(points, "is_flagged").astype(bool)
    print(f"{name}: {len(points)} points in view, {_share(is_large)} with errors above {LARGE_MM:g} mm")
    if not is_large.any() or is_large.all():
        return
    print(f"- AUC of confidence_mm: {area_under_curve(stated, is_large):.3f}")
    print(f"- flags: {_share(flagged[is_large])} of large errors, {_share(flagged[~is_large])} of the others")
    _print(("stated, mm", "points", "median error", "90 %", "95 %", "within the stated mm"))
    _print(("---",) * 6)
    for low, high in zip(_BOUNDS_MM, _BOUNDS_MM[1:], strict=False):
        chosen = (stated > low) & (stated <= high)
        if chosen.any():
            cells = (f"{np.percentile(errors[chosen], q):.1f}" for q in (50, 90, 95))
            within = _share(errors[chosen] <= stated[chosen])
            _print((f"{low:g} to {high:g}", str(chosen.sum()), *cells, within))
    print()


def area_under_curve(scores: FloatArray, is_positive: Any) -> float:
    """Area under the ROC curve: the chance that a positive has the higher score; ties count half."""
    order = np.unique(scores, return_inverse=True)[1]
    counts = np.bincount(order)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[order]
    n = np.count_nonzero(is_positive)
    return float((ranks[is_positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def _print(cells: Iterable[str]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)
