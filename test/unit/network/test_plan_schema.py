"""Plans for CT and PET: two channels, nnU-Net's default resampling, everything else refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.errors import WeightsError
from model.network.plan import CtNormalization, read_pet_ct_plan, read_plan
from test.helpers.golden_pet_ct import PET_CT_MODEL
from test.helpers.paths import GOLDEN_MODEL

Document = dict[str, Any]
PUBLISHED = PET_CT_MODEL / "plans.json"


def test_a_published_plan_for_pet_ct() -> None:
    plan = read_pet_ct_plan(PUBLISHED)
    assert plan.network.patch_size_zyx == (40, 40, 40)
    assert plan.network.normalization.lower == -832.062744140625
    assert plan.pet == CtNormalization(
        1.0433332920074463, 51.211158752441406, 7.063827929027176, 7.960414805306728
    )


def test_plans_of_the_other_task_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"CT and PET"):
        read_pet_ct_plan(GOLDEN_MODEL / "plans.json")
    with pytest.raises(WeightsError, match="one CTNormalization"):
        read_plan(PUBLISHED)


def _other_function(document: Document, settings: Document) -> None:
    settings["resampling_fn_data"] = "resample_torch_fornnunet"


def _other_order(document: Document, settings: Document) -> None:
    settings["resampling_fn_probabilities_kwargs"]["order"] = 3


def _forced_axis(document: Document, settings: Document) -> None:
    settings["resampling_fn_data_kwargs"]["force_separate_z"] = True


def _no_suv(document: Document, settings: Document) -> None:
    del document["foreground_intensity_properties_per_channel"]["1"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (_other_function, "resample_torch_fornnunet"),
        (_other_order, "resampling_fn_probabilities_kwargs"),
        (_forced_axis, "force_separate_z"),
        (_no_suv, "no channel 1"),
    ],
)
def test_other_numbers_are_refused(
    tmp_path: Path, change: Callable[[Document, Document], None], part: str
) -> None:
    document = json.loads(PUBLISHED.read_text())
    change(document, document["configurations"]["3d_fullres"])
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(document))
    with pytest.raises(WeightsError) as raised:
        read_pet_ct_plan(path)
    message = str(raised.value)
    assert part in message and "expected" in message and "\n" not in message
