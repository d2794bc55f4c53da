"""Whether the patients of a test set are unseen: by their names, and by the files that scans come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...errors import InputError
from ..heldout.cases import AskedPair
from ..store import SCANS_FOLDER, read_document


@dataclass(frozen=True)
class _Known:
    """All scans of a prepared data set, also those without a pair: they had a part in the plan."""

    folder: Path
    patients: frozenset[str]
    images: frozenset[Path]
    sizes: frozenset[int]

    @cached_property
    def digests(self) -> frozenset[str]:
        return frozenset(_digest(image) for image in self.images if image.is_file())


def check_unseen(test: Sequence[AskedPair], prepared: Iterable[Path]) -> None:
    """Compare a test set with prepared data sets.

    A scan is known by the path of its image, and by its content under any other: where sizes are equal the
    files are read. Of a file that a data set was prepared from, and that is gone, only the path is compared.

    Raises:
        InputError: a test patient, or a test scan, is in one of the data sets.
    """
    for known in map(_known, prepared):
        for pair in test:
            if pair.patient_id in known.patients:
                raise _seen(pair, f"patient {pair.patient_id} is a patient of {known.folder}")
            for image in (pair.baseline.image, pair.followup.image):
                if image.resolve() in known.images:
                    raise _seen(pair, f"{image} is a scan of {known.folder}")
                if (
                    image.is_file()
                    and image.stat().st_size in known.sizes
                    and _digest(image) in known.digests
                ):
                    raise _seen(pair, f"{image} has the content of a scan of {known.folder}")


def _has_content_of(known: _Known, image: Path) -> bool:
    return image.is_file() and image.stat().st_size in known.sizes and _digest(image) in known.digests


def _known(folder: Path) -> _Known:
    found = (read_document(path) for path in sorted((folder / SCANS_FOLDER).glob("*")))
    documents = [document for document in found if document is not None]
    return _Known(
        folder=folder,
        patients=frozenset(document.patient_id for document in documents),
        images=frozenset(Path(document.stamp.files[0].path).resolve() for document in documents),
        sizes=frozenset(document.stamp.files[0].size for document in documents),
    )


def _seen(pair: AskedPair, what: str) -> InputError:
    return InputError(
        f"--test: {pair.name}: {what}; expected patients that no network was trained or chosen on"
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
