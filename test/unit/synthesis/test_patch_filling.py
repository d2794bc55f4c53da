"""Holes filled with patches of the tissue around them, and residues of vanished lesions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from model.synthesis.draw_types import ResidueDraw
from model.synthesis.patch_filling import fill_with_patches
from model.synthesis.residue import residue_hu
from model.synthesis.settings import SynthesisSettings

from ...helpers.synthesis_phantom import BIG, STILL, events, made, scan

SPACING = (2.0, 1.0, 1.0)
SHAPE = (30, 70, 70)


def _ball(radius_mm: float) -> np.ndarray:
    offsets = (np.indices(SHAPE) - np.reshape((15, 35, 35), (3, 1, 1, 1))) * np.reshape(SPACING, (3, 1, 1, 1))
    return np.asarray(np.linalg.norm(offsets, axis=0) <= radius_mm)


def test_a_filling_has_the_texture_of_its_surroundings() -> None:
    """Stripes across slices: a smooth filling would end them."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 0.7) * 30
    ramp = np.linspace(0, 40, SHAPE[2])
    true = (40 + ramp + noise + 60 * (np.indices(SHAPE)[1] % 14 < 4)).astype(np.float32)
    hole = _ball(14.0)
    hu = np.where(hole, 900.0, true).astype(np.float32)
    filled = fill_with_patches(hu, hole, ~hole, SPACING, 1)
    assert filled is not None
    assert filled[hole].max() < true.max() + 40 and abs(float((filled - true)[hole].mean())) < 10
    assert filled[hole].std() == pytest.approx(true[hole].std(), rel=0.3)
    far = ~ndimage.binary_dilation(hole, np.ones((3, 3, 3)), iterations=3)
    assert np.array_equal(filled[far], true[far])
    again = fill_with_patches(hu, hole, ~hole, SPACING, 1)
    assert again is not None and np.array_equal(filled, again)


def test_bone_beside_a_hole_does_not_grow_into_it() -> None:
    hole = _ball(10.0)
    hu = np.where(hole, 90.0, 40.0).astype(np.float32)
    hu[:, :, 46:56] = 900
    filled = fill_with_patches(hu, hole, ~hole, SPACING, 1)
    assert filled is not None and np.abs(filled[hole] - 40).max() < 1
    assert (filled[:, :, 46:56] == 900).all()


def test_without_tissue_there_is_no_patch() -> None:
    hole = _ball(14.0)
    usable = ndimage.binary_dilation(hole, iterations=2)
    assert fill_with_patches(np.zeros(SHAPE, np.float32), hole, usable, SPACING, 1) is None


def _vanished(**changes: Any) -> SynthesisSettings:
    return events(STILL, p_vanish=1, **changes)


@pytest.mark.slow
def test_vanished_lesions_are_filled_with_patches_and_may_leave_a_residue() -> None:
    baseline = scan(with_small=False)
    _, clean = made(baseline, _vanished(p_patch_filling=1))
    inside = baseline.labels == BIG
    assert not clean.labels.any() and abs(clean.ct[inside].mean() - 40) < 6
    assert 5 < clean.ct[inside].std() < 16
    draw, left = made(baseline, _vanished(p_patch_filling=1, p_residue=1, residue_hu=(30, 30)))
    residue = draw.vanishing[0].residue
    assert residue is not None and not left.labels.any()
    change = left.ct.astype(float) - clean.ct
    assert np.sign(residue.hu) * change[inside].mean() > 2 and np.abs(change[inside]).max() <= 31


@pytest.mark.parametrize(("host", "factor"), ((50.0, 1.0), (-800.0, 6.0)))
def test_a_residue_is_soft_and_smaller_than_the_lesion(host: float, factor: float) -> None:
    lesion = _ball(14.0)
    draw = ResidueDraw(20.0, 0.5, 3)
    change = residue_hu(lesion, np.full(SHAPE, host, np.float32), SPACING, draw)
    assert change.min() == 0 and change.max() == pytest.approx(20 * factor)
    share = (change > 10 * factor).sum() / lesion.sum()
    assert 0.01 < share < 0.4
