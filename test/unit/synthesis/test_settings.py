"""Parameters of the generator: published defaults, their effect, and limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from model.case.geometry import Geometry
from model.errors import InputError
from model.synthesis.appearance import apply_appearance
from model.synthesis.compose_followup import Baseline
from model.synthesis.draw_types import AppearanceDraw, FollowupDraw
from model.synthesis.growth_region import blur_sigma_mm, modulation_factor
from model.synthesis.motion import build_motion
from model.synthesis.random_draws import draw_followup
from model.synthesis.scan_lesions import LabelledLesion, ScanLesions, find_scan_lesions
from model.synthesis.setting_limits import LIMITS
from model.synthesis.settings import AppearanceSettings, GrowthSettings, MotionSettings, SynthesisSettings
from test.cohort.make import SEEDING

from ...helpers.synthesis_phantom import BIG, GRID, STILL, made, scan

# LesionLocator ([Rokuss2025]), equation 5 and section 7 of its appendix; one of its voxels counts as 1 mm.
PAPER = {
    "growth.amplitudes_mm2": (-22, -18, 15, 25),
    "growth.is_per_lesion": False,  # one A0 for an image
    "growth.sigma_mm": (4, 5.5),
    "growth.modulation": (-3.5, 3.5),
    "growth.modulation_sigma_mm": 3,
    "motion.p_elastic": 1,
    "motion.elastic_scale": (0.05, 0.05),
    "motion.elastic_magnitude": (0.05, 0.05),
    "motion.p_rotation": 1,
    "motion.rotation_deg": (-5, 5),
    "motion.p_scaling": 0.5,
    "motion.scaling": (0.95, 1.05),
    "motion.p_translation": 1,
    "motion.translation_mm": (-5, 5),
    "appearance.p_noise": 1,
    "appearance.noise_variance": (0, 0.05),
    "appearance.p_blur": 0.1,
    "appearance.blur_mm": (0.1, 0.2),
    "appearance.p_brightness": 0.15,
    "appearance.brightness": (0.75, 1.25),
    "appearance.p_contrast": 0.15,
    "appearance.contrast": (0.75, 1.25),
    "voxel_mm": 1,
}
# LesionLocator's normalisation of CT, in its plan.
PLAN = {"appearance.mean_hu": -63.007, "appearance.std_hu": 282.36, "appearance.clip_hu": (-918, 723)}
# Defaults that the paper does not give: as in docs/synthetic_followups.md.
OURS = {
    "growth.sigma_radii_mm": (5, 30),
    "growth.modulation_gain": 4,
    "growth.growth_ratio": (1.2, 3),
    "growth.shrinkage_ratio": (0.3, 0.8),
    "growth.step": (0.06, 0.15),
    "growth.max_stages": 40,
    "growth.ratio_tolerance": 0.03,
    "growth.min_jacobian": 0.3,
    "events.p_vanish": 0.1,
    "events.vanish_max_ml": 10,
    "events.p_merge": 0.25,
    "events.merge_max_gap_mm": 10,
    "events.p_split": 0.05,
    "events.split_min_radius_mm": 6,
    "events.split_gap_mm": (4, 7),
    "events.new_mean": 0.3,
    "events.new_max": 3,
    "events.p_new_copied": 0.5,
    "events.new_max_ml": 5,
    "events.new_radius_mm": (2.5, 8),
    "events.new_lung_hu": (-50, 60),
    "events.new_contrast_hu": (25, 60),
    "motion.min_jacobian": 0.3,
    "field_spacing_mm": 2,
}
# Changes that a data set has only if it says so; the other values of their groups then have no effect.
SWITCHES = (
    "growth.p_any_ratio",
    "events.p_patch_filling",
    "events.p_residue",
    "events.p_gas",
    *(f"density.p_{name}" for name in ("shift", "necrosis", "calcified")),
    *(f"reconstruction.p_{name}" for name in ("noise", "kernel", "slices", "tissue", "vessels")),
    *(f"new.p_{name}" for name in ("by_tissue", "close", "rough", "spiculated", "rim", "core")),
)
OPTIONAL_GROUPS = {"new", "density", "reconstruction"}
OPTIONAL = {"growth.any_ratio", "events.residue_hu", "events.residue_size"}

LESION = LabelledLesion(
    1, find_scan_lesions(scan().labels, GRID.spacing_zyx, 1.0).lesions[0].box, (1, 1, 1), 500, 1.0
)
SPACING = (1.0, 1.0, 1.0)
WIDE = (-1e4, 1e4)


def _names(group: Any, before: str = "") -> Iterator[str]:
    for entry in fields(group):
        value = getattr(group, entry.name)
        yield from _names(value, f"{entry.name}.") if is_dataclass(value) else (before + entry.name,)


def _draws(settings: SynthesisSettings, count: int) -> list[FollowupDraw]:
    return [draw_followup(ScanLesions((LESION,), ()), settings, 1, "scan", n) for n in range(1, count + 1)]


@pytest.fixture(scope="module")
def default_draws() -> list[FollowupDraw]:
    return _draws(SynthesisSettings(), 500)


def test_every_default_setting_is_listed() -> None:
    """Data sets and weights depend on them."""
    defaults = {name: attrgetter(name)(SynthesisSettings()) for name in _names(SynthesisSettings())}
    assert [defaults[name] for name in SWITCHES] == [0] * len(SWITCHES)
    optional = {name for name in defaults if name.partition(".")[0] in OPTIONAL_GROUPS} | OPTIONAL
    assert {k: v for k, v in defaults.items() if k not in optional | {*SWITCHES}} == PAPER | PLAN | OURS


@pytest.mark.slow
def test_growth_draws_one_published_amplitude_per_image(default_draws: list[FollowupDraw]) -> None:
    draws = default_draws[:200]
    drawn = Counter(growth.amplitude_mm2 for draw in draws for growth in draw.growth)
    assert drawn.keys() == {-22, -18, 15, 25} and min(drawn.values()) > 0.15 * drawn.total()
    for draw in draws:
        for one in draw.growth:
            low, high = (1.2, 3.0) if one.amplitude_mm2 > 0 else (0.3, 0.8)
            assert low <= one.target_ratio <= high
    coarse = _draws(replace(SynthesisSettings(), voxel_mm=2.0), 50)
    assert {one.amplitude_mm2 for draw in coarse for one in draw.growth} == {-88, -72, 60, 100}


def test_intensities_are_drawn_with_published_frequencies_and_ranges(
    default_draws: list[FollowupDraw],
) -> None:
    draws = [draw.appearance for draw in default_draws]
    for values, share, low, high in (
        ([draw.noise_variance for draw in draws], 1.0, 0.0, 0.05),
        ([draw.blur_mm[1] if draw.blur_mm else None for draw in draws], 0.1, 0.1, 0.2),
        ([draw.brightness for draw in draws], 0.15, 0.75, 1.25),
        ([draw.contrast for draw in draws], 0.15, 0.75, 1.25),
    ):
        found = np.asarray([value for value in values if value is not None])
        assert len(found) / len(draws) == pytest.approx(share, abs=0.04)
        edge = 0.05 * (high - low)
        assert low <= found.min() < low + edge and high - edge < found.max() <= high
        assert found.mean() == pytest.approx((low + high) / 2, abs=edge)


def test_motion_is_drawn_with_published_frequencies_and_ranges(default_draws: list[FollowupDraw]) -> None:
    draws = [draw.motion for draw in default_draws]
    scalings = [draw.scaling for draw in draws if draw.scaling != 1]
    assert len(scalings) / len(draws) == pytest.approx(0.5, abs=0.05)
    for values, low, high in (
        (scalings, 0.95, 1.05),
        ([angle for draw in draws for angle in draw.angles_deg], -5, 5),
        ([shift for draw in draws for shift in draw.translation_mm], -5, 5),
    ):
        edge = 0.02 * (high - low)
        assert low <= min(values) < low + edge and high - edge < max(values) <= high and 0 not in values
    assert {draw.elastic_scale + draw.elastic_magnitude for draw in draws} == {(0.05,) * 6}


@pytest.mark.parametrize("variance", (0.001, 0.05))
def test_noise_has_the_strength_that_is_set(variance: float) -> None:
    """A variance of normalised intensities, of 282.36 HU each."""
    appearance = replace(STILL.appearance, p_noise=1.0, noise_variance=(variance, variance))
    grid = Geometry((50, 50, 20), SPACING, (0.0, 0.0, 0.0))
    flat = Baseline(np.full(grid.shape_zyx, 40, np.int16), np.zeros(grid.shape_zyx, np.uint16), grid)
    ct = made(flat, replace(STILL, appearance=appearance))[1].ct
    assert ct.std() == pytest.approx(variance**0.5 * 282.36, rel=0.02)
    assert ct.mean() == pytest.approx(40, abs=1)


def test_a_blur_is_as_wide_as_it_is_set() -> None:
    hu = np.zeros((31, 41, 41), np.float32)
    hu[15, 20, 20] = 1000
    spacing = (2.0, 1.0, 1.0)
    draw = AppearanceDraw(None, 0, (3.0, 2.0, 4.0), None, None)
    blurred = apply_appearance(hu, 0, 0.0, WIDE, spacing, draw, AppearanceSettings())
    for axis, sigma_mm in enumerate(draw.blur_mm or ()):
        positions = (np.arange(hu.shape[axis]) - hu.shape[axis] // 2) * spacing[axis]
        profile = blurred.sum(axis=tuple(other for other in range(3) if other != axis))
        assert (profile * positions**2).sum() / profile.sum() == pytest.approx(sigma_mm**2, rel=0.03)


def test_the_elastic_field_is_as_large_as_it_is_set() -> None:
    """A share of the smoothing length, which is a share of the scan's extent: 0.05 · 0.05 · 60 mm along x."""
    grid = Geometry((60, 40, 20), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0))
    elastic = build_motion(_draws(SynthesisSettings(), 1)[0].motion, grid, MotionSettings()).elastic
    assert elastic is not None
    assert np.abs(elastic.u_mm).max(axis=(1, 2, 3)) == pytest.approx([0.15, 0.2, 0.15], rel=1e-5)


def test_the_modulation_is_the_published_field_times_the_gain() -> None:
    shape = (60, 60, 60)
    factor = modulation_factor(shape, 1.0, 3, GrowthSettings(), 1.0)
    paper = ndimage.gaussian_filter(np.random.default_rng(0).uniform(-3.5, 3.5, shape), 3, mode="wrap")
    assert factor.mean() == pytest.approx(1, abs=0.05)
    assert factor.std() == pytest.approx(4 * paper.std(), rel=0.15)
    for field in (factor - factor.mean(), paper - paper.mean()):  # how far a place resembles the next ones
        alike = (field[:-3] * field[3:]).mean() / field.var()
        assert alike == pytest.approx(np.exp(-(3**2) / (4 * 3**2)), abs=0.05)


def test_sigma_has_the_published_range() -> None:
    sigmas = [blur_sigma_mm(radius, GrowthSettings()) for radius in (1, 5, 17.5, 30, 90)]
    assert sigmas == pytest.approx([4, 4, 4.75, 5.5, 5.5])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("appearance.noise_variance=-1,-1", "two numbers from 0 to 100, the lower one first"),
        ("appearance.noise_variance=0.05,0", "two numbers from 0 to 100, the lower one first"),
        ("appearance.noise_variance=0.05", "two numbers from 0 to 100, the lower one first"),
        ("appearance.noise_variance=0,inf", "two numbers from 0 to 100, the lower one first"),
        ("field_spacing_mm=0", "a number from 0.1 to 1000"),
        ("voxel_mm=-1", "a number from 0.01 to 100"),
        ("voxel_mm=nan", "a number from 0.01 to 100"),
        ("voxel_mm=1,2", "a number from 0.01 to 100"),
        ("voxel_mm=", "a number from 0.01 to 100"),
        ("growth.sigma_mm=0,0", "two numbers from 0.1 to 50, the lower one first"),
        ("events.p_vanish=7", "a number from 0 to 1"),
        ("events.p_vanish=-0.1", "a number from 0 to 1"),
        ("growth.max_stages=-3", "a whole number from 0 to 1000"),
        ("growth.max_stages=2.5", "a whole number from 0 to 1000"),
        ("motion.scaling=0,0", "two numbers from 0.1 to 10, the lower one first"),
        ("motion.min_jacobian=1", "a number from 0 to 0.9"),
        ("growth.shrinkage_ratio=0,0.5", "two numbers from 0.001 to 1, the lower one first"),
        ("growth.growth_ratio=0.5,2", "two numbers from 1 to 100, the lower one first"),
        ("growth.amplitudes_mm2=15,0", "numbers from -1000 to 1000, none of them 0"),
        ("growth.amplitudes_mm2=", "numbers from -1000 to 1000, none of them 0"),
        ("growth.is_per_lesion=2", "true or false"),
    ],
)
def test_values_out_of_range_are_refused(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        SynthesisSettings().with_overrides([text])
    key, _, value = text.partition("=")
    shown = repr(value) if key.endswith("is_per_lesion") else value
    assert str(caught.value) == f"--set {key}: is {shown}; expected {expected}"


def test_every_setting_has_limits_and_they_can_be_set() -> None:
    names = set(_names(SynthesisSettings()))
    assert LIMITS.keys() == names - {"growth.is_per_lesion"}
    for name, (low, high) in LIMITS.items():
        default = attrgetter(name)(SynthesisSettings())
        values = default if isinstance(default, tuple) else (default,)
        assert low <= min(values) and max(values) <= high
        text = ",".join(f"{number:g}" for number in ((low, high) if isinstance(default, tuple) else (high,)))
        assert attrgetter(name)(SynthesisSettings().with_overrides([f"{name}={text}"])) is not None
        assert SynthesisSettings().with_overrides([f"{name}={','.join(map(str, values))}"]) == (
            SynthesisSettings()
        )


def test_the_type_of_a_setting_does_not_depend_on_its_last_value() -> None:
    """Amplitudes take any number of values in any order, also after two of them."""
    chosen = SynthesisSettings().with_overrides(
        ["growth.amplitudes_mm2=-22,25", "growth.amplitudes_mm2=25,-22,15", "growth.sigma_mm= 4 , 4 "]
    )
    assert chosen.growth.amplitudes_mm2 == (25.0, -22.0, 15.0) and chosen.growth.sigma_mm == (4.0, 4.0)


def test_settings_of_the_demonstration_cohort_are_allowed() -> None:
    chosen = SynthesisSettings().with_overrides(list(SEEDING))
    assert chosen.growth.growth_ratio == (1.0, 1.0) and chosen.events.new_max == 16


def test_a_followup_without_growth() -> None:
    baseline = scan(with_small=False)
    chosen = STILL.with_overrides(["growth.max_stages=0"])
    _, followup = made(baseline, chosen)
    assert followup.growth[BIG].ratio == 1 and np.array_equal(followup.labels, baseline.labels)


@pytest.mark.slow
def test_a_ratio_of_either_direction_is_even_in_the_logarithm(default_draws: list[FollowupDraw]) -> None:
    growth = GrowthSettings(p_any_ratio=1.0, any_ratio=(0.1, 4.0))
    draws = [one for draw in _draws(SynthesisSettings(growth), 200) for one in draw.growth]
    assert all((one.amplitude_mm2 > 0) == (one.target_ratio > 1) for one in draws)
    assert {abs(one.amplitude_mm2) for one in draws} == {15, 18, 22, 25}
    counts = np.histogram(np.log([one.target_ratio for one in draws]), 4, (np.log(0.1), np.log(4)))[0]
    assert counts.sum() == len(draws) and counts.min() > 0.15 * len(draws)
    some = SynthesisSettings(replace(growth, p_any_ratio=0.5))
    half = [one for draw in _draws(some, 200) for one in draw.growth]
    default = [one for draw in default_draws[:200] for one in draw.growth]
    assert np.mean([a == b for a, b in zip(half, default, strict=True)]) == pytest.approx(0.5, abs=0.15)
