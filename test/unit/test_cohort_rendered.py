"""The rendered held-out cohort, on a phantom: volumes, vanished lesions, labels and images, repetition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from test.cohort.make_rendered import SOURCES, small_ratios, tumour_ratios
from test.cohort.rendered_scan import Lesion, Look, Motion, Painter, Scanner, Volume, without_lesion
from test.cohort.rendered_shapes import Blob, Floats, Grid, MaskShape

COHORT = Path(__file__).parents[1] / "cohort"
SOURCE = Grid((20, 40, 40), (1.0, 1.0, 2.0), (-20.0, 5.0, 100.0))
FOLLOWUP = Grid((24, 34, 34), (1.1, 1.1, 1.5), (-19.0, 6.0, 102.0))
CENTRE = SOURCE.points()[10, 20, 20]
SOFT, FAT = (-25.0, 160.0), (-150.0, -25.0)


def _motion() -> Motion:
    """A movement of millimetres that keeps the centre in view."""
    drawn = Motion.draw(np.random.default_rng(3), SOURCE)
    return Motion(drawn.about_xyz, drawn.turn, np.asarray((1.0, -2.0, 1.5)), *_pulls(drawn))


def _pulls(drawn: Motion) -> tuple[Floats, Floats, Floats]:
    return drawn.centres_xyz, drawn.reaches_mm, drawn.pulls_xyz / 4


def _tumour() -> np.ndarray:
    return np.asarray(np.linalg.norm(SOURCE.points() - CENTRE, axis=-1) < 7)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.1, 4.0])
def test_a_painted_lesion_reaches_its_volume_through_a_movement(ratio: float) -> None:
    random, motion = np.random.default_rng(1), _motion()
    blob = Blob.draw(random, CENTRE, 8.0).changed(random)
    target_ml = ratio * np.pi * 8**3 / 6000
    painter = Painter(FOLLOWUP, motion)
    size = painter.fitted(blob, target_ml, 1.4 * ratio ** (1 / 3))
    hu, labels = np.zeros(FOLLOWUP.shape), np.zeros(FOLLOWUP.shape, np.uint16)
    ml = painter.paint(hu, labels, Lesion(3, blob, size, Look((60, 60))), random)
    assert ml == pytest.approx((labels == 3).sum() * FOLLOWUP.voxel_ml)
    assert ml == pytest.approx(target_ml, rel=0.05, abs=FOLLOWUP.voxel_ml)


@pytest.mark.parametrize("ratio", [0.2, 2.0])
def test_a_tumour_is_drawn_again_at_another_volume_where_it_may_grow(ratio: float) -> None:
    random, tumour = np.random.default_rng(1), _tumour()
    shape = MaskShape.of(tumour, SOURCE, random)
    room = SOURCE.points()[..., 0] < CENTRE[0] + 6
    painter = Painter(SOURCE, Motion.none(), Volume(room, SOURCE))
    target_ml = ratio * tumour.sum() * SOURCE.voxel_ml
    size = painter.fitted(shape, target_ml, 1.6)
    labels = np.zeros(SOURCE.shape, np.uint16)
    ml = painter.paint(np.zeros(SOURCE.shape), labels, Lesion(1, shape, size, Look((60, 60))), random)
    assert ml == pytest.approx(target_ml, rel=0.05)
    assert not (labels.astype(bool) & ~room).any()


def test_the_labels_are_where_the_image_has_the_lesion() -> None:
    random = np.random.default_rng(2)
    hu, labels = np.full(FOLLOWUP.shape, -100.0), np.zeros(FOLLOWUP.shape, np.uint16)
    blob = Blob.draw(random, CENTRE, 12.0)
    Painter(FOLLOWUP, _motion()).paint(hu, labels, Lesion(1, blob, 1.0, Look((60, 60), mottle_hu=0)), random)
    assert np.array_equal(labels == 1, hu >= -20)  # half of the way from -100 to 60
    centre = FOLLOWUP.points()[labels == 1].mean(axis=0)
    assert np.linalg.norm(centre - _motion().to_followup(CENTRE[None])[0]) < 2


def test_a_vanished_tumour_leaves_the_tissues_round_it() -> None:
    random, tumour = np.random.default_rng(1), _tumour()
    is_fat = SOURCE.points()[..., 1] > CENTRE[1]
    anatomy = np.where(is_fat, -100.0, 50.0) + random.normal(0, 8, SOURCE.shape)
    ct = Volume(np.where(tumour, 120.0, anatomy), SOURCE)
    clean = without_lesion(ct, tumour, (FAT, SOFT), random)
    away = np.linalg.norm(SOURCE.points() - CENTRE, axis=-1) > 7 + 6
    assert np.array_equal(clean.array[away], ct.array[away])
    deep = np.abs(SOURCE.points()[..., 1] - CENTRE[1]) > 3
    for side, level in ((is_fat, -100), (~is_fat, 50)):
        inside = clean.array[tumour & deep & side]
        assert inside.mean() == pytest.approx(level, abs=8)
        assert 4 < inside.std() < 16


def test_movements_do_not_fold_and_are_inverted() -> None:
    for seed in range(3):
        motion = Motion.draw(np.random.default_rng(seed), SOURCE)
        points = SOURCE.points()[::3, ::6, ::6]
        assert np.allclose(motion.to_source(motion.to_followup(points)), points, atol=1e-3)
        steps = [np.gradient(motion.to_source(points), axis=axis) for axis in (2, 1, 0)]
        assert (np.einsum("...i,...i", np.cross(steps[0], steps[1]), steps[2]) > 0).all()


def test_the_same_seed_gives_the_same_scan_and_noise_as_drawn() -> None:
    flat = np.full(FOLLOWUP.shape, 40.0)

    def scan(seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        return Scanner(0.5, 1.5, 15.0, 0.6, 1.0, 0.0).scan(flat, FOLLOWUP, random)

    assert np.array_equal(scan(1), scan(1)) and not np.array_equal(scan(1), scan(2))
    assert scan(1).std() == pytest.approx(15, abs=2)


def test_ratios_cover_their_range_evenly_and_a_third_vanishes() -> None:
    small = list(small_ratios(20))
    assert small == list(small_ratios(20)) != list(small_ratios(21))
    assert small.count(0.0) == pytest.approx(len(small) / 3, abs=1)
    present = np.sort(np.log([ratio for ratio in small if ratio]))
    assert np.allclose(np.diff(present), np.log(40) / len(present), atol=np.log(40) / len(present))
    for source in SOURCES:
        tumour = tumour_ratios(source, np.random.default_rng(1))
        assert tumour.count(0.0) == round(len(tumour) / 3)
        assert all(source.ratios[0] <= ratio <= source.ratios[1] for ratio in tumour if ratio)


@pytest.mark.parametrize("name", ["rendered_shapes", "rendered_scan", "make_rendered"])
def test_it_shares_no_code_with_the_generator_of_the_package(name: str) -> None:
    text = (COHORT / f"{name}.py").read_text()
    assert "model.synthesis" not in text and "from model" not in text
