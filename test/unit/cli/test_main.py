"""Command line of the package: help without heavy imports, one-line errors, exit codes, signals."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from model.case.clicks import read_clicks
from model.cli import prompts
from model.cli.main import main
from model.errors import InputError, WeightsError
from model.tracking.discovery import discover_series
from test.helpers.paths import CHECKOUT

COMMANDS = ("segment", "interactive-clicks", "interactive-eval", "track", "propagate", "prompts", "weights")


def _mask(folder: Path) -> Path:
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 1:4, 2:5] = 7
    path = folder / "mask.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(path))
    return path


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from model.cli.main import main\n"
        "for command in sys.argv[1:]:\n"
        "    try:\n        main([command, '--help'])\n"
        "    except SystemExit as end:\n        assert end.code == 0\n"
        "print([name for name in ('torch', 'SimpleITK', 'numpy', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *COMMANDS], capture_output=True, text=True, cwd=CHECKOUT
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    for option in ("--series", "--from", "--mask", "--input", "pack"):
        assert option in done.stdout


def test_the_sample_case_as_a_series() -> None:
    (patient,) = discover_series(CHECKOUT / "test" / "sample" / "series.csv")
    before, after = patient.time_points
    assert (before.name, after.name) == ("baseline", "followup")
    assert before.scans[0].mask is not None and after.scans[0].clicks is None


def test_a_command_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.json"
    assert main(["prompts", "--mask", str(_mask(tmp_path)), "-o", str(output)]) == 0
    assert read_clicks(output).keys() == {7}
    assert "1 clicks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (("prompts", "--mask", "missing.mha", "-o", "o.json"), 2, ("missing.mha",)),
        (("track", "--series", "nowhere", "-o", "o"), 2, ("nowhere", "expected a folder")),
        (("propagate", "--from", "a.mha", "--to", "b.mha", "-o", "o.json"), 2, ("--points", "expected")),
        (
            (
                "propagate",
                "--from",
                "a.mha",
                "--to",
                "b.mha",
                "--points",
                "p.json",
                "-o",
                "o.json",
                "--backend",
                "none",
            ),
            2,
            ("'none'", "affine"),
        ),
    ],
)
def test_errors_are_one_line_on_stderr(
    words: tuple[str, ...],
    code: int,
    parts: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(list(words)) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and all(part in lines[0] for part in parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("the file"), 2, "the file"),
        (WeightsError("two\nlines"), 3, "two lines"),
        (MemoryError(), 4, "out of memory"),
        (ZeroDivisionError("by zero"), 1, "unexpected fault of the program: ZeroDivisionError"),
    ],
)
def test_exit_codes(
    error: Exception,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(prompts, "run", fail)
    assert main(["prompts", "--mask", "m.mha", "-o", "o.json"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and line in lines[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_command_at_once(number: signal.Signals, code: int) -> None:
    # Long work in C code, during which Python handles no signals.
    program = (
        "import sys, numpy\n"
        "from model.cli import main, track\n"
        "def busy(arguments):\n"
        "    print('busy now', flush=True)\n"
        "    numpy.linalg.eig(numpy.random.default_rng(0).random((3000, 3000)))\n"
        "    return 0\n"
        "track.run = busy\n"
        "sys.exit(main.main(['track', '--series', 'x', '-o', 'y']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    assert process.stdout is not None and process.stdout.readline() == "busy now\n"
    process.send_signal(number)
    begin = time.perf_counter()
    _, stderr = process.communicate(timeout=60)
    assert time.perf_counter() - begin < 3
    assert process.returncode == code
    assert stderr == f"ended by signal {int(number)}; what was written until then is whole\n"
