"""The whole examination: one condition after the other; what fails itself is a condition as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import LongilesionError, one_line
from .condition import Condition, broken, works
from .gpu import gpu_conditions, gpu_facts
from .machine import folder_conditions, memory_condition, processor_condition
from .software import package_conditions, python_condition

_WEIGHTS = "put a whole model in place and check it with 'longilesion weights verify'"


@dataclass(frozen=True, slots=True)
class ExaminedPlaces:
    """What is examined besides the machine.

    Attributes:
        weights_dir: folder of the model; None finds the default one.
        output_dir: folder for outputs; None takes ``/output`` if it exists.
        device: on which the network is tried: auto, cpu, cuda or cuda:N.
    """

    weights_dir: Path | None = None
    output_dir: Path | None = None
    device: str = "auto"


def examine(places: ExaminedPlaces) -> Iterator[Condition]:
    """Examine software, machine, GPU, folders, weights, and a forward pass, in this order."""
    yield python_condition()
    yield from package_conditions()
    parts: list[tuple[str, Callable[[], Iterable[Condition]], str]] = [
        ("processor", lambda: [processor_condition()], "look at /proc/cpuinfo"),
        ("memory", lambda: [memory_condition()], "look at /proc/meminfo"),
        ("gpu", lambda: gpu_conditions(gpu_facts()), "install torch again, see pytorch.org"),
        ("folders", lambda: folder_conditions(places.output_dir), "make the folders writable"),
        ("weights", lambda: weights_conditions(places.weights_dir), _WEIGHTS),
        ("network", lambda: [network_condition(places)], "mend what is broken above; else take --device cpu"),
    ]
    for part, conditions, action in parts:
        try:
            yield from conditions()
        except LongilesionError as error:
            yield broken(part, one_line(error), action)
        except Exception as error:  # a library that cannot be loaded, a driver that fails
            yield broken(part, f"{type(error).__name__}: {one_line(error)[:300]}", action)


def weights_conditions(folder: Path | None = None) -> Iterator[Condition]:
    """The model that runs take: what it is, and each of its files with its checksum.

    Args:
        folder: of the model; None finds the default one.

    Raises:
        WeightsError: there is no model, or it cannot be read at all.
    """
    from ..network.model_facts import describe_model, verify_model
    from ..network.weights import find_weights

    place = find_weights(folder)
    for file in verify_model(place):
        part = f"weights {file.path.relative_to(place)}"
        recorded = ", as recorded" if file.is_recorded else ""
        if file.problem is None:
            yield works(part, f"sha256 {file.sha256}{recorded}")
        else:
            yield broken(part, file.problem, _WEIGHTS)
    facts = describe_model(place)
    notice = f"; {facts.notice}" if facts.notice else ""
    yield works("weights", f"{place}: {facts.variant}, folds {', '.join(map(str, facts.folds))}{notice}")


def network_condition(places: ExaminedPlaces) -> Condition:
    """A forward pass of the model's first fold over the smallest patch that it takes.

    Raises:
        LongilesionError: the model or the device cannot be used.
    """
    import torch

    from ..inference.memory import choose_device
    from ..network.checkpoint_file import read_checkpoint
    from ..network.input_variants import family_of
    from ..network.plan import read_training_plan
    from ..network.weights import available_folds, build_network, find_weights, inspect_weights, load_fold

    folder = find_weights(places.weights_dir)
    manifest = inspect_weights(folder, available_folds(folder)[:1])
    raw = read_checkpoint(manifest.files[0])
    plan, _ = read_training_plan(manifest.plan_file, raw.configuration)
    fold = load_fold(manifest.files[0], family_of(raw.trainer_name))
    device = choose_device(places.device)
    network = build_network(plan, fold, device)
    shape = _smallest_patch(plan.architecture.strides)
    start = time.perf_counter()
    with torch.inference_mode():
        channels = torch.zeros((1, len(fold.variant.channels), *shape), device=device)
        is_finite = bool(torch.isfinite(network(channels)).all())
    seconds = time.perf_counter() - start
    found = f"{'x'.join(map(str, shape))} voxels on {device} in {seconds:.2f} s"
    if not is_finite:
        return broken("network", f"{found}, but the logits are not finite", _WEIGHTS)
    return works("network", found)


def _smallest_patch(strides: Iterable[tuple[int, int, int]]) -> tuple[int, ...]:
    """Voxels per axis that leave two in the deepest stage, whose norm needs more than one."""
    shape = [2, 2, 2]
    for stride in strides:
        shape = [size * step for size, step in zip(shape, stride, strict=True)]
    return tuple(shape)
