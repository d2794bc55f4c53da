"""Files of a case -> records: its lesions are found in all of its scans, then measured step by step."""

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
    """``is_binary``: its masks say 1 or 255, which were taken for one and the same lesion."""

    records: tuple[LesionRecord, ...]
    warnings: tuple[str, ...]
    is_binary: bool


def measure_case(
    case: Sequence[PairedScan], lesion_map: LesionMap | None, is_first: bool = True
) -> MeasuredCase:
    """The records of a case's one or two follow-up scans at all steps.

    Labelmaps are read one pair at a time: steps and second scans cost time, not memory. Without ``is_first``
    the patient has an earlier case, in which vanished lesions are counted that the map gives to no scan.

    Raises:
        InputError: see `evaluate`.
    """
    labels = _labels_of(case)
    warnings = list(labels.warnings)
    records: list[LesionRecord] = []
    for index, files in enumerate(case):
        mapped = lesion_map.lesions_of(files.key.name, files.key.slot) if lesion_map is not None else None
        late: frozenset[int] = frozenset()
        if lesion_map is not None and mapped is None:
            warnings.append(
                f"{lesion_map.path}: does not list {files.key.scan}; its ids pair with themselves"
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
    """The labels of a case's files: of the baseline by slot with their ml, and by scan of the follow-up."""

    read: ReadLabelmap
    baselines: Mapping[Slot | None, Mapping[int, float]]
    reference_ids: Sequence[frozenset[int]]
    predicted_ids: Sequence[frozenset[int]]
    warnings: Sequence[str]
    is_binary: bool

    @property
    def before(self) -> set[int] | None:
        """Lesions of the baseline; None where it was not given."""
        return {i for ml in self.baselines.values() for i in ml} if self.baselines else None

    def of_others(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """Labels of references and of predictions of the case's other scan."""
        reference, predicted = (
            frozenset(i for other, ids in enumerate(sets) if other != index for i in ids)
            for sets in (self.reference_ids, self.predicted_ids)
        )
        return reference, predicted


def _labels_of(case: Sequence[PairedScan]) -> _CaseLabels:
    """What labels there are; of binary masks with different values all are 1."""
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
    """The lesions of a scan. ``late``: lesions of the baseline that have vanished in an earlier case."""
    here = (labels.reference_ids[index], labels.predicted_ids[index])
    groups = []
    for group in lesion_groups(mapped, *here, labels.before):
        if (
            group.baseline_ids
            and late.issuperset(group.baseline_ids)
            and not here[0] & {*group.reference_ids}
        ):
            group = replace(group, existed=False)
        is_home = _is_home(group, index, case, labels.baselines)
        kept = _of_scan(group, here, labels.of_others(index), is_home)
        groups += [kept] if kept is not None else []
    return groups


def _is_binary(files: Iterable[frozenset[int]]) -> bool:
    """Whether all that holds anything is a mask of 1 or of 255, and both values occur."""
    drawn = [ids for ids in files if ids]
    return all(len(ids) == 1 for ids in drawn) and {i for ids in drawn for i in ids} == _BINARY_VALUES


def _odd_binary(
    case: Sequence[PairedScan],
    reference_ids: Sequence[frozenset[int]],
    of_steps: Sequence[Sequence[frozenset[int]]],
) -> list[str]:
    """What is said of a reference that looks binary beside predictions that hold ids."""
    warnings = []
    for files, ids, found in zip(case, reference_ids, of_steps, strict=True):
        others = sorted({i for of_step in found for i in of_step} - _BINARY_VALUES)
        if ids == {255} and others:
            warnings.append(
                f"{files.reference}: holds 255 alone, but its predictions the labels "
                f"{_few(map(str, others))}; expected binary masks, or the same lesion ids, on both sides"
            )
    return warnings


def _hidden(
    files: PairedScan, mapped: tuple[MappedLesion, ...] | None, before: AbstractSet[int]
) -> list[str]:
    """Lesions of the baseline that the map lacks, and whose ids it gives to lesions of the follow-up."""
    listed = {i for m in mapped or () for i in m.baseline_ids}
    hidden = sorted((before - listed) & {i for m in mapped or () for i in m.followup_ids})
    if not hidden:
        return []
    return [
        f"{files.key.scan}: lesions of the baseline are not in the lesion map, which has their ids for "
        f"lesions of the follow-up ({_few(map(str, hidden))}); they are not counted"
    ]


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
    return labels


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
    of_others: frozenset[int],
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
    there = reference_ids | of_others
    absent = [m for m in listed if not m.may_be_absent and not set(m.followup_ids) & there]
    for lesions, fate in (
        ([m for m in absent if m.baseline_ids], "they count as vanished"),
        ([m for m in absent if not m.baseline_ids], "they are new there, and do not count"),
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
