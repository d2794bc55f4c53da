"""Surveys of scans and their cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.formats.manifest import read_manifest
from model.data.scan_survey import SurveyJob, cached_survey, survey_scan
from model.errors import InputError
from model.synthesis.source_scans import find_sources
from test.helpers.checked_cohorts import MOVED, ONE
from test.helpers.data_sets import GRID, manifest_of_pairs, write_scan
from test.helpers.sheared_grids import tilted


def test_a_survey_is_cached_until_a_file_changes(tmp_path: Path) -> None:
    path = manifest_of_pairs(tmp_path, {"p": [ONE, MOVED]})
    job = SurveyJob(read_manifest(path).scans[0], tmp_path / "kept.json", 0)
    assert cached_survey(job) is None
    survey = survey_scan(job)
    assert cached_survey(job) == survey
    write_scan(job.scan.image, job.scan.labels or path, MOVED)
    assert cached_survey(job) is None


def test_a_sheared_scan_is_a_fault_and_not_taken_as_orthogonal(tmp_path: Path) -> None:
    path = manifest_of_pairs(tmp_path, {"p": [ONE, MOVED]})
    sheared = tilted(GRID.size_xyz, GRID.spacing_xyz, 20.0)
    write_scan(tmp_path / "p_0_ct.nii.gz", tmp_path / "p_0_labels.nii.gz", ONE, sheared)
    (fault,) = survey_scan(SurveyJob(read_manifest(path).scans[0], tmp_path / "kept.json", 0)).faults
    assert fault.file == tmp_path / "p_0_ct.nii.gz"
    assert fault.text.startswith("its grid is sheared by 20.0 degrees")
    with pytest.raises(InputError, match="p_0_ct.nii.gz: its grid is sheared"):
        find_sources(None, fault.file, tmp_path / "p_0_labels.nii.gz", None)
