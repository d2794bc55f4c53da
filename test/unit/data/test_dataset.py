"""Cohorts."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.dataset import safe_name
from model.data.formats.manifest import parse_links, read_manifest
from model.errors import InputError
from test.helpers.checked_cohorts import MOVED, ONE
from test.helpers.data_sets import manifest_of_pairs


def test_excluded_patients_are_removed_with_their_pairs(tmp_path: Path) -> None:
    cohort = read_manifest(manifest_of_pairs(tmp_path, {"p": [ONE, MOVED], "q": [ONE, MOVED]}))
    left = cohort.without(frozenset({"q"}))
    assert left.patients == ("p",) and {pair.baseline for pair in left.pairs} == {"p_t0"}


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", ".", "/etc/passwd", "a\0b", 5000 * "ä", "\udcff", "\ud800", "p_t0"]
)
def test_names_of_scans_stay_inside_of_their_folder(name: str) -> None:
    made = safe_name(name)
    assert made == Path(made).name and made not in (".", "..") and made.isascii() and len(made) <= 200


def test_names_of_scans_are_those_of_existing_data_sets() -> None:
    assert safe_name("p 1+2@x=y_t0.a-b~") == "p 1+2@x=y_t0.a-b~" and safe_name("ä/b") == "%C3%A4%2Fb"
    assert safe_name(300 * "a") != safe_name(301 * "a")


def test_links_with_long_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="expected ids"):
        parse_links(10_000 * "1" + ">2")
