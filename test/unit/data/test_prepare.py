"""Preparation of a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model.data import prepare
from model.data.planning.planner import PlanOptions
from model.data.preprocess import PreparationJob
from model.data.store import read_prepared
from model.errors import InputError
from test.helpers.data_sets import manifest_of_pairs


def test_an_interrupted_preparation_leaves_no_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = manifest_of_pairs(tmp_path / "raw", {"anna": [{1: ((5, 8, 9), 2)}, {1: ((6, 9, 10), 2)}]})
    options = prepare.PrepareOptions(data, tmp_path / "out", plan_options=PlanOptions("tiny"), folds=0)
    prepare.prepare(options)
    assert len(read_prepared(options.output).pairs) == 1

    def stop(job: PreparationJob) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "prepare_scan", stop)
    wider = PlanOptions("tiny", spacing_zyx=(3.0, 1.5, 1.5))
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(replace(options, plan_options=wider))
    with pytest.raises(InputError, match="index.json"):
        read_prepared(options.output)
