"""The server of `process.py --serve` as the platform uses it: one case after the other into wiped folders."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..helpers.cases_on_disk import CaseOnDisk
from ..helpers.golden_pet_ct import PET_CT_MODEL
from ..helpers.paths import CHECKOUT, GOLDEN_MODEL

pytestmark = pytest.mark.slow

MASK = "images/primary-followup-ct-tumor-lesion-seg/segmentation.mha"
_SECONDS = 300.0  # of the platform, for start and health


class _Container:
    """A process with the folders that the platform mounts."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.input, self.output = folder / "input", folder / "output"
        self.input.mkdir()
        self.output.mkdir()
        with socket.socket() as free:
            free.bind(("", 0))
            self._port = free.getsockname()[1]
        options = ["--input", self.input, "--output", self.output, "--weights", weights, "--device", "cpu"]
        self.process = subprocess.Popen(
            [sys.executable, "process.py", "--serve", "--port", str(self._port), *map(str, options)],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def request(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def wait(self) -> None:
        """Until it is healthy; before that it is 503 or does not listen yet."""
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                status, _ = self.request("GET", "/health")
            except ConnectionError:
                status = 503
            if status == 200:
                return
            assert status == 503 and self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)

    def wipe(self) -> None:
        for folder in (self.input, self.output):
            for path in folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def end(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGTERM)
        stdout, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stdout, stderr


@pytest.fixture
def container(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[_Container]:
    container = _Container(tmp_path, request.param)
    try:
        yield container
    finally:
        container.process.kill()
        container.process.communicate()


@pytest.mark.parametrize("container", [GOLDEN_MODEL], indirect=True)
def test_cases_of_the_platform(container: _Container, tmp_path: Path) -> None:
    case = CaseOnDisk(tmp_path / "case").write()
    container.wait()
    masks = []
    for _ in range(2):
        shutil.copytree(case.folder, container.input, dirs_exist_ok=True)
        status, document = container.request("POST", "/invoke")
        assert status == 201, document
        masks.append((container.output / MASK).read_bytes())
        container.wipe()
    assert masks[0] == masks[1]
    status, document = container.request("POST", "/invoke")  # of an empty folder
    assert status == 500 and "primary-baseline-ct" in document["error"] and document["exit_code"] == 2
    assert container.request("GET", "/health")[0] == 200
    shutil.copytree(case.folder, container.input, dirs_exist_ok=True)
    assert container.request("POST", "/invoke")[0] == 201
    code, stdout, stderr = container.end()
    assert code == 143 and stdout.count("predicting on cpu") == 1  # the weights were loaded once
    assert stderr.splitlines() == [document["error"], "ended by signal 15; no case was running"]


@pytest.mark.parametrize("container", [PET_CT_MODEL], indirect=True)
def test_a_case_of_another_task(container: _Container, tmp_path: Path) -> None:
    """The network for PET/CT is loaded at the start; cases of both tasks fit only one."""
    CaseOnDisk(container.input).write()
    container.wait()
    status, document = container.request("POST", "/invoke")
    assert status == 500 and "expected what the loaded weights are for: PET/CT" in document["error"]
