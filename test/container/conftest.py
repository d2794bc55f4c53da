"""The image under test and the folders that its containers see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from .confined import CHECKOUT, copy_readable, docker, docker_is_available

SAMPLE = CHECKOUT / "test" / "sample"


def unavailable(reason: str) -> NoReturn:
    if os.environ.get("CONTAINER_REQUIRED") == "1":
        pytest.fail(reason)
    pytest.skip(f"skipped: {reason}")


@pytest.fixture(scope="session")
def image() -> str:
    """The image named by LONGILESION_IMAGE, else one built here."""
    if not docker_is_available():
        unavailable("no Docker")
    tag = os.environ.get("LONGILESION_IMAGE")
    if tag is None:
        tag = "longilesion:test"
        subprocess.run([CHECKOUT / "build.sh", tag], check=True)
    elif docker("image", "inspect", tag).returncode:
        pytest.fail(f"LONGILESION_IMAGE names {tag}, which is no image here")
    return tag


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_readable(CHECKOUT / "resources" / "weights", tmp_path_factory.mktemp("weights") / "model")


@pytest.fixture(scope="session")
def clicked_input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample case with its follow-up clicks (step 2)."""
    return copy_readable(SAMPLE / "input", tmp_path_factory.mktemp("clicked") / "input")


@pytest.fixture(scope="session")
def unclicked_input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample case with an empty follow-up list (step 1)."""
    folder = tmp_path_factory.mktemp("unclicked")
    command = [sys.executable, "-m", "test.sample.step1", str(folder / "linked")]
    subprocess.run(command, check=True, cwd=CHECKOUT)
    return copy_readable(folder / "linked", folder / "input")
