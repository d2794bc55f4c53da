"""The commands under test: small data for each, and what its files must be like."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from model.case.atomic_files import TEMPORARY_PREFIX

from ..helpers.cases_on_disk import CENTRES, SHAPE, CaseOnDisk, ball
from .children import Ended, run_child

_GROWING = "events.out.tfevents."  # TensorBoard's, which grows as a log does
_OPTIONAL = "curve.png"
_IGNORED_KEYS = frozenset({"seconds", "peak_memory_mib", "outputs"})


@dataclass(frozen=True)
class TestedCommand:
    """A command, given the folder that it writes to.

    Attributes:
        name: of the command.
        arguments: of `python -m model`, for an output folder.
        resumes: continues an interrupted run when called again.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    resumes: bool = False


def make_commands(folder: Path) -> list[TestedCommand]:
    """Write the data of all commands, and describe how each is called."""
    case = CaseOnDisk(folder / "case").write()
    images = case.folder / "images"
    baseline, mask, followup = (
        images / name / "image.mha"
        for name in ("primary-baseline-ct", "primary-baseline-ct-tumor-lesion-seg", "primary-followup-ct")
    )
    clicks = case.folder / "primary-baseline-lesion-clicks.json"
    series = folder / "series.csv"
    rows = [f"p,t0,0,{baseline},{mask}", f"p,t1,1,{followup},", f"p,t2,2,{baseline},"]
    series.write_text("\n".join(["patient,timepoint,order,scan,mask", *rows]) + "\n")
    manifest, prepared = _manifest(folder), folder / "prepared"
    device, folds = ["--device", "cpu"], ["--folds", "0,1"]
    prepare = ["train", "prepare", "--data", str(manifest), "--workers", "1", "--preset", "tiny"]
    prepare += ["--patch", "16", "32", "32", "--folds", "2", "-o"]
    made = run_child([*prepare, str(prepared)], folder / "logs")
    if made.code:
        raise RuntimeError(made.stdout + made.stderr)
    train = ["train", "run", "--data", str(prepared), "--fold", "0", "--no-cross-validation", *device]
    train += [
        "epochs=3",
        "iterations=1",
        "batch_size=2",
        "validation_iterations=1",
        "workers=0",
        "checkpoint_every=1",
    ]
    segment = ["segment", "--input", str(case.folder), *device, *folds]
    track = ["track", "--series", str(series), "--backend", "identity", "--boost", "none", *device, *folds]
    propagate = ["propagate", "--from", str(baseline), "--to", str(followup), "--points", str(clicks)]
    propagate += ["--mask", str(mask), "--backend", "affine", "--no-reverse"]
    evaluate = ["evaluate", "--reference", str(mask), "--prediction", str(mask), "--json"]
    return [
        TestedCommand(
            "segment", lambda out: [*segment, "--output", str(out / "o"), "--extras", str(out / "x")]
        ),
        TestedCommand("track", lambda out: [*track, "-o", str(out)]),
        TestedCommand("train run", lambda out: [*train, "-o", str(out)], resumes=True),
        TestedCommand("train prepare", lambda out: [*prepare, str(out)], resumes=True),
        TestedCommand("propagate", lambda out: [*propagate, "-o", str(out)]),
        TestedCommand("evaluate", lambda out: [*evaluate, "-o", str(out)]),
    ]


def _manifest(folder: Path) -> Path:
    """A data set of two patients with two scans each."""
    rows = ["patient,timepoint,image,labels"]
    for patient in range(2):
        for time in range(2):
            hu = np.random.default_rng([patient, time]).normal(0, 10, SHAPE)
            labels = np.zeros(SHAPE, np.uint16)
            for lesion_id in (1, 2):
                inside = ball(SHAPE, CENTRES[lesion_id], 4 + time)
                hu[inside] += 100
                labels[inside] = lesion_id
            names = []
            for name, array in (("ct", hu.astype(np.int16)), ("labels", labels)):
                image = sitk.GetImageFromArray(array)
                image.SetSpacing((2.0, 2.0, 2.5))
                names.append(f"p{patient}-t{time}-{name}.mha")
                sitk.WriteImage(image, str(folder / names[-1]), True)
            rows.append(f"p{patient},t{time},{names[0]},{names[1]}")
    path = folder / "manifest.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def final_files(folder: Path) -> dict[str, Path]:
    """Relative name -> path of all files, but those that grow as logs do."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(folder)): path for path in paths if not path.name.startswith(_GROWING)}


def temporary_files(folder: Path) -> list[str]:
    """Files under a temporary name."""
    return [name for name in final_files(folder) if Path(name).name.startswith(TEMPORARY_PREFIX)]


def broken_files(folder: Path) -> list[str]:
    """Files under a final name that are not whole."""
    files = {name: path for name, path in final_files(folder).items() if name not in temporary_files(folder)}
    # Files of a scan that is being prepared count from its scan.json on.
    unfinished = {path.parent for path in files.values() if path.suffix in (".b2nd", ".npz")}
    unfinished = {parent for parent in unfinished if not (parent / "scan.json").is_file()}
    return [
        name for name, path in files.items() if path.parent not in unfinished and _fault_of(path) is not None
    ]


def _fault_of(path: Path) -> str | None:
    try:
        if path.suffix in (".mha", ".gz"):
            sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".pth":
            torch.load(path, weights_only=True)
        elif path.suffix == ".png":
            assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
        elif path.suffix == ".csv":
            rows = list(csv.reader(path.open(newline="")))
            assert len({len(row) for row in rows}) == 1
        elif path.suffix == ".npz":
            np.load(path)
        else:
            assert path.stat().st_size > 0
    except Exception as error:
        return str(error)
    return None


def differences(folder: Path, reference: Path, only_present: bool = False) -> list[str]:
    """Files whose content is not that of an undisturbed run.

    Times, memory and paths of the run itself are left out, and the picture of the curves, which matplotlib
    draws only where it finds a place for its cache.

    Args:
        folder: of the run.
        reference: of the undisturbed run.
        only_present: leave out files that the run has not written.
    """
    here, there = final_files(folder), final_files(reference)
    names = here.keys() if only_present else here.keys() | there.keys()
    names = {name for name in names if not name.endswith(_OPTIONAL)}
    return [
        name
        for name in sorted(names)
        if name not in here or name not in there or _content(here[name]) != _content(there[name])
    ]


def _content(path: Path) -> object:
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text()), str(path.parent))
    if path.suffix == ".pth":
        weights = torch.load(path, weights_only=True)["network_weights"]
        return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}
    if path.name == "log.csv":
        return [
            [cell for key, cell in row.items() if "second" not in key] for row in csv.DictReader(path.open())
        ]
    return path.read_bytes()


def _timeless(value: Any, folder: str) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(entry, folder) for key, entry in value.items() if key not in _IGNORED_KEYS}
    return [_timeless(entry, folder) for entry in value] if isinstance(value, list) else value


def faults_of_streams(ended: Ended) -> list[str]:
    """What is wrong with the streams of a child: one sentence on stderr if it failed, no traceback there."""
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    found = []
    if ended.code > 0 and len(lines) != 1:
        found.append(f"{len(lines)} lines on stderr with exit code {ended.code}: {' / '.join(lines)[-300:]}")
    if ended.code == 1:
        found.append(f"exit code 1: {' / '.join(lines)[-300:]}")
    if "Traceback" in ended.stderr:
        found.append("a traceback on stderr")
    return found
