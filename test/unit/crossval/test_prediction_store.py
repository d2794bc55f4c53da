"""Manifests of cached predictions."""

from __future__ import annotations

from pathlib import Path

from model.crossval.pairs import evaluation_pairs
from model.crossval.prediction_store import read_prediction_manifest, write_prediction_manifest
from model.data.provenance import file_digest
from test.helpers.earlier_run import write_earlier_run


def test_manifests_of_an_earlier_version_are_read_and_written_unchanged(tmp_path: Path) -> None:
    write_earlier_run(tmp_path)
    folder = tmp_path / "model" / "cross_validation" / "fold_0"
    manifest = read_prediction_manifest(folder)
    assert manifest is not None
    pairs = {pair.name: pair for pair in evaluation_pairs(tmp_path / "prepared")}
    assert manifest.predictions and all(manifest.covers(pairs[name]) for name in manifest.predictions)
    assert manifest.weights["plans.json"] == file_digest(tmp_path / "model" / "plans.json")
    assert manifest.boosting is None  # outdated: predicted without boosting
    before = (folder / "asked.json").read_bytes()
    write_prediction_manifest(folder, manifest)
    assert (folder / "asked.json").read_bytes() == before
