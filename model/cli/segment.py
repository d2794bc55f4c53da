"""The command ``segment``: segment the lesions of one case, as `process.py` does."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

from ..errors import ExitCode
from ..inference.options import BOOSTS, CaseOptions, ModelOptions
from .arguments import add_model_options, add_point_rounding, model_options
from .process import print_error_line, supervise_case

if TYPE_CHECKING:
    from .case_run import CaseRun


@dataclass(frozen=True, slots=True)
class CaseRunOptions:
    """One case from ``input_dir`` to ``output_dir``; `add_arguments` describes each option.

    Attributes:
        weights_dir: folder of the model; None finds the default one.
        clicks: unit of the clicks, voxel index (x, y, z) of their scan or world position (LPS, mm).
        extras_dir: folder for run.json and the optional images; None writes neither.
        per_lesion: write one mask per lesion into ``extras_dir``.
        model: how the network is computed.
        case: how the case is segmented; kept probabilities are written into ``extras_dir``.
    """

    input_dir: Path = Path("/input")
    output_dir: Path = Path("/output")
    weights_dir: Path | None = None
    clicks: Literal["voxel", "world"] = "voxel"
    extras_dir: Path | None = None
    per_lesion: bool = False
    model: ModelOptions = ModelOptions()
    case: CaseOptions = CaseOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option of a run."""
    parser.set_defaults(parser=parser)  # `options_of` reports options that clash through it
    defaults = CaseRunOptions()
    _add_folders(parser, defaults)
    add_model_options(parser)
    add_point_rounding(parser)
    add = parser.add_argument
    add(
        "--overlap",
        choices=("probability", "max-id"),
        default=defaults.case.overlap,
        help="assign a voxel claimed by several lesions to the more probable one, or to the highest id",
    )
    add(
        "--clicks",
        choices=("voxel", "world"),
        default=defaults.clicks,
        help="units of click points: voxel index (x, y, z) of their scan, or world (LPS mm)",
    )
    add(
        "--backend",
        metavar="NAME",
        help="how scans are registered to find lesions without a follow-up click: rigid, affine, deformable, "
        "greedy, bspline, identity, or your own MODULE:FUNCTION (default: that of all commands)",
    )
    add(
        "--boost",
        choices=BOOSTS,
        default=defaults.case.boost,
        help="predict each lesion whose follow-up point was propagated more than once "
        f"(default: {defaults.case.boost})",
    )
    add(
        "--segment-baseline",
        action="store_true",
        help="segment baseline lesions that have no mask first, at their clicks, and give them to the "
        "network as its mask; the case then needs no masks (networks that take none do the former always)",
    )
    add("--extras", type=Path, metavar="DIR", help="write run.json, and the images of the next two options")
    add("--per-lesion", action="store_true", help="one mask per lesion into --extras")
    add(
        "--save-probabilities", action="store_true", help="each lesion's patch of probabilities into --extras"
    )


def _add_folders(parser: argparse.ArgumentParser, defaults: CaseRunOptions) -> None:
    add = parser.add_argument
    add("--input", type=Path, default=defaults.input_dir, metavar="DIR", help="the case (default: /input)")
    add(
        "--output",
        type=Path,
        default=defaults.output_dir,
        metavar="DIR",
        help="where the labelmaps go (default: /output)",
    )
    add(
        "--weights",
        type=Path,
        metavar="DIR",
        help="the model (default: /opt/ml/model if it holds one, else resources/weights)",
    )


def options_of(arguments: argparse.Namespace) -> CaseRunOptions:
    """Build the options of a parsed command line; options that clash end the process with a message."""
    parser: argparse.ArgumentParser = arguments.parser
    if arguments.extras is None and (arguments.per_lesion or arguments.save_probabilities):
        parser.error("--per-lesion and --save-probabilities need --extras DIR")
    if arguments.extras is not None:
        output, extras = arguments.output.resolve(), arguments.extras.resolve()
        if extras == output or output in extras.parents:
            parser.error("--extras must lie outside of --output, which holds declared outputs only")
    return CaseRunOptions(
        input_dir=arguments.input,
        output_dir=arguments.output,
        weights_dir=arguments.weights,
        clicks=arguments.clicks,
        extras_dir=arguments.extras,
        per_lesion=arguments.per_lesion,
        model=model_options(arguments),
        case=CaseOptions(
            overlap=arguments.overlap,
            backend=arguments.backend,
            boost=arguments.boost,
            keep_probabilities=arguments.save_probabilities,
            segment_baseline=arguments.segment_baseline,
        ),
    )


def run(arguments: argparse.Namespace) -> int:
    """Segment the case of a parsed command line; returns the exit code."""
    return run_case(options_of(arguments))


def run_case(options: CaseRunOptions) -> int:
    """Segment one case; an error is printed as one line on stderr. Returns the exit code."""
    job = _CaseJob(options)
    return supervise_case(job.work, job.write_unfinished)


class _CaseJob:
    """The run of a case, imported by the worker: numpy and SimpleITK must not delay signal handling."""

    def __init__(self, options: CaseRunOptions) -> None:
        self._options = options
        self._run: CaseRun | None = None
        self._is_making = Lock()

    def work(self) -> int:
        failed_ids = self._the_run().execute().failed_ids
        if failed_ids:
            failed = ", ".join(map(str, failed_ids))
            print_error_line(
                f"lesions that could not be computed and were left empty: {failed}; all others are complete"
            )
        return ExitCode.SUCCESS

    def write_unfinished(self) -> str:
        return self._the_run().write_unfinished()

    def _the_run(self) -> CaseRun:
        """The only run of this process, made by the first thread: it holds the lock of its folders."""
        with self._is_making:
            if self._run is None:
                from .case_run import CaseRun

                self._run = CaseRun(self._options)
            return self._run
