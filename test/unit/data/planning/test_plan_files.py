"""Files of a plan."""

from __future__ import annotations

import json
from pathlib import Path

from model.data.planning.fingerprint import Fingerprint, Intensities
from model.data.planning.plan_files import transfer_plan, write_dataset, write_plan
from model.data.planning.planner import PlanOptions, plan_configuration
from model.network.plan import read_plan
from test.helpers.paths import GOLDEN_MODEL

FOREGROUND = Intensities(
    mean=-63.0, median=-20.0, std=282.4, min=-1024, max=1500, percentile_00_5=-918.0, percentile_99_5=723.0
)


def _fingerprint(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Fingerprint:
    return Fingerprint(
        spacings_zyx=(spacing,), shapes_zyx=(shape,), foreground=FOREGROUND, sampled_voxels=100
    )


def test_a_plan_is_readable_by_inference_and_has_the_keys_of_published_ones(tmp_path: Path) -> None:
    fingerprint = _fingerprint((3.0, 0.78, 0.78), (150, 512, 512))
    planned = plan_configuration(fingerprint, PlanOptions())
    plan = write_plan(tmp_path, "some", fingerprint, planned)
    assert plan.patch_size_zyx == (80, 256, 256) and plan.spacing_zyx == (3.0, 0.78, 0.78)
    assert (plan.normalization.lower, plan.normalization.std) == (-918.0, 282.4)
    assert plan.architecture.blocks_per_stage == (1, 3, 4, 6, 6, 6, 6)
    assert plan.architecture.conv_bias and plan.architecture.norm_affine
    ours = json.loads((tmp_path / "plans.json").read_text())
    weights = GOLDEN_MODEL
    theirs = json.loads((weights / "plans.json").read_text())
    assert _keys(ours) >= _keys(theirs)
    write_dataset(tmp_path, 12)
    described = json.loads((tmp_path / "dataset.json").read_text())
    assert described.keys() == json.loads((weights / "dataset.json").read_text()).keys()


def _keys(document: object, path: str = "") -> set[str]:
    if not isinstance(document, dict):
        return set()
    keys = {f"{path}/{key}" for key in document}
    return keys.union(*(_keys(value, f"{path}/{key}") for key, value in document.items()))


def test_a_transferred_plan_is_unchanged_but_for_its_name(tmp_path: Path) -> None:
    weights = GOLDEN_MODEL / "plans.json"
    plan = transfer_plan(weights, tmp_path, "other")
    assert plan == read_plan(weights)
    assert json.loads((tmp_path / "plans.json").read_text())["dataset_name"] == "other"
