"""Whole runs of `process.py` on a small case in which one file is damaged."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import SimpleITK as sitk

from model.errors import ExitCode

from ..helpers.cases_on_disk import CaseOnDisk, Finished
from ..helpers.paths import GOLDEN_MODEL
from .judge import Verdict, sentence_fault
from .mutations import damaged_bytes, damaged_json, damaged_lines, damaged_table

NAME = "whole runs"
_CODES = {int(code) for code in (ExitCode.SUCCESS, ExitCode.INPUT, ExitCode.WEIGHTS)}
_LABELMAP = "primary-followup-ct-tumor-lesion-seg"
_FOLD = Path("model") / "fold_0" / "checkpoint_final.pth"
_OPTIONS = ("--folds", "0", "--backend", "identity", "--boost", "none")


@cache
def _original() -> Path:
    """A folder with the case and a model of one fold; made once, and removed with the process."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    CaseOnDisk(folder / "case", ids=(1,)).write()
    entries = [
        {"socket": {"slug": path.name, "relative_path": f"images/{path.name}"}}
        for path in sorted((folder / "case" / "images").iterdir())
    ]
    for time in ("baseline", "followup"):
        slug = f"primary-{time}-lesion-clicks"
        entries.append({"socket": {"slug": slug, "relative_path": f"{slug}.json"}})
    (folder / "case" / "inputs.json").write_text(json.dumps(entries))
    (folder / _FOLD).parent.mkdir(parents=True)
    for name in (_FOLD.relative_to("model"), Path("plans.json"), Path("dataset.json")):
        shutil.copyfile(GOLDEN_MODEL / name, folder / "model" / name)
    return folder


@cache
def _expected() -> tuple[bytes, int]:
    with tempfile.TemporaryDirectory() as name:
        finished = _run(Path(name))
        assert finished.code == 0, finished.stderr
        return _voxels(finished), len(finished.record["warnings"])


def _run(folder: Path) -> Finished:
    shutil.copytree(_original(), folder, dirs_exist_ok=True)
    return CaseOnDisk(folder / "case").run("--weights", str(folder / "model"), *_OPTIONS)


def _voxels(finished: Finished) -> bytes:
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(_output(finished))))
    return np.ascontiguousarray(labels).tobytes()


def _output(finished: Finished) -> Path:
    return finished.output / "images" / _LABELMAP / "segmentation.mha"


def run_one(rng: Random, kept: Path | None = None) -> Verdict:
    """Damage one file of the case or its model, run it, and judge what comes of it.

    Args:
        rng: source of randomness.
        kept: folder to which the case and model of a fault are copied.
    """
    _expected()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(_original(), folder, dirs_exist_ok=True)
        paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        path = rng.choice(paths)
        content = (folder / path).read_bytes()
        damaged, words, has_proof = damaged_file(rng, path.suffix, content)
        (folder / path).write_bytes(damaged)
        options = ("--weights", str(folder / "model"), *_OPTIONS)
        verdict = _judged(CaseOnDisk(folder / "case").run(*options), f"{path}: {words}", has_proof)
        if verdict.fault and kept is not None:
            shutil.copytree(folder, kept, dirs_exist_ok=True)
        return verdict


def damaged_file(rng: Random, suffix: str, content: bytes) -> tuple[bytes, str, bool]:
    """Damage a file in a way that fits its kind.

    Returns:
        The file, words for the change, and whether a part with a checksum was changed.
    """
    if suffix in (".json", ".csv") and rng.random() < 0.7:
        text, words = (damaged_json if suffix == ".json" else damaged_table)(rng, content.decode())
        return text.encode("utf-8", "surrogatepass"), words, False
    if suffix == ".mha":
        start = content.index(b"LOCAL\n") + 6
        if rng.random() < 0.5:
            damaged, words = damaged_bytes(rng, content[start:])
            return content[:start] + damaged, words, True
        text, words = damaged_lines(rng, content[:start].decode(), "=")
        return text.encode() + content[start:], words, False
    damaged, words = damaged_bytes(rng, content)
    return damaged, words, suffix == ".pth"


def _judged(finished: Finished, change: str, has_proof: bool) -> Verdict:
    outcome = f"exit code {finished.code}"
    lines = finished.stderr.splitlines()
    if finished.code not in _CODES:
        return Verdict(outcome, change, f"exit code {finished.code}: {finished.stderr[-300:]}")
    if any("Traceback" in line for line in lines) or len(lines) != (finished.code != 0):
        return Verdict(outcome, change, f"on stderr: {finished.stderr[-300:]}")
    if finished.code:
        left = _output(finished).exists() or (finished.extras / "run.json").exists()
        return Verdict(outcome, change, "left an output" if left else sentence_fault(finished.last_line))
    voxels, warnings = _expected()
    if _voxels(finished) == voxels:
        return Verdict("equal", change)
    if len(finished.record["warnings"]) > warnings:
        return Verdict("with a warning", change)
    fault = "another result in spite of a checksum" if has_proof else None
    return Verdict("another result", change, fault)
