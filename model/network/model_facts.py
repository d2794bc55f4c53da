"""What a model's folder holds, and whether all of it is whole and fits together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..case.geometry import Index, Vector
from ..case.input_files import path_exists
from ..errors import WeightsError
from .checkpoint_file import RawCheckpoint, read_checkpoint
from .checksums import CHECKSUM_FILE, read_checksums
from .input_variants import Family, family_of
from .plan import PLANS_FILE, Plan, read_settings, read_training_plan
from .weights import (
    DATASET_FILE,
    WeightsManifest,
    available_folds,
    check_fold,
    inspect_weights,
    load_fold,
    sha256,
)

LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "MODEL_CARD", "README")
"""How names of files begin that say what a model may be used for; in capital letters."""

_DEPTH = 3  # folders between a folder of models and each model
_LONGEST_LICENCE = 200


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's folder says of itself.

    Attributes:
        folder: that holds its `plans.json`.
        trainer: name of the trainer of its first fold.
        family: of networks.
        variant: the channels that it takes, in words.
        patch_size_zyx: voxels of the network's grid, in the plan's axis order.
        spacing_zyx: mm of that grid.
        folds: numbers of its folds, or "all".
        size_bytes: of the files of its folds.
        licence: named in its `dataset.json`; None if it names none.
        licence_files: names of files that may tell the licence.
        notice: for all users of the model.
    """

    folder: Path
    trainer: str
    family: Family
    variant: str
    patch_size_zyx: Index
    spacing_zyx: Vector
    folds: tuple[int | str, ...]
    size_bytes: int
    licence: str | None
    licence_files: tuple[str, ...]
    notice: str | None

    def document(self) -> dict[str, Any]:
        """The facts as they are written to JSON."""
        return {
            "folder": str(self.folder),
            "trainer": self.trainer,
            "family": self.family.value,
            "variant": self.variant,
            "patch_size_zyx": list(self.patch_size_zyx),
            "spacing_zyx_mm": list(self.spacing_zyx),
            "folds": list(self.folds),
            "bytes": self.size_bytes,
            "licence": self.licence,
            "licence_files": list(self.licence_files),
            "notice": self.notice,
        }


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file of a model, its checksum, and what is wrong with it.

    Attributes:
        path: the file.
        sha256: in hexadecimal; None if it cannot be read.
        is_recorded: True if it equals the checksum that is recorded beside the model.
        problem: one sentence; None if the folder is sound.
    """

    path: Path
    sha256: str | None
    is_recorded: bool
    problem: str | None = None

    def document(self) -> dict[str, Any]:
        """The file as it is written to JSON."""
        return {
            "file": str(self.path),
            "sha256": self.sha256,
            "recorded": self.is_recorded,
            "problem": self.problem,
        }


def find_models(root: Path) -> list[Path]:
    """Folders with a `plans.json` in a folder or up to three folders below it, by name."""
    patterns = ["/".join(["*"] * depth + [PLANS_FILE]) for depth in range(_DEPTH + 1)]
    return sorted({path.parent for pattern in patterns for path in root.glob(pattern) if path.is_file()})


def describe_model(folder: Path) -> ModelFacts:
    """Describe a model; only its first fold is read.

    Raises:
        WeightsError: its plan or first fold cannot be used, or a fold has no file.
    """
    manifest = inspect_weights(folder, available_folds(folder))
    raw = read_checkpoint(manifest.files[0])
    family, plan = family_of(raw.trainer_name), _plan(manifest, raw)
    first = load_fold(manifest.files[0], family, organs=True)
    return ModelFacts(
        folder=folder,
        trainer=raw.trainer_name,
        family=family,
        variant=first.variant.description,
        patch_size_zyx=plan.patch_size_zyx,
        spacing_zyx=plan.spacing_zyx,
        folds=manifest.folds,
        size_bytes=sum(file.stat().st_size for file in manifest.files),
        licence=_licence(folder),
        licence_files=tuple(path.name for path in licence_files(folder)),
        notice=manifest.notice,
    )


def licence_files(folder: Path) -> list[Path]:
    """Files of a folder whose names say that they may tell its licence, in the order of their names."""
    return sorted(
        path for path in folder.glob("*") if path.name.upper().startswith(LICENCE_NAMES) and path.is_file()
    )


def verify_model(folder: Path) -> Iterator[CheckedFile]:
    """Check each file of a model: its recorded checksum, its contents, and that it fits the plan.

    Yields:
        The plan, then each fold, then other files whose checksum is recorded.

    Raises:
        WeightsError: there are no folds, a fold has no file, or the recorded checksums cannot be read.
    """
    manifest = inspect_weights(folder, available_folds(folder))
    sums = dict(read_checksums(folder) or {})
    try:
        raw = read_checkpoint(manifest.files[0])
        plan, family = _plan(manifest, raw), family_of(raw.trainer_name)
    except WeightsError as error:
        own = str(error).startswith(str(manifest.plan_file))
        yield _checked(folder, manifest.plan_file, sums, str(error) if own else None)
        for file in manifest.files:
            yield _checked(folder, file, sums, f"cannot be checked against its plan: {error}")
    else:
        yield _checked(folder, manifest.plan_file, sums)
        for file in manifest.files:
            yield _checked(folder, file, sums, _fold_problem(plan, file, family))
    for name in sorted(sums):
        yield _checked(folder, folder / name, sums)


def _checked(folder: Path, path: Path, sums: dict[str, str], problem: str | None = None) -> CheckedFile:
    """Compare a file with its recorded checksum, which is taken out of ``sums``."""
    recorded = sums.pop(path.relative_to(folder).as_posix(), None)
    try:
        digest = sha256(path)
    except OSError as error:
        return CheckedFile(path, None, False, f"{path}: cannot be read ({error.strerror}); expected the file")
    if recorded is not None and digest != recorded:
        problem = f"{path}: has another checksum than in {CHECKSUM_FILE}; expected an unchanged file"
    return CheckedFile(path, digest, recorded == digest, problem)


def _fold_problem(plan: Plan, file: Path, family: Family) -> str | None:
    try:
        check_fold(plan, load_fold(file, family, organs=True))
    except WeightsError as error:
        return str(error)
    return None


def _plan(manifest: WeightsManifest, raw: RawCheckpoint) -> Plan:
    return read_training_plan(manifest.plan_file, raw.configuration)[0]


def _licence(folder: Path) -> str | None:
    """The licence that `dataset.json` names, in one line."""
    path = folder / DATASET_FILE
    if not path_exists(path):
        return None
    try:
        document = read_settings(path, "a data set")
    except WeightsError:
        return None  # the notice says so
    named = [document.get(key) for key in ("licence", "license")] if isinstance(document, dict) else []
    found = next((text for text in named if isinstance(text, str) and text.strip()), None)
    return None if found is None else " ".join(found[:_LONGEST_LICENCE].split())
