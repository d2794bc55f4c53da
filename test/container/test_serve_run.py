"""The image of the platform's second mode: its label and entrypoint, and cases into wiped folders."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .confined import CHECKOUT, Mounts, copy_readable, docker, finish, run, start, writable_folder

pytestmark = pytest.mark.container
PORT = 4743
START_SECONDS = 300.0  # of the platform, for start and health together
LABELMAP = "images/primary-followup-ct-tumor-lesion-seg/segmentation.mha"
# Containers have no network: the requests come from within, by Python's own client.
REQUEST = """
import http.client, json, sys, time
begin = time.monotonic()
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=300)
connection.request(*sys.argv[2:])
response = connection.getresponse()
print(json.dumps([response.status, json.loads(response.read()), time.monotonic() - begin]))
"""


@pytest.fixture(scope="module")
def invoke_image(image: str) -> Iterator[str]:
    """The image with the build argument; its packages are those of the image under test."""
    facts = json.loads(docker("image", "inspect", image).stdout)[0]
    base = facts["Config"]["Labels"]["org.opencontainers.image.base.name"]
    tag = f"longilesion-test-invoke:{uuid.uuid4().hex[:12]}"
    arguments = [f"--build-arg=BASE_IMAGE={base}", "--build-arg=API_METHOD=invoke", f"--tag={tag}"]
    built = docker("build", "--network", "host", "--quiet", *arguments, str(CHECKOUT), timeout=1500)
    assert built.returncode == 0, built.stderr
    yield tag
    docker("image", "rm", "--force", tag)


def test_label_entrypoint_and_port(invoke_image: str) -> None:
    config = json.loads(docker("image", "inspect", invoke_image).stdout)[0]["Config"]
    assert config["Labels"]["org.grand-challenge.api-method"] == "invoke"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Entrypoint"] == ["/opt/venv/bin/python", "/opt/app/process.py", "--serve"]
    assert list(config["ExposedPorts"]) == [f"{PORT}/tcp"]
    assert config["User"].partition(":")[0] not in ("", "root", "0")


def _request(name: str, method: str, path: str) -> tuple[int, dict[str, Any], float] | None:
    """Status, document and seconds of a request; None if nothing listens."""
    done = docker("exec", name, "/opt/venv/bin/python", "-c", REQUEST, str(PORT), method, path, timeout=300)
    if done.returncode:
        assert "ConnectionRefusedError" in done.stderr, done.stderr
        return None
    status, document, seconds = json.loads(done.stdout)
    return status, document, seconds


def _wait(name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while (response := _request(name, "GET", "/health")) is None or response[0] != 200:
        assert response is None or response[0] == 503
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _wipe(image: str, folder: Path) -> None:
    """As the platform does between calls, for whichever user wrote the files."""
    command = ["--user", "0:0", "--entrypoint", "find", image, "/wiped", "-mindepth", "1", "-delete"]
    docker("run", "--rm", "--network", "none", "--volume", f"{folder}:/wiped", *command)
    assert not any(folder.iterdir())


def test_cases_of_the_platform(invoke_image: str, clicked_input: Path, weights: Path, tmp_path: Path) -> None:
    case = writable_folder(tmp_path / "input")
    mounts = Mounts(case, writable_folder(tmp_path / "output"), weights)
    begin = time.monotonic()
    name = start(invoke_image, mounts)
    try:
        _wait(name)
        start_seconds = time.monotonic() - begin
        results, seconds = [], []
        for _ in range(2):
            copy_readable(clicked_input, tmp_path / "next")
            for path in (tmp_path / "next").iterdir():
                shutil.move(path, case)
            (tmp_path / "next").rmdir()
            response = _request(name, "POST", "/invoke")
            assert response is not None and response[0] == 201, response
            seconds.append(response[2])
            results.append((mounts.output / LABELMAP).read_bytes())
            _wipe(invoke_image, mounts.output)
            _wipe(invoke_image, case)
        assert results[0] == results[1] and seconds[1] < start_seconds + seconds[0]
        response = _request(name, "POST", "/invoke")  # of an empty folder
        assert response is not None and response[0] == 500
        assert "primary-baseline-ct" in response[1]["error"]
        health = _request(name, "GET", "/health")
        assert health is not None and health[0] == 200 and health[2] < 1
        docker("kill", "--signal", "TERM", name)
    finally:
        result = finish(invoke_image, name, mounts)
    assert result.returncode == 143 and os.listdir(mounts.output) == []
    assert result.last_error == "ended by signal 15; no case was running"


def test_weights_that_cannot_be_used_end_it(
    invoke_image: str, clicked_input: Path, weights: Path, tmp_path: Path
) -> None:
    broken = copy_readable(weights, tmp_path / "model")
    (broken / "plans.json").write_text("{}")
    result = run(invoke_image, Mounts(clicked_input, writable_folder(tmp_path / "output"), broken))
    assert result.returncode == 3 and "plans.json" in result.last_error
