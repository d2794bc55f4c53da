"""The command ``segment``: the lesions of one case, in the platform's folders or as files."""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from ..case.pair_input import PairInput
from ..errors import ExitCode, one_line
from ..inference.options import BOOSTS, CaseOptions, ModelOptions
from .arguments import add_display, add_model_options, add_point_rounding, log_level, model_options
from .process import leave, print_document, print_error_line, supervise_case
from .progress_bars import ProgressBars

if TYPE_CHECKING:
    from .case_run import CaseRun


@dataclass(frozen=True, slots=True)
class CaseRunOptions:
    """One case from ``input_dir`` to ``output_dir``; `add_arguments` describes each option.

    Attributes:
        pair: the case's files as a user names them, instead of ``input_dir``; all outputs lie in
            ``output_dir`` then, which is ``extras_dir`` as well.
        weights_dir: folder of the model; None finds the default one.
        clicks: unit of the clicks, voxel index (x, y, z) of their scan or world position (LPS, mm).
        extras_dir: folder for run.json and the optional images; None writes neither.
        per_lesion: write one mask per lesion into ``extras_dir``.
        model: how the network is computed.
        case: how the case is segmented; kept probabilities are written into ``extras_dir``.
        time_budget: seconds that the run may take; None takes what is needed.
    """

    input_dir: Path = Path("/input")
    output_dir: Path = Path("/output")
    weights_dir: Path | None = None
    clicks: Literal["voxel", "world"] = "voxel"
    extras_dir: Path | None = None
    per_lesion: bool = False
    model: ModelOptions = ModelOptions()
    case: CaseOptions = CaseOptions()
    pair: PairInput | None = None
    time_budget: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option of a run."""
    parser.set_defaults(parser=parser)  # `options_of` reports options that clash through it
    defaults = CaseRunOptions()
    _add_pair(parser)
    _add_folders(parser, defaults)
    add_display(parser)
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
        "greedy, bspline, identity, or your own MODULE:FUNCTION (default: deformable)",
    )
    add(
        "--boost",
        choices=BOOSTS,
        default=defaults.case.boost,
        help="predict a lesion with a propagated follow-up point from several views and combine them "
        f"(default: {defaults.case.boost})",
    )
    add(
        "--segment-baseline",
        action="store_true",
        help="first segment clicked baseline lesions without a mask in the baseline, and pass the result "
        "to the network as their mask; the case then needs no masks (a network that takes no mask always "
        "does so)",
    )
    add(
        "--time-budget",
        type=_seconds,
        metavar="SECONDS",
        help="finish within this time, with complete outputs: fewer folds, then a cheaper registration, then "
        "propagated baseline masks, each with a warning",
    )
    add(
        "--extras",
        type=Path,
        metavar="DIR",
        help="folder for run.json and the images of the next two options",
    )
    add("--per-lesion", action="store_true", help="also write one mask per lesion to --extras")
    add(
        "--save-probabilities",
        action="store_true",
        help="also write each lesion's patch of probabilities to --extras",
    )


def _seconds(text: str) -> float:
    """The type of ``--time-budget``."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")
    return seconds


def _add_pair(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("two CTs as files (.mha, .mhd, .nii, .nii.gz, .nrrd)").add_argument
    add(
        "--baseline", type=Path, metavar="CT", help="the baseline CT; the follow-up and -o are needed with it"
    )
    add("--followup", type=Path, metavar="CT", help="the follow-up CT")
    add(
        "--baseline-mask",
        type=Path,
        metavar="FILE",
        help="lesions of the baseline, label = lesion id; without it they are segmented first",
    )
    add("--baseline-clicks", type=Path, metavar="JSON", help="points of lesions in the baseline")
    add("--followup-clicks", type=Path, metavar="JSON", help="points of lesions in the follow-up")


def _add_folders(parser: argparse.ArgumentParser, defaults: CaseRunOptions) -> None:
    add = parser.add_argument
    add(
        "--input",
        type=Path,
        metavar="DIR",
        help="folder of a case in the platform's layout (default: /input)",
    )
    add(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the labelmaps (default without --baseline: /output)",
    )
    parser.set_defaults(input=defaults.input_dir, output=defaults.output_dir)
    add(
        "--weights",
        type=Path,
        metavar="DIR",
        help="model folder (default: /opt/ml/model if it holds a model, otherwise resources/weights)",
    )


def options_of(arguments: argparse.Namespace) -> CaseRunOptions:
    """Build the options of a parsed command line; options that clash end the process with a message."""
    parser: argparse.ArgumentParser = arguments.parser
    pair = _pair_of(arguments)
    extras = arguments.output if pair is not None else arguments.extras
    if extras is None and (arguments.per_lesion or arguments.save_probabilities):
        parser.error("--per-lesion and --save-probabilities need --extras DIR")
    if arguments.extras is not None:
        output, folder = arguments.output.resolve(), arguments.extras.resolve()
        if folder == output or output in folder.parents:
            parser.error("--extras must lie outside of --output, which holds declared outputs only")
    return CaseRunOptions(
        input_dir=arguments.input,
        output_dir=arguments.output,
        weights_dir=arguments.weights,
        clicks=arguments.clicks,
        extras_dir=extras,
        per_lesion=arguments.per_lesion,
        model=model_options(arguments),
        case=CaseOptions(
            overlap=arguments.overlap,
            backend=arguments.backend,
            boost=arguments.boost,
            keep_probabilities=arguments.save_probabilities,
            segment_baseline=arguments.segment_baseline or (pair is not None and pair.baseline_mask is None),
        ),
        pair=pair,
        time_budget=arguments.time_budget,
    )


def _pair_of(arguments: argparse.Namespace) -> PairInput | None:
    """The files that a user has named; None for a case in the platform's folders."""
    parser: argparse.ArgumentParser = arguments.parser
    defaults = CaseRunOptions()
    others = ("baseline_mask", "baseline_clicks", "followup_clicks")
    if arguments.baseline is None and arguments.followup is None:
        for name in others:
            if getattr(arguments, name) is not None:
                parser.error(f"--{name.replace('_', '-')} needs --baseline CT and --followup CT")
        return None
    if arguments.baseline is None or arguments.followup is None:
        parser.error("--baseline CT and --followup CT need each other")
    if arguments.output is defaults.output_dir:
        parser.error("--baseline and --followup need -o DIR, where all results go")
    if arguments.input is not defaults.input_dir or arguments.extras is not None:
        parser.error("--input and --extras are of a case in folders; with --baseline all results go to -o")
    return PairInput(arguments.baseline, arguments.followup, *(getattr(arguments, name) for name in others))


@dataclass(frozen=True, slots=True)
class Display:
    """What a run shows.

    Attributes:
        log_level: of the least important records that are shown on stdout.
        as_json: print one JSON document on stdout at the end.
    """

    log_level: int = logging.INFO
    as_json: bool = False


def run(arguments: argparse.Namespace) -> int:
    """Segment the case of a parsed command line; returns the exit code."""
    return run_case(options_of(arguments), Display(log_level(arguments), arguments.json))


def run_case(options: CaseRunOptions, display: Display | None = None) -> int:
    """Segment one case; an error is printed as one line on stderr. Returns the exit code."""
    display = display or Display()
    job = _CaseJob(options, display)
    code = supervise_case(job.work, job.write_unfinished, display.log_level, job.is_late)
    is_late = code is None
    if code is None:  # the computation goes on in its thread, and is not waited for
        code = supervise_case(job.finish_in_time, job.write_unfinished, display.log_level)
        code = ExitCode.FAULT if code is None else code
    if display.as_json:
        print_document(json.dumps({"exit_code": code, **job.document}, allow_nan=False))
    if is_late:
        leave(code)
    return code


class _CaseJob:
    """The run of a case, imported by the worker: numpy and SimpleITK must not delay signal handling.

    ``document`` is its record once it has ended, or its error.
    """

    def __init__(self, options: CaseRunOptions, display: Display) -> None:
        self.document: dict[str, Any] = {}
        self._options = options
        self._bars = ProgressBars(is_shown=display.log_level <= logging.INFO)
        self._run: CaseRun | None = None
        self._is_making = Lock()

    def work(self) -> int:
        try:
            with self._bars.shown():
                result = self._the_run().execute()
        except BaseException as error:
            self._keep({"error": one_line(error)})
            raise
        self._keep(self._the_run().document(result))
        if result.failed_ids:
            failed = ", ".join(map(str, result.failed_ids))
            print_error_line(
                f"lesions that could not be computed and were left empty: {failed}; all others are complete"
            )
        return ExitCode.SUCCESS

    def _keep(self, document: dict[str, Any]) -> None:
        """Keep the record of the run, unless it was late."""
        if self._run is None or not self._run.is_closed:
            self.document = document

    def is_late(self) -> bool:
        """True once the time is spent, unless the results are being written already."""
        return self._run is not None and self._run.is_late

    def finish_in_time(self) -> int:
        """Write what is finished, and propagated masks of the other lesions."""
        self._bars.stop()
        try:
            self.document = self._the_run().finish_in_time()
        except BaseException as error:
            self.document = {"error": one_line(error)}
            raise
        return ExitCode.SUCCESS

    def write_unfinished(self) -> str:
        self._bars.stop()  # or the terminal would lack its cursor
        return self._the_run().write_unfinished()

    def _the_run(self) -> CaseRun:
        """The only run of this process, made by the first thread: it holds the lock of its folders."""
        with self._is_making:
            if self._run is None:
                from .case_run import CaseRun

                self._run = CaseRun(self._options)
            return self._run
