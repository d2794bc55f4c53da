"""A lesion's own density changes, and nothing around it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy import ndimage

from model.case.geometry import Array
from model.synthesis.canvas import Canvas
from model.synthesis.draw_types import DensityDraw
from model.synthesis.lesion_density import change_density
from model.synthesis.random_draws import draw_followup
from model.synthesis.scan_lesions import find_scan_lesions, labelled_lesions
from model.synthesis.settings import DensitySettings

from ...helpers.synthesis_phantom import BIG, GRID, SMALL, STILL, VOXEL, growth, made, scan

NOTHING = DensityDraw(BIG, None, None, 0.6, None, 3)


def _changed(lesion_id: int, draw: DensityDraw) -> tuple[Array, Array]:
    """The change of HU, and the lesion's voxels."""
    baseline = scan()
    canvas = Canvas(baseline.ct.copy(), baseline.labels, GRID)
    lesions = {lesion.lesion_id: lesion for lesion in labelled_lesions(baseline.labels, GRID.spacing_zyx)}
    change_density(canvas, lesions[lesion_id], replace(draw, lesion_id=lesion_id))
    return canvas.ct.astype(int) - baseline.ct, baseline.labels == lesion_id


@pytest.mark.parametrize("lesion_id", (BIG, SMALL, VOXEL))
def test_a_shift_changes_the_whole_lesion(lesion_id: int) -> None:
    change, inside = _changed(lesion_id, replace(NOTHING, shift_hu=-30.0))
    assert not change[~inside].any() and change[inside].mean() == pytest.approx(-30, abs=9)


def test_necrosis_is_in_the_core() -> None:
    change, inside = _changed(BIG, replace(NOTHING, necrosis_hu=10.0))
    surface = inside & ~ndimage.binary_erosion(inside)
    depth = ndimage.distance_transform_edt(inside, sampling=GRID.spacing_zyx)
    assert change[depth > 5].mean() < -70 and abs(change[surface].mean()) < 15
    assert not change[~inside].any()


def test_calcifications_are_specks() -> None:
    change, inside = _changed(BIG, replace(NOTHING, calcified_hu=400.0))
    assert 0.02 < (change[inside] > 200).mean() < 0.12 and not change[~inside].any()


def test_density_changes_are_drawn_for_lesions_that_stay_and_applied() -> None:
    baseline = scan(with_small=False)
    settings = replace(growth(max_stages=0), density=DensitySettings(p_shift=1, shift_hu=(40, 40)))
    draw, followup = made(baseline, settings)
    assert {density.shift_hu for density in draw.density} == {40} and len(draw.density) == 2
    assert followup.ct[baseline.labels == BIG].mean() - baseline.ct[baseline.labels == BIG].mean() > 25
    lesions = find_scan_lesions(baseline.labels, GRID.spacing_zyx, 10.0)
    gone = replace(settings, events=replace(STILL.events, p_vanish=1, vanish_max_ml=1e6))
    assert draw_followup(lesions, gone, 0, "scan", 1).density == ()
