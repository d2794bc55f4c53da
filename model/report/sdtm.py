"""Measurements and responses as CDISC SDTM domains: TU (lesions), TR (measurements), RS (responses)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..case.atomic_files import write_text
from ..case.text_files import csv_text
from ..errors import OutputError
from .findings import (
    Finding,
    FindingState,
    FollowedLesion,
    LesionRole,
    MeasuredPatient,
    MeasuredTimePoint,
    Measurements,
    ResponseVerdict,
)
from .response_criteria import IRECIST, RECIST
from .sdtm_variables import DOMAINS, DomainTable, domain_faults, sdtm_test
from .target_lesions import target_size

_PREFIXES = {LesionRole.TARGET: "T", LesionRole.NON_TARGET: "NT", LesionRole.NEW: "NEW"}
_TERMS = {ResponseVerdict.NON_CR_NON_PD: "NON-CR/NON-PD", ResponseVerdict.I_NON_CR_NON_PD: "NON-iCR/NON-iUPD"}
_TOO_SMALL = "TOO SMALL TO MEASURE"
_LONGEST_TEXT = 200  # of an SDTM variable

Row = Mapping[str, Any]


def write_sdtm(folder: Path, measurements: Measurements, study: str) -> list[Path]:
    """Write tu.csv, tr.csv and rs.csv, after a check against CDISC's tables; returns their paths.

    Args:
        folder: for the files.
        measurements: of all patients.
        study: identifier of the study.

    Raises:
        OutputError: they cannot be written, or break a rule of the tables.
    """
    paths = []
    for table, rows in sdtm_domains(measurements, study).items():
        path = folder / f"{table.domain.lower()}.csv"
        if faults := domain_faults(table, rows):
            raise OutputError(f"{path}: {faults[0]}; expected rows that follow SDTM")
        write_text(path, csv_text([[*table.variables], *([*row.values()] for row in rows)]))
        paths.append(path)
    return paths


def sdtm_domains(measurements: Measurements, study: str) -> dict[DomainTable, list[dict[str, str]]]:
    """The rows of all domains as text, variables in the order of their table.

    Args:
        measurements: of all patients.
        study: identifier of the study.
    """
    makers = (_identified, _measured, _judged)
    found = {}
    for table, maker in zip(DOMAINS, makers, strict=True):
        rows: list[dict[str, str]] = []
        for patient in measurements.patients:
            for number, row in enumerate(maker(patient), 1):
                head = {"STUDYID": study, "DOMAIN": table.domain, "USUBJID": patient.patient}
                values = {**head, f"{table.domain}SEQ": number, **row}
                values[f"{table.domain}EVAL"] = "ALGORITHM"
                values[f"{table.domain}EVALID"] = f"longilesion {measurements.version}"
                rows.append({name: _text(values.get(name)) for name in table.variables})
        found[table] = rows
    return found


def _text(value: object) -> str:
    if value is None:
        return ""
    return (f"{value:.6g}" if isinstance(value, float) else str(value))[:_LONGEST_TEXT]


def _visit(domain: str, points: Sequence[MeasuredTimePoint], number: int) -> dict[str, Any]:
    """Variables of a time point."""
    point = points[number]
    return {
        "VISITNUM": number + 1,
        "VISIT": point.name,
        f"{domain}DTC": point.date.isoformat() if point.date is not None else None,
        f"{domain}LOBXFL": "Y" if number == 0 else None,
    }


def _link(lesion: FollowedLesion) -> str:
    return f"{_PREFIXES[lesion.role]}{lesion.lesion_id:02d}"


def _listed(patient: MeasuredPatient) -> Iterator[FollowedLesion]:
    """The lesions that have a role in the response."""
    return (lesion for lesion in patient.lesions if lesion.role in _PREFIXES)


def _identified(patient: MeasuredPatient) -> Iterator[Row]:
    """TU: each lesion where it is first seen."""
    for lesion in _listed(patient):
        number = next(n for n, one in enumerate(lesion.findings) if one.measures is not None)
        role = str(lesion.role).upper()
        yield {
            **_visit("TU", patient.time_points, number),
            "TULNKID": _link(lesion),
            **_test("TU", "TUMIDENT"),
            "TUORRES": role,
            "TUSTRESC": role,
            "TULOC": "LYMPH NODE" if lesion.is_node else (lesion.organ or "").upper() or None,
            "TUMETHOD": "CT SCAN",
            "TUREFID": lesion.findings[number].scan,
        }


def _measured(patient: MeasuredPatient) -> Iterator[Row]:
    """TR: the measurements of each lesion at each time point, and the sum of diameters."""
    course = next((one for one in patient.courses if one.criteria == RECIST.name), None)
    for number in range(len(patient.time_points)):
        visit = {
            **_visit("TR", patient.time_points, number),
            "TRLNKGRP": f"A{number + 1}",
            "TRMETHOD": "CT SCAN",
        }
        counted: set[tuple[int, ...]] = set()
        for lesion in _listed(patient):
            first = next(n for n, one in enumerate(lesion.findings) if one.measures is not None)
            if lesion.role is LesionRole.NEW and number < first:
                continue
            keys = {**visit, "TRLNKID": _link(lesion), "TRGRPID": str(lesion.role).upper()}
            for row in _results(lesion, lesion.findings[number], counted):
                yield {**keys, **row}
        if course is not None and course.targets and course.responses[number].sum is not None:
            yield {**visit, "TRGRPID": "TARGET", **_number("SUMDIAM", course.responses[number].sum, "mm")}


def _results(lesion: FollowedLesion, finding: Finding, counted: set[tuple[int, ...]]) -> Iterator[Row]:
    """The measurements of a lesion at one time point.

    Args:
        counted: ids of merged lesions whose diameter is already there; added to.
    """
    is_sized = lesion.role is not LesionRole.NON_TARGET
    if finding.state is FindingState.UNKNOWN:
        code = "LPERP" if lesion.is_node else "LDIAM"
        yield _not_done(code if is_sized else _state_code(lesion), finding.reason or "UNKNOWN")
        return
    if is_sized:
        yield _diameter(lesion, finding, counted)
    if not is_sized or lesion.is_node:
        yield {**_test("TR", _state_code(lesion)), **_same("TR", _state(lesion, finding))}
    if finding.measures is not None:
        yield _number("VOLUME", finding.measures.volume_ml, "mL")


def _diameter(lesion: FollowedLesion, finding: Finding, counted: set[tuple[int, ...]]) -> Row:
    """The diameter by which a lesion counts; a merged one has that of all of them, once."""
    code = "LPERP" if lesion.is_node else "LDIAM"
    if finding.mass is not None:
        if finding.mass.ids in counted:
            return _not_done(code, f"COALESCED, MEASURED WITH LESION {finding.mass.ids[0]}")
        counted.add(finding.mass.ids)
    size = target_size(finding, lesion.is_node, RECIST) or 0.0
    row = _number(code, size, "mm")
    own = finding.measures
    if own is not None and len(own.parts) == 1 and finding.mass is None:
        axial = own.axial.short if lesion.is_node else own.axial.long
        if axial.length_mm < size:  # the default for lesions that are seen
            row = {**row, "TRORRES": _TOO_SMALL, "TRORRESU": None}
    return row


def _state_code(lesion: FollowedLesion) -> str:
    return "LNSTATE" if lesion.is_node else "TUMSTATE"


def _state(lesion: FollowedLesion, finding: Finding) -> str:
    if not lesion.is_node:
        return "ABSENT" if finding.measures is None else "PRESENT"
    short = finding.measures.axial.short.length_mm if finding.measures is not None else 0.0
    return "NON-PATHOLOGICAL" if short < RECIST.node_normal_mm else "PATHOLOGICAL"


def _judged(patient: MeasuredPatient) -> Iterator[Row]:
    """RS: the responses by RECIST 1.1 and iRECIST."""
    for course in patient.courses:
        if course.criteria not in (RECIST.name, IRECIST.name):
            continue
        for number, response in enumerate(course.responses):
            if response.overall is None:
                continue
            verdicts = {"OVRLRESP": response.overall}
            if course.criteria == RECIST.name:
                parts = {"TRGRESP": response.target, "NTRGRESP": response.other}
                parts["NEWLPROG"] = ResponseVerdict.PD if response.new_lesions else None
                verdicts = {code: one for code, one in parts.items() if one is not None} | verdicts
            for code, verdict in verdicts.items():
                yield {
                    **_visit("RS", patient.time_points, number),
                    "RSLNKGRP": f"A{number + 1}",
                    "RSLOBXFL": None,
                    **_test("RS", code),
                    "RSCAT": course.criteria,
                    **_same("RS", _TERMS.get(verdict, str(verdict))),
                }


def _test(domain: str, code: str) -> dict[str, Any]:
    return {f"{domain}TESTCD": code, f"{domain}TEST": sdtm_test(domain, code)}


def _same(domain: str, value: str) -> dict[str, Any]:
    return {f"{domain}ORRES": value, f"{domain}STRESC": value}


def _number(code: str, value: float | None, unit: str) -> dict[str, Any]:
    rounded = None if value is None else round(value, 3)
    numbers = {f"TR{name}": rounded for name in ("ORRES", "STRESC", "STRESN")}
    return {**_test("TR", code), **numbers, "TRORRESU": unit, "TRSTRESU": unit}


def _not_done(code: str, reason: str) -> dict[str, Any]:
    return {**_test("TR", code), "TRSTAT": "NOT DONE", "TRREASND": reason}
