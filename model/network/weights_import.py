"""Models out of a downloaded archive: their own files alone, put in place after all were checked."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..case.atomic_files import TEMPORARY_PREFIX, forget_temporary, remember_temporary
from ..errors import OutputError, WeightsError
from .checksums import write_checksums
from .model_facts import LICENCE_NAMES, licence_files, verify_model
from .plan import PLANS_FILE
from .weights import DATASET_FILE, PACKED, PICKLED, available_folds
from .weights_archive import ArchivedFile, archived_files

_FOLD = re.compile(r"fold_([0-9]{1,3}|all)")
_CHUNK_BYTES = 4 << 20
_MOST_TEXT_BYTES = 8 << 20
_EXPECTED = f"a model ({PLANS_FILE} and fold_N/{PICKLED} or {PACKED}) in it"


def import_weights(archive: Path, target: Path) -> list[Path]:
    """Unpack the models of an archive into a folder, after all of their files were checked.

    A single model lies in the folder itself, several keep their folders below it. Other files of the archive
    (logs, pictures) are left out, but for those that may tell the licence.

    Args:
        archive: as it was downloaded: ZIP, TAR or TAR.GZ.
        target: a folder that does not exist yet, or is empty.

    Returns:
        The folder of each model.

    Raises:
        WeightsError: the archive is unsafe, damaged, or holds no model that can be used.
        OutputError: the target holds something, or cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target}: exists already; expected a new folder")
    with _staging_folder(target) as staging:
        for file in archived_files(archive):
            if _is_wanted(file.path):
                _unpack(archive, file, staging)
        models = sorted(path.parent for path in staging.rglob(PLANS_FILE))
        if not models:
            raise WeightsError(f"{archive}: holds no {PLANS_FILE}; expected {_EXPECTED}")
        for model in models:
            _check(archive, staging, model)
        root = models[0] if len(models) == 1 else Path(os.path.commonpath(models))
        _gather_licences(staging, root)
        for model in models:
            write_checksums(model, _model_files(model))
        names = [model.relative_to(root) for model in models]
        _put(root, target)
    return [target / name for name in names]


def _is_wanted(path: PurePosixPath) -> bool:
    """True for the files of a model, and for those that may tell its licence."""
    if any(part.startswith((".", "__MACOSX")) for part in path.parts):
        return False
    is_fold = path.name in (PACKED, PICKLED) and _FOLD.fullmatch(path.parent.name) is not None
    return is_fold or path.name in (PLANS_FILE, DATASET_FILE) or _tells_licence(path)


def _tells_licence(path: PurePosixPath) -> bool:
    return path.name.upper().startswith(LICENCE_NAMES) and path.suffix.lower() in ("", ".md", ".txt", ".rst")


def _unpack(archive: Path, file: ArchivedFile, staging: Path) -> None:
    path = staging.joinpath(*file.path.parts)
    limit = None if path.name in (PACKED, PICKLED) else _MOST_TEXT_BYTES
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as output:
            while chunk := file.read(_CHUNK_BYTES):
                output.write(chunk)
                if limit is not None and output.tell() > limit:
                    raise WeightsError(f"{archive}: {str(file.path)!r} is no text of a model; expected less")
    except FileExistsError as error:
        raise WeightsError(f"{archive}: holds {str(file.path)!r} twice; expected it once") from error


def _check(archive: Path, staging: Path, model: Path) -> None:
    """Check all folds of an unpacked model; errors name the archive and the file in it."""
    try:
        problem = next((file.problem for file in verify_model(model) if file.problem), None)
    except WeightsError as error:
        problem = str(error)
    if problem is not None:
        within = problem.replace(f"{staging}{os.sep}", "").replace(f"{staging}: ", "")
        raise WeightsError(f"{archive}: {within}")


def _gather_licences(staging: Path, root: Path) -> None:
    """Move what may tell the licence from the folders above the models to them."""
    for folder in root.parents:
        if folder != staging and staging not in folder.parents:
            return
        for path in licence_files(folder):
            if not (root / path.name).exists():
                path.rename(root / path.name)


def _model_files(model: Path) -> list[Path]:
    names = [PLANS_FILE, DATASET_FILE, *(path.name for path in licence_files(model))]
    for fold in available_folds(model):
        names += [f"fold_{fold}/{name}" for name in (PACKED, PICKLED)]
    return [model / name for name in names if (model / name).is_file()]


@contextmanager
def _staging_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target; it is deleted at the end, and errors of writing are told."""
    staging: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent))
        remember_temporary(staging)
        yield staging
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror or error}); expected a writable folder with space"
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
            forget_temporary(staging)


def _put(root: Path, target: Path) -> None:
    """Give the unpacked folder its final name; others may read it."""
    root.chmod(0o755)
    if target.exists():
        target.rmdir()  # empty
    root.rename(target)
