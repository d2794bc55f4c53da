"""Variables and terms of the SDTM domains TU, TR and RS, from CDISC's published tables [Cdisc2021].

Of the many variables those are listed that are required or expected, and the permissible ones that
are filled here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Core = Literal["Req", "Exp", "Perm"]


@dataclass(frozen=True, eq=False)
class DomainTable:
    """A domain: variables in the order of their table, and the terms that a variable may hold.

    Attributes:
        variables: name -> Req (never empty), Exp (always a column) or Perm.
        numbers: variables that hold numbers.
        terms: variable -> values it may hold, besides none.
    """

    domain: str
    variables: Mapping[str, Core]
    numbers: frozenset[str]
    terms: Mapping[str, frozenset[str]]


_TESTS = {
    "TU": {"TUMIDENT": "Tumor Identification"},
    "TR": {
        "LDIAM": "Longest Diameter",
        "LPERP": "Longest Perpendicular",
        "VOLUME": "Volume",
        "TUMSTATE": "Tumor State",
        "LNSTATE": "Lymph Node State",
        "SUMDIAM": "Sum of Diameter",
    },
    "RS": {
        "TRGRESP": "Target Response",
        "NTRGRESP": "Non-target Response",
        "NEWLPROG": "New Lesion Progression",
        "OVRLRESP": "Overall Response",
    },
}

_RESPONSES = frozenset(
    {
        *("CR", "PR", "SD", "PD", "NE", "NON-CR/NON-PD"),
        *("iCR", "iPR", "iSD", "iUPD", "iCPD", "NON-iCR/NON-iUPD"),
    }
)

_HEAD: dict[str, Core] = {"STUDYID": "Req", "DOMAIN": "Req", "USUBJID": "Req"}
_VISIT: dict[str, Core] = {"VISITNUM": "Exp", "VISIT": "Perm"}

TU = DomainTable(
    "TU",
    {
        **_HEAD,
        **{"TUSEQ": "Req", "TUREFID": "Perm", "TULNKID": "Exp", "TUTESTCD": "Req", "TUTEST": "Req"},
        **{"TUORRES": "Exp", "TUSTRESC": "Exp", "TULOC": "Exp", "TUMETHOD": "Exp", "TULOBXFL": "Exp"},
        **{"TUEVAL": "Exp", "TUEVALID": "Perm"},
        **_VISIT,
        "TUDTC": "Exp",
    },
    frozenset({"TUSEQ", "VISITNUM"}),
    {
        "TUTESTCD": frozenset(_TESTS["TU"]),
        "TUSTRESC": frozenset({"TARGET", "NON-TARGET", "NEW"}),
        "TUMETHOD": frozenset({"CT SCAN"}),
        "TULOBXFL": frozenset({"Y"}),
    },
)

TR = DomainTable(
    "TR",
    {
        **_HEAD,
        **{"TRSEQ": "Req", "TRGRPID": "Perm", "TRLNKID": "Exp", "TRLNKGRP": "Perm", "TRTESTCD": "Req"},
        **{"TRTEST": "Req", "TRORRES": "Exp", "TRORRESU": "Exp", "TRSTRESC": "Exp", "TRSTRESN": "Exp"},
        **{"TRSTRESU": "Exp", "TRSTAT": "Perm", "TRREASND": "Perm", "TRMETHOD": "Exp", "TRLOBXFL": "Exp"},
        **{"TREVAL": "Exp", "TREVALID": "Perm"},
        **_VISIT,
        "TRDTC": "Exp",
    },
    frozenset({"TRSEQ", "TRSTRESN", "VISITNUM"}),
    {
        "TRTESTCD": frozenset(_TESTS["TR"]),
        "TRORRESU": frozenset({"mm", "mL"}),
        "TRSTRESU": frozenset({"mm", "mL"}),
        "TRGRPID": frozenset({"TARGET", "NON-TARGET", "NEW"}),
        "TRSTAT": frozenset({"NOT DONE"}),
        "TRMETHOD": frozenset({"CT SCAN"}),
        "TRLOBXFL": frozenset({"Y"}),
    },
)

RS = DomainTable(
    "RS",
    {
        **_HEAD,
        **{"RSSEQ": "Req", "RSLNKGRP": "Perm", "RSTESTCD": "Req", "RSTEST": "Req", "RSCAT": "Exp"},
        **{"RSORRES": "Exp", "RSSTRESC": "Exp", "RSLOBXFL": "Exp", "RSEVAL": "Exp", "RSEVALID": "Perm"},
        **_VISIT,
        "RSDTC": "Exp",
    },
    frozenset({"RSSEQ", "VISITNUM"}),
    {
        "RSTESTCD": frozenset(_TESTS["RS"]),
        "RSCAT": frozenset({"RECIST 1.1", "iRECIST"}),
        "RSSTRESC": _RESPONSES,
        "RSLOBXFL": frozenset({"Y"}),
    },
)

DOMAINS = (TU, TR, RS)


def sdtm_test(domain: str, code: str) -> str:
    """The name of a test by its code, e.g. Longest Diameter of LDIAM."""
    return _TESTS[domain][code]


def domain_faults(table: DomainTable, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Compare rows of text with the tables of their domain; returns a sentence for each fault.

    Args:
        table: of the domain.
        rows: variable -> text, empty for no value.
    """
    faults: list[str] = []
    prefix = table.domain
    sequences: set[tuple[str, str]] = set()
    for number, row in enumerate(rows, 1):
        where = f"{prefix} row {number}"
        if tuple(row) != tuple(table.variables):
            faults.append(f"{where}: has the variables {', '.join(row)}")
            continue
        for name, core in table.variables.items():
            value = row[name]
            if core == "Req" and not value:
                faults.append(f"{where}: {name} is empty, but required")
            if value and name in table.terms and value not in table.terms[name]:
                faults.append(f"{where}: {name} is {value!r}, which is no term of it")
            if value and name in table.numbers and not _is_number(value):
                faults.append(f"{where}: {name} is {value!r}, which is no number")
        key = (row["USUBJID"], row[f"{prefix}SEQ"])
        if key in sequences:
            faults.append(f"{where}: {prefix}SEQ {key[1]} is there twice")
        sequences.add(key)
        if row["DOMAIN"] != prefix:
            faults.append(f"{where}: DOMAIN is {row['DOMAIN']!r}")
    return faults


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
