"""Data sets that are opened, and what is there already, which must be made of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from model.case.images import write_image
from model.comparison.inputs import Inputs, open_inputs
from model.comparison.layout import Layout
from model.comparison.ledger import read_ledger, write_ledger
from model.comparison.variants import HEADLINE, ROWS
from model.data.planning.planner import PlanOptions
from model.data.prepare import PrepareOptions, prepare
from model.errors import InputError
from model.training.checkpoint import FINAL
from model.training.config import to_plain
from model.training.job import FoldJob, data_digest
from model.training.prepared_data import open_prepared
from model.training.stages import EnsembleJob, fold_stages

from ...helpers.comparison_stand_ins import stages
from ...helpers.data_sets import GRID, labelmap, manifest_of_pairs
from ...helpers.earlier_run import write_earlier_run

BEFORE, AFTER = {1: ((7, 10, 12), 2)}, {1: ((7, 11, 12), 3)}
PLAN = PlanOptions(preset="tiny", spacing_zyx=(2.6, 1.2, 1.1), patch_zyx=(16, 16, 16))


def _prepare(work: Path, raw: str, output: str, is_first: bool = False) -> None:
    """All by the plan of the first."""
    plan = None if is_first else work / "real" / "plans.json"
    folds = 2 if output == "real" else 0
    options = PrepareOptions(work / raw / "manifest.csv", work / output, "auto", PLAN, plan, folds)
    prepare(options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of four patients, a pretraining that shows one of them, and a test set."""
    work = tmp_path_factory.mktemp("inputs") / "work"
    manifest_of_pairs(work / "raw", {name: [BEFORE, AFTER] for name in "ABCD"})
    manifest_of_pairs(work / "other", {name: [AFTER, BEFORE] for name in "AST"})
    _prepare(work, "raw", "real", is_first=True)
    _prepare(work, "other", "synthetic")
    return work


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "work")


def _open(work: Path, pretraining: bool = True) -> Inputs:
    first = work / "synthetic" if pretraining else None
    rows = ROWS if pretraining else ROWS[1:2]
    return open_inputs(work / "real", first, None, rows, stages(), Layout(work / "out"), lambda line: None)


def _stages(work: Path, row: int, fold: str = "0") -> tuple[FoldJob, ...]:
    """What the table would train."""
    name, of_row = ROWS[row].name, stages()[ROWS[row].name]
    pretraining = open_prepared(work / "synthetic", False) if of_row.pretraining is not None else None
    run = Layout(work / "out").run(name)
    job = EnsembleJob(
        open_prepared(work / "real", False), run, of_row.config, (fold,), pretraining, of_row.pretraining
    )
    return fold_stages(job, fold)


def _finish(work: Path, row: int) -> None:
    """As if fold 0 had been trained."""
    for number in range(len(_stages(work, row))):
        stage = _stages(work, row)[number]
        stage.folder.mkdir(parents=True)
        digest = data_digest(stage.plan, stage.training, stage.validation)
        (stage.folder / "config.json").write_text(json.dumps(to_plain(stage.config)))
        (stage.folder / "health.json").write_text(json.dumps({"state": "sound", "data": digest}))
        (stage.folder / FINAL).write_bytes(b"weights %d" % number)


def test_who_is_asked_and_who_is_kept_out(work: Path) -> None:
    inputs = _open(work)
    asked = [{pair.patient_id for pair in pairs} for pairs in inputs.pairs.held_out]
    assert asked == [set(split.validation) for split in open_prepared(work / "real", False).splits]
    assert inputs.pairs.test is None and inputs.folds == 2 and not inputs.shares_pretraining
    assert len(inputs.kept_out) == 2
    (held,) = [line for line in inputs.kept_out if "keeps out" in line]
    assert held.endswith(": pretraining keeps out A, on whom the fold is validated")
    assert _open(work, pretraining=False).kept_out == ()


@pytest.mark.parametrize("row", [0, 1])
def test_what_was_trained_on_the_same_stands(work: Path, row: int) -> None:
    _finish(work, row)
    assert _open(work).folds == _open(work, pretraining=False).folds == 2


def _correct(folder: Path, lesion: tuple[tuple[int, int, int], int]) -> None:
    for path in folder.glob("*_1_labels.nii.gz"):
        write_image(path, labelmap({1: lesion}), GRID, verify=False)


def test_a_corrected_labelmap_is_told(work: Path) -> None:
    _finish(work, 1)
    _correct(work / "raw", ((7, 11, 12), 2))
    _prepare(work, "raw", "real")
    with pytest.raises(InputError, match=r"runs/longitudinal/fold_0: was trained on .* or another -o"):
        _open(work)


def test_another_pretraining_is_told(work: Path) -> None:
    _finish(work, 0)
    _correct(work / "other", ((7, 10, 12), 3))
    _prepare(work, "other", "synthetic")
    with pytest.raises(InputError, match=r"longitudinal-pretrained/pretraining/fold_0: was trained on "):
        _open(work)


@pytest.mark.parametrize("pretraining", [False, True])
def test_other_weights_of_the_pretraining_are_told(work: Path, pretraining: bool) -> None:
    _finish(work, 0)
    (_stages(work, 0)[0].folder / FINAL).write_bytes(b"trained anew")
    with pytest.raises(InputError, match=rf"{HEADLINE.name}/fold_0: began with other weights than "):
        _open(work, pretraining)


def test_the_ledger_of_an_earlier_version_is_that_of_its_data(tmp_path: Path) -> None:
    write_earlier_run(tmp_path)
    data, layout = tmp_path / "prepared", Layout(tmp_path / "table")
    inputs = open_inputs(data, None, None, ROWS[1:2], stages(), layout, lambda line: None)
    ledger = read_ledger(layout.ledger)
    assert inputs.data.digest == ledger.data
    write_ledger(tmp_path / "again.json", ledger)
    assert (tmp_path / "again.json").read_bytes() == layout.ledger.read_bytes()
