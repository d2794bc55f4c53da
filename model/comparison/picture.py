"""Dice by the noise of the follow-up's point, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..case.atomic_files import atomic_write
from .results import Line
from .steps import NOISE_QUESTIONS


def draw_noise(lines: Sequence[Line], path: Path) -> None:
    """Draw what is there of it; nothing where matplotlib is not installed, or nothing was asked."""
    curves = _curves(lines)
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


def _curves(lines: Sequence[Line]) -> dict[str, list[tuple[int, float]]]:
    """(noise, Dice) of each setting and its folds, where there are two or more."""
    noise = {question.name: question.noise_voxels for question in NOISE_QUESTIONS}
    wanted: dict[tuple[str, tuple[str, ...]], list[tuple[int, float]]] = {}
    for line in lines:
        if line.section == "noise" and line.score is not None and line.score.dice is not None:
            points = wanted.setdefault((line.title, line.folds), [])
            points.append((noise[line.question], line.score.dice))
    return {
        f"{title}, folds {', '.join(folds)}": points
        for (title, folds), points in wanted.items()
        if len(points) > 1
    }
