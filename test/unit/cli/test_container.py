"""The container's command line: options of a PET/CT reach its run, and are refused for the other task."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest

from model.cli import container, pet_ct_run
from model.cli.pet_ct_run import PetCtRunOptions
from model.errors import ExitCode
from model.interactive.false_alarm_rules import FalseAlarmRules
from test.helpers.golden_pet_ct import PET_CT_MODEL, GoldenPetCt

DOSE = '{"weight_kg": 70, "dose_mbq": 350, "half_life_minutes": 110, "minutes": 60}'


def _arguments(folder: Path, *options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    container.add_arguments(parser)
    folders = ["--input", str(folder / "input"), "--output", str(folder / "output")]
    return parser.parse_args([*folders, "--weights", str(PET_CT_MODEL), *options])


def test_options_of_a_pet_ct_reach_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(GoldenPetCt("p5_thick_slices_small_z").input, tmp_path / "input")
    (tmp_path / "dose.json").write_text(DOSE)
    runs: list[PetCtRunOptions] = []
    monkeypatch.setattr(pet_ct_run, "run_pet_ct", lambda options, *_: runs.append(options))
    options = ["--min-suv", "--remove-clicked", "--cover-clicks", "--dose", str(tmp_path / "dose.json")]
    assert container.run(_arguments(tmp_path, *options)) == ExitCode.SUCCESS
    assert container.run(_arguments(tmp_path)) == ExitCode.SUCCESS
    assert container.run(_arguments(tmp_path, "--organs")) == ExitCode.INPUT  # without --extras
    given, plain = runs
    assert given.rules == FalseAlarmRules(1.5, True, True) and plain.rules.are_off
    assert given.dose is not None and given.dose.minutes == 60 and plain.dose is None


def test_they_are_refused_for_the_other_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "input").mkdir()
    with pytest.raises(SystemExit):
        container.run(_arguments(tmp_path, "--min-suv", "2", "--organs"))
    assert "--organs, --min-suv: of a PET/CT alone" in capsys.readouterr().err
