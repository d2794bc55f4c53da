"""The page of interactive sessions in headless Chromium: images, clicks, scribble, undo, downloads.

Needs a Chromium (on Debian ``apt-get install chromium``, or the one that LONGILESION_CHROMIUM names); is
skipped without one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from playwright import sync_api as playwright

from model.case.tumor_clicks import ClickKind, read_tumor_clicks
from model.interactive.segment_pet_ct import segment_pet_ct
from model.serve.session_table import ServerLimits
from test.helpers.session_server import RunningServer, running_server
from test.helpers.tiny_pet_ct import TINY_GEOMETRY, TINY_SHAPE, TINY_SPACING, tiny_pet_ct, tiny_pet_ct_model

CHROMIUM = os.environ.get("LONGILESION_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="the page is not tested: no Chromium here"),
]

CT, PET = tiny_pet_ct()
MODEL = tiny_pet_ct_model()
_PATIENCE_MS = float(os.environ.get("LONGILESION_PAGE_SECONDS", "60")) * 1000


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with running_server(MODEL, ServerLimits()) as running:
        yield running


@pytest.fixture
def page(server: RunningServer) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # WebGL 2 by software, as there is no GPU.
        options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options, timeout=_PATIENCE_MS)
        page = browser.new_page(viewport={"width": 900, "height": 640}, accept_downloads=True)
        page.set_default_timeout(_PATIENCE_MS)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda text: faults.append(text.text) if text.type == "error" else None)
        page.goto(f"http://127.0.0.1:{server.port}/")
        yield page
        browser.close()
    # A refused request is shown by the page, and logged by the browser.
    assert [fault for fault in faults if "400 (Bad Request)" not in fault] == []


def _write(array: npt.NDArray[Any], path: Path) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(TINY_SPACING[::-1])
    sitk.WriteImage(image, str(path))
    return path


def _shown_mask(page: Any) -> npt.NDArray[np.bool_]:
    values = page.evaluate("Array.from(viewer.volumes[2].img)")
    return np.reshape(values, TINY_SHAPE).astype(bool)


def _wait_for(page: Any, words: str) -> None:
    page.wait_for_function(
        "words => document.getElementById('status').textContent.includes(words)", arg=words
    )


def _downloaded(page: Any, button: str, path: Path) -> Path:
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(path)
    return path


def test_clicks_change_the_mask_that_is_shown_and_saved(page: Any, tmp_path: Path) -> None:
    page.set_input_files("#ct", str(_write(CT, tmp_path / "ct.nii.gz")))
    page.set_input_files("#pet", str(_write(PET, tmp_path / "pet.mha")))
    page.click("#segment")
    _wait_for(page, "0 points")
    first = _shown_mask(page)
    np.testing.assert_array_equal(first, segment_pet_ct(MODEL, CT, PET, TINY_GEOMETRY).mask)

    page.check("input[value=tumor]")
    area = page.locator("#viewer").bounding_box()
    place = (area["x"] + area["width"] * 0.3, area["y"] + area["height"] * 0.3)
    before = page.screenshot()
    page.mouse.click(area["x"] + 2, area["y"] + area["height"] - 2)  # beside the slices: nothing is marked
    page.mouse.click(*place)
    _wait_for(page, "1 point.")
    clicks = read_tumor_clicks(_downloaded(page, "#save-clicks", tmp_path / "clicks.json"))
    assert [click.kind for click in clicks] == [ClickKind.TUMOR]
    inside = [0 <= value <= n - 1 for value, n in zip(clicks[0].point_zyx, TINY_SHAPE, strict=True)]
    assert all(inside)
    clicked = _shown_mask(page)
    np.testing.assert_array_equal(clicked, segment_pet_ct(MODEL, CT, PET, TINY_GEOMETRY, clicks).mask)
    assert (clicked != first).any() and page.screenshot() != before
    saved = sitk.ReadImage(str(_downloaded(page, "#save-mask", tmp_path / "mask.nii.gz")))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(saved).astype(bool), clicked)

    page.check("input[value=background]")
    page.check("#scribble")
    page.mouse.move(*place)
    page.mouse.down()
    page.mouse.move(place[0] + 30, place[1] + 20, steps=4)
    page.mouse.up()
    page.wait_for_function("() => /[2-9] points/.test(document.getElementById('status').textContent)")
    assert (_shown_mask(page) != clicked).any()
    page.click("#undo")
    _wait_for(page, "1 point.")
    np.testing.assert_array_equal(_shown_mask(page), clicked)


def test_an_error_of_the_server_is_shown(page: Any, tmp_path: Path) -> None:
    page.set_input_files("#ct", str(_write(CT, tmp_path / "ct.nii.gz")))
    page.set_input_files("#pet", str(_write(PET * 0, tmp_path / "pet.nii.gz")))
    page.click("#segment")
    page.wait_for_function("() => document.getElementById('error').textContent.startsWith('pet: is 0')")
