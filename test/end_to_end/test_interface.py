"""The challenge interface end to end: variants, steps, odd but usable input, options, outputs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from model.case.images import read_geometry, write_image
from model.report.measurement_files import read_measurements

from ..helpers.cases_on_disk import CENTRES, SHAPE, SPACING_XYZ, CaseOnDisk, Finished, Grid, ball, body
from ..helpers.paths import CHECKOUT
from ..helpers.sheared_grids import tilted

pytestmark = pytest.mark.slow

OUTPUT = "images/{}-followup-ct-tumor-lesion-seg/segmentation.mha"
# One network takes half of the time of all five, which only test_step_1_segments_every_lesion runs.
ONE_FOLD = ("--folds", "0")
# test_step_1_segments_every_lesion runs with the default registration.
UNMOVED = ("--backend", "identity")
# The default registration with large voxels, as for whole bodies: with the small ones that a small phantom
# gets it takes half a minute.
LARGE_VOXELS = "from model.propagation.register import deformable\ndeformable._VOXELS = 100_000"


def good(run: Finished) -> Finished:
    assert run.code == 0, run.stdout + run.stderr
    return run


@pytest.mark.parametrize("second_baseline", [False, True])
@pytest.mark.parametrize("second_followup", [False, True])
def test_the_four_variants(second_baseline: bool, second_followup: bool, case: CaseOnDisk) -> None:
    if second_baseline:
        case.write_scan("secondary", "baseline")
    if second_followup:
        case.write_scan("secondary", "followup")
    run = good(case.run(*ONE_FOLD))
    slots = ["primary", "secondary"] if second_followup else ["primary"]
    assert run.files() == [OUTPUT.format(slot) for slot in slots]  # and nothing else
    for slot in slots:
        assert set(np.unique(run.labelmap(slot))) <= {0, 1, 2}
        assert run.labelmap(slot).dtype == np.uint8
        for lesion_id in (1, 2):  # clicked in both follow-up scans: segmented in each
            segmented = [
                les for les in run.lesions(lesion_id) if les["followup"]["scan"] == f"{slot}-followup"
            ]
            assert len(segmented) == 1 and segmented[0]["followup"]["source"] == "given"
            own = f"{slot}-baseline" if second_baseline or slot == "primary" else "primary-baseline"
            assert segmented[0]["baseline"]["scan"] == own


def test_baseline_and_followup_in_different_scans(case: CaseOnDisk) -> None:
    case.ids = (3,)
    case.write_scan("secondary", "baseline")
    case.write_scan("secondary", "followup")
    case.clicks("primary", "followup", {"Lesion 3": [30.0, 30.0, 10.0]})
    case.clicks("secondary", "followup", {"lesion_1": [20.0, 28.0, 16.0]})
    run = good(case.run(*ONE_FOLD, *UNMOVED))
    assert run.lesions(3)[0]["baseline"]["scan"] == "secondary-baseline"
    assert run.lesions(3)[0]["followup"]["scan"] == "primary-followup"
    assert run.lesions(1)[0]["baseline"]["scan"] == "primary-baseline"
    assert run.lesions(1)[0]["followup"]["scan"] == "secondary-followup"


@pytest.mark.parametrize("key", ["socket", "interface", "both"])
def test_inputs_json_takes_precedence(key: str, case: CaseOnDisk) -> None:
    images = case.folder / "images"
    shutil.move(images / "primary-followup-ct", images / "elsewhere")
    case.write_scan("secondary", "followup")  # lies there, but is not listed
    slugs = (
        "primary-baseline-ct",
        "primary-baseline-ct-tumor-lesion-seg",
        "primary-followup-ct",
        "secondary-baseline-ct",
    )
    paths = {slug: f"images/{slug}" for slug in slugs} | {"primary-followup-ct": "images/elsewhere"}
    for time_point in ("baseline", "followup"):
        slug = f"primary-{time_point}-lesion-clicks"
        paths[slug] = f"{slug}.json"
    keys = ("socket", "interface") if key == "both" else (key,)
    entries = [
        {name: {"slug": slug, "relative_path": path, "super_kind": "Image"} for name in keys}
        for slug, path in paths.items()
    ]
    (case.folder / "inputs.json").write_text(json.dumps(entries))
    run = good(case.run(*ONE_FOLD))
    assert run.files() == [OUTPUT.format("primary")]
    assert run.lesions(1)[0]["followup"]["source"] == "given"
    assert any("lists secondary-baseline-ct, but" in line for line in run.record["warnings"])


def test_stdout_for_machines_and_for_the_quiet(case: CaseOnDisk) -> None:
    run = good(case.run(*ONE_FOLD, "--json"))
    document = json.loads(run.stdout)
    assert document.pop("exit_code") == 0 and run.stderr == ""
    assert document["lesions"] == run.record["lesions"] and document["outputs"] == run.record["outputs"]
    assert good(case.run(*ONE_FOLD, "--quiet")).stdout.count("\n") == len(run.record["warnings"])


def test_step_1_segments_every_lesion(case: CaseOnDisk) -> None:
    case.clicks("primary", "followup", {})
    run = good(case.run(fresh=True, driver=LARGE_VOXELS))
    assert [les["followup"]["source"] for i in (1, 2) for les in run.lesions(i)] == ["propagated"] * 2
    for lesion_id in (1, 2):  # the follow-up is the baseline with other noise: the place is the same
        point = run.lesions(lesion_id)[0]["followup"]["point_xyz"]
        assert np.abs(np.subtract(point[::-1], CENTRES[lesion_id])).max() < 1.5
        followup = run.lesions(lesion_id)[0]["followup"]
        assert 0 < followup["confidence_mm"] < 10 and followup["in_view"] and not followup["is_flagged"]
    assert run.record["registrations"][0]["reliable"]


def test_given_clicks_need_no_registration(case: CaseOnDisk) -> None:
    """Their lesions are not boosted either: a click is used as it is."""
    plain = good(case.run(*ONE_FOLD, "--boost", "none"))
    boosted = good(case.run(*ONE_FOLD, "--boost", "perturbed"))
    for run in (plain, boosted):
        assert run.record["registrations"] == []
        assert all("confidence_mm" not in lesion["followup"] for lesion in run.record["lesions"])
    assert np.array_equal(plain.labelmap(), boosted.labelmap())


def test_step_1_with_a_registration_backend_and_boosting(case: CaseOnDisk) -> None:
    case.clicks("primary", "followup", {1: list(map(float, CENTRES[1][::-1]))})
    run = good(case.run(*ONE_FOLD, "--backend", "identity", "--boost", "additive", "--save-probabilities"))
    assert run.record["options"]["backend"] == "identity" and run.record["options"]["boost"] == "additive"
    assert [run.lesions(i)[0]["followup"]["source"] for i in (1, 2)] == ["given", "propagated"]
    assert run.lesions(2)[0]["followup"]["point_xyz"] == list(CENTRES[2][::-1])
    assert len(list((run.extras / "probabilities").iterdir())) == 2
    once = good(case.run(*ONE_FOLD, "--backend", "identity", "--boost", "none"))
    assert np.array_equal(run.labelmap() == 1, once.labelmap() == 1)
    assert np.count_nonzero(run.labelmap() == 2) >= np.count_nonzero(once.labelmap() == 2) > 0


def test_an_unknown_registration_backend(case: CaseOnDisk) -> None:
    good(case.run(*ONE_FOLD))
    run = case.run(*ONE_FOLD, "--backend", "affinity")
    assert run.code == 2 and run.files() == []
    assert "'affinity' is unknown" in run.last_line


NO_REGISTRATION = """
from model.propagation.register import affine
def fails(self, fixed, moving):
    raise ValueError("no way")
affine.LinearBackend.register = fails
"""


def test_the_run_fails_if_no_lesion_can_be_located(case: CaseOnDisk) -> None:
    case.clicks("primary", "followup", {})
    run = case.run(*ONE_FOLD, "--backend", "affine", driver=NO_REGISTRATION)
    assert run.code == 1 and "no way" in run.last_line
    assert run.files() == [OUTPUT.format("primary")] and not run.labelmap().any()
    assert {lesion["status"] for lesion in run.record["lesions"]} == {"failed"}


def test_a_failed_registration_does_not_affect_clicked_lesions(case: CaseOnDisk) -> None:
    case.clicks("primary", "followup", {1: list(map(float, CENTRES[1][::-1]))})
    run = good(case.run(*ONE_FOLD, "--backend", "affine", driver=NO_REGISTRATION))
    assert run.lesions(2)[0]["status"] == "failed" and "2" in run.last_line
    assert set(np.unique(run.labelmap())) == {0, 1}


def test_missing_click_files_count_as_empty(case: CaseOnDisk) -> None:
    for path in case.folder.glob("*.json"):
        path.unlink()
    run = good(case.run(*ONE_FOLD, *UNMOVED))
    assert "primary-followup-lesion-clicks.json" in run.warnings
    assert [run.lesions(i)[0]["baseline"]["source"] for i in (1, 2)] == ["mask", "mask"]
    assert [run.lesions(i)[0]["followup"]["source"] for i in (1, 2)] == ["propagated", "propagated"]


def test_without_clicks_the_scan_that_shows_the_lesion_deepest_is_segmented(case: CaseOnDisk) -> None:
    case.write_scan("secondary", "followup")
    image = sitk.ReadImage(str(case.folder / "images/secondary-followup-ct/image.mha"))
    sitk.WriteImage(image[:, :, 22:], str(case.folder / "images/secondary-followup-ct/image.mha"), True)
    for slot in ("primary", "secondary"):
        case.clicks(slot, "followup", {})
    run = good(case.run(*ONE_FOLD, *UNMOVED))
    # Lesion 1 lies 6 slices outside of the part that the secondary scan shows.
    assert [les["followup"]["scan"] for les in run.lesions(1)] == ["primary-followup"]
    assert not run.labelmap("secondary")[:, :, :30].any() and run.files() == [
        OUTPUT.format("primary"),
        OUTPUT.format("secondary"),
    ]


def test_clicks_outside_of_their_scan_are_repaired_or_dropped(case: CaseOnDisk) -> None:
    case.clicks("primary", "followup", {1: [-1.5, 28.0, 16.0], 2: [42.0, 24.0, 80.0], 9: [30.0, 40.0, 12.0]})
    case.clicks("primary", "baseline", {1: [20.0, 28.0, 16.0], 2: [42.0, 24.0, 20.0], 7: [30.0, 12.0, 9.0]})
    run = good(case.run(*ONE_FOLD, *UNMOVED))
    assert run.lesions(1)[0]["followup"]["source"] == "clipped"
    assert run.lesions(1)[0]["followup"]["point_xyz"][0] == 0
    assert run.lesions(2)[0]["followup"]["source"] == "propagated"  # 115 mm outside
    (new,) = run.lesions(9)
    assert (
        new["status"] == "empty" and not new["new"] and not new["baseline"]["has_mask"]
    )  # not seen anywhere
    assert run.lesions(7)[0]["baseline"]["has_mask"] is False
    for text in (
        "lesion 1: its click lies 2.0 mm outside",
        "lesion 2: its click lies",
        "lesion 9: new",
        "lesion 7: its click in primary-baseline has no label",
    ):
        assert text in run.warnings


def test_the_point_of_a_sickle_is_its_nearest_voxel(case: CaseOnDisk) -> None:
    mask = (ball(SHAPE, (16, 28, 30), 12) & ~ball(SHAPE, (16, 28, 36), 11)).astype(np.uint8)
    case.image("primary-baseline-ct-tumor-lesion-seg", mask)
    case.clicks("primary", "baseline", {})
    case.clicks("primary", "followup", {1: [20.0, 28.0, 16.0]})
    run = good(case.run(*ONE_FOLD))
    baseline = run.lesions(1)[0]["baseline"]
    x, y, z = (round(value) for value in baseline["point_xyz"])
    assert baseline["source"] == "mask" and mask[z, y, x] == 1


def test_empty_mask_and_odd_voxels_are_warnings(case: CaseOnDisk) -> None:
    case.image("primary-baseline-ct-tumor-lesion-seg", np.zeros(SHAPE, np.uint8))
    odd = body().astype(np.float32)
    odd[0, 0, :3] = (np.nan, np.inf, -np.inf)
    odd[1, 0, 0] = 20_000
    case.image("primary-followup-ct", odd)
    run = good(case.run(*ONE_FOLD))
    for text in ("mask is empty", "3 voxels are NaN or infinite", "20000"):
        assert text in run.warnings


def test_ids_above_255_make_all_outputs_16_bit(case: CaseOnDisk) -> None:
    case.ids = (65_535,)
    case.write_scan("secondary", "followup")
    case.image("secondary-followup-ct", body())
    mask = np.where(ball(SHAPE, CENTRES[2], 4), 65_535, 0).astype(np.uint16)
    case.image("primary-baseline-ct-tumor-lesion-seg", mask)
    for time_point in ("baseline", "followup"):
        case.clicks("primary", time_point, {65_535: [42.0, 24.0, 20.0]})
    case.clicks("secondary", "followup", {})
    run = good(case.run(*ONE_FOLD))
    assert run.labelmap("primary").dtype == run.labelmap("secondary").dtype == np.uint16
    assert set(np.unique(run.labelmap("primary"))) <= {0, 65_535}
    assert not run.labelmap("secondary").any()  # no lesion there: an all-zero file


def test_a_case_without_any_lesion(case: CaseOnDisk) -> None:
    case.image("primary-baseline-ct-tumor-lesion-seg", np.zeros(SHAPE, np.uint8))
    case.clicks("primary", "baseline", {})
    case.clicks("primary", "followup", {})
    run = good(case.run(*ONE_FOLD))
    assert not run.labelmap().any() and run.record["lesions"] == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mhd"])
def test_other_formats(suffix: str, case: CaseOnDisk) -> None:
    for folder in (case.folder / "images").iterdir():
        image = sitk.ReadImage(str(folder / "image.mha"))
        (folder / "image.mha").unlink()
        sitk.WriteImage(image, str(folder / f"image{suffix}"))
    assert good(case.run(*ONE_FOLD)).files() == [OUTPUT.format("primary")]


def test_oblique_grid_world_clicks_and_options(case: CaseOnDisk) -> None:
    turn = np.deg2rad(20)
    c, s = float(np.cos(turn)), float(np.sin(turn))
    slugs = [f"primary-{time_point}-ct" for time_point in ("baseline", "followup")]
    for slug in (*slugs, "primary-baseline-ct-tumor-lesion-seg"):
        case.grids[slug] = Grid((12.5, -7.25, 300.0), (c, -s, 0, s, c, 0, 0, 0, 1))
    case.write()
    by_voxel = good(case.run(*ONE_FOLD, "--per-lesion", "--save-probabilities", "--deterministic"))
    labels = by_voxel.labelmap()
    followup = sitk.ReadImage(str(case.folder / "images/primary-followup-ct/image.mha"))
    for read in (sitk.Image.GetSize, sitk.Image.GetSpacing, sitk.Image.GetOrigin, sitk.Image.GetDirection):
        assert read(by_voxel.image()) == pytest.approx(read(followup), abs=1e-9)
    assert labels.any()
    for lesion_id in (1, 2):
        _check_extras(by_voxel, lesion_id)
    for time_point in ("baseline", "followup"):
        worlds = {
            i: followup.TransformContinuousIndexToPhysicalPoint([float(v) for v in CENTRES[i][::-1]])
            for i in (1, 2)
        }
        case.clicks("primary", time_point, worlds)
    by_world = good(case.run(*ONE_FOLD, "--clicks", "world", "--deterministic"))
    assert np.array_equal(labels, by_world.labelmap())


def _check_extras(run: Finished, lesion_id: int) -> None:
    """The mask covers the lesion in the labelmap; probabilities and mask agree in world coordinates."""
    mask = sitk.ReadImage(str(run.extras / "lesions" / f"primary-followup_lesion-{lesion_id:05d}.mha"))
    own = sitk.GetArrayFromImage(mask) == 1
    assert not np.any((run.labelmap() == lesion_id) & ~own)
    path = run.extras / "probabilities" / f"primary-followup_lesion-{lesion_id:05d}.mha"
    probability = sitk.ReadImage(str(path))
    placed = sitk.Resample(probability, mask, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)
    assert np.array_equal(sitk.GetArrayFromImage(placed) > 0.5, own)
    measured = read_measurements(run.extras / "measurements.json").patients[0]
    assert run.record["warnings"] and set(run.record["warnings"]) <= set(measured.warnings)
    (lesion,) = (one for one in measured.lesions if one.lesion_id == lesion_id)
    voxels = np.count_nonzero(run.labelmap() == lesion_id)
    assert lesion.findings[1].measures is not None and lesion.findings[1].measures.voxels == voxels


def test_folds_tta_and_overlap(case: CaseOnDisk) -> None:
    run = good(case.run("--folds", "0,2", "--tta", "--overlap", "max-id", "--backend", "affine"))
    model = run.record["model"]
    assert model["folds"] == [0, 2] and set(model["sha256"]) == {
        "plans.json",
        "fold_0/checkpoint_final.safetensors",
        "fold_2/checkpoint_final.safetensors",
    }
    assert run.record["options"] == {
        "overlap": "max-id",
        "clicks": "voxel",
        "backend": "affine",
        "boost": "merged-probabilities",
        "segment_baseline": False,
        "tta": True,
        "point_rounding": "truncate",
        "deterministic": False,
        "time_budget": None,
    }


def test_old_outputs_are_removed_if_the_run_fails(case: CaseOnDisk) -> None:
    case.write_scan("secondary", "followup")
    good(case.run(*ONE_FOLD))
    shutil.rmtree(case.folder / "images" / "primary-followup-ct")
    run = case.run(*ONE_FOLD)
    assert run.code == 2 and run.files() == []


ONE_FAILS = """
from model.inference import segmenter
encode = segmenter.encode_lesion
def fail_for_one(prompt, *settings):
    if prompt.lesion_id == 1:
        raise RuntimeError("lesion 1 is jinxed")
    return encode(prompt, *settings)
segmenter.encode_lesion = fail_for_one
"""


def test_a_failed_lesion_does_not_affect_others(case: CaseOnDisk) -> None:
    case.write_scan("secondary", "followup")
    whole = good(case.run(*ONE_FOLD))
    expected = {slot: whole.labelmap(slot) == 2 for slot in ("primary", "secondary")}
    run = good(case.run(*ONE_FOLD, driver=ONE_FAILS))
    for slot, mask in expected.items():
        # Without lesion 1 the other may win voxels where they overlapped, and loses none.
        assert not np.any(mask & (run.labelmap(slot) != 2))
        assert not np.any(run.labelmap(slot) == 1)
    assert {les["status"] for les in run.lesions(1)} == {"failed"}
    assert "jinxed" in run.lesions(1)[0]["message"] and "1" in run.last_line


def test_help_and_argument_errors_import_no_heavy_library(tmp_path: Path) -> None:
    code = (
        "import sys, process\n"
        "try: process.main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules, 'SimpleITK' in sys.modules)"
    )
    for arguments, expected in [
        (["--help"], "0 False False"),
        (["--device", "tpu"], "2 False False"),
        (["--folds", "a"], "2 False False"),
        (["--boost", "thrice"], "2 False False"),
        (["--per-lesion"], "2 False False"),
        (["--output", str(tmp_path), "--extras", str(tmp_path / "x")], "2 False False"),
    ]:
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=CHECKOUT
        )
        assert done.stdout.splitlines()[-1] == expected, done.stderr
        assert time.perf_counter() - begin < 5


@pytest.mark.parametrize("suffix", [".mha", ".nii.gz"])
def test_a_tilted_gantry(suffix: str, case: CaseOnDisk) -> None:
    """Resampled for the network; every output lies on the grid of the follow-up's file."""
    grid = tilted(SHAPE[::-1], SPACING_XYZ, 20.0, (-60.0, -55.0, 100.0))
    for folder in (case.folder / "images").iterdir():
        voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "image.mha")))
        (folder / "image.mha").unlink()
        write_image(folder / f"image{suffix}", voxels, grid)
    run = good(case.run(*ONE_FOLD, "--per-lesion", "--save-probabilities"))
    assert run.warnings.count("grid is sheared by 20.0 degrees") == 2 and run.stderr == ""
    written = read_geometry(run.output / OUTPUT.format("primary"))
    assert written.same_grid(grid) and written.is_sheared
    labels = run.labelmap()
    for lesion_id in (1, 2):
        (lesion,) = run.lesions(lesion_id)
        voxel_ml = np.prod(SPACING_XYZ) * np.cos(np.radians(20.0)) / 1000
        assert lesion["volume_baseline_ml"] == pytest.approx(ball(SHAPE, (16, 28, 20), 4).sum() * voxel_ml)
        volume_ml = np.count_nonzero(labels == lesion_id) * voxel_ml
        assert lesion["volume_followup_ml"] == pytest.approx(volume_ml)
        assert lesion["followup"]["point_xyz"] == pytest.approx(CENTRES[lesion_id][::-1], abs=1e-3)
        mask = sitk.ReadImage(str(run.extras / "lesions" / f"primary-followup_lesion-{lesion_id:05d}.mha"))
        assert mask.GetDirection() == pytest.approx(grid.direction)
        assert not np.any((labels == lesion_id) & (sitk.GetArrayFromImage(mask) != 1))
    (scan,) = [one for one in run.record["scans"] if one["scan"] == "primary-followup"]
    assert scan["resampled"]["shear_degrees"] == 20.0
    assert run.record["plausibility"] == []


def test_numbers_that_are_no_hu_and_points_in_the_air(case: CaseOnDisk) -> None:
    case.image("primary-followup-ct", body().astype(np.int32) + 1024)
    case.clicks("primary", "baseline", {1: [20.0, 28.0, 16.0], 2: [3.0, 3.0, 17.0]})
    run = good(case.run(*ONE_FOLD))
    kinds = [(note["scan"], note["kind"]) for note in run.record["plausibility"]]
    assert kinds == [("primary-baseline", "click"), ("primary-followup-ct", "not-hu")]
    for note in run.record["plausibility"]:
        assert f"{note['scan']}: {note['seen']}; expected {note['expected']}" in run.record["warnings"]
        assert note["seen"] in run.stdout
