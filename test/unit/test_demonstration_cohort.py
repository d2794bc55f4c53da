"""The patient of the sample case is in nothing that the shipped weights were made from."""

from __future__ import annotations

import csv
import hashlib
import json

import pytest

from model.data.folds import Fold, read_folds
from test.cohort.make import SAMPLE_PATIENT, SOURCES, TEST_PATIENTS
from test.helpers.paths import CHECKOUT, REAL_DATA

COHORT = CHECKOUT / "test" / "cohort"
FOLDS = 5


@pytest.fixture(scope="module")
def folds() -> tuple[Fold, ...]:
    return read_folds(COHORT)


def test_the_sample_patient_is_in_no_fold(folds: tuple[Fold, ...]) -> None:
    named = {name for fold in folds for name in (*fold.train, *fold.val)}
    assert not [name for name in named if "LIDC" in name.upper() or "0314" in name]
    assert SAMPLE_PATIENT in json.loads((COHORT / "folds.json").read_text())["excluded"]


def test_the_test_patients_are_in_no_fold(folds: tuple[Fold, ...]) -> None:
    named = {name for fold in folds for name in (*fold.train, *fold.val)}
    assert named == {source.patient for source in SOURCES} - set(TEST_PATIENTS)
    assert set(TEST_PATIENTS) <= set(json.loads((COHORT / "folds.json").read_text())["excluded"])


def test_every_patient_is_held_out_once(folds: tuple[Fold, ...]) -> None:
    assert len(folds) == FOLDS
    held = [name for fold in folds for name in fold.val]
    assert sorted(held) == sorted(set(held)) == sorted({name for fold in folds for name in fold.train})
    for fold in folds:
        assert not set(fold.train) & set(fold.val)
        assert set(fold.train) | set(fold.val) == set(held)


def _digests() -> dict[str, str]:
    with (COHORT / "sources.csv").open(newline="") as file:
        return {row["file"]: row["sha256"] for row in csv.DictReader(file)}


def test_no_source_is_an_image_of_the_sample_patient() -> None:
    digests = _digests()
    assert set(digests) == {name for source in SOURCES for name in (source.ct, source.labels) if name}
    sample = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (CHECKOUT / "test").rglob("*.mha")}
    assert sample and not sample & set(digests.values())


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="needs LONGILESION_TEST_DATA, see test/README.md")
def test_sources_are_the_files_that_they_name() -> None:
    digests = _digests()
    lidc = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (REAL_DATA / "lidc_0314").iterdir()}
    assert not lidc & set(digests.values())
    for name, digest in digests.items():
        assert hashlib.sha256((REAL_DATA / name).read_bytes()).hexdigest() == digest, name
