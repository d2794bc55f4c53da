"""The long run: many mutants of every kind of input, with counts of what becomes of them.

Usage: ``python -m test.fuzz [--cases 20000] [--seed 0] [--kind images …] [--runs 100] [--keep DIR]``. Case
N of a kind is the same in each run with the same seed. Inputs that are received wrongly are written into the
folder of ``--keep``, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import pickle
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from . import command_runs, end_to_end
from .judge import Verdict, judge, original, write_files
from .kinds import KINDS, seeds_of

_SECONDS = 60  # for one case
_RUNS = (end_to_end.NAME, *command_runs.COMMANDS)


def main() -> int:
    """Run the cases and print a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m test.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000, help="mutants that are read, over all kinds")
    parser.add_argument("--runs", type=int, help="whole runs of each command (default: one per 200 cases)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", nargs="+", choices=[*KINDS, *_RUNS])
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), metavar="DIR")
    options = parser.parse_args()
    names = options.kind or [*KINDS, *_RUNS]
    print("| kind | cases | outcomes | faults | seconds |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        tempfile.tempdir = folder  # children end without removing anything
        return _run_kinds(names, options)


def _run_kinds(names: list[str], options: argparse.Namespace) -> int:
    """Run the cases of some kinds and print a row for each; returns the exit code."""
    read = [name for name in names if name in KINDS]
    faults = 0
    for name in names:
        runs = options.cases // 200 if options.runs is None else options.runs
        count = options.cases // len(read) if name in KINDS else runs
        run = _read_case if name in KINDS else _whole_run
        start, outcomes, found = time.monotonic(), Counter[str](), 0
        for number, verdict in _guarded(run, name, options.seed, count, options.keep):
            outcomes[verdict.outcome] += 1
            if verdict.fault:
                found += 1
                print(f"{name} {number}: {verdict.change}: {verdict.fault}", file=sys.stderr)
        counts = ", ".join(f"{outcome} {n}" for outcome, n in sorted(outcomes.items()))
        print(f"| {name} | {count} | {counts} | {found} | {time.monotonic() - start:.0f} |", flush=True)
        faults += found
    return 1 if faults else 0


def _read_case(name: str, seed: int, number: int, keep: Path) -> Verdict:
    kind = KINDS[name]
    rng = Random(f"{seed}:{name}:{number}")
    source = rng.choice(seeds_of(kind))
    mutant = kind.mutate(rng, source)
    verdict = judge(kind, source, mutant)
    if verdict.fault:
        write_files(keep / f"{name}-{seed}-{number}".replace(" ", "-"), mutant.files)
    return verdict


def _whole_run(name: str, seed: int, number: int, keep: Path) -> Verdict:
    rng = Random(f"{seed}:{name}:{number}")
    kept = keep / f"{name}-{seed}-{number}".replace(" ", "-")
    return end_to_end.run_one(rng, kept) if name == end_to_end.NAME else command_runs.run_one(rng, name, kept)


def _guarded(
    run: Callable[[str, int, int, Path], Verdict], name: str, seed: int, count: int, keep: Path
) -> Iterator[tuple[int, Verdict]]:
    """Run cases in a child process: one that crashes or hangs is a fault, and the next go on."""
    if name in KINDS:
        for source in seeds_of(KINDS[name]):
            original(KINDS[name], source)
    number = 0
    while number < count:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with open(writing, "wb", buffering=0) as out:
                for n in range(number, count):
                    signal.alarm(_SECONDS if name in KINDS else 10 * _SECONDS)
                    pickle.dump(run(name, seed, n, keep), out)
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as results:
            while number < count:
                try:
                    verdict: Verdict = pickle.load(results)
                except EOFError:
                    break
                yield number, verdict
                number += 1
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if number < count:
            yield number, Verdict("crash", "the process ended", f"with the status {status}")
            number += 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # HDF5 complains at exit about files that were damaged
