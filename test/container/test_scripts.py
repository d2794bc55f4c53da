"""run.sh and its environment, on a small checkout that needs no download; and the packaging."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .confined import CHECKOUT

REQUIREMENTS = (
    "requirements-torch.txt",
    "requirements.txt",
    "requirements-train.txt",
    "requirements-serve.txt",
    "requirements-dev.txt",
)
# Copies an environment where `python -m venv --clear FOLDER` would make one, which takes several seconds.
COPYING_PYTHON = """#!/bin/sh
if [ "$1 $2 $3" = "-m venv --clear" ]; then
    rm -rf -- "$4" && cp -a '{environment}' "$4" && exec rm -f -- "$4"/installed-*
fi
exec '{python}' "$@"
"""
PROCESS = "import sys\nprint(*sys.argv[1:])\nsys.exit(7)\n"


pytestmark = pytest.mark.slow


def write_checkout(folder: Path) -> Path:
    """The scripts with empty lists of packages and a process.py that shows its arguments."""
    folder.mkdir()
    for name in ("run.sh", "environment.sh"):
        shutil.copy(CHECKOUT / name, folder)
    for name in REQUIREMENTS:
        (folder / name).write_text("# nothing\n")
    (folder / "process.py").write_text(PROCESS)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without an environment."""
    return write_checkout(tmp_path / "a checkout")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A checkout after its first run, and that run."""
    folder = write_checkout(tmp_path_factory.mktemp("first") / "a checkout")
    return folder, call(folder, "--input", "some folder")


@pytest.fixture
def made(first: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> Path:
    """A checkout with its environment; the program of an environment runs wherever its folder lies."""
    return shutil.copytree(first[0], tmp_path / "a checkout", symlinks=True)


@pytest.fixture
def path(first: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> str:
    """A search path whose Python copies the environment of the first run."""
    python = tmp_path / "copying" / "python3.11"
    python.parent.mkdir()
    python.write_text(COPYING_PYTHON.format(environment=first[0] / ".venv", python=sys.executable))
    python.chmod(0o755)
    return f"{python.parent}{os.pathsep}{os.environ['PATH']}"


def call(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "TORCH_INDEX_URL"} | variables
    command = [str(checkout / "run.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def remove_pip(checkout: Path) -> None:
    (packages,) = (checkout / ".venv" / "lib").glob("python*/site-packages")
    shutil.rmtree(packages / "pip")


def test_environment_is_made_once_and_arguments_are_passed(
    first: tuple[Path, subprocess.CompletedProcess[str]], made: Path
) -> None:
    assert (first[1].returncode, first[1].stdout.splitlines()[-1]) == (7, "--input some folder")
    remove_pip(made)  # whoever installs now, fails
    again = call(made)
    assert again.returncode == 7
    expected = f"--input {made}/test/sample/input --output {made}/out/sample/output"
    assert again.stdout == f"{expected} --extras {made}/out/sample/extras\n"


@pytest.mark.parametrize("change", ["requirements", "index"])
def test_a_change_makes_the_environment_anew(made: Path, change: str, path: str) -> None:
    marker = made / ".venv" / "marker"
    marker.touch()
    if change == "requirements":
        (made / "requirements.txt").write_text("# still nothing\n")
        assert call(made, PATH=path).returncode == 7
    else:
        assert call(made, PATH=path, TORCH_INDEX_URL="file:///nowhere").returncode == 7
    assert not marker.exists()


def test_a_failed_install_is_not_taken_for_a_good_one(checkout: Path, path: str) -> None:
    good = (checkout / "requirements.txt").read_text()
    (checkout / "requirements.txt").write_text("./no-such-package\n")
    for _ in range(2):
        result = call(checkout, PATH=path)
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1] == "run.sh: the packages could not be installed"
    (checkout / "requirements.txt").write_text(good)
    assert call(checkout, PATH=path).returncode == 7


def test_a_machine_without_python_gets_a_clear_message(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "cat", "rm", "mv"):
        program = shutil.which(name)
        assert program is not None
        (tools / name).symlink_to(program)
    result = call(checkout, PATH=str(tools))
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "no Python 3.11 or newer" in line


def test_torch_is_pinned_in_one_place() -> None:
    places = (*REQUIREMENTS, "Dockerfile", "pyproject.toml", "environment.sh", "build.sh")
    pinned = [name for name in places if re.search(r"torch==\d", (CHECKOUT / name).read_text())]
    assert pinned == ["requirements-torch.txt"]
