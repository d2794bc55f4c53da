"""Opening data sets, and refusing output of other data."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from model.case.images import write_image
from model.comparison.inputs import ComparisonContext, OutputFolder, open_context
from model.comparison.ledger import read_ledger, write_ledger
from model.comparison.variants import HEADLINE, ROWS, row_configs
from model.data.planning.planner import PlanOptions
from model.data.prepare import PrepareOptions, prepare
from model.errors import InputError
from model.training.checkpoint import FINAL
from model.training.config import to_plain
from model.training.job import FoldJob, data_digest
from model.training.prepared_data import open_prepared
from model.training.stages import EnsembleJob, fold_stages

from ...helpers.comparison_stand_ins import OVERRIDES
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
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of four patients, a pretraining that shows one of them, and a test set."""
    work = tmp_path_factory.mktemp("inputs") / "work"
    manifest_of_pairs(work / "raw", {name: [BEFORE, AFTER] for name in "ABCD"})
    manifest_of_pairs(work / "other", {name: [AFTER, BEFORE] for name in "AST"})
    _prepare(work, "raw", "real", is_first=True)
    _prepare(work, "other", "synthetic")
    return work


@pytest.fixture
def work(data_sets: Path, tmp_path: Path) -> Path:
    return shutil.copytree(data_sets, tmp_path / "work")


def _open(work: Path, pretraining: bool = True) -> ComparisonContext:
    first = work / "synthetic" if pretraining else None
    rows = ROWS if pretraining else ROWS[1:2]
    return open_context(work / "real", first, None, work / "out", rows, OVERRIDES)


def _stages(work: Path, row: int, fold: str = "0") -> tuple[FoldJob, ...]:
    """The stages that the comparison would train."""
    configs = row_configs(ROWS[row], OVERRIDES)
    pretraining = open_prepared(work / "synthetic", False) if configs.pretraining is not None else None
    job = EnsembleJob(
        open_prepared(work / "real", False),
        OutputFolder(work / "out").model(ROWS[row]),
        configs.training,
        (fold,),
        pretraining,
        configs.pretraining,
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


def test_held_out_pairs_and_patients_excluded_from_pretraining(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "model.comparison.inputs")
    context = _open(work)
    patients = [{pair.patient_id for pair in pairs} for pairs in context.held_out]
    assert patients == [set(split.validation) for split in open_prepared(work / "real", False).splits]
    assert context.tested is None and context.fold_count == 2 and not context.shares_pretraining
    assert len(caplog.messages) == 2
    (excluded,) = [line for line in caplog.messages if "excludes A" in line]
    assert excluded.endswith(": pretraining excludes A, on whom the fold is validated")
    caplog.clear()
    _open(work, pretraining=False)
    assert caplog.messages == []


@pytest.mark.parametrize("row", [0, 1])
def test_folds_trained_on_the_same_data_are_kept(work: Path, row: int) -> None:
    _finish(work, row)
    assert _open(work).fold_count == _open(work, pretraining=False).fold_count == 2


def _correct(folder: Path, lesion: tuple[tuple[int, int, int], int]) -> None:
    for path in folder.glob("*_1_labels.nii.gz"):
        write_image(path, labelmap({1: lesion}), GRID, verify=False)


@pytest.mark.slow
def test_folds_trained_before_a_labelmap_was_corrected_are_refused(work: Path) -> None:
    _finish(work, 1)
    _correct(work / "raw", ((7, 11, 12), 2))
    _prepare(work, "raw", "real")
    with pytest.raises(InputError, match=r"runs/longitudinal/fold_0: was trained on .* or another -o"):
        _open(work)


@pytest.mark.slow
def test_folds_of_another_pretraining_are_refused(work: Path) -> None:
    _finish(work, 0)
    _correct(work / "other", ((7, 10, 12), 3))
    _prepare(work, "other", "synthetic")
    with pytest.raises(InputError, match=r"longitudinal-pretrained/pretraining/fold_0: was trained on "):
        _open(work)


@pytest.mark.parametrize("pretraining", [False, True])
def test_folds_that_began_with_other_weights_are_refused(work: Path, pretraining: bool) -> None:
    _finish(work, 0)
    (_stages(work, 0)[0].folder / FINAL).write_bytes(b"trained anew")
    with pytest.raises(InputError, match=rf"{HEADLINE.name}/fold_0: began with other weights than "):
        _open(work, pretraining)


def test_the_ledger_of_an_earlier_version_is_that_of_its_data(tmp_path: Path) -> None:
    write_earlier_run(tmp_path)
    table = tmp_path / "table"
    context = open_context(tmp_path / "prepared", None, None, table, ROWS[1:2], OVERRIDES)
    ledger = read_ledger(table / "ledger.json")
    assert context.data.digest == ledger.data
    write_ledger(tmp_path / "again.json", ledger)
    assert (tmp_path / "again.json").read_bytes() == (table / "ledger.json").read_bytes()
