"""Doubts about scans: each kind is told, and no scan in HU with sound clicks and masks is doubted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model.case.case import Scan
from model.case.geometry import Geometry
from model.case.images import read_image
from model.case.labelmaps import label_regions
from model.case.plausibility import PlausibilityNote, check_extent, check_scan, check_voxels
from test.helpers.cases_on_disk import SHAPE, body
from test.helpers.paths import SAMPLE, real_file

GRID = Geometry(SHAPE[::-1], (2.0, 2.0, 2.5), (0.0, 0.0, 0.0))
(CT,) = (SAMPLE / "input" / "images" / "primary-baseline-ct").glob("*.mha")
_WHOLE = read_image(CT)
REAL = _WHOLE.array[::2, ::2, ::2]
REAL_GRID = Geometry(REAL.shape[::-1], (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
Voxels = npt.NDArray[Any]


def _window(hu: Voxels, low: float = -160, width: float = 400) -> Voxels:
    return np.asarray(np.clip((hu.astype(np.float32) - low) / width, 0, 1))


def _noise(mean: float, deviation: float) -> Voxels:
    return np.random.default_rng(0).normal(mean, deviation, (20, 30, 40))


NOT_HU: dict[str, Callable[[Voxels], Voxels]] = {
    "offset": lambda hu: (np.maximum(hu, -1024).astype(np.int32) + 1024).astype(np.uint16),
    "large offset": lambda hu: hu.astype(np.int32) + 32_768,
    "8 bits": lambda hu: (255 * _window(hu)).astype(np.uint8),
    "0 to 255": lambda hu: np.round(255 * _window(hu)),
    "wide window": lambda hu: np.round(255 * _window(hu, -1024, 4095)).astype(np.int16),
    "0 to 1": _window,
    "standardised": lambda hu: (hu - hu.mean()) / hu.std(),
    "constant": np.zeros_like,
    "inverted": lambda hu: -hu.astype(np.int32),
    "inverted with offset": lambda hu: 1024 - hu.astype(np.int32),
    "MR": lambda hu: np.where(hu > -300, np.abs(_like(hu, 400, 120)), np.abs(_like(hu, 0, 6))),
    "PET": lambda hu: np.where(hu > -300, np.abs(_like(hu, 1.5, 0.8)), 0.0) ** 3,
    "soft tissue window in HU": lambda hu: np.clip(hu, -160, 240),
    "no voxel": lambda hu: np.full(hu.shape, -2000, np.int16),
}


def _like(hu: Voxels, mean: float, deviation: float) -> Voxels:
    return np.random.default_rng(1).normal(mean, deviation, hu.shape)


@pytest.mark.parametrize("kind", NOT_HU)
def test_what_is_no_hu_is_told(kind: str) -> None:
    for hu, grid in ((REAL, REAL_GRID), (body(), GRID)):
        (note,) = check_voxels("primary-baseline-ct", NOT_HU[kind](hu), grid)
        assert note.sentence.startswith("primary-baseline-ct: is hardly in HU: ")
        assert note.sentence.endswith("expected a CT with air near -1000 and soft tissue near 0")


@pytest.mark.parametrize(
    ("hu", "reason"),
    [
        (REAL.astype(np.int32) - 1024, "offset was subtracted twice"),
        (REAL.astype(np.int32) * 10, "numbers in another unit"),
        (REAL.astype(np.uint16), "another zero or sign"),  # negative ones wrapped round
    ],
    ids=["offset twice", "times ten", "wrapped"],
)
def test_numbers_of_a_real_scan_that_are_no_hu(hu: Voxels, reason: str) -> None:
    (note,) = check_voxels("ct", hu, REAL_GRID)
    assert reason in note.seen


IN_HU: dict[str, Callable[[], Voxels]] = {
    "as it is": lambda: REAL,
    "padding -2000": lambda: np.where(REAL < -1005, -2000, REAL),
    "two paddings": lambda: np.where(REAL < -1005, -2000, np.where(REAL < -990, -3024, REAL)),
    "cut at -1000": lambda: np.clip(REAL, -1000, 400),
    "padding -3024": lambda: np.where(REAL < -995, -3024, REAL),
    "padding -32768": lambda: np.where(REAL < -995, -32_768, REAL),
    "missing": lambda: np.where(REAL < -995, np.nan, REAL),
    "soft tissue": lambda: _noise(40, 12),
    "smooth tissue": lambda: _noise(60, 4).astype(np.int16),
    "fat": lambda: _noise(-100, 15),
    "lung": lambda: _noise(-850, 40),
    "contrast": lambda: _noise(310, 20).astype(np.uint16),
    "bone": lambda: np.clip(np.random.default_rng(0).gamma(4, 150, (20, 30, 40)), 0, 3071) + 100,
    "liver and contrast": lambda: np.where(_noise(0, 1) > 0.5, _noise(300, 20), _noise(60, 10)),
}


@pytest.mark.parametrize("kind", IN_HU)
def test_what_is_hu_is_not_doubted(kind: str) -> None:
    hu = IN_HU[kind]()
    grid = REAL_GRID if hu.shape == REAL.shape else Geometry((40, 30, 20), (1, 1, 1), (0, 0, 0))
    assert check_voxels("ct", hu, grid) == ()


@pytest.mark.parametrize(
    ("ct", "mask"),
    [
        (("lidc_0314", "lidc0314_2mm_ct.nii.gz"), ("lidc_0314", "lidc0314_2mm_mask.nii.gz")),
        (("lidc_0314", "lidc0314_crop_ct.nii.gz"), ("lidc_0314", "lidc0314_crop_mask.nii.gz")),
        (("opentps_4dct", "phase00_ct_2mm.nii.gz"), ("opentps_4dct", "phase00_2mm_lesion_semiauto.nii.gz")),
        (("sts_ibsi", "STS_022", "CT_image.nii.gz"), ("sts_ibsi", "STS_022", "CT_mask.nii.gz")),
        (("crlm", "CRLM-CT-1006_ct_half.nii.gz"), None),
        (("totalsegmentator", "example_ct.nii.gz"), None),
        (("elastix_lung", "3DCT_lung.mha"), None),
    ],
    ids=lambda names: names and names[0],
)
def test_real_scans_are_not_doubted(ct: tuple[str, ...], mask: tuple[str, ...] | None) -> None:
    image = read_image(real_file(*ct))
    scan = Scan.from_array(
        image.array,
        image.geometry.spacing_zyx,
        direction=image.geometry.direction,
        mask=read_image(real_file(*mask)).array if mask else None,
    )
    assert check_scan(scan, label_regions(scan.mask)) == ()


def _grid(size: tuple[int, int, int], spacing: tuple[float, float, float]) -> tuple[PlausibilityNote, ...]:
    return check_extent("primary-baseline", Geometry(size, spacing, (0.0, 0.0, 0.0)))


@pytest.mark.parametrize("factor", [1e-3, 0.1, 1e3])
def test_spacing_in_metres_centimetres_and_microns(factor: float) -> None:
    (note,) = _grid((512, 512, 300), (0.8 * factor, 0.8 * factor, 3 * factor))
    assert note.sentence.startswith("primary-baseline: its spacing is ")
    assert note.sentence.endswith("expected 0.1 to 20 mm")


def test_extents() -> None:
    assert _grid((512, 512, 300), (0.8, 0.8, 3.0)) == ()
    assert _grid((512, 512, 3), (0.8, 0.8, 5.0)) == ()  # a slab
    assert _grid((400, 400, 250), (1.5, 1.5, 8.0)) == ()  # two metres
    assert "it measures 12 x 12 x 12 mm" in _grid((12, 12, 12), (1.0, 1.0, 1.0))[0].seen
    assert "it measures 300 x 300 x 3000 mm" in _grid((300, 300, 1000), (1.0, 1.0, 3.0))[0].seen


def _notes(mask: Voxels | None = None, clicks: dict[int, tuple[int, int, int]] | None = None) -> list[str]:
    scan = Scan.from_array(body(), (2.5, 2.0, 2.0), mask=mask, clicks=clicks, time_point="baseline")
    return [note.sentence for note in check_scan(scan, label_regions(scan.mask))]


def _mask(*places: tuple[slice, slice, slice]) -> Voxels:
    mask = np.zeros(SHAPE, np.uint8)
    for number, place in enumerate(places, 1):
        mask[place] = number
    return mask


LUNG = (slice(22, 27), slice(26, 31), slice(16, 21))
AIR = (slice(4, 9), slice(1, 4), slice(1, 5))
LIVER = (slice(3, 7), slice(24, 30), slice(20, 30))


def test_a_mask_in_the_air_outside_is_told_and_one_in_the_lung_is_not() -> None:
    assert _notes(_mask(LUNG, LIVER)) == []
    (sentence,) = _notes(_mask(LUNG, AIR))
    assert sentence == (
        "primary-baseline: the mask of lesion 2 lies outside of the body, in air; expected lesions within "
        "the body"
    )
    assert "the lesions 1, 2" in _notes(_mask(AIR, (slice(20, 24), slice(1, 4), slice(1, 4))))[0]


def test_a_mask_that_covers_the_body_is_told() -> None:
    large = np.zeros((70, 120, 130), np.int16) - 1000
    large[:, 20:100, 20:110] = 40
    scan = Scan.from_array(large, (2.5, 2.0, 2.0), mask=(large > 0).astype(np.uint8))
    (note,) = check_scan(scan, label_regions(scan.mask))
    assert note.seen.startswith("the mask covers 9") or note.seen.startswith("the mask covers 100%")
    small = Scan.from_array(
        body()[10:20, 20:36, 24:40], (2.5, 2.0, 2.0), mask=np.ones((10, 16, 16), np.uint8)
    )
    assert check_scan(small, label_regions(small.mask)) == ()  # cut out around a lesion


def test_a_click_in_the_air_outside_is_told_and_others_are_not() -> None:
    inside = {1: (24, 28, 18), 2: (17, 28, 30), 3: (5, 24, 24), 4: (40, 300, 300)}
    assert _notes(clicks=inside) == []  # in a lung, in soft tissue, outside of the scan (told elsewhere)
    (sentence,) = _notes(clicks=inside | {9: (17, 3, 3)})
    assert sentence.startswith("primary-baseline: the click of lesion 9 lies outside of the patient, in air;")


def test_places_are_not_judged_where_the_numbers_are_no_hu() -> None:
    scan = Scan.from_array(body().astype(np.int32) + 1024, (2.5, 2.0, 2.0), clicks={1: (17, 3, 3)})
    assert [note.kind for note in check_scan(scan, {})] == ["not-hu"]
