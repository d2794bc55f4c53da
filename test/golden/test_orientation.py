"""A golden case stored with other axes, signs or headers gives the same result."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
import torch

from model.case.challenge import discover, read_case
from model.case.geometry import AxisMap, Geometry, flip_order
from model.inference.ensemble import Ensemble
from model.inference.locate import Locator
from model.inference.merge import merge
from model.inference.options import ModelOptions
from model.inference.segmenter import LesionFailure, Segmenter
from model.network.plan import Plan
from model.network.weights import FoldWeights, inspect_weights, load_folds
from model.propagation.pair_registrations import RegistrationCache

from .conftest import HERE

pytestmark = pytest.mark.slow

CASE = HERE / "cases" / "a_easy" / "input"
BASELINE = ("primary-baseline-ct", "primary-baseline-ct-tumor-lesion-seg")
FOLLOWUP = ("primary-followup-ct",)


def _answer(case_dir: Path, plan: Plan, ensemble: Ensemble) -> tuple[npt.NDArray[np.uint8], Geometry]:
    """The follow-up's labelmap on its own file's grid."""
    case = read_case(discover(case_dir))
    prompts = Locator(case, RegistrationCache()).locate().prompts
    results = list(Segmenter(plan, ensemble).segment(prompts))
    found = [result for result in results if not isinstance(result, LesionFailure)]
    assert len(found) == len(results) == 4
    scan = case.followup.scans[0]
    return merge(scan, found, "max-id", np.uint8), scan.file_geometry


@pytest.fixture(scope="module")
def plain(golden_plan: Plan, golden_ensemble: Ensemble) -> npt.NDArray[np.uint8]:
    return _answer(CASE, golden_plan, golden_ensemble)[0]


def _geometry(image: sitk.Image) -> Geometry:
    size, spacing, origin = image.GetSize(), image.GetSpacing(), image.GetOrigin()
    return Geometry(tuple(size), tuple(spacing), tuple(origin), tuple(image.GetDirection()))


def _rewritten(tmp_path: Path, changes: dict[str, AxisMap], mirrored_headers: bool = False) -> Path:
    """The case with arrays, headers and clicks of some time points in other axes."""
    target = tmp_path / "input"
    for slug in (*BASELINE, *FOLLOWUP):
        time_point = slug.split("-")[1]
        axes = changes.get(time_point, AxisMap())
        image = sitk.ReadImage(str(next((CASE / "images" / slug).glob("*.mha"))))
        grid = _geometry(image)
        turned = grid.reoriented(axes)
        array = np.ascontiguousarray(axes.array(sitk.GetArrayFromImage(image)))
        rewritten = sitk.GetImageFromArray(array)
        rewritten.SetSpacing(turned.spacing_xyz)
        rewritten.SetOrigin(turned.origin_xyz)
        rewritten.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1) if mirrored_headers else turned.direction)
        (target / "images" / slug).mkdir(parents=True)
        sitk.WriteImage(rewritten, str(target / "images" / slug / "image.mha"))
        name = f"primary-{time_point}-lesion-clicks.json"
        document = json.loads((CASE / name).read_text())
        for entry in document["points"]:
            moved = axes.point(entry["point"][::-1], grid.shape_zyx)
            entry["point"] = list(flip_order(moved))
        (target / name).write_text(json.dumps(document))
    return target


def test_one_sign_convention_for_all_gives_the_same_arrays(
    tmp_path: Path, plain: npt.NDArray[np.uint8], golden_plan: Plan, golden_ensemble: Ensemble
) -> None:
    case = _rewritten(tmp_path, {}, mirrored_headers=True)
    assert np.array_equal(_answer(case, golden_plan, golden_ensemble)[0], plain)


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:])
def test_permuted_axes_give_the_same_result_in_world_coordinates(
    order: tuple[int, int, int],
    tmp_path: Path,
    plain: npt.NDArray[np.uint8],
    golden_plan: Plan,
    golden_ensemble: Ensemble,
) -> None:
    axes = AxisMap(order)
    case = _rewritten(tmp_path, {"baseline": axes, "followup": axes})
    labelmap, grid = _answer(case, golden_plan, golden_ensemble)
    assert labelmap.shape == grid.shape_zyx
    assert np.array_equal(axes.inverse().array(labelmap), plain)


@pytest.mark.parametrize("flips", [(True, False, False), (False, True, True), (True, True, True)])
def test_a_baseline_with_other_signs_changes_nothing(
    flips: tuple[bool, bool, bool],
    tmp_path: Path,
    plain: npt.NDArray[np.uint8],
    golden_plan: Plan,
    golden_ensemble: Ensemble,
) -> None:
    case = _rewritten(tmp_path, {"baseline": AxisMap(flipped=flips)})
    labelmap = _answer(case, golden_plan, golden_ensemble)[0]
    # A click counted from the other end is truncated to the other neighbour at most by a rounding error
    # of the subtraction; the voxels of the arrays are the same.
    assert np.count_nonzero(labelmap != plain) <= 2


@pytest.mark.parametrize("flips", [(False, False, True), (True, True, False)])
def test_a_flipped_followup_is_segmented_on_its_own_grid(
    flips: tuple[bool, bool, bool], tmp_path: Path, golden_plan: Plan, golden_ensemble: Ensemble
) -> None:
    """The follow-up is never flipped; the baseline is, as if both were stored in the same way."""
    axes = AxisMap(flipped=flips)
    both = _rewritten(tmp_path / "both", {"baseline": axes, "followup": axes})
    alone = _rewritten(tmp_path / "alone", {"followup": axes})
    wanted, _ = _answer(both, golden_plan, golden_ensemble)
    got, grid = _answer(alone, golden_plan, golden_ensemble)
    # For the two voxels see above.
    assert wanted.any() and np.count_nonzero(got != wanted) <= 2
    stored = _geometry(sitk.ReadImage(str(alone / "images" / FOLLOWUP[0] / "image.mha")))
    assert grid == stored and grid.axis_signs_zyx() == flips


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_a_plan_with_transposed_axes(
    order: tuple[int, int, int], plain: npt.NDArray[np.uint8], golden_plan: Plan
) -> None:
    """Transposing plan, kernels and weights together gives the same result."""
    manifest = inspect_weights(HERE / "model", range(5))
    folds = [_transposed_fold(fold, order) for fold in load_folds(manifest)]
    plan = _transposed_plan(golden_plan, order)
    ensemble = Ensemble(plan, folds, ModelOptions(device="cpu"))
    assert np.count_nonzero(_answer(CASE, plan, ensemble)[0] != plain) <= 2


def _transposed_plan(plan: Plan, order: tuple[int, int, int]) -> Plan:
    turn = AxisMap(order).triple
    network = plan.architecture
    return replace(
        plan,
        transpose_forward=order,
        spacing_zyx=turn(plan.spacing_zyx),
        patch_size_zyx=turn(plan.patch_size_zyx),
        architecture=replace(
            network,
            kernel_sizes=tuple(turn(kernel) for kernel in network.kernel_sizes),
            strides=tuple(turn(stride) for stride in network.strides),
        ),
    )


def _transposed_fold(fold: FoldWeights, order: tuple[int, int, int]) -> FoldWeights:
    permute = partial(torch.permute, dims=(0, 1, *(axis + 2 for axis in order)))
    state = {k: permute(v).contiguous() if v.ndim == 5 else v for k, v in fold.state.items()}
    return replace(fold, state=state)
