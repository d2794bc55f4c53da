"""The command line that both published ways share: times them, and prints time and peak memory as JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.timing import Timings, peak_memory_mib


def run(
    description: str, segment: Callable[[Path, Path, Timings], dict[str, npt.NDArray[np.generic]]]
) -> None:
    """Segment a case and write the result as `.npz`.

    Args:
        description: first line of the help.
        segment: computes named arrays [z, y, x] from the folders of the case and of the weights.
    """
    begin = time.perf_counter()
    parser = argparse.ArgumentParser(description=description)
    for name in ("case", "weights", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    timings = Timings()
    arrays = segment(arguments.case, arguments.weights, timings)
    with timings.stage("write"):
        np.savez(arguments.out, allow_pickle=False, **arrays)
    seconds = {**timings.seconds, "total": time.perf_counter() - begin}
    print(json.dumps({"seconds": seconds, "peak_memory_mib": peak_memory_mib()}))
