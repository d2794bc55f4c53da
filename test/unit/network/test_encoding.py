"""Heat maps against a literal implementation, prompts, and the content of channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from model.case.case import LesionPrompt, MaskPrompt, PointSource, PromptPoint, Scan, Slot, TimePointName
from model.case.geometry import AxisMap, Box, Geometry, Index
from model.network.encoding import (
    CHANNELS,
    PROMPT_CHANNELS,
    HeatMap,
    PromptMap,
    ball_prompt,
    box_prompt,
    encode_lesion,
    encode_prompted,
    heat_map,
    mask_prompt,
)
from model.network.normalize import normalize_ct
from model.network.patches import NetworkGrid
from model.network.plan import read_plan
from test.helpers.paths import GOLDEN_MODEL

PLAN = read_plan(GOLDEN_MODEL / "plans.json")


def _grid(shape: Index) -> NetworkGrid:
    return NetworkGrid(AxisMap(), shape, shape, (1, 1, 1), (1, 1, 1), shape)


@st.composite
def places(draw: st.DrawFn) -> tuple[Index, Box, Index]:
    """An image, a patch that may leave it, and a point in both."""
    shape = draw(st.tuples(*[st.integers(1, 34)] * 3))
    point = tuple(draw(st.integers(0, n - 1)) for n in shape)
    size = draw(st.tuples(*[st.integers(1, 30)] * 3))
    start = [p - draw(st.integers(0, n - 1)) for p, n in zip(point, size, strict=True)]
    return shape, Box.of_shape(size, start), (point[0], point[1], point[2])


def _plain(shape: Index, box: Box, point: Index) -> npt.NDArray[np.float32]:
    """docs/model_recipe.md, step 7, literally: filter the whole valid part, then pad."""
    valid = box.intersection(Box.of_shape(shape))
    values = np.zeros(valid.shape_zyx, np.float32)
    peak = tuple(np.subtract(point, valid.start_zyx))
    values[peak] = 1
    values = gaussian_filter(values, sigma=1)
    values /= values[peak]
    patch = np.zeros(box.shape_zyx, np.float32)
    patch[valid.relative_to(box).slices] = values
    return patch


@pytest.mark.slow
@given(places())
@settings(deadline=None, max_examples=200)
def test_a_heat_map_equals_that_of_the_whole_valid_part(place: tuple[Index, Box, Index]) -> None:
    shape, box, point = place
    got = heat_map(point, box, _grid(shape))
    assert got.dtype == np.float32 and got.shape == box.shape_zyx
    np.testing.assert_array_equal(got, _plain(shape, box, point))
    assert got[tuple(np.subtract(point, box.start_zyx))] == 1


@given(places())
@settings(deadline=None, max_examples=50)
def test_a_unit_volume_heat_map_is_the_scaled_unit_peak_one(place: tuple[Index, Box, Index]) -> None:
    shape, box, point = place
    peak, volume = heat_map(point, box, _grid(shape)), heat_map(point, box, _grid(shape), HeatMap.UNIT_VOLUME)
    assert volume.dtype == np.float32 and float(volume.sum()) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(volume * peak.sum(), peak, rtol=1e-5)


@pytest.mark.parametrize("kind", HeatMap)
@pytest.mark.parametrize("point", [(4, 12, 12), (12, 15, 12), (12, 12, 40)])
def test_the_heat_map_of_a_patch_without_the_point_is_zero(point: Index, kind: HeatMap) -> None:
    box = Box.of_shape((10, 10, 10), (5, 5, 5))
    assert not heat_map(point, box, _grid((30, 30, 45)), kind).any()


def test_the_heat_map_of_a_patch_outside_the_image_is_zero() -> None:
    assert not heat_map((5, 5, 5), Box.of_shape((8, 8, 8), (20, 0, 0)), _grid((9, 9, 9))).any()


def test_the_heat_map_is_reflected_at_the_border_of_the_image() -> None:
    box = Box.of_shape((21, 21, 21), (-10, 0, 0))
    blob = heat_map((0, 10, 10), box, _grid((30, 30, 30)))
    assert not blob[:10].any()
    gauss = np.exp(-0.5 * np.arange(3) ** 2)
    assert blob[11, 10, 10] == pytest.approx((gauss[1] + gauss[2]) / (gauss[0] + gauss[1]), rel=1e-6)


def _scan(time_point: TimePointName, value: int, labels: tuple[int, ...] = ()) -> Scan:
    mask = np.zeros((16, 80, 80), np.uint16)
    for number, label in enumerate(labels):
        mask[4:8, 20 + 20 * number : 30 + 20 * number, 20:30] = label
    return Scan(
        time_point,
        Slot.PRIMARY,
        Path("scan.mha"),
        Geometry((80, 80, 16), PLAN.spacing_zyx[::-1], (0, 0, 0)),
        AxisMap(),
        np.full((16, 80, 80), value, np.int16),
        mask if labels else None,
    )


@pytest.mark.parametrize("lesion_id", [7, 300])
def test_channels_have_the_content_of_their_names(lesion_id: int) -> None:
    followup, baseline = _scan(TimePointName.FOLLOWUP, 100), _scan(TimePointName.BASELINE, -200, (7, 300))
    prompt = LesionPrompt(
        lesion_id,
        baseline,
        PromptPoint((5.0, 25.0, 25.0), PointSource.GIVEN),
        followup,
        PromptPoint((9.0, 40.0, 70.0), PointSource.GIVEN),
    )
    encoded = encode_lesion(prompt, PLAN)
    assert encoded.channels.dtype == np.float32
    assert encoded.channels.shape == (len(CHANNELS), *PLAN.patch_size_zyx)
    named = dict(zip(CHANNELS, encoded.channels, strict=True))
    scheme = PLAN.normalization
    for name, value in (("follow-up CT", 100), ("baseline CT", -200)):
        # Beyond the image it is 0, the mean; an image thinner than the patch always has both.
        assert set(np.unique(named[name])) == {normalize_ct(np.array(value), scheme)[()], np.float32(0)}
    at = tuple(np.subtract(encoded.placement.followup_index, encoded.placement.followup.start_zyx))
    assert named["follow-up heat map"][at] == named["baseline heat map"][at] == 1
    # Both clicks share their place in the patch, and only lesion 7 lies under the baseline's.
    assert named["baseline mask"][at] == (1 if lesion_id == 7 else 0)
    assert named["baseline mask"].sum() == 4 * 10 * 10


# --- prompts of the single-time-point network ---


def test_a_ball_prompt_is_cropped_to_the_image() -> None:
    ball = ball_prompt((1.4, 9.0, 19.6), _grid((20, 20, 20)))
    assert ball is None  # the last voxel ends at 19.5
    ball = ball_prompt((1.4, 9.0, 19.4), _grid((20, 20, 20)))
    assert ball is not None and ball.box == Box((0, 4, 14), (7, 15, 20))
    offsets = np.moveaxis(np.indices(ball.box.shape_zyx), 0, -1) + ball.box.start_zyx - (1, 9, 19)
    np.testing.assert_array_equal(ball.voxels, np.linalg.norm(offsets, axis=-1) <= 5.5)


def test_a_box_prompt_gets_one_voxel_more_on_each_side() -> None:
    grid = NetworkGrid(AxisMap(), (10, 10, 10), (10, 10, 10), (1, 1, 1), (1, 1, 1), (10, 15, 5))
    shown = box_prompt(Box((3, 3, 3), (4, 6, 8)), grid)
    assert shown is not None and shown.voxels.all()
    assert shown.box == Box((2, 3, 0), (5, 10, 5))


def test_the_centre_of_a_prompt() -> None:
    assert PromptMap(Box((2, 3, 4), (5, 7, 9)), np.ones((3, 4, 5), bool)).centre == (3, 4, 6)
    lopsided = np.zeros((9, 1, 1), bool)
    lopsided[:2] = lopsided[8] = True  # of 0, 1 and 8: 3
    assert PromptMap(Box((10, 0, 0), (19, 1, 1)), lopsided).centre == (13, 0, 0)


def test_a_patch_contains_its_part_of_the_prompt() -> None:
    scan = _scan(TimePointName.FOLLOWUP, 100)
    grid = _grid((16, 80, 80))
    shown = mask_prompt(MaskPrompt(Box((4, 20, 20), (8, 30, 30)), np.ones((4, 10, 10), bool)), grid)
    assert shown is not None
    patch = Box((-2, 25, 26), (6, 60, 70))
    channels = encode_prompted(scan, shown, grid, patch, PLAN)
    assert channels.dtype == np.float32 and channels.shape == (len(PROMPT_CHANNELS), 8, 35, 44)
    expected = np.zeros((8, 35, 44))
    expected[6:8, :5, :4] = 1
    np.testing.assert_array_equal(channels[1], expected)
    assert (channels[0, 2:] == normalize_ct(np.array(100), PLAN.normalization)).all()
    assert not channels[0, :2].any()
