"""The container's entrypoint: one case from /input to /output.

Reads the baseline and follow-up scans, masks and clicks of a case by the autoPET/CT IV interface (Task 2),
segments every lesion in the follow-up, and writes one labelmap per follow-up scan. If the input holds a PET
(Task 1), it segments all tumour of the PET/CT instead. With `--serve` it does so at each of the platform's
requests. `--help` lists the options, README.md the exit codes.
"""

from __future__ import annotations

import argparse

from model.cli.container import add_arguments, run
from model.cli.process import leave


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run the case; returns the exit code."""
    parser = argparse.ArgumentParser(prog="process.py", description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    leave(main())
