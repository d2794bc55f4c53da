"""Measures the files of a case: groups the labels of all its scans into lesions, then measures each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ..case.case import Slot
from ..errors import InputError
from .file_pairs import PairedScan
from .lesion_groups import LesionGroup, lesion_groups
from .lesion_map import LesionMap, MappedLesion
from .measure_scan import Labelmap, ScanName, as_binary, empty_like, measure_scan, read_labelmap
from .records import LesionRecord

ReadLabelmap = Callable[[Path], Labelmap]
_BINARY_VALUES = {1, 255}


@dataclass(frozen=True, slots=True)
class MeasuredCase:
    """Records and warnings of a case; ``is_binary`` if its masks hold 1 and 255, taken for one lesion."""

    records: tuple[LesionRecord, ...]
    warnings: tuple[str, ...]
    is_binary: bool


def measure_case(
    case: Sequence[PairedScan], lesion_map: LesionMap | None, is_first: bool = True
) -> MeasuredCase:
    """Measure the one or two follow-up scans of a case at all steps.

    Labelmaps are read one pair at a time, so that further steps and scans take time but no memory.

    Args:
        case: files of each follow-up scan.
        lesion_map: links between the lesions of baseline and follow-up, or None.
        is_first: the patient has no earlier case; vanished lesions that the map assigns to no scan are
            counted only in the first case.

    Raises:
        InputError: a file cannot be used, or a prediction lies on another grid than its reference.
    """
    labels = _labels_of(case)
    warnings = list(labels.warnings)
    records: list[LesionRecord] = []
    for index, files in enumerate(case):
        mapped = lesion_map.lesions_of(files.key.name, files.key.slot) if lesion_map is not None else None
        late: frozenset[int] = frozenset()
        if lesion_map is not None and mapped is None:
            warnings.append(
                f"{lesion_map.path}: does not list {files.key.scan}, whose ids pair with themselves"
            )
        if lesion_map is not None and not is_first and files.key.slot is None:
            late = lesion_map.ids_of_no_scan(files.key.name)
        groups = _groups(case, index, labels, mapped, late)
        of_others = labels.of_others(index)[0]
        warnings += _odd_labels(files, groups, labels.reference_ids[index], of_others, mapped)
        warnings += _hidden(files, mapped, labels.before or set())
        volumes = {
            group: sum(ml.get(i, 0.0) for ml in labels.baselines.values() for i in group.baseline_ids)
            for group in groups
            if labels.baselines
        }
        for step, path in enumerate(files.predictions, start=1):
            reference = labels.read(files.reference)
            prediction = _predicted(labels.read, files.reference, path) if path else empty_like(reference)
            name = ScanName(files.patient, files.key.scan, step, path is None)
            records += measure_scan(name, groups, reference, prediction, volumes)
    return MeasuredCase(tuple(records), tuple(warnings), labels.is_binary)


@dataclass(frozen=True, slots=True)
class _CaseLabels:
    """Labels of a case's files: volumes in ml of the baselines by slot, and ids of each follow-up scan."""

    read: ReadLabelmap
    baselines: Mapping[Slot | None, Mapping[int, float]]
    reference_ids: Sequence[frozenset[int]]
    predicted_ids: Sequence[frozenset[int]]
    warnings: Sequence[str]
    is_binary: bool

    @property
    def before(self) -> set[int] | None:
        """Lesion ids of the baselines; None if none was given."""
        return {i for ml in self.baselines.values() for i in ml} if self.baselines else None

    def of_others(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """Labels of the references and of the predictions of the case's other scan."""
        reference, predicted = (
            frozenset(i for other, ids in enumerate(sets) if other != index for i in ids)
            for sets in (self.reference_ids, self.predicted_ids)
        )
        return reference, predicted


def _labels_of(case: Sequence[PairedScan]) -> _CaseLabels:
    """List the labels of all files; binary masks with different values are all read as 1."""
    read: ReadLabelmap = lru_cache(maxsize=2)(read_labelmap)
    baselines = _baselines(case)
    reference_ids = [read(files.reference).ids for files in case]
    of_steps = [
        [_predicted(read, files.reference, path).ids for path in files.predictions if path] for files in case
    ]
    warnings = _odd_binary(case, reference_ids, of_steps)
    is_binary = _is_binary(
        [*reference_ids, *(ids for found in of_steps for ids in found), *map(frozenset, baselines.values())]
    )
    if is_binary:
        read = lru_cache(maxsize=2)(lambda path: as_binary(read_labelmap(path)))
        baselines = {slot: {1: sum(ml.values())} if ml else {} for slot, ml in baselines.items()}
        reference_ids = [frozenset({1} if ids else ()) for ids in reference_ids]
        of_steps = [[frozenset({1} if ids else ()) for ids in found] for found in of_steps]
    predicted_ids = [frozenset(i for ids in found for i in ids) for found in of_steps]
    return _CaseLabels(read, baselines, reference_ids, predicted_ids, warnings, is_binary)


def _groups(
    case: Sequence[PairedScan],
    index: int,
    labels: _CaseLabels,
    mapped: tuple[MappedLesion, ...] | None,
    late: frozenset[int],
) -> list[LesionGroup]:
    """Group the lesions of a scan. ``late``: baseline lesions that were counted in an earlier case."""
    own_ids = (labels.reference_ids[index], labels.predicted_ids[index])
    groups = []
    for group in lesion_groups(mapped, *own_ids, labels.before):
        if (
            group.baseline_ids
            and late.issuperset(group.baseline_ids)
            and not own_ids[0] & {*group.reference_ids}
        ):
            group = replace(group, existed=False)
        is_home = _is_home(group, index, case, labels.baselines)
        kept = _of_scan(group, own_ids, labels.of_others(index), is_home)
        groups += [kept] if kept is not None else []
    return groups


def _is_binary(files: Iterable[frozenset[int]]) -> bool:
    """Check if all files that are not empty are masks of 1 or of 255, and both values occur."""
    masks = [ids for ids in files if ids]
    return all(len(ids) == 1 for ids in masks) and {i for ids in masks for i in ids} == _BINARY_VALUES


def _odd_binary(
    case: Sequence[PairedScan],
    reference_ids: Sequence[frozenset[int]],
    of_steps: Sequence[Sequence[frozenset[int]]],
) -> list[str]:
    """Warn of a reference that looks binary while its predictions hold ids."""
    warnings = []
    for files, ids, found in zip(case, reference_ids, of_steps, strict=True):
        others = sorted({i for of_step in found for i in of_step} - _BINARY_VALUES)
        if ids == {255} and others:
            warnings.append(
                f"{files.reference}: holds 255 alone, but its predictions hold the labels "
                f"{_few(map(str, others))}; expected binary masks, or the same lesion ids, on both sides"
            )
    return warnings


def _hidden(
    files: PairedScan, mapped: tuple[MappedLesion, ...] | None, before: AbstractSet[int]
) -> list[str]:
    """Warn of baseline lesions that the map lacks, but whose ids it gives to lesions of the follow-up."""
    listed = {i for m in mapped or () for i in m.baseline_ids}
    hidden = sorted((before - listed) & {i for m in mapped or () for i in m.followup_ids})
    if not hidden:
        return []
    return [
        f"{files.key.scan}: the lesion map lacks lesions of the baseline, but uses their ids for "
        f"lesions of the follow-up ({_few(map(str, hidden))}); they are not counted"
    ]


def _baselines(case: Sequence[PairedScan]) -> Mapping[Slot | None, Mapping[int, float]]:
    """Measure the baselines: volume in ml by slot and lesion id, summed over several files of a slot."""
    volumes: dict[Slot | None, dict[int, float]] = {}
    for slot, path in dict.fromkeys(entry for files in case for entry in files.baselines):
        labels = read_labelmap(path)
        of_slot = volumes.setdefault(slot, {})
        for lesion_id in labels.ids:
            of_slot[lesion_id] = of_slot.get(lesion_id, 0.0) + labels.ml_of((lesion_id,))
    return volumes


def _predicted(read: ReadLabelmap, reference: Path, path: Path) -> Labelmap:
    """Read a prediction; raises InputError if it lies on another grid than its reference."""
    expected, labels = read(reference), read(path)
    if not labels.geometry.same_grid(expected.geometry):
        raise InputError(
            f"{path}: lies on another grid than its reference {reference}: {labels.geometry.describe()}; "
            f"expected {expected.geometry.describe()}"
        )
    return labels


def _of_scan(
    group: LesionGroup, own_ids: Sequence[frozenset[int]], others: Sequence[frozenset[int]], is_home: bool
) -> LesionGroup | None:
    """Return the group if it is a lesion of this scan; None if it belongs to the case's other scan.

    ``own_ids`` and ``others`` hold the labels of the reference and of the predictions of either scan.
    """
    in_other_reference = bool(set(group.reference_ids) & others[0])
    if set(group.reference_ids) & own_ids[0]:
        return group
    if set(group.prediction_ids) & own_ids[1]:
        # A lesion of the other scan has not vanished: in this scan it is merely a false mask.
        return replace(group, existed=False) if in_other_reference else group
    is_elsewhere = in_other_reference or bool(set(group.prediction_ids) & others[1])
    return group if group.existed and is_home and not is_elsewhere else None


def _is_home(
    group: LesionGroup,
    index: int,
    case: Sequence[PairedScan],
    baselines: Mapping[Slot | None, Mapping[int, float]],
) -> bool:
    """Check if a vanished lesion is counted in this scan: that of its baseline's slot, else the first."""
    slots = {slot for slot, labels in baselines.items() if set(group.baseline_ids) & labels.keys()}
    homes = [i for i, files in enumerate(case) if files.key.slot in slots]
    return index == (homes[0] if homes else 0)


def _odd_labels(
    files: PairedScan,
    groups: Iterable[LesionGroup],
    reference_ids: frozenset[int],
    of_others: frozenset[int],
    mapped: tuple[MappedLesion, ...] | None,
) -> list[str]:
    """Warn of labels without a lesion and of lesions of the map without a label."""
    warnings = []
    alone = [g.name for g in groups if not g.existed and not set(g.reference_ids) & reference_ids]
    if alone:
        warnings.append(
            f"{files.key.scan}: predicted labels without a lesion in the reference ({_few(alone)}); "
            "they count as false positives"
        )
    listed = mapped or ()
    present = reference_ids | of_others
    absent = [m for m in listed if not m.may_be_absent and not set(m.followup_ids) & present]
    for lesions, fate in (
        ([m for m in absent if m.baseline_ids], "they count as vanished"),
        ([m for m in absent if not m.baseline_ids], "they are new in the map and are not counted"),
    ):
        lacking = sorted({i for m in lesions for i in m.followup_ids})
        if lacking:
            warnings.append(
                f"{files.reference}: lacks labels that the lesion map lists "
                f"({_few(map(str, lacking))}); {fate}"
            )
    unlisted = sorted(reference_ids - {i for m in listed for i in m.followup_ids})
    if mapped is not None and unlisted:
        warnings.append(
            f"{files.reference}: has labels that the lesion map does not list ({_few(map(str, unlisted))}); "
            "they pair with themselves"
        )
    return warnings


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
