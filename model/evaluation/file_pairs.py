"""Pairs files: reference, predictions (one per step) and baselines of each follow-up scan.

Two files belong together if they have the same path under their folders, without suffix, or if they lie in
the same case folder under the same socket of the platform, ``CASE/[input|output/][images/]SOCKET/any.mha``,
with ``primary-followup-ct-tumor-lesion-seg`` or its secondary counterpart as SOCKET. A plain file with the
name of a case is that case's primary scan.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from ..case.case import Slot
from ..case.stored_image import IMAGE_SUFFIXES
from ..errors import InputError
from .lesion_map import LesionMap, is_scan, split_scan_name

_SOCKET = re.compile(r"^(primary|secondary)-(followup|baseline)-(ct-tumor-lesion-seg|ct)$")
_LAYOUT_FOLDERS = {"images", "input", "output"}


@dataclass(frozen=True, slots=True)
class ScanKey:
    """Name of a scan: a path without suffix, or in the platform's layout that of the case and a slot."""

    name: str
    slot: Slot | None = None

    @property
    def scan(self) -> str:
        """Name of the scan in tables."""
        return self.name if self.slot is None else f"{self.name}/{self.slot}"


@dataclass(frozen=True, slots=True)
class PairedScan:
    """Files of one follow-up scan.

    ``predictions`` has one entry per step, None if the file is missing. ``baselines`` are the labelmaps of
    the earlier scan or scans, with their slots.
    """

    patient: str
    key: ScanKey
    reference: Path
    predictions: tuple[Path | None, ...]
    baselines: tuple[tuple[Slot | None, Path], ...] = ()


@dataclass(frozen=True, slots=True)
class Pairing:
    """Paired files; ``warnings`` name the files without a partner."""

    scans: tuple[PairedScan, ...]
    warnings: tuple[str, ...]


def pair_evaluation_files(
    reference: Path, predictions: Sequence[Path], baseline: Path | None, lesion_map: LesionMap | None
) -> Pairing:
    """Pair the files under the given paths.

    Args:
        reference: a labelmap or a folder of them.
        predictions: a labelmap or a folder for each step.
        baseline: a labelmap or a folder, or None.
        lesion_map: names patients and baselines, if given.

    Raises:
        InputError: a path does not exist, there is no reference, two files have the same name, or no
            prediction fits.
    """
    found = [_gather(path, "followup") for path in predictions]
    before = _gather(baseline, "baseline") if baseline is not None else {}
    references = _references(reference, found, lesion_map)
    warnings: list[str] = []
    scans = []
    used: list[set[ScanKey]] = [set() for _ in predictions]
    for key, path in sorted(references.items(), key=lambda item: item[0].scan):
        partners = [
            _partner(key, reference, references, given, files)
            for given, files in zip(predictions, found, strict=True)
        ]
        warnings += _missing(path, predictions, partners)
        for given, files, partner in zip(predictions, found, partners, strict=True):
            if partner is not None:
                warnings += _renamed(
                    key, path, partner, files[partner], reference.is_file() and given.is_file()
                )
        for partner, keys in zip(partners, used, strict=True):
            keys.update({partner} if partner else ())
        of_steps = tuple(files[k] if k else None for k, files in zip(partners, found, strict=True))
        earlier, is_only = _baselines(key, references, baseline, before, lesion_map)
        if baseline is not None and is_only:
            is_explicit = reference.is_file() and baseline.is_file()
            for other in before:
                warnings += _renamed(key, path, other, before[other], is_explicit)
        if baseline is not None and not earlier:
            warnings.append(f"{baseline}: no baseline for {path}; its vanished lesions are not counted")
        scans.append(PairedScan(_patient(key, lesion_map), key, path, of_steps, earlier))
    for given, files, keys in zip(predictions, found, used, strict=True):
        if files and not keys:
            raise _no_partner(given, files, reference, references)
        warnings += [f"{p}: has no reference; it is left out" for k, p in files.items() if k not in keys]
    return Pairing(tuple(scans), tuple(warnings))


def reference_scans(
    reference: Path, folder: Path, labelmaps: Iterable[Path], lesion_map: LesionMap | None
) -> dict[Path, str]:
    """Find the references of labelmaps in the platform's layout before these exist.

    Args:
        reference: a labelmap or a folder of them.
        folder: will hold the labelmaps.
        labelmaps: paths below the folder, ``CASE/images/SOCKET/any.mha``.
        lesion_map: names patients and baselines, if given.

    Returns:
        Labelmap -> name of its reference scan; without those that have none.

    Raises:
        InputError: there is no reference, or none of a labelmap.
    """
    keys = ((_key(folder / path, path, path.parent.name, "followup"), path) for path in labelmaps)
    files = {key: path for key, path in keys if key is not None}
    references = _references(reference, [files], lesion_map)
    partners = {key: _partner(key, reference, references, folder, files) for key in references}
    if not any(partners.values()):
        raise _no_partner(folder, files, reference, references)
    return {files[partner]: key.scan for key, partner in partners.items() if partner is not None}


def _references(
    given: Path, found: Sequence[Mapping[ScanKey, Path]], lesion_map: LesionMap | None
) -> Mapping[ScanKey, Path]:
    """The labelmaps of follow-ups among the references."""
    references = _gather(given, "followup")
    if lesion_map is not None or len(references) > 1:
        references = {k: p for k, p in references.items() if _is_followup(k, found, lesion_map)}
    if not references:
        raise InputError(f"{given}: holds no labelmap of a follow-up; expected {_expected()}")
    return references


def _no_partner(
    given: Path, files: Iterable[ScanKey], reference: Path, references: Iterable[ScanKey]
) -> InputError:
    return InputError(
        f"{given}: none of its labelmaps ({next(iter(files)).scan}, ...) has the name of one in "
        f"{reference} ({next(iter(references)).scan}, ...); expected the same paths, or cases of the platform"
    )


def _missing(path: Path, predictions: Sequence[Path], partners: Sequence[ScanKey | None]) -> Iterator[str]:
    """Warn of each step at which a reference has no prediction."""
    for step, (given, partner) in enumerate(zip(predictions, partners, strict=True), start=1):
        if partner is None:
            where = f" of step {step}" if len(predictions) > 1 else ""
            yield (
                f"{given}: MISSING prediction{where} for {path}; its lesions get the worst score; "
                "FPvol, volume change, Dice@25 and MED are left out"
            )


def _renamed(key: ScanKey, path: Path, other: ScanKey, partner: Path, is_explicit: bool) -> Iterator[str]:
    """Warn if two files are paired despite different names, unless the user named both files."""
    if other.name != key.name and not is_explicit:
        yield f"{partner}: paired with {path} although the names differ"


def _expected() -> str:
    return "an image (" + ", ".join(IMAGE_SUFFIXES) + "), or a folder with images or cases of the platform"


def _gather(given: Path, time_point: str) -> Mapping[ScanKey, Path]:
    """Find the labelmaps under a path; of the platform's sockets only those of one time point."""
    if given.is_file():
        return {_key(given, Path(given.name), given.parent.name, time_point) or ScanKey(_stem(given)): given}
    if not given.is_dir():
        raise InputError(f"{given}: does not exist; expected {_expected()}")
    found: dict[ScanKey, Path] = {}
    for path in _images(given):
        relative = path.relative_to(given)
        folder = path.parent.name if len(relative.parts) > 1 else given.name
        key = _key(path, relative, folder, time_point)
        if key is None:
            continue
        if key in found:
            raise InputError(f"{path}: has the same name as {found[key]}; expected one file for {key.scan}")
        found[key] = path
    return found


def _images(folder: Path) -> Iterator[Path]:
    above = {str(folder): frozenset({folder.resolve()})}  # links must not lead back to these
    for root, folders, names in os.walk(folder, followlinks=True):
        own = above.pop(root)
        below = {n: Path(root, n).resolve() for n in sorted(folders) if not n.startswith(".")}
        folders[:] = [name for name, real in below.items() if real not in own]
        above |= {os.path.join(root, name): own | {below[name]} for name in folders}
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                yield Path(root) / name


def _stem(path: Path) -> str:
    name = path.name
    suffix = next((s for s in IMAGE_SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)] if suffix else path.stem


def _key(path: Path, relative: Path, folder: str, time_point: str) -> ScanKey | None:
    """Name a file; None for a socket with other content."""
    match = _SOCKET.match(folder)
    if match is None:
        return ScanKey((relative.parent / _stem(path)).as_posix())
    if match[2] != time_point or match[3] == "ct":
        return None
    case = list(path.absolute().parent.parent.parts)
    while case and case[-1] in _LAYOUT_FOLDERS:
        case.pop()
    root = path.absolute().parents[len(relative.parts) - 1]
    inside = Path(*case)
    is_below = inside != root and root in inside.parents
    return ScanKey(inside.relative_to(root).as_posix() if is_below else inside.name, Slot(match[1]))


def _is_followup(key: ScanKey, found: Sequence[Mapping[ScanKey, Path]], lesion_map: LesionMap | None) -> bool:
    """Check if a reference is a follow-up: folders of training data hold the baselines of patients, too."""
    stem = Path(key.name).name
    named = split_scan_name(stem)
    primary = ScanKey(key.name, Slot.PRIMARY)
    if any(key in files or (key.slot is None and primary in files) for files in found):
        return True  # it has a prediction
    if named is not None and named[1] == "BL":
        return False
    if lesion_map is None:
        return True
    lesions = [lesion for entry in lesion_map.patients for lesion in entry.lesions]
    before = {lesion.baseline_scan for lesion in lesions if lesion.baseline_scan is not None}
    is_before = stem in before and not stem.isdecimal()  # a number counts images and is not a file name
    return not is_before or any(stem == lesion.followup_scan for lesion in lesions)


def _partner(
    key: ScanKey,
    reference: Path,
    references: Mapping[ScanKey, Path],
    prediction: Path,
    files: Mapping[ScanKey, Path],
) -> ScanKey | None:
    """Find the prediction of a reference scan."""
    primary = ScanKey(key.name, Slot.PRIMARY) if key.slot is None else ScanKey(key.name)
    if key in files:
        return key
    if key.slot in (None, Slot.PRIMARY) and primary in files:
        return primary
    if len(references) == 1 and len(files) == 1 and (reference.is_file() or prediction.is_file()):
        return next(iter(files))  # a single file was given: there is no choice
    of_cases = {k: path for k, path in files.items() if k.slot is not None} or files
    if _is_one_name(references) and _is_one_name(of_cases) and _has_slots({**references, **of_cases}):
        slot = key.slot or Slot.PRIMARY
        return next((other for other in of_cases if (other.slot or Slot.PRIMARY) == slot), None)
    if prediction.is_file() and len(references) > 1:
        raise InputError(
            f"{prediction}: is one file for {len(references)} references of {reference}; expected a folder"
        )
    return None


def _is_one_name(files: Mapping[ScanKey, Path]) -> bool:
    """Check if there is only one case or file, so that names do not matter."""
    return len({key.name for key in files}) == 1


def _has_slots(files: Mapping[ScanKey, Path]) -> bool:
    return any(key.slot is not None for key in files)


def _baselines(
    key: ScanKey,
    references: Mapping[ScanKey, Path],
    given: Path | None,
    files: Mapping[ScanKey, Path],
    lesion_map: LesionMap | None,
) -> tuple[tuple[tuple[Slot | None, Path], ...], bool]:
    """Find the baselines of a scan: by the map or the file names, else by case or path, else the only one.

    The flag is True in the last of these cases. A follow-up is never its own baseline.
    """
    if given is None:
        return (), False
    itself = references[key].resolve()
    lesions = lesion_map.lesions_of(key.name, key.slot) if lesion_map is not None else None
    scans = {lesion.baseline_scan for lesion in lesions or ()} - {None}
    is_single = _is_one_name(references) and _is_one_name(files)
    is_single &= given.is_file() or _has_slots(files)
    files = {k: path for k, path in files.items() if path.resolve() != itself}
    named = [(k.slot, path) for k, path in files.items() if _is_before(k, key, scans)]
    same = [(k.slot, path) for k, path in files.items() if k.name == key.name]
    if named or same:
        return tuple(named or same), False
    return (tuple((k.slot, path) for k, path in files.items()), True) if is_single else ((), False)


def _is_before(other: ScanKey, key: ScanKey, scans: Set[str | None]) -> bool:
    """Check if a file is the earlier scan, by the map's names or by those of the challenge."""
    stem = Path(other.name).name
    if stem in scans:
        return True
    mine, before = split_scan_name(Path(key.name).name), split_scan_name(stem)
    if mine is None or before is None or before[1] != "BL" or before[0] != mine[0]:
        return False
    return any(is_scan(stem, scan) for scan in scans) if scans else before[2] == mine[2]


def _patient(key: ScanKey, lesion_map: LesionMap | None) -> str:
    """Name the patient of a scan.

    By the lesion map, else the case, else the challenge's file name, else the first part of the path (a
    folder, or the file without suffix).
    """
    mapped = lesion_map.patient_of(key.name) if lesion_map is not None else None
    if mapped is not None:
        return mapped
    if key.slot is not None:
        return key.name
    named = split_scan_name(Path(key.name).name)
    return named[0] if named is not None else Path(key.name).parts[0]
