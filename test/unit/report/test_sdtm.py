"""SDTM domains of hand-made patients against the published tables."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from model.errors import OutputError
from model.report.findings import (
    FORMAT,
    FollowedLesion,
    LesionRole,
    MeasuredPatient,
    MeasuredTimePoint,
    Measurements,
    MergedMass,
)
from model.report.lesion_facts import LesionFacts
from model.report.sdtm import sdtm_domains, write_sdtm
from model.report.sdtm_variables import DOMAINS, RS, TR, TU, domain_faults

from .test_response import NODE, Size, _finding, _judged

Rows = list[dict[str, str]]


def _patient(
    trial: Mapping[int, Sequence[Size]], facts: Mapping[int, LesionFacts] | None = None
) -> MeasuredPatient:
    facts = facts or {}
    lesions = []
    for key, sizes in trial.items():
        own = facts.get(key, LesionFacts())
        findings = tuple(_finding(number, size) for number, size in enumerate(sizes))
        lesions.append(FollowedLesion(key, findings, organ=own.organ, is_node=own.is_node))
    courses = _judged(lesions, facts)
    roles = dict.fromkeys(courses[0].targets, LesionRole.TARGET)
    roles |= dict.fromkeys(courses[0].others, LesionRole.NON_TARGET)
    lesions = [replace(one, role=roles.get(one.lesion_id, LesionRole.NEW)) for one in lesions]
    count = len(lesions[0].findings)
    points = tuple(
        MeasuredTimePoint(f"t{number}", datetime.date(2024, 1 + number, 1), 31 * number, ())
        for number in range(count)
    )
    return MeasuredPatient("P-1", points, tuple(lesions), (), courses)


def _domains(patient: MeasuredPatient) -> tuple[Rows, Rows, Rows]:
    domains = sdtm_domains(Measurements(FORMAT, "1.0", (patient,)), "S1")
    for table, rows in domains.items():
        assert domain_faults(table, rows) == []
    return domains[TU], domains[TR], domains[RS]


def _picked(rows: Rows, *names: str, **keys: str) -> list[tuple[str, ...]]:
    chosen = [row for row in rows if all(row[name] == value for name, value in keys.items())]
    return [tuple(row[name] for name in names) for row in chosen]


def test_lesions_are_identified_where_they_are_first_seen() -> None:
    patient = _patient(
        {1: [30, 20, 0], 2: [20, 18, 12], 3: [8, 8, 8], 4: [0, 0, 6]}, {1: LesionFacts("liver"), 2: NODE}
    )
    identified, _, _ = _domains(patient)
    assert _picked(identified, "TUSEQ", "TULNKID", "TUSTRESC", "TULOC", "VISITNUM", "TUDTC") == [
        ("1", "T01", "TARGET", "LIVER", "1", "2024-01-01"),
        ("2", "T02", "TARGET", "LYMPH NODE", "1", "2024-01-01"),
        ("3", "NT03", "NON-TARGET", "", "1", "2024-01-01"),
        ("4", "NEW04", "NEW", "", "3", "2024-03-01"),
    ]


def test_measurements_of_each_kind_of_lesion() -> None:
    patient = _patient({1: [30, 3, 0], 2: [20, 9, None], 3: [8, 8, 0], 4: [0, 0, 6]}, {2: NODE})
    _, results, _ = _domains(patient)
    picked = ("TRTESTCD", "TRORRES", "TRSTRESN", "TRSTRESU", "VISITNUM")
    diameters = [row for row in _picked(results, *picked, TRLNKID="T01") if row[0] == "LDIAM"]
    assert diameters == [
        ("LDIAM", "30", "30", "mm", "1"),
        ("LDIAM", "TOO SMALL TO MEASURE", "5", "mm", "2"),
        ("LDIAM", "0", "0", "mm", "3"),
    ]
    node = _picked(results, "TRTESTCD", "TRSTRESC", "TRSTAT", "TRREASND", TRLNKID="T02")
    assert [row for row in node if row[0] != "VOLUME"] == [
        ("LPERP", "20", "", ""),
        ("LNSTATE", "PATHOLOGICAL", "", ""),
        ("LPERP", "9", "", ""),
        ("LNSTATE", "NON-PATHOLOGICAL", "", ""),
        ("LPERP", "", "NOT DONE", "failed"),
    ]
    states = _picked(results, "TRSTRESC", TRLNKID="NT03", TRTESTCD="TUMSTATE")
    assert states == [("PRESENT",), ("PRESENT",), ("ABSENT",)]
    assert _picked(results, "TRTESTCD", "VISITNUM", TRLNKID="NEW04") == [("LDIAM", "3"), ("VOLUME", "3")]
    # The sum of the last time point lacks the node.
    assert _picked(results, "TRSTRESN", "TRLNKGRP", TRTESTCD="SUMDIAM") == [("50", "A1"), ("14", "A2")]


def test_merged_lesions_have_one_record_of_their_diameter() -> None:
    patient = _patient({1: [30, 30], 2: [20, 20]})
    mass = MergedMass((1, 2), 45.0, 20.0)
    lesions = tuple(
        replace(one, findings=(one.findings[0], replace(one.findings[1], mass=mass)))
        for one in patient.lesions
    )
    _, results, _ = _domains(replace(patient, lesions=lesions, courses=_judged(lesions, {})))
    diameters = _picked(results, "TRLNKID", "TRSTRESC", "TRSTAT", "TRREASND", VISITNUM="2", TRTESTCD="LDIAM")
    assert diameters == [("T01", "45", "", ""), ("T02", "", "NOT DONE", "COALESCED, MEASURED WITH LESION 1")]
    assert _picked(results, "TRSTRESN", VISITNUM="2", TRTESTCD="SUMDIAM") == [("45",)]


def test_responses() -> None:
    patient = _patient({1: [30, 20, 20], 2: [8, 8, 8], 3: [0, 0, 6]})
    _, _, responses = _domains(patient)
    assert _picked(responses, "RSTESTCD", "RSSTRESC", VISITNUM="3", RSCAT="RECIST 1.1") == [
        ("TRGRESP", "PR"),
        ("NTRGRESP", "NON-CR/NON-PD"),
        ("NEWLPROG", "PD"),
        ("OVRLRESP", "PD"),
    ]
    assert _picked(responses, "RSTESTCD", "RSSTRESC", RSCAT="iRECIST") == [
        ("OVRLRESP", "iPR"),
        ("OVRLRESP", "iUPD"),
    ]
    assert {row["RSLNKGRP"] for row in responses} == {"A2", "A3"}


def test_files(tmp_path: Path) -> None:
    paths = write_sdtm(tmp_path, Measurements(FORMAT, "1.0", (_patient({1: [30, 20]}),)), "S1")
    assert [path.name for path in paths] == ["tu.csv", "tr.csv", "rs.csv"]
    for path, table in zip(paths, DOMAINS, strict=True):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == list(table.variables) and rows[0]["STUDYID"] == "S1"
        assert domain_faults(table, rows) == []
    with pytest.raises(OutputError, match="STUDYID is empty"):
        write_sdtm(tmp_path, Measurements(FORMAT, "1.0", (_patient({1: [30, 20]}),)), "")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"TRTESTCD": "LENGTH"}, "TRTESTCD is 'LENGTH', which is no term"),
        ({"TRSTRESN": "long"}, "TRSTRESN is 'long', which is no number"),
        ({"USUBJID": ""}, "USUBJID is empty, but required"),
        ({"TRSEQ": "1"}, "TRSEQ 1 is there twice"),
        ({"DOMAIN": "TU"}, "DOMAIN is 'TU'"),
    ],
)
def test_faults_are_found(change: dict[str, str], fault: str) -> None:
    _, results, _ = _domains(_patient({1: [30, 20]}))
    (found,) = domain_faults(TR, [results[0], {**results[1], **change}])
    assert fault in found
    assert "has the variables" in domain_faults(TR, [{"STUDYID": "S1"}])[0]
