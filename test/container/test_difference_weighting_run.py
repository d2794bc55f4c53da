"""A network with difference weighting and a case without masks through the image: the published voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from .confined import CHECKOUT, Mounts, copy_readable, run, writable_folder

pytestmark = pytest.mark.container
GOLDEN = CHECKOUT / "test" / "golden"
EXPECTED = GOLDEN / "difference_weighting" / "expected" / "c_small" / "fp32" / "masks.npz"
MASKS = "primary-baseline-ct-tumor-lesion-seg"


def _published() -> np.ndarray:
    """The published masks of all lesions as a labelmap (z, y, x), the highest id on top."""
    stored = np.load(EXPECTED)
    shape, ids = stored["primary-fu_shape"], stored["primary-fu_ids"]
    masks = np.unpackbits(stored["primary-fu"], count=int(np.prod(shape))).reshape(shape)
    labelled = masks * ids.reshape(-1, 1, 1, 1)
    return np.asarray(labelled.max(0))


def test_the_published_voxels_without_masks(image: str, tmp_path: Path) -> None:
    case = copy_readable(GOLDEN / "cases" / "c_small" / "input", tmp_path / "input")
    (case / "images" / MASKS).rename(tmp_path / "unused")
    weights = copy_readable(GOLDEN / "difference_weighting" / "model", tmp_path / "model")
    mounts = Mounts(case, writable_folder(tmp_path / "output"), weights)
    result = run(image, mounts, ("--folds", "0,1", "--overlap", "max-id"))
    assert result.returncode == 0 and result.stderr == "", result.stdout + result.stderr
    assert result.stdout.count("segmented in the baseline") == 3
    assert result.files() == {"images/primary-followup-ct-tumor-lesion-seg/segmentation.mha"}
    ours = sitk.GetArrayFromImage(sitk.ReadImage(mounts.output / next(iter(result.files()))))
    published = _published()
    assert np.unique(published).tolist() == [0, 1, 2, 3]
    assert np.count_nonzero(ours != published) <= 2  # another processor may round otherwise
