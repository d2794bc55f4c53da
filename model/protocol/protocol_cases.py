"""Cases of the protocol on disk: CT, PET and reference of each, and clicks if they are given.

Two layouts: nnU-Net's, ``imagesTr/CASE_0000`` (CT), ``imagesTr/CASE_0001`` (PET), ``labelsTr/CASE`` (also
``Ts`` in place of ``Tr``, or neither), as the challenge publishes its data; and one folder for each case in
the platform's layout, ``CASE/images/ct``, ``CASE/images/pet``, ``CASE/images/tumor-lesion-segmentation``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..case.images import find_image
from ..case.input_files import path_exists
from ..case.pet_ct_scan import PetCtFiles
from ..case.stored_image import READ_SUFFIXES
from ..case.task_choice import CT_FOLDER, MASK_FOLDER, PET_FOLDER
from ..case.two_channels import CT_ENDING, PET_ENDING, case_of_channel, find_named_image
from ..errors import InputError, one_line

_SPLITS = ("Ts", "Tr", "")
_EXPECTED = (
    "imagesTr/CASE_0000 (CT), imagesTr/CASE_0001 (PET) and labelsTr/CASE (also Ts, or neither), or folders "
    f"CASE/{CT_FOLDER}, CASE/{PET_FOLDER} and CASE/{MASK_FOLDER}"
)


@dataclass(frozen=True, slots=True)
class ProtocolCase:
    """Files of one case; ``labels`` is the reference, whose voxels above 0 are tumour."""

    name: str
    files: PetCtFiles
    labels: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that the case is read from."""
        clicks = self.files.clicks
        return (self.files.ct, self.files.pet, self.labels, *(() if clicks is None else (clicks,)))


@dataclass(frozen=True, slots=True)
class FoundCases:
    """The cases of a folder, sorted by name; ``faults`` holds why the others cannot be used, by name."""

    cases: tuple[ProtocolCase, ...]
    faults: Mapping[str, InputError]


def find_protocol_cases(folder: Path, clicks: Path | None = None) -> FoundCases:
    """Find the cases of a folder; no image is opened.

    Args:
        folder: in one of both layouts.
        clicks: folder with ``CASE.json`` or ``CASE_clicks.json``; None if clicks are simulated.

    Raises:
        InputError: the folder holds no case, or several sets in nnU-Net's layout.
    """
    sets = [
        (folder / f"images{split}", folder / f"labels{split}")
        for split in _SPLITS
        if (folder / f"images{split}").is_dir() and (folder / f"labels{split}").is_dir()
    ]
    if len(sets) > 1:
        names = " and ".join(images.name for images, _ in sets)
        raise InputError(f"{folder}: holds {names}; expected one of them with its labels")
    found = list(_channels(*sets[0]) if sets else _platform_folders(folder))
    if not found:
        raise InputError(f"{folder}: holds no case; expected {_EXPECTED}")
    cases, faults = list[ProtocolCase](), dict[str, InputError]()
    for name, case in sorted(found, key=lambda one: one[0]):
        try:
            if isinstance(case, InputError):
                raise case
            cases.append(case if clicks is None else _with_clicks(case, clicks))
        except InputError as error:
            faults[name] = error
    return FoundCases(tuple(cases), faults)


_Found = Iterator[tuple[str, ProtocolCase | InputError]]


def _channels(images: Path, labels: Path) -> _Found:
    """Cases in nnU-Net's layout."""
    names = {case_of_channel(file, CT_ENDING) for file in images.iterdir()}
    for name in sorted(name for name in names if name is not None):
        try:
            ct, pet = (
                _image(images, f"{name}{CT_ENDING}", "the CT"),
                _image(images, f"{name}{PET_ENDING}", "the PET"),
            )
            files = PetCtFiles(ct, pet)
            yield name, ProtocolCase(name, files, _image(labels, name, "the reference"))
        except InputError as error:
            yield name, error


def _image(folder: Path, name: str, what: str) -> Path:
    found = find_named_image(folder, name)
    if found is None:
        raise InputError(f"{folder / name}: is missing; expected {what} ({', '.join(READ_SUFFIXES)})")
    return found


def _platform_folders(folder: Path) -> _Found:
    """Cases in the platform's layout, a folder each."""
    folders = sorted(folder.iterdir()) if folder.is_dir() else []
    for case in folders:
        if not (case / CT_FOLDER).is_dir():
            continue
        try:
            files = PetCtFiles(find_image(case / CT_FOLDER), find_image(case / PET_FOLDER))
            yield case.name, ProtocolCase(case.name, files, find_image(case / MASK_FOLDER))
        except InputError as error:
            yield case.name, error


def _with_clicks(case: ProtocolCase, folder: Path) -> ProtocolCase:
    names = (f"{case.name}.json", f"{case.name}_clicks.json")
    path = next((folder / name for name in names if path_exists(folder / name)), None)
    if path is None:
        raise InputError(f"{folder}: holds no clicks of {case.name}; expected {' or '.join(names)}")
    return replace(case, files=replace(case.files, clicks=path))


def described_faults(faults: Mapping[str, Exception]) -> str:
    """All faults in one line, by the name of the case."""
    return "; ".join(f"{name} ({one_line(fault)})" for name, fault in faults.items())
