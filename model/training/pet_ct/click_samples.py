"""Samples of the interactive network: a patch of CT and PET, its tumour, and clicks.

See docs/model_recipe.md, Interactive training.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...case.geometry import Box, Index
from ...case.tumor_clicks import ClickKind
from ...errors import InputError
from ...network.pet_ct import click_map
from ...network.resample import FloatVolume
from ..augment import Sample
from ..augment_intensity import augment_intensity
from ..augment_spatial import SpatialTransform, draw_spatial, identity_transform, is_flat
from ..config import TrainingConfig
from ..data_source import Patients
from .drawn_clicks import draw_clicks
from .misalignment import draw_misalignment
from .study_source import StudySource


class ClickSamples:
    """Draws a patient, one of the patient's studies, and a patch of it.

    With ``draw=pairs`` studies are drawn uniformly, whoever's they are.
    """

    def __init__(self, patients: Patients, patch_size: Index, config: TrainingConfig) -> None:
        """Keep the studies of the patients.

        Args:
            patients: of a fold, to train or to validate on.
            patch_size: voxels (z, y, x) of the network's input.
            config: how to sample.

        Raises:
            InputError: the data hold no PET.
        """
        self._studies = [[_study(pair.followup) for pair in pairs] for pairs in patients.pairs]
        if config.draw == "pairs":
            self._studies = [[study] for studies in self._studies for study in studies]
        self._patch_size, self._config = patch_size, config

    def sample(self, rng: np.random.Generator, augmented: bool) -> Sample:
        """Draw a sample.

        Args:
            rng: source of all draws.
            augmented: transform it at random.
        """
        studies = self._studies[int(rng.integers(len(self._studies)))]
        study = studies[int(rng.integers(len(studies)))]
        patch = self._drawn_patch(study, rng)
        images, tumor, organs = self._transformed(study, patch, rng, augmented)
        if augmented and self._config.intensity:
            images = augment_intensity(images, is_flat(self._patch_size), rng)
        clicks = draw_clicks(tumor, images[1], self._config, rng)
        whole = Box.of_shape(self._patch_size)
        maps = [click_map(clicks[kind], whole, self._patch_size) for kind in ClickKind]
        return Sample(np.stack([*images, *maps]), tumor.astype(np.uint8), organs)

    def _drawn_patch(self, study: StudySource, rng: np.random.Generator) -> Box:
        """A patch around a voxel of tumour, or anywhere in the image; a small image is centred in it."""
        voxels = study.tumor_voxels
        shows_tumor = len(voxels) > 0 and rng.random() < self._config.foreground_fraction
        centre = voxels[int(rng.integers(len(voxels)))].tolist() if shows_tumor else None
        start = []
        for axis, (size, n) in enumerate(zip(self._patch_size, study.shape_zyx, strict=True)):
            if n <= size:
                start.append(-((size - n) // 2))  # as tiles are padded at inference
            elif centre is not None:
                start.append(min(max(centre[axis] - size // 2, 0), n - size))
            else:
                start.append(int(rng.integers(n - size + 1)))
        return Box.of_shape(self._patch_size, start)

    def _transformed(
        self, study: StudySource, patch: Box, rng: np.random.Generator, augmented: bool
    ) -> tuple[FloatVolume, npt.NDArray[np.bool_], npt.NDArray[np.uint8] | None]:
        """CT and PET [2, z, y, x], tumour and organs (None without a head for them) of the patch."""
        z, y, x = (size // 2 for size in self._patch_size)
        transform, shift = identity_transform(self._patch_size), (0, 0, 0)
        if augmented:
            transform = draw_spatial(self._config, self._patch_size, (z, y, x), rng)
        ct_transform = transform
        if augmented:
            ct_transform, shift = draw_misalignment(transform, self._config, rng)
        ct_box = ct_transform.source_box().shifted(patch.start_zyx).shifted(shift)
        ct = ct_transform.transform_volumes(study.read_ct(ct_box)[None])
        box = transform.source_box().shifted(patch.start_zyx)
        tumor = (study.read_labels(box) > 0).astype(np.float32)
        pet, soft = transform.transform_volumes(np.stack([study.read_pet(box), tumor]))
        organs = _transformed_organs(study, box, transform) if self._config.organs > 0 else None
        return np.stack([ct[0], pet]), soft > 0.5, organs


def _study(scan: object) -> StudySource:
    if not isinstance(scan, StudySource):
        raise InputError("training data: hold no PET; expected data prepared from PET/CT, as for interactive")
    return scan


def _transformed_organs(study: StudySource, box: Box, transform: SpatialTransform) -> npt.NDArray[np.uint8]:
    labels = study.read_organs(box).astype(np.float32)
    nearest = transform.transform_volumes(labels[None], nearest=True)[0]
    whole: npt.NDArray[np.uint8] = nearest.astype(np.uint8)
    return whole
