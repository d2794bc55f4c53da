"""What a run does beside its stages: back ends by name, and faults upon faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.cli import case_run as stages
from model.cli.case_run import NamedBackend, Run
from model.cli.segment import CaseRunOptions
from model.errors import InputError, MemoryExhaustedError
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
def test_the_back_end_that_is_asked_for(
    options: CaseRunOptions, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def backend(name: str, device: str) -> IdentityBackend:
        asked.append((name, device))
        return IdentityBackend()

    monkeypatch.setattr(stages, "backend", backend)
    run = Run(options)
    assert asked == []  # not before it is needed
    assert run.backend.load() is run.backend.load()
    assert asked == [expected]


def test_a_name_that_is_none_is_told_before_anything_is_read(tmp_path: Path) -> None:
    missing = CaseRunOptions(
        input_dir=tmp_path / "none", output_dir=tmp_path / "out", case=CaseOptions(backend="affinity")
    )
    with pytest.raises(InputError, match="affinity"):
        Run(missing).execute()
    with pytest.raises(InputError, match="affinity"):
        NamedBackend("affinity", "cpu").load()


def test_what_went_wrong_first_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the partial result cannot be written either, as the case is not readable at all."""
    run = Run(CaseRunOptions(input_dir=tmp_path / "none", output_dir=tmp_path / "out"))

    def exhausted() -> None:
        raise MemoryExhaustedError("out of memory")

    monkeypatch.setattr(run, "_load_model", exhausted)
    monkeypatch.setattr(run, "_read_and_locate", lambda: None)
    with pytest.raises(MemoryExhaustedError):
        run.execute()
