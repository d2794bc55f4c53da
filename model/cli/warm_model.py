"""A model that stays loaded, and runs the cases that come into one input folder."""

from __future__ import annotations

import argparse
import logging
from typing import Protocol

import numpy as np

from ..case.task_choice import holds_pet_ct
from ..errors import InputError
from ..inference.ensemble import Ensemble
from ..inference.lazy_backend import LazyBackend
from ..inference.load import LoadedModel, load_model
from ..inference.memory import release_memory
from ..interactive.load_pet_ct import PetCtModel, load_pet_ct_model
from ..network.checkpoint_file import read_checkpoint
from ..network.input_variants import Family, family_of
from ..network.resample import FloatVolume
from ..network.weights import available_folds, find_weights, inspect_weights
from . import interactive
from .case_run import CaseRun
from .segment import CaseRunOptions, options_of

log = logging.getLogger(__name__)


class WarmModel(Protocol):
    """Runs one case after the other."""

    def run_case(self) -> None:
        """Segment the case that is in the input folder now; LongilesionError if it cannot be."""
        ...

    def write_unfinished(self) -> str | None:
        """Write what is finished of the case that runs; None if none does, or it writes nothing."""
        ...


def load_warm_model(arguments: argparse.Namespace) -> WarmModel:
    """Load the model of a command line parsed with the options of ``segment``: of CT pairs or of PET/CT.

    Raises:
        LongilesionError: the model cannot be used.
    """
    folder = find_weights(arguments.weights)
    first = inspect_weights(folder, available_folds(folder)[:1]).files[0]
    if family_of(read_checkpoint(first).trainer_name) is Family.PET_CT:
        model = load_pet_ct_model(
            folder,
            interactive.pet_ct_options(arguments),
            interactive.pet_ct_folds(arguments),
            arguments.organs,
        )
        touch_gpu(model.ensemble)
        return WarmPetCt(arguments, model)
    if given := interactive.given_pet_ct_options(arguments):
        raise InputError(f"{', '.join(given)}: of PET/CT alone; {folder} holds networks for pairs of CTs")
    options = options_of(arguments)
    pair_model = load_model(options.weights_dir, options.model)
    LazyBackend(options.case.backend, options.model.registration_device).load()
    touch_gpu(pair_model.ensemble)
    return WarmPairs(options, pair_model)


def touch_gpu(ensemble: Ensemble, always: bool = False) -> None:
    """Move the folds to the GPU and let it choose its kernels, by a patch of zeros; nothing on the CPU.

    Args:
        ensemble: of the model.
        always: on the CPU as well.
    """
    if ensemble.rung.device == "cpu" and not always:
        return
    channels = 1 + max(ensemble.variant.channels)

    def zeros() -> FloatVolume:
        return np.zeros((channels, *ensemble.plan.patch_size_zyx), np.float32)

    for prediction in ensemble.predict([zeros]):
        if prediction.error is not None:
            log.warning("a first patch could not be predicted: %s", prediction.error)


class WarmPairs:
    """A model for baseline and follow-up CTs; see `WarmModel`."""

    def __init__(self, options: CaseRunOptions, model: LoadedModel) -> None:
        self._options, self._model = options, model
        self._run: CaseRun | None = None

    def run_case(self) -> None:
        """See `WarmModel`."""
        if holds_pet_ct(self._options.input_dir):
            raise _other_task(self._options.input_dir, "a PET/CT", "baseline and follow-up CTs")
        run = self._run = CaseRun(self._options, self._model)
        try:
            run.execute()
        finally:
            self._run = None
            run.release_folders()
            release_memory()

    def write_unfinished(self) -> str | None:
        """See `WarmModel`."""
        run = self._run
        return run.write_unfinished() if run is not None else None


class WarmPetCt:
    """A model for PET/CT; see `WarmModel`."""

    def __init__(self, arguments: argparse.Namespace, model: PetCtModel) -> None:
        self._arguments, self._model = arguments, model

    def run_case(self) -> None:
        """See `WarmModel`."""
        if not holds_pet_ct(self._arguments.input):
            raise _other_task(self._arguments.input, "no PET/CT", "PET/CT")
        interactive.run_platform_case(self._arguments, self._model)
        release_memory()

    def write_unfinished(self) -> str | None:
        """See `WarmModel`; a mask is written whole or not at all."""
        return None


def _other_task(folder: object, found: str, expected: str) -> InputError:
    return InputError(f"{folder}: holds {found}; expected what the loaded weights are for: {expected}")
