"""Where everything of the table lies.

::

    ledger.json, table.md, table.csv, paired.csv, noise.png
    runs/<row>/                  a model folder, as `train run` writes it
    runs/<row>/held_out/<question>/fold_N/   answers about the fold's held-out patients, and their records
    runs/<row>/test/<question>/fold_N/, ensemble_N-M-.../   the same about patients that are in no fold
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..training.checkpoint import FINAL


@dataclass(frozen=True, slots=True)
class Layout:
    """The folder of the table."""

    root: Path

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.json"

    @property
    def markdown(self) -> Path:
        return self.root / "table.md"

    @property
    def csv(self) -> Path:
        return self.root / "table.csv"

    @property
    def paired_csv(self) -> Path:
        return self.root / "paired.csv"

    @property
    def noise_picture(self) -> Path:
        return self.root / "noise.png"

    @property
    def surveys(self) -> Path:
        """What the files of the test set told, so that they are read once."""
        return self.root / "test_survey"

    def run(self, row: str) -> Path:
        """The model folder of a row."""
        return self.root / "runs" / row

    def final(self, row: str, fold: str) -> Path:
        """The weights of a fold; there when it is finished."""
        return self.run(row) / f"fold_{fold}" / FINAL

    def held_out(self, row: str, question: str, fold: str) -> Path:
        return self.run(row) / "held_out" / question / f"fold_{fold}"

    def test(self, row: str, question: str, folds: tuple[str, ...]) -> Path:
        """Of a single fold, or of the ensemble of several, by their names: a smaller one is another."""
        name = f"fold_{folds[0]}" if len(folds) == 1 else f"ensemble_{'-'.join(folds)}"
        return self.run(row) / "test" / question / name
