"""Whole cases with a difference weighting network against the published command's own numbers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

import model as ll
from model.case.case import LesionPrompt, LesionResult
from model.cli.segment import CaseRunOptions, run_case
from model.inference.baseline_lesions import baseline_prompts
from model.inference.ensemble import Ensemble
from model.inference.options import CaseOptions, ModelOptions
from model.inference.prediction import foreground_probability
from model.inference.segmenter import Segmenter
from model.network.encoding import encode_lesion, place_lesion
from model.network.patches import network_grid
from model.network.resample import FloatVolume
from model.network.weights import inspect_weights, load_folds, load_plan

from .conftest import HERE, golden_prompts, run_golden

pytestmark = pytest.mark.slow

MODEL = HERE / "difference_weighting" / "model"
EXPECTED = HERE / "difference_weighting" / "expected"
MANIFEST = inspect_weights(MODEL, (0, 1))
PLAN, FOLDS = load_plan(MANIFEST), list(load_folds(MANIFEST))
RUNS = ["c_small/fp32", "e_two_scans/fp32", "i_edge_clicks/fp32"]
# The probabilities' file holds multiples of 1 / 4095, the margins' float16.
PROBABILITY_TOLERANCE, MARGIN_TOLERANCE = 3e-4, 1e-2


def _options(run: str) -> ModelOptions:
    return ModelOptions(device="cpu", folds=(0, 1), tta=run.endswith("mirrored"))


def _published(run: str) -> list[dict[str, Any]]:
    """What the published command computed for each lesion; it fails on a click outside of its scan."""
    case, tag = run.split("/")
    document = json.loads((EXPECTED / case / "lesions.json").read_text())
    return [lesion for lesion in document[tag] if "voxels" in lesion]


def _prompts(run: str) -> dict[int, LesionPrompt]:
    """Prompts of the lesions that the published command segments."""
    wanted = {lesion["lesion"] for lesion in _published(run)}
    prompts = {p.lesion_id: p for p in golden_prompts(run.split("/")[0]) if p.lesion_id in wanted}
    assert prompts.keys() == wanted
    return prompts


@pytest.mark.parametrize("run", RUNS)
def test_points_and_patches(run: str) -> None:
    prompts = _prompts(run)
    for expected in _published(run):
        prompt = prompts[expected["lesion"]]
        lesion = place_lesion(prompt, PLAN)
        placement = lesion.placement
        inside = placement.followup.intersection(lesion.followup_grid.whole)
        assert list(placement.followup_index) == expected["fu_point"]
        assert list(placement.baseline_index) == expected["bl_point"]
        assert list(lesion.followup_grid.shape) == expected["fu_resampled_shape"]
        baseline = network_grid(prompt.baseline.geometry, PLAN, like=prompt.followup.geometry)
        assert list(baseline.shape) == expected["bl_resampled_shape"]
        assert [list(inside.start_zyx), list(inside.stop_zyx)] == expected["fu_box_in_image"]
        assert str(expected["scan"]).startswith(prompt.followup.slot)


@pytest.mark.parametrize(("run", "lesion_id"), [("c_small/fp32", 1), ("i_edge_clicks/fp32", 2)])
def test_input_channels_and_margins(run: str, lesion_id: int) -> None:
    stored = np.load(EXPECTED / run / f"lesion_{lesion_id}_input.npz")
    channels = encode_lesion(_prompts(run)[lesion_id], PLAN).channels
    assert np.abs(channels - stored["input"]).max() <= 1e-5
    margin = next(Ensemble(PLAN, FOLDS, _options(run)).predict([lambda: channels])).margin
    assert margin is not None
    assert np.abs(margin - stored["margin_sum"].astype(np.float32)).max() <= MARGIN_TOLERANCE


@pytest.mark.parametrize(
    ("run", "count", "resident"),
    [("e_two_scans/fp32", 4, True), ("i_edge_clicks/fp32", 3, False), ("c_small/fp32_mirrored", 1, True)],
)
def test_probabilities(run: str, count: int, resident: bool) -> None:
    """With all folds in memory, and with one fold at a time as where memory is short."""
    stored, prompts = np.load(EXPECTED / run / "prob.npz"), list(_prompts(run).values())[:count]
    ensemble = Ensemble(PLAN, FOLDS, _options(run))
    if not resident:
        ensemble._step_down("tried")  # half of the batch
        ensemble._step_down("tried")
        assert not ensemble.rung.resident
    for prediction in ensemble.predict([partial(_channels, prompt) for prompt in prompts]):
        prompt = prompts[prediction.index]
        lesion = place_lesion(prompt, PLAN)
        box = lesion.placement.followup
        inside = box.intersection(lesion.followup_grid.whole).relative_to(box).slices
        assert prediction.margin is not None
        probability = foreground_probability(prediction.margin)[inside]
        expected = stored[f"lesion_{prompt.lesion_id}"] / np.float32(4095)
        assert np.abs(probability - expected).max() <= PROBABILITY_TOLERANCE


def _channels(prompt: LesionPrompt) -> FloatVolume:
    return encode_lesion(prompt, PLAN).channels


@pytest.mark.parametrize("run", RUNS)
def test_masks_of_whole_cases(run: str, tmp_path: Path) -> None:
    case = run.split("/")[0]
    run_golden(case, tmp_path / "output", _options(run), MODEL, tmp_path / "extras")
    _compare(run, tmp_path / "extras", 0)
    _compare(f"{case}/reference", tmp_path / "extras", None)  # in half precision as published
    record = json.loads((tmp_path / "extras" / "run.json").read_text())
    assert record["model"]["variant"] == "difference_weighting"
    assert record["model"]["trainer"] == "LongiSegTrainerTrackingDiffWeightingFinetuning"


def test_a_case_without_masks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The network takes none: the same voxels, without a word about masks; the baseline is segmented."""
    name, bare = "i_edge_clicks", tmp_path / "bare"
    mask = "primary-baseline-ct-tumor-lesion-seg"
    shutil.copytree(HERE / "cases" / name / "input", bare, ignore=shutil.ignore_patterns(mask))
    options = _options(f"{name}/fp32")
    maps = run_golden(name, tmp_path / "output", options, MODEL, tmp_path / "extras", bare)
    assert len(maps) == 1
    _compare(f"{name}/fp32", tmp_path / "extras", 0)
    record = json.loads((tmp_path / "extras" / "run.json").read_text())
    assert not [text for text in record["warnings"] if "mask" in text and "new" not in text]
    _check_segmented_baseline(record, tmp_path / "extras")


def _check_segmented_baseline(record: dict[str, Any], extras: Path) -> None:
    """Every lesion that the baseline has is in its labelmap, with the recorded volume."""
    (name,) = record["segmented_baseline"]["labelmaps"]
    image = sitk.ReadImage(str(extras / name))
    labelmap, voxel_ml = sitk.GetArrayFromImage(image), np.prod(image.GetSpacing()) / 1000
    volumes = {one["lesion_id"]: one["volume_ml"] for one in record["segmented_baseline"]["lesions"]}
    located = [lesion for lesion in record["lesions"] if "baseline" in lesion]
    assert volumes.keys() == {
        one["lesion_id"] for one in located if one["baseline"]["source"] != "propagated"
    }
    assert any(volumes.values()) and set(np.unique(labelmap)) <= {0, *volumes}
    for lesion_id, volume_ml in volumes.items():
        assert volume_ml == pytest.approx(np.count_nonzero(labelmap == lesion_id) * voxel_ml, abs=1e-4)
        assert (extras / "lesions" / f"primary-baseline_lesion-{lesion_id:05d}.mha").is_file()
    for lesion in located:
        is_segmented = lesion["lesion_id"] in volumes
        assert lesion["volume_baseline_ml"] == volumes.get(lesion["lesion_id"])
        assert lesion["baseline"]["is_segmented"] == is_segmented and not lesion["baseline"]["has_mask"]


def test_a_network_that_takes_a_mask_demands_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mask = "primary-baseline-ct-tumor-lesion-seg"
    shutil.copytree(
        HERE / "cases" / "c_small" / "input", tmp_path / "in", ignore=shutil.ignore_patterns(mask)
    )
    model = ModelOptions(device="cpu", folds=(0,))
    options = CaseRunOptions(tmp_path / "in", tmp_path / "out", HERE / "model", model=model)
    assert run_case(options) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert f"{mask}: the folder is missing; expected the lesion mask of primary-baseline-ct" in line
    extras, case = tmp_path / "extras", CaseOptions(segment_baseline=True)
    assert run_case(replace(options, output_dir=tmp_path / "out2", case=case, extras_dir=extras)) == 0
    record = json.loads((tmp_path / "extras" / "run.json").read_text())
    assert [lesion["lesion_id"] for lesion in record["segmented_baseline"]["lesions"]] == [1, 2, 3]
    for lesion in record["lesions"]:
        assert lesion["baseline"]["has_mask"] == (lesion["volume_baseline_ml"] > 0)
    assert any(lesion["baseline"]["has_mask"] for lesion in record["lesions"])


def test_rounded_points() -> None:
    """As the viewer's server runs the network, in both scans: rounded points, mirrored views, no mask."""
    folder = EXPECTED / "c_small" / "viewer"
    options = replace(_options("c_small/fp32_mirrored"), point_rounding="round")
    prompt = _prompts("c_small/fp32")[LAST := 3]
    prompt = replace(prompt, baseline=replace(prompt.baseline, mask=None), has_mask=False)
    (published,) = (p for p in json.loads((folder / "lesions.json").read_text()) if p["lesion"] == LAST)
    placement = place_lesion(prompt, PLAN, rounds_points=True).placement
    assert list(placement.followup_index) == published["fu_point"]
    assert list(placement.baseline_index) == published["bl_point"]
    segmenter = Segmenter(PLAN, Ensemble(PLAN, FOLDS, options))
    results = segmenter.segment([prompt, *baseline_prompts([prompt])])
    for result, file in zip(results, ("masks.npz", "baseline_masks.npz"), strict=True):
        assert isinstance(result, LesionResult)
        masks = {number: mask for number, _, mask in _stored_masks(folder / file)}
        mask = np.zeros_like(masks[LAST])
        mask[result.box.slices] = result.mask
        assert masks[LAST].any() and np.count_nonzero(mask != masks[LAST]) == 0


def test_a_mask_larger_than_a_patch_does_not_matter() -> None:
    """Without use for the mask there is nothing to cover with several patches."""
    prompt = _prompts("c_small/fp32")[1]
    whole = np.full(prompt.baseline.ct.shape, prompt.lesion_id, np.uint16)
    large = replace(prompt, baseline=replace(prompt.baseline, mask=whole))
    segmenter = Segmenter(PLAN, Ensemble(PLAN, FOLDS, _options("c_small/fp32")))
    one, other = segmenter.segment([prompt, large])
    assert isinstance(one, LesionResult) and isinstance(other, LesionResult)
    assert one.mask.any() and one.box == other.box and np.array_equal(one.mask, other.mask)


def test_unclicked_lesions_and_a_series() -> None:
    """Propagated points are boosted, and the same model tracks."""
    folder = HERE / "cases" / "h_same_grid" / "input"
    ct, mask = (
        next((folder / "images" / f"primary-{name}").iterdir())
        for name in ("baseline-ct", "baseline-ct-tumor-lesion-seg")
    )
    model = ll.load_model(MODEL, device="cpu", folds=(0, 1))
    baseline = ll.read_scan(ct, mask=mask)
    followup = ll.read_scan(next((folder / "images" / "primary-followup-ct").iterdir()))
    assert baseline.mask is not None
    ids = set(np.unique(baseline.mask[baseline.mask > 0]).tolist())
    segmented = ll.segment(model, baseline, followup, backend="identity")
    assert segmented.lesions.keys() == ids
    assert all(lesion.point_source == "propagated" for lesion in segmented.lesions.values())
    assert all(lesion.volume_ml for lesion in segmented.lesions.values())
    clicked = ll.read_scan(ct, clicks=folder / "primary-baseline-lesion-clicks.json")
    source, tracked = ll.track(model, [clicked, followup], backend="identity")
    assert source.lesions.keys() == tracked.lesions.keys() == ids and tracked.labelmap.any()
    assert source.labelmap.any() and all(one.status == "source" for one in source.lesions.values())
    (alone,) = ll.track(model, [clicked])
    assert np.array_equal(alone.labelmap, source.labelmap)


def _compare(run: str, extras: Path, allowed: int | None) -> None:
    """Compare masks before the merge; without a number of allowed voxels 8 of them, or 0.5 % of a lesion."""
    for lesion_id, scan, expected in _stored_masks(EXPECTED / run / "masks.npz"):
        image = sitk.ReadImage(str(extras / "lesions" / f"{scan}_lesion-{lesion_id:05d}.mha"))
        differing = np.count_nonzero(sitk.GetArrayFromImage(image).astype(bool) != expected)
        limit = max(8, 0.005 * np.count_nonzero(expected)) if allowed is None else allowed
        assert differing <= limit, f"lesion {lesion_id} in {scan}: {differing} voxels"


def _stored_masks(path: Path) -> list[tuple[int, str, npt.NDArray[np.bool_]]]:
    """(lesion id, scan, mask z, y, x) of every lesion."""
    stored, masks = np.load(path), []
    for name in [key for key in stored if not key.endswith(("_shape", "_ids"))]:
        shape = stored[f"{name}_shape"]
        packed = np.unpackbits(stored[name], count=int(np.prod(shape))).reshape(shape).astype(bool)
        ids = stored[f"{name}_ids"].tolist()
        scan = name.replace("-fu", "-followup")
        masks += [(number, scan, mask) for number, mask in zip(ids, packed, strict=True)]
    assert masks
    return masks
