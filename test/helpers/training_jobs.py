"""Training jobs of seconds on phantoms, and several training processes."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

from model.training.checkpoint import Progress, RunIdentity, network_checkpoint, write_checkpoint
from model.training.config import TrainingConfig
from model.training.job import FoldJob
from model.training.loader import Batch, batches
from model.training.prepared_data import FoldSplit, PreparedData
from model.training.sample_sources import sample_source
from model.training.stages import EnsembleJob
from model.training.training_network import new_network

from . import training_phantoms as phantoms
from .training_phantoms import PATCH, config, patients, plan
from .warm_process import ScriptRun, run_scripts


def fold_job(folder: Path, **changes: object) -> FoldJob:
    """A fold of two training patients and one validation patient, with changed settings."""
    small = plan(features=4)
    file = phantoms.write_plan(folder / "data", small)
    settings = config(**changes)
    return FoldJob(small, file, patients(2), patients(1), folder / "out", "0", settings, device="cpu")


def two_stage_job(folder: Path, batch_size: int, pretraining_batch_size: int) -> EnsembleJob:
    """A fold with a pretraining on other patients."""
    small, pairs = plan(features=4), tuple(phantoms.pair(name) for name in ("A", "B"))
    file = phantoms.write_plan(folder / "data", small)
    data = PreparedData(folder / "data", small, file, pairs, (FoldSplit(("A",), ("B",)),))
    synthetic = replace(data, pairs=tuple(replace(one, patient_id=one.patient_id + "x") for one in pairs))
    return EnsembleJob(
        data,
        folder / "out",
        config(batch_size=batch_size),
        pretraining=synthetic,
        pretraining_config=config(batch_size=pretraining_batch_size, sampling="pretraining"),
        device="cpu",
    )


def training_batches(
    settings: TrainingConfig, numbers: tuple[int, ...] = (0, 1), first: int = 0
) -> list[Batch]:
    """All batches of a run on the phantoms, or those of one process, from an epoch on."""
    samples = sample_source(patients(), PATCH, settings)
    return list(batches(samples, samples, settings, first, numbers, pinned=False))


def run_two_processes(
    script: str, folder: Path, *arguments: object
) -> tuple[list[int], list[str], list[str]]:
    """Run a script in two processes, as torchrun does.

    Args:
        script: Python code.
        folder: its first argument; gets the files of its output.
        arguments: further arguments.

    Returns:
        Exit codes, outputs and error outputs.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    folder.mkdir(exist_ok=True)
    words = [str(folder), *map(str, arguments)]
    results = run_scripts(
        *(
            ScriptRun(script, words, str(folder), str(n), {**common, "RANK": str(n), "LOCAL_RANK": str(n)})
            for n in range(2)
        )
    )
    return (
        [result.code for result in results],
        [result.stdout for result in results],
        [result.stderr for result in results],
    )


def saved_checkpoint(folder: Path, **changes: object) -> Path:
    """The checkpoint of an untrained network in a model folder."""
    settings = config(**changes)
    network = new_network(plan(), settings)
    path = folder / "fold_0" / "checkpoint_final.pth"
    identity = RunIdentity("3d_fullres", "0", "")
    write_checkpoint(path, network_checkpoint(network, settings, identity, Progress()))
    phantoms.write_plan(folder, plan())
    return path
