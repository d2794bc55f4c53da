"""Marks of files and digests of values, and prepared data of an earlier version."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from model.case.lesion_json import write_json
from model.data.planning.planner import PlanOptions
from model.data.prepare import PrepareOptions, prepare
from model.data.provenance import FileMark, digest, mark_of, stamp_of
from model.data.store import ScanDocument, read_prepared, voxel_digest
from test.helpers.earlier_run import write_earlier_run


def test_a_mark_matches_the_same_content_at_another_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    mark = mark_of(path)
    assert mark.matches(path)
    os.utime(path, ns=(1, 1))
    assert mark.matches(path)
    path.write_text("two")  # of the same size
    os.utime(path, ns=(2, 2))
    assert not mark.matches(path)
    path.write_text("three")
    assert not mark.matches(path)
    path.unlink()
    assert mark.matches(path)


def test_a_stamp_marks_paths_sizes_and_times(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    os.utime(path, ns=(7, 7))
    stamp = stamp_of([path, tmp_path / "missing"], "settings")
    assert stamp.files == (
        FileMark(path=str(path), size=3, mtime_ns=7),
        FileMark(path=str(tmp_path / "missing"), size=-1, mtime_ns=-1),
    )


def test_marks_are_written_without_what_they_do_not_hold(tmp_path: Path) -> None:
    assert FileMark(path="/a", size=3, mtime_ns=7).model_dump_json() == '{"path":"/a","size":3,"mtime_ns":7}'
    assert list(FileMark(size=3, mtime_ns=7, sha256="0").model_dump()) == ["size", "mtime_ns", "sha256"]


def test_digests_are_pinned() -> None:
    assert digest([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest([b"ab", b"c"]) == digest([b"abc"])
    assert digest([("a", 1), 2.5]) == digest([b"('a', 1)2.5"])


def test_prepared_data_of_an_earlier_version_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_earlier_run(tmp_path)
    output = tmp_path / "prepared"
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    caplog.set_level(logging.INFO)
    prepare(
        PrepareOptions(tmp_path / "raw" / "manifest.csv", output, plan_options=PlanOptions("tiny"), folds=2)
    )
    assert "0 scans prepared, 4 were already" in caplog.messages
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_scan_documents_of_an_earlier_version_are_written_alike(tmp_path: Path) -> None:
    write_earlier_run(tmp_path)
    paths = list(tmp_path.rglob("scan.json"))
    for path in paths:
        document = ScanDocument.model_validate(json.loads(path.read_text()))
        write_json(tmp_path / "again.json", document.model_dump(mode="json"), decimals=None)
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert len(paths) == 4


def test_the_voxel_digest_of_an_earlier_version_is_the_same(tmp_path: Path) -> None:
    write_earlier_run(tmp_path)
    scan = read_prepared(tmp_path / "prepared").pairs[0].baseline
    assert voxel_digest(scan.folder) == scan.document.digest
