"""The PET/CT studies that training draws samples from, independent of their storage."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ...case.geometry import Box
from ...network.resample import FloatVolume
from ..data_source import ScanSource


@runtime_checkable
class StudySource(ScanSource, Protocol):
    """A prepared study; its labelmap is above 0 in tumour."""

    def read_pet(self, box: Box) -> FloatVolume:
        """Read part of the PET.

        Args:
            box: voxels (z, y, x) of the prepared grid; may reach beyond the image.

        Returns:
            Normalised PET, float32 [z, y, x] of the box's shape, 0 beyond the image.
        """
        ...

    def read_organs(self, box: Box) -> npt.NDArray[np.uint8]:
        """Read part of the organ labels.

        Args:
            box: voxels (z, y, x) of the prepared grid; may reach beyond the image.

        Returns:
            Labels, uint8 [z, y, x] of the box's shape; `UNKNOWN_ORGAN` where they are not known.
        """
        ...

    @property
    def tumor_voxels(self) -> npt.NDArray[np.int32]:
        """Voxels (z, y, x) of tumour to centre patches on, int32 (N, 3); none without tumour."""
        ...
