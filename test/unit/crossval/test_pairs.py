"""Pairs of scans to evaluate, from a data set and from a prepared one."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from model.cli import train as command
from model.crossval.pairs import EvaluationPair, data_set_pairs, evaluation_pairs
from model.data.original_files import SOURCES_FILE
from model.data.store import INDEX_FILE
from model.errors import InputError

from ...helpers.crossval_cases import PROPAGATED, write_data_set
from ...helpers.log_messages import messages


def _prepare(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    plan = ("--preset", "tiny", "--spacing", 2, 2, 2, "--patch", 16, 16, 16, "--folds", 2, "--workers", 1)
    assert command.run(parser.parse_args(["prepare", *map(str, (*arguments, *plan))])) == 0


def test_lesions_of_a_data_set(pairs: tuple[EvaluationPair, ...], manifest: Path) -> None:
    assert [pair.name for pair in pairs] == ["anna_t0-to-anna_t1", "ben_t0-to-ben_t1"]
    by_id = {lesion.lesion_id: lesion for lesion in pairs[0].lesions}
    assert {name: lesion.followup_ids for name, lesion in by_id.items()} == {1: (1,), 2: (), 3: (5,), 4: (5,)}
    assert by_id[2].followup_point_xyz is None  # vanished: it has no true point
    assert by_id[2].propagated_point_xyz == PROPAGATED[2] and by_id[4].propagated_point_xyz is None
    assert by_id[1].baseline_point_xyz == (10.0, 9.0, 8.0)  # the centre, as the file counts
    assert by_id[3].followup_point_xyz == by_id[4].followup_point_xyz == (17.0, 24.0, 20.0)
    assert {path.parent for path in pairs[0].files} == {manifest.parent} and len(pairs[0].files) == 4


@pytest.mark.slow
def test_a_prepared_data_set_has_the_same_pairs(
    pairs: tuple[EvaluationPair, ...], manifest: Path, tmp_path: Path
) -> None:
    _prepare("--data", manifest, "-o", tmp_path)
    prepared = evaluation_pairs(tmp_path)
    assert [asdict(lesion) for pair in prepared for lesion in pair.lesions] == [
        asdict(lesion) for pair in pairs for lesion in pair.lesions
    ]
    assert [pair.name for pair in prepared] == [pair.name for pair in pairs]
    (tmp_path / SOURCES_FILE).unlink()  # as in data sets of an earlier version
    with pytest.raises(InputError, match=r"sources.json: .*run it again, prepared scans are kept"):
        evaluation_pairs(tmp_path)
    _prepare("--data", manifest, "-o", tmp_path)
    assert len(evaluation_pairs(tmp_path)) == 2
    (tmp_path / INDEX_FILE).unlink()  # interrupted
    with pytest.raises(InputError, match=r"index.json: is missing; expected a data set made by"):
        evaluation_pairs(tmp_path)


def test_surveys_are_cached(tmp_path: Path) -> None:
    manifest = write_data_set(tmp_path / "raw", ("anna",))
    data_set_pairs(manifest, surveys=tmp_path / "surveys")
    assert len(list((tmp_path / "surveys").glob("*.json"))) == 2
    assert [pair.name for pair in data_set_pairs(manifest, surveys=tmp_path / "surveys")]


def test_a_data_set_without_usable_lesions_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = write_data_set(tmp_path / "raw", ("anna",))
    (tmp_path / "raw" / "anna_0_ct.mha").unlink()
    with pytest.raises(InputError, match="no lesion can be used"):
        data_set_pairs(manifest)
    assert any("is missing" in line for line in messages(caplog))
    shutil.rmtree(tmp_path / "raw")
