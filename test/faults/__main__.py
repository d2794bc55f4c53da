"""Inject faults into real runs of the commands, and list what is not as promised in docs/reliability.md."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .children import import_libraries
from .report import Trial


def _kills(folder: Path, instants: int, seed: int) -> Iterator[Trial]:
    from .kills import kills

    return kills(folder, instants, seed)


def _disk(folder: Path, instants: int, seed: int) -> Iterator[Trial]:
    from .disk import disk_faults

    return disk_faults(folder, instants, seed)


def _surroundings(folder: Path, instants: int, seed: int) -> Iterator[Trial]:
    from .surroundings import surroundings

    return surroundings(folder)


def _memory(folder: Path, instants: int, seed: int) -> Iterator[Trial]:
    from .memory import memory_limits

    return memory_limits(folder, instants)


def _sizes(folder: Path, instants: int, seed: int) -> Iterator[Trial]:
    from .sizes import odd_sizes

    return odd_sizes(folder)


def _folds(folder: Path, instants: int, seed: int) -> Iterator[Trial]:
    from .folds import doctored_folds

    return doctored_folds()


_KINDS: dict[str, Callable[[Path, int, int], Iterator[Trial]]] = {
    "kills": _kills,
    "disk": _disk,
    "surroundings": _surroundings,
    "memory": _memory,
    "sizes": _sizes,
    "folds": _folds,
}


def main() -> int:
    """Run the chosen kinds of faults; returns 1 if anything was not as promised."""
    parser = argparse.ArgumentParser(
        prog="python -m test.faults", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--instants", type=int, default=30, metavar="N", help="per command (default: 30)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the instants (default: 0)")
    parser.add_argument("--only", nargs="+", choices=_KINDS, default=list(_KINDS), help="kinds of faults")
    arguments = parser.parse_args()
    import_libraries()
    start, trials = time.monotonic(), list[Trial]()
    for kind in arguments.only:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            place = Path(folder)
            (place / "data").mkdir()
            for trial in _KINDS[kind](place, arguments.instants, arguments.seed):
                trials.append(trial)
                print("\n".join(trial.lines()), flush=True)
    wrong = sum(bool(trial.faults) for trial in trials)
    print(f"{len(trials)} trials, {wrong} not as promised, {time.monotonic() - start:.0f} s")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
