"""Doctored folds: each is named; sound folds of the sample case and of the golden cases raise no alarm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model.case.challenge import discover, read_case
from model.inference.ensemble import Ensemble
from model.inference.load import LoadedModel, load_model
from model.inference.options import CaseOptions, ModelOptions
from model.inference.segment_case import segment_case
from model.network.weights import FoldWeights

from ..helpers.paths import GOLDEN_MODEL, SAMPLE, TEST
from .report import Trial


def negated(fold: FoldWeights) -> FoldWeights:
    """A fold whose last layer has all signs turned round."""
    last = max(name for name in fold.state if name.startswith("decoder.seg_layers.")).rpartition(".")[0]
    changed = {key: -value for key, value in fold.state.items() if key.rpartition(".")[0] == last}
    return replace(fold, state=fold.state | changed)


def untrained(fold: FoldWeights) -> FoldWeights:
    """A fold whose convolutions have random weights, spread as the trained ones are."""
    generator = torch.Generator().manual_seed(1)
    state = {
        key: torch.randn(value.shape, generator=generator) * value.std() if value.ndim > 1 else value
        for key, value in fold.state.items()
    }
    return replace(fold, state=state)


def with_fold(model: LoadedModel, position: int, fold: FoldWeights) -> LoadedModel:
    """The model with another fold in a position."""
    folds = list(model.ensemble.folds)
    folds[position] = fold
    return replace(model, ensemble=Ensemble(model.plan, folds, model.ensemble.options))


def doctored_folds() -> Iterator[Trial]:
    """Segment sound cases, then the sample case with each fold doctored in turn."""
    options = ModelOptions(device="cpu")
    golden, shipped = load_model(GOLDEN_MODEL, options), load_model(None, options)
    for folder in sorted((TEST / "golden" / "cases").iterdir()):
        yield _sound(folder.name, folder / "input", golden)
    yield _sound("the sample case", SAMPLE / "input", shipped)
    case = read_case(discover(SAMPLE / "input"))
    for change in (negated, untrained):
        for position, fold in enumerate(shipped.ensemble.folds):
            result = segment_case(case, with_fold(shipped, position, change(fold)))
            odd = [outcome.odd_fold for outcome in result.outcomes]
            is_named = all(one is not None and one.position == position for one in odd)
            found = () if is_named else (f"named are {odd}",)
            yield Trial(f"fold {position} {change.__name__}", found)


def _sound(name: str, folder: Path, model: LoadedModel) -> Trial:
    result = segment_case(read_case(discover(folder)), model, CaseOptions(backend="identity"))
    odd = [outcome for outcome in result.outcomes if outcome.odd_fold is not None]
    found = tuple(f"lesion {outcome.lesion_id}: {outcome.odd_fold}" for outcome in odd)
    votes = [lesion.fold_votes for lesion in result.lesions]
    counted = sum(vote is not None and bool(np.any(vote[1:])) for vote in votes)
    return Trial(f"sound folds on {name}: {counted} results with votes, no alarm", found)
