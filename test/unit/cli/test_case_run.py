"""The run of a case on disk: its registration back end, and errors while it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.cli.case_run import CaseRun
from model.cli.segment import CaseRunOptions
from model.errors import InputError, MemoryExhaustedError
from model.inference import lazy_backend
from model.inference.lazy_backend import LazyBackend
from model.inference.options import CaseOptions, ModelOptions
from model.propagation.register import DEFAULT_BACKEND
from model.propagation.register.identity import IdentityBackend


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
