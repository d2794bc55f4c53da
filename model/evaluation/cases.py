"""Files of a case -> records: its lesions are found in all of its scans, then measured step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ..case.case import Slot
from ..errors import InputError
from .groups import LesionGroup, lesion_groups
from .lesion_map import LesionMap, MappedLesion
from .measure import Labelmap, ScanName, empty_like, measure, read_labelmap, same_binary_value
from .pairing import PairedScan
from .records import LesionRecord

ReadLabelmap = Callable[[Path], Labelmap]


def measure_case(
    case: Sequence[PairedScan], lesion_map: LesionMap | None
) -> tuple[list[LesionRecord], list[str]]:
    """The records of a case's one or two follow-up scans at all steps, and warnings.

    Labelmaps are read one pair at a time: steps and second scans cost time, not memory.

    Raises:
        InputError: see `evaluate`.
    """
    read = lru_cache(maxsize=2)(read_labelmap)
    baselines = _baselines(case)
    before = {i for labels in baselines.values() for i in labels} if baselines else None
    reference_ids = [read(files.reference).ids for files in case]
    predicted_ids = [
        frozenset(
            i for path in files.predictions if path for i in _predicted(read, files.reference, path).ids
        )
        for files in case
    ]
    records, warnings = [], []
    for index, files in enumerate(case):
        mapped = lesion_map.lesions_of(files.key.name) if lesion_map is not None else None
        if lesion_map is not None and mapped is None:
            warnings.append(
                f"{lesion_map.path}: does not list {files.key.scan}; its ids pair with themselves"
            )
        found = lesion_groups(mapped, reference_ids[index], predicted_ids[index], before)
        of_others = [
            frozenset(i for other, i_set in enumerate(sets) if other != index for i in i_set)
            for sets in (reference_ids, predicted_ids)
        ]
        here = (reference_ids[index], predicted_ids[index])
        groups = [
            kept
            for group in found
            if (kept := _of_scan(group, here, of_others, _is_home(group, index, case, baselines))) is not None
        ]
        warnings += _odd_labels(files, groups, reference_ids[index], mapped)
        volumes = {
            group.name: sum(labels.get(i, 0.0) for labels in baselines.values() for i in group.baseline_ids)
            for group in groups
            if baselines
        }
        for step, path in enumerate(files.predictions, start=1):
            reference = read(files.reference)
            prediction = _predicted(read, files.reference, path) if path else empty_like(reference)
            name = ScanName(files.patient, files.key.scan, step, path is None)
            records += measure(name, groups, reference, prediction, volumes)
    return records, warnings


def _baselines(case: Sequence[PairedScan]) -> Mapping[Slot | None, Mapping[int, float]]:
    """Slot -> lesion id -> volume in ml; a lesion of several files of a slot has its volumes added."""
    volumes: dict[Slot | None, dict[int, float]] = {}
    for slot, path in dict.fromkeys(entry for files in case for entry in files.baselines):
        labels = read_labelmap(path)
        of_slot = volumes.setdefault(slot, {})
        for lesion_id in labels.ids:
            of_slot[lesion_id] = of_slot.get(lesion_id, 0.0) + labels.ml_of((lesion_id,))
    return volumes


def _predicted(read: ReadLabelmap, reference: Path, path: Path) -> Labelmap:
    """A prediction, on the grid of its reference.

    Raises:
        InputError: it is on another one.
    """
    wanted, labels = read(reference), read(path)
    if not labels.geometry.same_grid(wanted.geometry):
        raise InputError(
            f"{path}: lies on another grid than its reference {reference}: {labels.geometry.describe()}; "
            f"expected {wanted.geometry.describe()}"
        )
    return same_binary_value(wanted, labels)


def _of_scan(
    group: LesionGroup, here: Sequence[frozenset[int]], others: Sequence[frozenset[int]], is_home: bool
) -> LesionGroup | None:
    """The group as a lesion of this scan; None where it is none, but one of the case's other scan.

    ``here`` and ``others`` hold the labels of references and of predictions.
    """
    is_there = bool(set(group.reference_ids) & others[0])
    if set(group.reference_ids) & here[0]:
        return group
    if set(group.prediction_ids) & here[1]:
        # What lies in the other scan has not vanished: here it is a false mask and nothing else.
        return replace(group, existed=False) if is_there else group
    is_elsewhere = is_there or bool(set(group.prediction_ids) & others[1])
    return group if group.existed and is_home and not is_elsewhere else None


def _is_home(
    group: LesionGroup,
    index: int,
    case: Sequence[PairedScan],
    baselines: Mapping[Slot | None, Mapping[int, float]],
) -> bool:
    """Whether a lesion that no follow-up scan shows is counted in this one: that of its baseline's slot, else
    the first."""
    slots = {slot for slot, labels in baselines.items() if set(group.baseline_ids) & labels.keys()}
    homes = [i for i, files in enumerate(case) if files.key.slot in slots]
    return index == (homes[0] if homes else 0)


def _odd_labels(
    files: PairedScan,
    groups: Iterable[LesionGroup],
    reference_ids: frozenset[int],
    mapped: tuple[MappedLesion, ...] | None,
) -> list[str]:
    """What does not fit together: labels without a lesion, and lesions of the map without a label."""
    warnings = []
    alone = [g.name for g in groups if not g.existed and not set(g.reference_ids) & reference_ids]
    if alone:
        warnings.append(
            f"{files.key.scan}: predicted labels are no lesion of the reference ({_few(alone)}); "
            "they count as false positives"
        )
    listed = mapped or ()
    absent = [
        str(i) for m in listed if not m.may_be_absent and not set(m.followup_ids) & reference_ids
        for i in m.followup_ids
    ]  # fmt: skip
    if absent:
        warnings.append(
            f"{files.reference}: lacks labels that the lesion map lists ({_few(absent)}); "
            "they count as vanished"
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
