"""Contents and labels of the image."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .confined import CHECKOUT, docker

Facts = dict[str, Any]

pytestmark = pytest.mark.container
STANDIN_LABEL = "ci.standin-base"
CLAIMED_LABEL = "longilesion.test.claimed-torch"
LIST_VERSIONS = (
    "import importlib.metadata as m, json;"
    "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}))"
)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def facts(image: str) -> Facts:
    facts: Facts = json.loads(docker("image", "inspect", image).stdout)[0]
    return facts


@pytest.fixture(scope="module")
def versions(image: str) -> dict[str, str]:
    command = ("run", "--rm", "--network", "none", "--entrypoint", "/opt/venv/bin/python")
    listing = json.loads(docker(*command, image, "-c", LIST_VERSIONS).stdout)
    return {canonical(name): version for name, version in listing.items()}


@pytest.fixture
def base_with_torch(facts: Facts) -> Iterator[Callable[[str], str]]:
    """Makes images of the image's own base that claim to bring a torch; they are removed at the end."""
    tags: list[str] = []

    def make(version: str) -> str:
        tags.append(f"longilesion-test-base:{uuid.uuid4().hex[:12]}")
        info = f"/claimed/torch-{version}.dist-info"
        recipe = (
            f"FROM {facts['Config']['Labels']['org.opencontainers.image.base.name']}\n"
            f"RUN mkdir -p {info} && printf 'Name: torch\\nVersion: {version}\\n' > {info}/METADATA\n"
            "ENV PYTHONPATH=/claimed\n"
            f"LABEL {CLAIMED_LABEL}=1\n"
        )
        build = ["docker", "build", "--network", "none", "--tag", tags[-1], "-"]
        subprocess.run(build, input=recipe, text=True, check=True, capture_output=True)
        return tags[-1]

    yield make
    docker("image", "rm", "--force", *tags)
    docker("image", "prune", "--force", "--filter", f"label={CLAIMED_LABEL}")  # what the refused builds left


def test_user_is_not_root(facts: Facts, image: str) -> None:
    assert facts["Config"]["User"].partition(":")[0] not in ("", "root", "0")
    uid = docker("run", "--rm", "--network", "none", "--entrypoint", "id", image, "-u").stdout
    assert int(uid) > 999


def test_platform(facts: Facts) -> None:
    assert (facts["Os"], facts["Architecture"]) == ("linux", "amd64")


def test_environment(facts: Facts) -> None:
    variables = dict(item.split("=", 1) for item in facts["Config"]["Env"])
    assert variables["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert variables["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert variables["HOME"] == "/tmp"
    for cache in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert variables[cache].startswith("/tmp/")


def test_labels_and_entrypoint(facts: Facts) -> None:
    config = facts["Config"]
    assert config["Labels"]["org.grand-challenge.api-method"] == "exec"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Entrypoint"] == ["/opt/venv/bin/python", "/opt/app/process.py"]
    assert config["WorkingDir"] == "/opt/app"


def test_packages_are_the_pinned_ones(versions: dict[str, str]) -> None:
    lines = (CHECKOUT / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if re.match(r"[\w-]+==", line))
    assert len(pins) > 8
    assert {name: versions.get(canonical(name)) for name in pins} == pins


def test_torch_is_an_accepted_one(versions: dict[str, str]) -> None:
    major, minor = (int(part) for part in versions["torch"].split(".")[:2])
    assert (major, minor) >= (2, 6) and (major, minor) != (2, 9)


def test_packages_of_tests_and_training_stay_out(versions: dict[str, str]) -> None:
    tests = {"pytest", "evalutils", "dynamic-network-architectures", "torchvision"}
    assert not (tests | {"batchgeneratorsv2", "tqdm", "matplotlib", "tensorboard"}) & set(versions)


def test_application_folder_holds_only_what_is_allowed(image: str) -> None:
    folders = ("/opt/app", "/opt/app/model/serve")
    listing = docker("run", "--rm", "--network", "none", "--entrypoint", "ls", image, "-A", *folders).stdout
    top, server = listing.split(f"{folders[1]}:")
    texts = {"LICENSE", "requirements.txt", "requirements.lock", "requirements-torch.txt"}
    assert set(top.split()) == {f"{folders[0]}:", "model", "process.py", "resources"} | texts
    assert "web_app.py" in server and "page" not in server.split()  # the viewer is no part of the image


def test_help_is_printed(image: str) -> None:
    result = docker("run", "--rm", "--network", "none", "--read-only", "--volume", "/tmp", image, "--help")
    assert result.returncode == 0
    assert "--input" in result.stdout


@pytest.mark.parametrize("version", ["2.5.1", "2.9.1"])
def test_base_with_an_unfit_torch_is_refused(
    base_with_torch: Callable[[str], str], version: str, tmp_path: Path
) -> None:
    base = base_with_torch(version)
    arguments = ("--network", "none", "--build-arg", f"BASE_IMAGE={base}", str(CHECKOUT))
    result = docker("build", "--quiet", "--force-rm", *arguments)
    assert result.returncode != 0
    message = f"error: base image with torch {version}; needed is torch >= 2.6 and not 2.9.*"
    assert message in result.stdout + result.stderr


def test_export_refuses_a_stand_in_base(facts: Facts, image: str, tmp_path: Path) -> None:
    if facts["Config"]["Labels"].get(STANDIN_LABEL) != "1":
        pytest.skip("the image is built on a real base")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "EXPORT_DIR": str(tmp_path / "export")}
    command = [str(CHECKOUT / "export.sh"), image]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert "stand-in base" in result.stderr
    assert not (tmp_path / "export").exists()
