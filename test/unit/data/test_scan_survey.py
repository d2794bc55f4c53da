"""Surveys of scans and their cache."""

from __future__ import annotations

from pathlib import Path

from model.data.formats.manifest import read_manifest
from model.data.scan_survey import SurveyJob, cached_survey, survey_scan
from test.helpers.checked_cohorts import MOVED, ONE
from test.helpers.data_sets import manifest_of_pairs, write_scan


def test_a_survey_is_cached_until_a_file_changes(tmp_path: Path) -> None:
    path = manifest_of_pairs(tmp_path, {"p": [ONE, MOVED]})
    job = SurveyJob(read_manifest(path).scans[0], tmp_path / "kept.json", 0)
    assert cached_survey(job) is None
    survey = survey_scan(job)
    assert cached_survey(job) == survey
    write_scan(job.scan.image, job.scan.labels or path, MOVED)
    assert cached_survey(job) is None
