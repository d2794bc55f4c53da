"""The plan's CT normalisation, element by element, in float32 (docs/model_recipe.md, step 4)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..case.geometry import Array
from .plan import CtNormalization


def normalize_ct(voxels: Array, scheme: CtNormalization) -> npt.NDArray[np.float32]:
    """Normalise HU to the network's intensities: clip, subtract the mean, divide by the standard deviation.

    Voxels that are NaN or infinite become the lower clip value, as air does.

    Args:
        voxels: HU, any shape and number type.
        scheme: clip values, mean and standard deviation in HU.

    Returns:
        New float32 array of the same shape.
    """
    low, high = np.float32(scheme.lower), np.float32(scheme.upper)
    if voxels.dtype == np.float64:  # clipped first: float64 has values beyond the range of float32
        voxels = np.clip(voxels, float(low), float(high), where=np.isfinite(voxels), out=voxels.copy())
    values = voxels.astype(np.float32)
    if not np.issubdtype(voxels.dtype, np.integer):
        values[~np.isfinite(values)] = low
    np.clip(values, low, high, out=values)
    values -= np.float32(scheme.mean)
    values /= np.float32(max(scheme.std, 1e-8))
    return values
