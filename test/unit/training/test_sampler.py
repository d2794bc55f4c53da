"""The distribution of samples; see docs/model_recipe.md, Sampling."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from model.data.point_tables import LesionVoxels
from model.errors import InputError
from model.training.augment import make_sample
from model.training.data_source import patients_of
from model.training.sampler import Draw, Sampler

from ...helpers import training_phantoms as phantoms
from ...helpers.training_phantoms import PATCH, SHAPE, config, only, pair, patients


def _draws(count: int, which: int | None = None, **changes: object) -> list[Draw]:
    chosen = patients() if which is None else only([pair("P0")], which)
    sampler = Sampler(chosen, PATCH, config(**changes))
    rng = np.random.default_rng(1)
    return [sampler.draw(rng) for _ in range(count)]


def _is_uniform(counts: Counter[Any], kinds: int) -> bool:
    assert len(counts) == kinds
    return bool(chisquare(list(counts.values())).pvalue > 1e-3)


def test_patients_and_their_lesions_are_drawn_uniformly() -> None:
    draws = _draws(1200)
    assert _is_uniform(Counter(draw.pair.patient_id for draw in draws), 3)
    assert _is_uniform(Counter(draw.lesion.lesion_id for draw in draws), 4)


def test_a_patient_with_many_lesions_is_not_drawn_more_often() -> None:
    one, other = pair("A"), pair("B")
    other = replace(other, lesions=other.lesions[:1])
    sampler = Sampler(patients_of([one, other]), PATCH, config())
    rng = np.random.default_rng(2)
    assert _is_uniform(Counter(sampler.draw(rng).pair.patient_id for _ in range(1000)), 2)


def test_drawing_pairs_first_draws_patients_in_proportion_to_their_pairs() -> None:
    chosen = patients_of([pair("A"), pair("B"), pair("B"), pair("B")])
    sampler, rng = Sampler(chosen, PATCH, config(draw="pairs")), np.random.default_rng(2)
    drawn = Counter(sampler.draw(rng).pair.patient_id for _ in range(1200))
    assert chisquare([drawn["A"], drawn["B"]], [300, 900]).pvalue > 1e-3


def test_the_followup_point_is_propagated_or_true_with_equal_probability() -> None:
    draws = _draws(1000, which=1, shift_voxels=0)
    assert _is_uniform(Counter(draw.followup_point for draw in draws), 2)
    assert {draw.followup_point for draw in draws} == {(15, 13, 16), (17, 14, 14)}
    propagated_only = _draws(50, which=1, shift_voxels=0, propagated_fraction=1.0)
    assert {draw.followup_point for draw in propagated_only} == {(17, 14, 14)}


@pytest.mark.parametrize(("lesion", "point"), [(2, (29, 29, 12)), (3, (21, 31, 33)), (4, (27, 31, 35))])
def test_a_missing_point_is_replaced_by_the_other(lesion: int, point: tuple[int, int, int]) -> None:
    assert {draw.followup_point for draw in _draws(60, which=lesion, shift_voxels=0)} == {point}


def test_shifts_are_uniform_from_minus_4_to_4_and_independent_for_both_scans() -> None:
    draws = _draws(3000, which=2)
    followup = np.array([draw.followup_point for draw in draws]) - (29, 29, 12)
    baseline = np.array([draw.baseline_point for draw in draws]) - (28, 30, 12)
    for axis in range(3):
        for shifts in (followup, baseline):
            assert sorted(set(shifts[:, axis].tolist())) == list(range(-4, 5))
            assert _is_uniform(Counter(shifts[:, axis].tolist()), 9)
        assert abs(np.corrcoef(followup[:, axis], baseline[:, axis])[0, 1]) < 0.08


def test_points_stay_in_the_image() -> None:
    one = pair("P0")
    edge = replace(one.lesions[1], propagated_point_zyx=(39.0, 0.0, 47.0))
    sampler = Sampler(patients_of([replace(one, lesions=(edge,))]), PATCH, config())
    rng = np.random.default_rng(3)
    points = np.array([sampler.draw(rng).followup_point for _ in range(200)])
    assert points.min() >= 0 and (points < SHAPE).all()


@pytest.mark.slow
def test_points_lie_in_the_inner_half_of_the_patch_and_at_one_place_in_both_patches() -> None:
    draws = _draws(2000, which=1)
    for draw in draws:
        place = np.array(draw.followup_point) - draw.followup_patch.start_zyx
        assert (place == np.array(draw.baseline_point) - draw.baseline_patch.start_zyx).all()
        assert (place == draw.point_in_patch).all()
        assert draw.followup_patch.start_zyx >= (0, 0, 0)
        assert all(stop <= n for stop, n in zip(draw.followup_patch.stop_zyx, SHAPE, strict=True))
        assert (place >= 0).all() and (place < PATCH).all()
    middle = replace(pair("P0").lesions[0], followup_point_zyx=(20, 22, 24), propagated_point_zyx=None)
    one = replace(pair("P0"), lesions=(middle,))
    rng, sampler = np.random.default_rng(4), Sampler(patients_of([one]), PATCH, config(shift_voxels=0))
    places = np.array([sampler.draw(rng).point_in_patch for _ in range(2000)])
    assert (places.min(0) >= 6).all() and (places.max(0) <= 18).all()
    assert _is_uniform(Counter(places[:, 1].tolist()), 13)


def test_an_image_smaller_than_the_patch_is_centred() -> None:
    one = patients_of([pair("P0")])
    sampler = Sampler(one, (64, 24, 24), config())
    draw = sampler.draw(np.random.default_rng(5))
    assert (draw.followup_patch.start_zyx[0], draw.followup_patch.stop_zyx[0]) == (-12, 52)


def test_targets_of_absent_and_merged_lesions() -> None:
    for number, ids in ((1, {1}), (2, set()), (3, {3, 4})):
        draw = _draws(1, which=number, shift_voxels=0)[0]
        sample = make_sample(draw, config(), np.random.default_rng(0), augmented=False)
        labels = draw.pair.followup.read_labels(draw.followup_patch)
        assert np.array_equal(sample.target.astype(bool), np.isin(labels, list(ids)))
        baseline = draw.pair.baseline.read_labels(draw.baseline_patch)
        assert np.array_equal(sample.channels[2].astype(bool), baseline == number)


@pytest.mark.slow
def test_pretraining_draws_points_inside_lesions_by_squared_depth() -> None:
    draws = _draws(4000, which=1, sampling="pretraining", shift_voxels=0)
    source = draws[0].pair
    for points, scan, centre in (
        ([draw.followup_point for draw in draws], source.followup, (15, 13, 16)),
        ([draw.baseline_point for draw in draws], source.baseline, (14, 14, 14)),
    ):
        assert isinstance(scan, phantoms.MemoryScan)
        assert all(scan.labels[point] == 1 for point in points)
        table = phantoms.table(scan, 1)
        reach = np.linalg.norm(table.voxels_zyx - np.array(centre), axis=1)
        expected = float(np.average(reach, weights=table.weights))
        assert np.linalg.norm(np.array(points) - centre, axis=1).mean() == pytest.approx(expected, rel=0.03)
    assert len({(draw.followup_point, draw.baseline_point) for draw in draws}) > 3000


def test_points_are_drawn_inside_lesions_half_of_the_time_if_the_settings_say_so() -> None:
    drawn = {"drawn_points": True, "shift_voxels": 0}
    draws = _draws(1000, which=1, **drawn)
    propagated, source = (17, 14, 14), draws[0].pair
    assert isinstance(source.followup, phantoms.MemoryScan) and isinstance(
        source.baseline, phantoms.MemoryScan
    )
    inside = [draw.followup_point for draw in draws if draw.followup_point != propagated]
    assert len(inside) == pytest.approx(500, abs=60) and len(set(inside)) > 200
    assert all(source.followup.labels[point] == 1 for point in inside)
    baselines = [draw.baseline_point for draw in draws]
    assert all(source.baseline.labels[point] == 1 for point in baselines) and len(set(baselines)) > 100
    vanished = _draws(60, which=2, **drawn)
    assert {draw.followup_point for draw in vanished} == {(29, 29, 12)}
    without_propagated = _draws(60, which=3, **drawn)
    true_point = (21, 31, 33)  # in place of the propagated one
    drawn_points = [draw.followup_point for draw in without_propagated if draw.followup_point != true_point]
    assert 15 < len(drawn_points) < 45 and len(set(drawn_points)) > 10


def test_a_lesion_without_voxels_gets_its_propagated_point_in_place_of_a_drawn_one() -> None:
    one = replace(pair("P0").lesions[0], baseline_table=None, followup_table=None)
    sampler = Sampler(
        patients_of([replace(pair("P0"), lesions=(one,))]), PATCH, config(drawn_points=True, shift_voxels=0)
    )
    rng = np.random.default_rng(3)
    points = {(draw.followup_point, draw.baseline_point) for draw in (sampler.draw(rng) for _ in range(40))}
    assert points == {((17, 14, 14), (14, 14, 14))}


def test_pretraining_without_lesion_voxels_is_refused() -> None:
    bare = replace(pair("P0"), lesions=(replace(pair("P0").lesions[0], baseline_table=None),))
    with pytest.raises(InputError, match="no lesion of 1 patients has the points"):
        Sampler(patients_of([bare]), PATCH, config(sampling="pretraining"))


def test_lesions_are_drawn_by_their_inner_radius_if_the_settings_say_so() -> None:
    one = pair("A")
    radii = {1: 4.0, 2: 1.0, 3: 2.0}
    voxel = np.zeros((1, 3), np.int32)
    lesions = tuple(
        replace(item, baseline_table=LesionVoxels(voxel, np.array([radii[item.lesion_id] ** 2], np.float32)))
        for item in one.lesions[:3]
    )
    sampler = Sampler(patients_of([replace(one, lesions=lesions)]), PATCH, config(radius_exponent=1.0))
    rng = np.random.default_rng(3)
    drawn = Counter(sampler.draw(rng).lesion.lesion_id for _ in range(1400))
    assert chisquare([drawn[1], drawn[2], drawn[3]], [800, 200, 400]).pvalue > 1e-3
