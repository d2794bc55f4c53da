"""A short run over every kind of input; `python -m test.fuzz` is the long one (docs/reliability.md)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import command_runs, end_to_end
from .judge import judge, same, write_files
from .kinds import KINDS, seeds_of

# Checkpoints take ten times as long as other kinds, and HDF5 transforms start a process each.
_FEWER = {"checkpoints": 40, "transforms": 60, "tracking files": 80, "clicks for PET/CT": 80, "doses": 80}
_READ = [pytest.param(name, marks=pytest.mark.slow) if name == "transforms" else name for name in KINDS]
_EXAMPLES = {name: _FEWER.get(name, 200) for name in KINDS}
_QUIET = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)


@pytest.mark.parametrize("name", _READ)
def test_mutants_are_refused_or_read_rightly(name: str) -> None:
    kind = KINDS[name]

    @settings(_QUIET, max_examples=_EXAMPLES[name])
    @given(st.integers(0, 2**32 - 1))
    def property_of(number: int) -> None:
        rng = Random(number)
        seed = rng.choice(seeds_of(kind))
        verdict = judge(kind, seed, kind.mutate(rng, seed))
        assert verdict.fault is None, (number, seed.name, verdict)

    property_of()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_other_reader_agrees_on_valid_inputs(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Otherwise it could not tell what a mutant means."""
    kind = KINDS[name]
    for seed in seeds_of(kind):
        folder = tmp_path_factory.mktemp("seed")
        write_files(folder, seed.files)
        assert same(kind.read(folder / seed.main)[0], kind.reference(folder / seed.main), 1e-6), seed.name


@pytest.mark.slow
def test_whole_runs_with_a_damaged_file() -> None:
    for number in range(3):
        verdict = end_to_end.run_one(Random(number))
        assert verdict.fault is None, (number, verdict)


@pytest.mark.slow
@pytest.mark.parametrize("name", command_runs.COMMANDS)
def test_whole_runs_of_a_command_with_a_damaged_file(name: str) -> None:
    verdict = command_runs.run_one(Random(1), name)
    assert verdict.fault is None, verdict
