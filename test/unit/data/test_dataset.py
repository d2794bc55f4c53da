"""Cohorts."""

from __future__ import annotations

from pathlib import Path

from model.data.formats.manifest import read_manifest
from test.helpers.checked_cohorts import MOVED, ONE
from test.helpers.data_sets import manifest_of_pairs


def test_excluded_patients_are_removed_with_their_pairs(tmp_path: Path) -> None:
    cohort = read_manifest(manifest_of_pairs(tmp_path, {"p": [ONE, MOVED], "q": [ONE, MOVED]}))
    left = cohort.without(frozenset({"q"}))
    assert left.patients == ("p",) and {pair.baseline for pair in left.pairs} == {"p_t0"}
