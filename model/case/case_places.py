"""Where a case's files are found and its labelmaps go: in the platform's folders, or as a user names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import InputError, OutputError
from . import challenge
from .atomic_files import remove_partial_files
from .case import CaseFiles, ScanFiles, Slot
from .images import find_image
from .input_files import path_exists
from .pair_input import PairInput

_FOLLOWUP, _BASELINE = "followup_lesions", "baseline_lesions"
_RUN_FILE = "run.json"
# Suffixes that images are written with, by how those of the user end; all others are written as .mha.
_KINDS = {".nii": ".nii.gz", ".nii.gz": ".nii.gz", ".nrrd": ".nrrd", ".nhdr": ".nrrd"}
_WRITTEN = (".mha", ".nii.gz", ".nrrd")


class CasePlaces(Protocol):
    """The files of one case."""

    @property
    def output_dir(self) -> Path:
        """Folder that this run alone may write to."""
        ...

    @property
    def patient(self) -> str:
        """Name of the patient in tables."""
        ...

    @property
    def baseline_name(self) -> str | None:
        """Name of the labelmap of a segmented baseline in the folder of the extras; None: by its scan."""
        ...

    def find(self) -> CaseFiles:
        """Find the files of the case without decoding them; masks may be missing.

        Raises:
            InputError: a file is missing.
        """
        ...

    def require_masks(self, files: CaseFiles) -> None:
        """Check that every baseline scan has a lesion mask; InputError if not."""
        ...

    def labelmap(self, slot: Slot) -> Path:
        """Path of a follow-up scan's labelmap."""
        ...

    def remove_stale(self) -> None:
        """Delete the outputs of an earlier run; OutputError if they cannot be deleted."""
        ...

    def remove_partial(self) -> None:
        """Delete incomplete files of a run that was ended; OutputError if they cannot be deleted."""
        ...


@dataclass(frozen=True, slots=True)
class PlatformPlaces:
    """The folders of the challenge's interface; see `challenge`."""

    input_dir: Path
    output_dir: Path
    baseline_name: str | None = None

    @property
    def patient(self) -> str:
        """See `CasePlaces`; the name of the folder."""
        return self.input_dir.resolve().name

    def find(self) -> CaseFiles:
        """See `CasePlaces`."""
        return challenge.discover(self.input_dir, needs_masks=False)

    def require_masks(self, files: CaseFiles) -> None:
        """See `CasePlaces`."""
        challenge.require_masks(files, self.input_dir)

    def labelmap(self, slot: Slot) -> Path:
        """See `CasePlaces`."""
        return challenge.output_path(self.output_dir, slot)

    def remove_stale(self) -> None:
        """See `CasePlaces`."""
        challenge.remove_stale_outputs(self.output_dir)

    def remove_partial(self) -> None:
        """See `CasePlaces`."""
        challenge.remove_partial_outputs(self.output_dir)


@dataclass(frozen=True, slots=True)
class PairPlaces:
    """Two CTs as a user names them, and one folder for all results, in the format of their scan."""

    pair: PairInput
    output_dir: Path

    @property
    def patient(self) -> str:
        """See `CasePlaces`; the name of the folder of the results."""
        return self.output_dir.resolve().name

    @property
    def baseline_name(self) -> str | None:
        """See `CasePlaces`."""
        return f"{_BASELINE}{_written_suffix(self.pair.baseline)}"

    def find(self) -> CaseFiles:
        """See `CasePlaces`; also if no lesion is named, or an output would replace an input."""
        pair = self.pair
        if pair.baseline_mask is None and pair.baseline_clicks is None and pair.followup_clicks is None:
            raise InputError(
                f"{pair.baseline}: comes without lesions; expected --baseline-mask or --baseline-clicks"
            )
        baseline = ScanFiles(Slot.PRIMARY, _image(pair.baseline), pair.baseline_mask, pair.baseline_clicks)
        followup = ScanFiles(Slot.PRIMARY, _image(pair.followup), None, pair.followup_clicks)
        return CaseFiles((baseline,), (followup,))

    def require_masks(self, files: CaseFiles) -> None:
        """See `CasePlaces`."""
        if self.pair.baseline_mask is None:
            raise InputError(f"{self.pair.baseline}: comes without a mask; expected --baseline-mask FILE")

    def labelmap(self, slot: Slot) -> Path:
        """See `CasePlaces`; there is one follow-up."""
        return self.output_dir / f"{_FOLLOWUP}{_written_suffix(self.pair.followup)}"

    def remove_stale(self) -> None:
        """See `CasePlaces`; InputError if an output has the place of an input."""
        stale = [f"{stem}{suffix}" for stem in (_FOLLOWUP, _BASELINE) for suffix in _WRITTEN]
        for path in (self.output_dir / name for name in (*stale, _RUN_FILE)):
            if any(_is_same(path, given) for given in self.pair.files):
                raise InputError(f"{path}: is an input, too; expected another folder for the outputs")
        try:
            for name in stale:
                (self.output_dir / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.output_dir}: cannot be used ({error.strerror}); expected a writable folder"
            ) from error
        self.remove_partial()

    def remove_partial(self) -> None:
        """See `CasePlaces`."""
        remove_partial_files(self.output_dir)


def _image(path: Path) -> Path:
    """The image that a path names: the file itself, or the only image of a folder."""
    return find_image(path) if path.is_dir() else path


def _written_suffix(path: Path) -> str:
    """The suffix of labelmaps of a scan, by the format of its file."""
    name = path.name.lower()
    return next((written for suffix, written in _KINDS.items() if name.endswith(suffix)), ".mha")


def _is_same(path: Path, other: Path) -> bool:
    return path_exists(path) and path_exists(other) and path.samefile(other)
