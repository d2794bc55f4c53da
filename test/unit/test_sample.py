"""The sample case keeps its promises, read from its files."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from test.helpers.paths import REAL_DATA, SAMPLE
from test.sample.make import make
from test.sample.step1 import lay_out
from test.sample.warp import Warp, jacobian_determinant

INPUT = SAMPLE / "input"
BASELINE_CT = INPUT / "images" / "primary-baseline-ct" / "lidc0314-baseline.mha"
BASELINE_MASK = INPUT / "images" / "primary-baseline-ct-tumor-lesion-seg" / "lidc0314-baseline.mha"
FOLLOWUP_CT = INPUT / "images" / "primary-followup-ct" / "lidc0314-followup.mha"
TRUTH = SAMPLE / "truth" / "lidc0314-followup.mha"
# Beside the checkout, where there is one; the originals are not part of the project.
SOURCE = REAL_DATA / "lidc_0314"


def read(path: Path) -> sitk.Image:
    return sitk.ReadImage(str(path))


def facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((SAMPLE / "facts.json").read_text(encoding="utf-8"))
    return facts


def clicks(folder: Path, time_point: str) -> list[dict[str, Any]]:
    text = (folder / f"primary-{time_point}-lesion-clicks.json").read_text(encoding="utf-8")
    points: list[dict[str, Any]] = json.loads(text)["points"]
    return points


def volume_ml(mask: sitk.Image) -> float:
    return float((sitk.GetArrayFromImage(mask) == 1).sum() * np.prod(mask.GetSpacing()) / 1000.0)


@pytest.mark.parametrize(("ct", "mask"), [(BASELINE_CT, BASELINE_MASK), (FOLLOWUP_CT, TRUTH)])
def test_masks_lie_on_the_grid_of_their_scans(ct: Path, mask: Path) -> None:
    scan, lesion = read(ct), read(mask)
    assert scan.GetSize() == lesion.GetSize()
    assert scan.GetSpacing() == lesion.GetSpacing()
    assert scan.GetOrigin() == lesion.GetOrigin()
    assert scan.GetDirection() == lesion.GetDirection() == tuple(np.eye(3).ravel())
    assert scan.GetPixelID() == sitk.sitkInt16
    assert set(np.unique(sitk.GetArrayFromImage(lesion))) == {0, 1}
    assert sitk.GetArrayFromImage(sitk.ConnectedComponent(lesion)).max() == 1


def test_grids_differ_on_all_axes() -> None:
    baseline, followup = read(BASELINE_CT), read(FOLLOWUP_CT)
    for k in range(3):
        assert baseline.GetSpacing()[k] != followup.GetSpacing()[k]
        assert baseline.GetSize()[k] != followup.GetSize()[k]
        extents = [image.GetSize()[k] * image.GetSpacing()[k] for image in (baseline, followup)]
        assert extents[1] < extents[0] - 40.0


def test_the_nodule_grows_by_the_stated_volume() -> None:
    before, after = volume_ml(read(BASELINE_MASK)), volume_ml(read(TRUTH))
    assert after >= 1.4 * before
    assert 100.0 * (after / before - 1.0) == pytest.approx(facts()["volume_change_percent"], abs=0.1)


def test_deformation_is_as_promised_and_does_not_fold() -> None:
    stated = facts()
    assert stated["couch_offset_mm"] >= 25.0
    assert stated["couch_offset_at_nodule_mm"] >= 25.0
    assert 8.0 <= stated["deformation_at_nodule_mm"] <= 10.0
    assert stated["deformation_at_nodule_beyond_best_affine_mm"] >= 8.0
    assert stated["jacobian_min"] > 0.0


def test_the_stated_points_are_where_the_masks_are() -> None:
    for time_point, path in (("baseline", BASELINE_MASK), ("followup", TRUTH)):
        mask = read(path)
        index_xyz = np.argwhere(sitk.GetArrayFromImage(mask) == 1).mean(axis=0)[::-1]
        centre_mm = mask.TransformContinuousIndexToPhysicalPoint(index_xyz.tolist())
        assert np.linalg.norm(np.subtract(centre_mm, facts()[f"nodule_{time_point}_xyz_mm"])) < 1.5


@pytest.mark.slow
def test_nodule_looks_like_the_same_tissue_in_both_scans() -> None:
    means = []
    for ct, mask in ((BASELINE_CT, BASELINE_MASK), (FOLLOWUP_CT, TRUTH)):
        core = sitk.GetArrayFromImage(sitk.BinaryErode(read(mask), [2, 2, 2])) == 1
        means.append(sitk.GetArrayFromImage(read(ct))[core].mean())
    assert means[1] == pytest.approx(means[0], abs=25.0)


@pytest.mark.parametrize(("time_point", "mask"), [("baseline", BASELINE_MASK), ("followup", TRUTH)])
def test_click_is_the_centre_and_inside_the_lesion(time_point: str, mask: Path) -> None:
    (click,) = clicks(INPUT, time_point)
    assert click["name"] == "1"
    lesion = sitk.GetArrayFromImage(read(mask)) == 1
    x, y, z = click["point"]
    assert lesion[round(z), round(y), round(x)]
    np.testing.assert_allclose((z, y, x), np.argwhere(lesion).mean(axis=0))


def test_all_of_it_is_small() -> None:
    kept = [p for p in SAMPLE.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(p.stat().st_size for p in kept) <= 12e6


def test_step1_has_the_same_images_and_no_followup_clicks(tmp_path: Path) -> None:
    dest = lay_out(tmp_path / "case")
    assert lay_out(dest) == dest  # a second time over the first
    assert clicks(dest, "followup") == []
    assert clicks(dest, "baseline") == clicks(INPUT, "baseline")
    originals = sorted(p.relative_to(INPUT) for p in INPUT.rglob("*") if p.is_file())
    assert sorted(p.relative_to(dest) for p in dest.rglob("*") if p.is_file()) == originals
    for path in (INPUT / "images").rglob("*.mha"):
        assert filecmp.cmp(path, dest / path.relative_to(INPUT), shallow=False)


def test_step1_stores_no_image_twice() -> None:
    assert sorted(p.suffix for p in (SAMPLE / "input-step1").rglob("*") if p.is_file()) == [".json", ".json"]


def test_step1_copies_where_links_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr("test.sample.step1.os.link", refuse)
    copied = lay_out(tmp_path) / FOLLOWUP_CT.relative_to(INPUT)
    assert filecmp.cmp(FOLLOWUP_CT, copied, shallow=False)
    assert not copied.samefile(FOLLOWUP_CT)


@pytest.mark.slow
def test_picture_is_drawn_with_and_without_followup_click(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    from test.sample.picture import render

    render(INPUT, TRUTH, tmp_path / "step2.png")
    render(lay_out(tmp_path / "case"), TRUTH, tmp_path / "step1.png")
    for name in ("step1.png", "step2.png"):
        assert read(tmp_path / name).GetSize()[0] >= 1000


def test_jacobian_of_a_known_map() -> None:
    points = np.moveaxis(np.indices((4, 5, 6), dtype=float)[::-1], 0, -1) * (1.5, 2.0, 3.0)
    determinant = jacobian_determinant(points * (2.0, 0.5, -3.0), (1.5, 2.0, 3.0))
    np.testing.assert_allclose(determinant, -3.0)


def test_warp_meets_itself() -> None:
    warp = Warp(np.array([-57.0, 131.0, -520.0]), np.array([0.0, 150.0, -540.0]))
    points = np.random.default_rng(0).uniform(-100.0, 100.0, (50, 3))
    np.testing.assert_allclose(warp.undo_couch(warp.couch(points)), points, atol=1e-9)
    np.testing.assert_allclose(warp.to_baseline(warp.nodule_in_followup()), warp.nodule_xyz_mm, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not SOURCE.is_dir(), reason="needs LONGILESION_TEST_DATA, see test/README.md")
def test_the_case_is_made_again_voxel_by_voxel(tmp_path: Path) -> None:
    made = make(SOURCE, tmp_path)
    assert made == facts()
    for path in (BASELINE_CT, BASELINE_MASK, FOLLOWUP_CT, TRUTH):
        again, stored = read(tmp_path / path.relative_to(SAMPLE)), read(path)
        assert again.GetOrigin() == stored.GetOrigin() and again.GetSpacing() == stored.GetSpacing()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(stored))
    for folder in ("input", "input-step1"):
        for time_point in ("baseline", "followup"):
            assert clicks(tmp_path / folder, time_point) == clicks(SAMPLE / folder, time_point)
