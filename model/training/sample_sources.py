"""Where a variant's samples come from: lesions of pairs of scans, or PET/CT studies with clicks."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..case.geometry import Index
from .augment import Sample, make_sample
from .config import TrainingConfig
from .data_source import Patients
from .pet_ct.click_samples import ClickSamples
from .sampler import Sampler


class SampleSource(Protocol):
    """Draws samples; a draw depends on nothing but the generator passed in."""

    def sample(self, rng: np.random.Generator, augmented: bool) -> Sample:
        """Draw a sample.

        Args:
            rng: source of all draws.
            augmented: transform it at random, as in training.
        """
        ...


class LesionSamples:
    """Samples of lesions, by a `Sampler`."""

    def __init__(self, sampler: Sampler, config: TrainingConfig) -> None:
        self._sampler, self._config = sampler, config

    def sample(self, rng: np.random.Generator, augmented: bool) -> Sample:
        """Draw a lesion and build its sample."""
        return make_sample(self._sampler.draw(rng), self._config, rng, augmented)


def sample_source(patients: Patients, patch_size: Index, config: TrainingConfig) -> SampleSource:
    """The samples of a fold's patients, by the variant of the settings.

    Args:
        patients: of a fold, to train or to validate on.
        patch_size: voxels (z, y, x) of the network's input.
        config: how to sample.

    Raises:
        InputError: the data do not have what the variant needs.
    """
    if config.variant == "interactive":
        return ClickSamples(patients, patch_size, config)
    return LesionSamples(Sampler(patients, patch_size, config), config)
