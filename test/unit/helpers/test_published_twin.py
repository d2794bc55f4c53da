"""The fast way against the published way written plainly: the same labels, the same probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.cli.case_run import CaseRun
from model.cli.segment import CaseRunOptions
from model.inference.options import CaseOptions, ModelOptions
from model.network.weights import SHIPPED_WEIGHTS
from model.timing import Timings
from test.benchmark.phantom import write_phantom_case
from test.benchmark.published import segment

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("size", "lesions"), [((96, 88, 40), 3), ((130, 70, 12), 2)])
def test_patches_alone_give_what_whole_volumes_give(
    size: tuple[int, int, int], lesions: int, tmp_path: Path
) -> None:
    write_phantom_case(tmp_path / "case", size, lesions)
    plain = segment(tmp_path / "case", SHIPPED_WEIGHTS, Timings(), keep=True)
    run = CaseRun(
        CaseRunOptions(
            tmp_path / "case",
            tmp_path / "output",
            SHIPPED_WEIGHTS,
            model=ModelOptions(device="cpu"),
            case=CaseOptions(overlap="max-id", keep_probabilities=True),
        )
    )
    result = run.execute()
    (labelmap,) = result.labelmaps.values()
    assert np.array_equal(labelmap, plain.labelmap) and labelmap.any()
    assert len(result.lesions) == lesions
    for lesion in result.lesions:
        whole = np.zeros(size[::-1], np.float32)
        assert lesion.support is not None and lesion.support_probability is not None
        whole[lesion.support.slices] = lesion.support_probability
        assert np.abs(whole - plain.probabilities[lesion.prompt.lesion_id]).max() <= 1e-5
