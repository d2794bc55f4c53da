"""Trained folds count only for the data and initial weights that they were trained with."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from model.case.images import write_image
from model.data.planning.planner import PlanOptions
from model.data.prepare import PrepareOptions, prepare
from model.data.store import PreparedScan, voxel_digest
from model.errors import InputError
from model.training import train_ensemble as pipeline
from model.training.checkpoint import FINAL, LATEST
from model.training.config import TrainingConfig, first_difference, setting_lines, with_overrides
from model.training.fold_provenance import provenance_difference
from model.training.health import CollapsedFoldError
from model.training.job import FoldJob, FoldResult, saved_config
from model.training.logs import EpochLog
from model.training.prepared_data import open_prepared
from model.training.stages import EnsembleJob, fold_stages
from model.training.train_ensemble import finished_folds, train_ensemble

from ...helpers import training_phantoms as phantoms
from ...helpers.data_sets import GRID, labelmap, manifest_of_pairs
from ...helpers.earlier_run import write_earlier_run
from ...helpers.log_messages import messages

pytestmark = pytest.mark.slow

BEFORE, AFTER = {1: ((7, 10, 12), 2)}, {1: ((7, 11, 12), 3)}
OTHERS = [{2: ((6, 8, 9), 2)}, {2: ((6, 8, 9), 3)}]


def _prepare(manifest: Path, output: Path, plan: Path | None = None) -> None:
    options = PlanOptions(preset="tiny", spacing_zyx=(2.6, 1.2, 1.1), patch_zyx=(16, 16, 16))
    prepare(PrepareOptions(manifest, output, plan_options=options, plan=plan, folds=2))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw and prepared data of four patients, and those of a pretraining."""
    folder = tmp_path_factory.mktemp("origin")
    manifest_of_pairs(folder / "raw", {name: [BEFORE, AFTER] for name in "ABCD"})
    manifest_of_pairs(folder / "other", dict.fromkeys(("S1", "S2", "S3"), OTHERS))
    _prepare(folder / "raw" / "manifest.csv", folder / "real")
    _prepare(folder / "other" / "manifest.csv", folder / "synthetic", folder / "real" / "plans.json")
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "work"))


def _trained_copy(made: Path, work: Path, pretrained: bool) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochLog, "draw", lambda self: None)
        train_ensemble(_job(Path(shutil.copytree(made, work)), pretrained))
    return work


@pytest.fixture(scope="module")
def pretrained_once(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _trained_copy(made, tmp_path_factory.mktemp("pretrained") / "work", True)


@pytest.fixture(scope="module")
def trained_once(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _trained_copy(made, tmp_path_factory.mktemp("trained") / "work", False)


@pytest.fixture
def pretrained(pretrained_once: Path, tmp_path: Path) -> Path:
    """Data with a fold that was pretrained and trained; files keep their times."""
    return Path(shutil.copytree(pretrained_once, tmp_path / "work"))


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """Data with a fold that was trained without pretraining; files keep their times."""
    return Path(shutil.copytree(trained_once, tmp_path / "work"))


def _job(work: Path, pretrained: bool = True) -> EnsembleJob:
    config = phantoms.config(epochs=1, iterations=1)
    return EnsembleJob(
        open_prepared(work / "real", False),
        work / "out",
        config,
        ("0",),
        open_prepared(work / "synthetic", True) if pretrained else None,
        replace(config, sampling="pretraining"),
        device="cpu",
    )


def _correct(work: Path, raw: str, data: str) -> None:
    """Prepare with another labelmap: the same patients, scans, lesions and points."""
    lesions = {1: ((7, 11, 12), 2)} if raw == "raw" else {2: ((6, 8, 9), 2)}
    for path in (work / raw).glob("*_1_labels.nii.gz"):
        write_image(path, labelmap(lesions), GRID, verify=False)
    _prepare(work / raw / "manifest.csv", work / data, work / data / "plans.json")


def test_prepared_scans_have_a_digest_of_their_voxels(work: Path) -> None:
    scan = PreparedScan(next((work / "real" / "scans").iterdir()))
    assert scan.document.digest == voxel_digest(scan.folder) == scan.digest
    document = json.loads((scan.folder / "scan.json").read_text())
    del document["digest"]  # as written by an earlier version
    (scan.folder / "scan.json").write_text(json.dumps(document))
    assert PreparedScan(scan.folder).digest == scan.digest


def test_finished_folds_are_skipped_after_moving_data_and_weights(
    pretrained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(pretrained, tmp_path / "moved")  # all files are newer than the training
    for path in (tmp_path / "moved").rglob("*"):
        os.utime(path)
    caplog.clear()
    train_ensemble(_job(tmp_path / "moved"))
    assert sum("finished before" in line for line in messages(caplog)) == 2
    assert finished_folds(_job(tmp_path / "moved")).keys() == {"0"}
    saved = saved_config(pretrained / "out" / "fold_0")
    assert saved is not None and len(saved.scans) == len(saved.initial_weights) == 64


@pytest.mark.parametrize("state", [FINAL, LATEST])
def test_a_fold_is_refused_after_a_labelmap_was_corrected(trained: Path, state: str) -> None:
    job = _job(trained, pretrained=False)
    if state == LATEST:
        (trained / "out" / "fold_0" / FINAL).unlink()
        (trained / "out" / "fold_0" / "health.json").unlink()
    _correct(trained, "raw", "real")
    corrected = _job(trained, pretrained=False)
    assert [pair.patient_id for pair in corrected.data.pairs] == [pair.patient_id for pair in job.data.pairs]
    with pytest.raises(InputError, match=r"fold_0: was trained on .* expected the same, .* or --restart"):
        train_ensemble(corrected)
    assert finished_folds(corrected) == {}
    train_ensemble(replace(corrected, restart=True))


def test_a_pretraining_is_refused_after_its_data_were_corrected(pretrained: Path) -> None:
    _correct(pretrained, "other", "synthetic")
    with pytest.raises(InputError, match=r"pretraining/fold_shared: was trained on"):
        train_ensemble(_job(pretrained))
    assert finished_folds(_job(pretrained)) == {}


@pytest.mark.parametrize("state", [FINAL, LATEST])
def test_a_fold_is_refused_without_the_pretraining_it_began_with(pretrained: Path, state: str) -> None:
    fold, first = pretrained / "out" / "fold_0", pretrained / "out" / "pretraining" / "fold_shared"
    if state == LATEST:
        (fold / FINAL).unlink()
    (first / FINAL).rename(first / "away.pth")
    with pytest.raises(InputError, match=r"fold_shared/.*final.pth: is missing, but .*fold_0 exists"):
        train_ensemble(_job(pretrained))
    assert finished_folds(_job(pretrained)) == {}
    shutil.copy(first / "checkpoint_latest.pth", first / FINAL)
    with pytest.raises(InputError, match=r"fold_0: began with other weights than .*fold_shared/"):
        train_ensemble(_job(pretrained))
    assert finished_folds(_job(pretrained)) == {}


def test_folds_that_a_job_could_not_pretrain_do_not_count_as_finished(work: Path) -> None:
    plain = replace(_job(work, pretrained=False), folds=("1",))
    train_ensemble(plain)
    assert finished_folds(plain).keys() == {"1"}
    job = _job(work)
    assert job.pretraining is not None
    held_out = job.data.splits[1].validation[0]  # no other patient is left to pretrain fold 1 on
    pairs = tuple(replace(pair, patient_id=held_out) for pair in job.pretraining.pairs)
    job = replace(job, pretraining=replace(job.pretraining, pairs=pairs))
    assert finished_folds(job) == {}
    with pytest.raises(InputError, match="contains only validation patients of fold 1"):
        finished_folds(replace(job, folds=("1",)))


def test_folds_of_earlier_versions_count_if_their_inputs_are_older(
    pretrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = _job(pretrained)
    for folder in (pretrained / "out" / "fold_0", pretrained / "out" / "pretraining" / "fold_shared"):
        path = folder / "config.json"
        document, begun = json.loads(path.read_text()), path.stat().st_mtime_ns
        path.write_text(
            json.dumps({k: v for k, v in document.items() if k not in ("scans", "initial_weights")})
        )
        os.utime(path, ns=(begun, begun))
    caplog.clear()
    train_ensemble(_job(pretrained))
    assert sum("finished before" in line for line in messages(caplog)) == 2
    os.utime(job.data.folder / "scans" / "A_t1" / "labels.b2nd")
    with pytest.raises(InputError, match=r"fold_0: was begun before .*A_t1/labels.b2nd was prepared"):
        train_ensemble(_job(pretrained))


def test_provenance_fields_are_not_settings() -> None:
    recorded = TrainingConfig(scans="a", initial_weights="b")
    assert first_difference(recorded, TrainingConfig()) is None
    assert first_difference(recorded, replace(recorded, scans="c")) == "scans"
    assert first_difference(recorded, replace(recorded, checkpoint_every=1)) is None
    assert not any(line.startswith(("scans=", "initial_weights=")) for line in setting_lines(recorded))
    with pytest.raises(InputError, match="scans: is an unknown setting"):
        with_overrides(recorded, ["scans=x"])


def test_a_collapsed_pretraining_is_tried_and_reported_once(
    work: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []

    def collapse(job: FoldJob) -> FoldResult:
        tried.append(job.folder.name)
        raise CollapsedFoldError(f"{job.folder}: fold {job.fold} has collapsed")

    monkeypatch.setattr(pipeline, "train_fold", collapse)
    with pytest.raises(CollapsedFoldError) as caught:
        train_ensemble(replace(_job(work), folds=("0", "1")))
    assert tried == ["fold_shared"]
    assert str(caught.value).count("has collapsed") == 1
    assert sum("has collapsed" in line for line in messages(caplog)) == 1


def test_the_stages_of_a_fold_record_their_provenance(work: Path) -> None:
    first, own = fold_stages(_job(work), "1")
    assert (first.folder.name, first.config.initial_weights) == ("fold_shared", "none")
    assert own.initial == first.folder / FINAL and own.config.initial_weights == ""  # not trained yet
    assert first.config.scans != own.config.scans and len(own.config.scans) == 64


def test_a_fold_of_an_earlier_version_is_resumed(tmp_path: Path) -> None:
    write_earlier_run(tmp_path)
    (tmp_path / "model" / "fold_0" / FINAL).touch()
    data = open_prepared(tmp_path / "prepared", False)
    (stage,) = fold_stages(EnsembleJob(data, tmp_path / "model", TrainingConfig()), "0")
    saved = saved_config(stage.folder)
    assert saved is not None and (saved.scans, saved.initial_weights) == (stage.config.scans, "none")
    assert provenance_difference(stage) is None
