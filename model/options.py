"""The user's choices for one run, and the command line that makes them. Standard library only."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DEFAULT_FOLDS = (0, 1, 2, 3, 4)

BOOSTS = ("none", "reprompt", "additive", "merged-probabilities", "perturbed", "click-majority", "rotated")
DEFAULT_BOOST = "merged-probabilities"  # by measurement, see docs/propagation.md


@dataclass(frozen=True, slots=True)
class Options:
    """One case from ``input_dir`` to ``output_dir``; see `add_arguments` for what each choice does."""

    input_dir: Path = Path("/input")
    output_dir: Path = Path("/output")
    weights_dir: Path | None = None
    device: str = "auto"
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    folds: tuple[int, ...] = DEFAULT_FOLDS
    overlap: Literal["probability", "max-id"] = "probability"
    clicks: Literal["voxel", "world"] = "voxel"
    backend: str | None = None  # the one that all commands register with
    boost: str = DEFAULT_BOOST
    extras_dir: Path | None = None
    per_lesion: bool = False
    save_probabilities: bool = False
    tta: bool = False
    deterministic: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option of a run."""
    defaults = Options()
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
    add_network(parser)
    add(
        "--overlap",
        choices=("probability", "max-id"),
        default=defaults.overlap,
        help="who gets a voxel that several lesions claim: the more probable one, or the highest id",
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
        "bspline, identity, or your own MODULE:FUNCTION (default: that of all commands)",
    )
    add(
        "--boost",
        choices=BOOSTS,
        default=defaults.boost,
        help="ask the network more than once for each lesion whose follow-up point was propagated "
        f"(default: {defaults.boost})",
    )
    add("--extras", type=Path, metavar="DIR", help="write run.json, and what the next two options make")
    add("--per-lesion", action="store_true", help="one mask per lesion into --extras")
    add(
        "--save-probabilities", action="store_true", help="each lesion's patch of probabilities into --extras"
    )


def add_network(group: argparse._ActionsContainer) -> None:
    """Add how an ensemble is computed, to a parser or a group of one."""
    defaults = Options()
    add = group.add_argument
    add_device(group, "where the network runs")
    add(
        "--precision",
        choices=("auto", "fp32", "fp16", "bf16"),
        default=defaults.precision,
        help="auto: bf16 where the GPU has it, fp16 on other GPUs, fp32 on the CPU",
    )
    add("--folds", type=fold_list, default=defaults.folds, metavar="0,1,2,3,4", help="folds of the ensemble")
    add("--tta", action="store_true", help="average over the mirrored views that the checkpoint names")
    add("--deterministic", action="store_true", help="the same result bit for bit on the same machine")


def add_device(group: argparse._ActionsContainer, what: str = "where it computes") -> None:
    """Add ``--device``, to a parser or a group of one."""
    group.add_argument(
        "--device",
        type=device_name,
        default="auto",
        metavar="auto|cpu|cuda|cuda:N",
        help=f"{what} (default: auto)",
    )


def from_arguments(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Options:
    """The options of a parsed command line; ends the process with the parser's message where they clash."""
    if arguments.extras is None and (arguments.per_lesion or arguments.save_probabilities):
        parser.error("--per-lesion and --save-probabilities need --extras DIR")
    if arguments.extras is not None:
        output, extras = arguments.output.resolve(), arguments.extras.resolve()
        if extras == output or output in extras.parents:
            parser.error("--extras must lie outside of --output, which holds declared outputs only")
    return Options(
        input_dir=arguments.input,
        output_dir=arguments.output,
        weights_dir=arguments.weights,
        device=arguments.device,
        precision=arguments.precision,
        folds=arguments.folds,
        overlap=arguments.overlap,
        clicks=arguments.clicks,
        backend=arguments.backend,
        boost=arguments.boost,
        extras_dir=arguments.extras,
        per_lesion=arguments.per_lesion,
        save_probabilities=arguments.save_probabilities,
        tta=arguments.tta,
        deterministic=arguments.deterministic,
    )


def device_name(text: str) -> str:
    """The type of a ``--device`` argument."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no device; expected auto, cpu, cuda or cuda:N")
    return text


def fold_list(text: str) -> tuple[int, ...]:
    """The type of a ``--folds`` argument: numbers, none twice."""
    if not re.fullmatch(r"[0-9]+(,[0-9]+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of folds; expected numbers such as 0,1,2,3,4")
    folds = tuple(int(part) for part in text.split(","))
    if len(set(folds)) != len(folds):
        raise argparse.ArgumentTypeError(f"{text!r} names a fold twice")
    return folds
