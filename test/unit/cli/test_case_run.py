"""The run of a case on disk: its registration back end, and errors while it fails."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import SimpleITK as sitk

from model.case.case import Slot
from model.case.challenge import discover, output_path, read_case
from model.cli import segment
from model.cli.case_run import CaseRun
from model.cli.process import NO_LOG
from model.cli.segment import CaseRunOptions
from model.errors import InputError, MemoryExhaustedError, OutputError
from model.inference import lazy_backend
from model.inference.lazy_backend import LazyBackend
from model.inference.options import CaseOptions, ModelOptions
from model.inference.segment_case import CaseSegmentation
from model.propagation.pair_registrations import RegistrationCache
from model.propagation.register import DEFAULT_BACKEND
from model.propagation.register.identity import IdentityBackend

from ...helpers.cases_on_disk import CENTRES, SHAPE, CaseOnDisk, ball
from ...helpers.clocks import HandClock


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (CaseRunOptions(model=ModelOptions(device="cuda:1")), (DEFAULT_BACKEND, "cuda:1")),
        (CaseRunOptions(case=CaseOptions(backend="rigid")), ("rigid", "auto")),
        (CaseRunOptions(model=ModelOptions(device="cuda", deterministic=True)), (DEFAULT_BACKEND, "cpu")),
    ],
)
def test_the_registration_backend_is_imported_on_first_use(
    options: CaseRunOptions, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = []

    def backend(name: str, device: str) -> IdentityBackend:
        imported.append((name, device))
        return IdentityBackend()

    monkeypatch.setattr(lazy_backend, "backend", backend)
    run = CaseRun(options)
    assert imported == []
    assert run.backend.load() is run.backend.load()
    assert imported == [expected]


def test_an_unknown_backend_is_reported_before_anything_is_read(tmp_path: Path) -> None:
    missing = CaseRunOptions(
        input_dir=tmp_path / "none", output_dir=tmp_path / "out", case=CaseOptions(backend="affinity")
    )
    with pytest.raises(InputError, match="affinity"):
        CaseRun(missing).execute()
    with pytest.raises(InputError, match="affinity"):
        LazyBackend("affinity", "cpu").load()


def test_the_first_error_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the unfinished result cannot be written either, as the case is not readable at all."""
    run = CaseRun(CaseRunOptions(input_dir=tmp_path / "none", output_dir=tmp_path / "out"))

    def exhausted() -> None:
        raise MemoryExhaustedError("out of memory")

    monkeypatch.setattr(run, "_segment", exhausted)
    with pytest.raises(MemoryExhaustedError):
        run.execute()


def _run_of(case: CaseOnDisk) -> CaseRun:
    """A run whose folders hold the files of an earlier one."""
    folder = case.folder.parent
    options = CaseRunOptions(
        input_dir=case.folder, output_dir=folder / "out", extras_dir=folder / "extras",
        case=CaseOptions(backend="identity"),
    )  # fmt: skip
    for path in (output_path(folder / "out", Slot.PRIMARY), folder / "extras/run.json"):
        path.parent.mkdir(parents=True)
        path.write_text("of an earlier run")
    return CaseRun(options)


@pytest.mark.parametrize("has_mask", [True, False])
def test_a_case_that_was_not_read_is_unfinished(tmp_path: Path, has_mask: bool) -> None:
    case = CaseOnDisk(tmp_path / "case").write()
    if not has_mask:
        shutil.rmtree(case.folder / "images/primary-baseline-ct-tumor-lesion-seg")
    assert "UNFINISHED: no lesion was segmented" in _run_of(case).write_unfinished()
    record = json.loads((tmp_path / "extras/run.json").read_text())
    assert record["finished"] is False and record["lesions"] is None
    labelmap = output_path(tmp_path / "out", Slot.PRIMARY)
    assert [str(labelmap)] * has_mask == record["outputs"]
    assert labelmap.exists() == has_mask  # a case without masks may have to be refused
    assert not has_mask or not sitk.GetArrayFromImage(sitk.ReadImage(str(labelmap))).any()


def _late_run(case: CaseOnDisk, is_located: bool) -> CaseRun:
    """A run whose time is spent after the case was read, and perhaps located."""
    clock = HandClock()
    run = CaseRun(replace(_run_of(case).options, time_budget=10), clock=clock)
    run._lock_folders()
    was_late = [run.is_late]
    registrations = RegistrationCache(run.backend)
    run._segmentation = CaseSegmentation(
        read_case(discover(case.folder)), run.options.case, registrations, budget=run._budget
    )
    if is_located:
        run._segmentation.locate()
    was_late.append(run.is_late)
    clock.now = 9.5
    assert [*was_late, run.is_late] == [False, False, True]
    return run


@pytest.mark.parametrize("is_located", [True, False])
def test_a_late_run_ends_with_propagated_masks(tmp_path: Path, is_located: bool) -> None:
    case = CaseOnDisk(tmp_path / "case").write()
    if not is_located:
        case.clicks("primary", "followup", {})
    run = _late_run(case, is_located)
    document = run.finish_in_time()
    record = json.loads((tmp_path / "extras/run.json").read_text())
    assert record["lesions"] == document["lesions"] and record["finished"] is True
    assert [lesion["status"] for lesion in record["lesions"]] == ["propagated"] * 2
    assert "its baseline mask, moved to its point" in record["lesions"][0]["message"]
    assert "have their baseline mask at their point: 1, 2" in record["warnings"][-1]
    assert any("points are placed by headers" in one for one in record["warnings"]) is not is_located
    labelmap = sitk.GetArrayFromImage(sitk.ReadImage(str(output_path(tmp_path / "out", Slot.PRIMARY))))
    mask = next((case.folder / "images/primary-baseline-ct-tumor-lesion-seg").iterdir())
    assert np.array_equal(labelmap, sitk.GetArrayFromImage(sitk.ReadImage(str(mask))))  # clicked at one place
    measured = (tmp_path / "extras" / "lesions.csv").read_text()
    assert measured.count("not predicted in time, measured on its baseline mask") == 2
    assert not run.is_late
    with pytest.raises(OutputError, match="the run is late"):
        run._begin_writing()


def test_lesions_without_a_mask_are_unfinished_in_a_late_run(tmp_path: Path) -> None:
    case = CaseOnDisk(tmp_path / "case").write()
    case.image("primary-baseline-ct-tumor-lesion-seg", ball(SHAPE, CENTRES[1], 4).astype(np.uint8))
    document = _late_run(case, True).finish_in_time()
    assert [lesion["status"] for lesion in document["lesions"]] == ["propagated", "unfinished"]
    assert document["finished"] is False
    assert document["warnings"][-1].endswith("point: 1; no voxels without being vanished: 2")


def test_a_run_that_writes_is_not_late(tmp_path: Path) -> None:
    run = _late_run(CaseOnDisk(tmp_path / "case").write(), True)
    run._begin_writing()
    assert not run.is_late
    with pytest.raises(OutputError, match="being written"):
        run.finish_in_time()


def test_a_late_run_ends_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CaseOnDisk(tmp_path / "case").write()
    options = replace(_run_of(case).options, time_budget=1.001)
    left, may_end = list[int](), Event()
    monkeypatch.setattr(segment, "leave", left.append)
    monkeypatch.setattr(CaseRun, "_load_model", lambda _: may_end.wait(60) and None)
    try:
        assert segment.run_case(options, segment.Display(NO_LOG, as_json=True)) == 0
    finally:
        may_end.set()
    document = json.loads(capsys.readouterr().out)
    assert left == [0] and document["exit_code"] == 0
    assert [lesion["status"] for lesion in document["lesions"]] == ["propagated"] * 2


def test_lesions_that_were_not_located_are_unfinished(tmp_path: Path) -> None:
    case = CaseOnDisk(tmp_path / "case").write()
    run = _run_of(case)
    registrations = RegistrationCache(run.backend)
    run._segmentation = CaseSegmentation(read_case(discover(case.folder)), run.options.case, registrations)
    assert run.write_unfinished().endswith("without being vanished: lesions 1, 2")
    record = json.loads((tmp_path / "extras/run.json").read_text())
    assert record["finished"] is False
    assert [(one["lesion_id"], one["status"]) for one in record["lesions"]] == [
        (1, "unfinished"), (2, "unfinished"),
    ]  # fmt: skip


def test_a_refused_run_leaves_no_record_of_an_earlier_one(tmp_path: Path) -> None:
    case = CaseOnDisk(tmp_path / "case").write()
    run = _run_of(case)
    shutil.rmtree(case.folder / "images/primary-followup-ct")
    with pytest.raises(InputError, match="primary-followup-ct"):
        run.execute()
    assert not any(path.is_file() and path.name != ".lock" for path in (tmp_path / "out").rglob("*"))
    assert not (tmp_path / "extras/run.json").exists()
