"""Container runs under the platform's flags, and stricter ones."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
STRANGER = "12345:12345"  # a user the image does not know
FLAGS = (
    *("--platform", "linux/amd64", "--network", "none", "--read-only"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--memory", "4g", "--memory-swap", "4g", "--shm-size", "64m", "--pids-limit", "256"),
    *("--user", STRANGER),
)
SCRATCH = ("--volume", "/tmp")
# Stricter than any platform: no home, and nothing to write to but /output.
NO_SCRATCH = ("--env", "HOME=/nonexistent", "--env", "TMPDIR=/nonexistent")


@dataclass(frozen=True)
class Mounts:
    input: Path
    output: Path
    weights: Path | None = None

    def flags(self) -> list[str]:
        flags = ["--volume", f"{self.input}:/input:ro", "--volume", f"{self.output}:/output"]
        return flags + (["--volume", f"{self.weights}:/opt/ml/model:ro"] if self.weights else [])


@dataclass(frozen=True)
class Run:
    returncode: int
    stdout: str
    stderr: str
    output: Path

    @property
    def last_error(self) -> str:
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def files(self) -> set[str]:
        return {
            path.relative_to(self.output).as_posix() for path in self.output.rglob("*") if not path.is_dir()
        }


def docker(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = ["docker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout)


def docker_is_available() -> bool:
    return shutil.which("docker") is not None and docker("info").returncode == 0


def copy_readable(source: Path, target: Path) -> Path:
    """Copy a folder (links become files) so that a stranger in a container can read it."""
    shutil.copytree(source, target)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def writable_folder(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o777)
    return path


def start(
    image: str, mounts: Mounts, arguments: Iterable[str] = (), scratch: tuple[str, ...] = SCRATCH
) -> str:
    """Start a confined container in the background; its name."""
    name = f"longilesion-test-{uuid.uuid4().hex[:12]}"
    flags = (*FLAGS, *scratch, *mounts.flags())
    result = docker("run", "--detach", "--name", name, *flags, image, *arguments)
    if result.returncode:
        docker("rm", "--force", "--volumes", name)
        raise RuntimeError(result.stderr)
    return name


def finish(image: str, name: str, mounts: Mounts, timeout: float = 600) -> Run:
    """Wait for a container's end, and remove it."""
    try:
        returncode = int(docker("wait", name, timeout=timeout).stdout)
        logs = docker("logs", name)
    finally:
        docker("rm", "--force", "--volumes", name)
        hand_over(image, mounts.output)
    return Run(returncode, logs.stdout, logs.stderr, mounts.output)


def run(image: str, mounts: Mounts, arguments: Iterable[str] = (), scratch: tuple[str, ...] = SCRATCH) -> Run:
    return finish(image, start(image, mounts, arguments, scratch), mounts)


def hand_over(image: str, folder: Path) -> None:
    """Let a host user who is not root read and delete what the container's user wrote."""
    if os.getuid() != 0:
        flags = ("--volume", f"{folder}:/output", "--user", STRANGER, "--entrypoint", "chmod")
        written = [f"/output/{path.name}" for path in folder.iterdir()]
        docker("run", "--rm", *flags, image, "-R", "a+rwX", *written)
