"""The command ``weights``: list, verify, convert and import models."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ExitCode, InputError, WeightsError

if TYPE_CHECKING:  # brings torch
    from ..network.model_facts import ModelFacts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser(
        "list", help="describe the models in folders: network, folds, licence, notice"
    )
    listing.add_argument(
        "folders",
        type=Path,
        nargs="*",
        metavar="DIR",
        help="a model, or a folder of models (default: the mounted and the shipped one)",
    )
    verify = actions.add_parser(
        "verify", help="check every file of a model: checksum, values, and fit to the plan"
    )
    verify.add_argument(
        "source", type=Path, nargs="?", metavar="DIR", help="model folder (default: that of `segment`)"
    )
    for action in (listing, verify):
        action.add_argument("--json", action="store_true", help="print one JSON document")
    pack = actions.add_parser(
        "pack", help="strip optimizer state and write safetensors, which load faster and run no code"
    )
    pack.add_argument("source", type=Path, metavar="SRC", help="model folder in the published layout")
    pack.add_argument("target", type=Path, metavar="DST", help="folder to write the packed model to")
    pack.add_argument("--dtype", choices=("fp32", "fp16"), default="fp32", help="number type (default: fp32)")
    importing = actions.add_parser(
        "import", help="unpack the models of a downloaded archive after checking all of their files"
    )
    importing.add_argument("source", type=Path, metavar="ARCHIVE", help="ZIP, TAR or TAR.GZ")
    importing.add_argument("target", type=Path, metavar="DST", help="folder to create for the model")


def run(arguments: argparse.Namespace) -> int:
    """Run one action and print its result; returns the exit code.

    Raises:
        LongilesionError: a model cannot be used, or a file cannot be written.
    """
    actions: dict[str, Callable[[argparse.Namespace], None]] = {
        "list": _list,
        "verify": _verify,
        "pack": _pack,
        "import": _import,
    }
    actions[arguments.action](arguments)
    return ExitCode.SUCCESS


def _list(arguments: argparse.Namespace) -> None:
    from ..network.model_facts import describe_model

    models: list[ModelFacts] = []
    problems: list[tuple[Path, str]] = []
    for folder in _model_folders(arguments.folders):
        try:
            models.append(describe_model(folder))
        except WeightsError as error:
            problems.append((folder, str(error)))
    if arguments.json:
        document = [model.document() for model in models]
        document += [{"folder": str(folder), "problem": problem} for folder, problem in problems]
        print(json.dumps(document, indent=2))
    else:
        print(
            "\n\n".join(
                [
                    *map(_described, models),
                    *(f"{folder}\n  cannot be used: {problem}" for folder, problem in problems),
                ]
            )
        )
    if problems:
        raise WeightsError(problems[0][1])


def _model_folders(folders: Sequence[Path]) -> list[Path]:
    """The models in the given folders, each once; WeightsError if there are none."""
    from ..network.model_facts import find_models
    from ..network.weights import MOUNTED_WEIGHTS, SHIPPED_WEIGHTS

    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: is no folder; expected a model, or a folder of models")
    searched = folders or [MOUNTED_WEIGHTS, SHIPPED_WEIGHTS]
    models = list(dict.fromkeys(model for folder in searched for model in find_models(folder)))
    if not models:
        names = " and ".join(map(str, searched))
        raise WeightsError(f"{names}: holds no model; expected plans.json and fold_N in a folder there")
    return models


def _described(model: ModelFacts) -> str:
    patch = " x ".join(map(str, model.patch_size_zyx))
    spacing = " x ".join(f"{value:g}" for value in model.spacing_zyx)
    lines = [
        str(model.folder),
        f"  network   {model.variant}; trainer {model.trainer or '(unnamed)'}",
        f"  patch     {patch} voxels of {spacing} mm (axes of the plan)",
        f"  folds     {', '.join(map(str, model.folds))} ({model.size_bytes / 1e6:.1f} MB)",
        f"  licence   {model.licence or 'none in dataset.json'}"
        + (f"; see {', '.join(model.licence_files)}" if model.licence_files else ""),
    ]
    return "\n".join([*lines, f"  notice    {model.notice}"] if model.notice else lines)


def _verify(arguments: argparse.Namespace) -> None:
    from ..network.model_facts import verify_model
    from ..network.weights import find_weights

    files = []
    for file in verify_model(find_weights(arguments.source)):
        files.append(file)
        if not arguments.json:
            state = "broken" if file.problem else "ok"
            recorded = "  as recorded" if file.is_recorded else ""
            print(f"{state:6}  {file.sha256 or '-'}  {file.path}{recorded}", flush=True)
    if arguments.json:
        print(json.dumps([file.document() for file in files], indent=2))
    if problem := next((file.problem for file in files if file.problem), None):
        raise WeightsError(problem)


def _pack(arguments: argparse.Namespace) -> None:
    from ..network.pack import pack_weights

    for path in pack_weights(arguments.source, arguments.target, arguments.dtype):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _import(arguments: argparse.Namespace) -> None:
    from ..network.model_facts import describe_model
    from ..network.weights_import import import_weights

    models = import_weights(arguments.source, arguments.target)
    print("\n\n".join(_described(describe_model(model)) for model in models))
