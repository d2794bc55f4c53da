"""Fixtures: every golden case, encoded and predicted once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

from model.case.case import LesionPrompt
from model.case.challenge import discover, read_case
from model.cli.segment import CaseRunOptions, run_case
from model.inference.ensemble import Ensemble
from model.inference.locate import Locator
from model.inference.options import CaseOptions, ModelOptions
from model.inference.prediction import Prediction
from model.network.encoding import EncodedLesion, encode_lesion
from model.network.plan import Plan
from model.network.weights import inspect_weights, load_folds, load_plan
from model.propagation.pair_registrations import RegistrationCache
from model.propagation.register import backend

HERE = Path(__file__).parent
# Registration for lesions without a follow-up click: the published pipeline segments none of them.
UNMOVED = "identity"
GoldenMaps = dict[str, npt.NDArray[Any]]
"""Labelmaps by their paths in the output folder."""
CASES = sorted(path.name for path in (HERE / "cases").iterdir())


@dataclass(frozen=True)
class GoldenLesion:
    """One lesion: our encoding and prediction, and the published ones."""

    case: str
    prompt: LesionPrompt
    encoded: EncodedLesion
    prediction: Prediction
    expected: dict[str, Any]

    def stored(self, kind: str) -> dict[str, npt.NDArray[Any]] | None:
        path = HERE / "expected" / self.case / "patches" / f"lesion_{self.prompt.lesion_id}_{kind}.npz"
        return dict(np.load(path)) if path.exists() else None

    @property
    def inside(self) -> tuple[slice, slice, slice]:
        """The part of the patch that lies in the follow-up image."""
        box = self.encoded.placement.followup
        return box.intersection(self.encoded.followup_grid.whole).relative_to(box).slices


@pytest.fixture(scope="session")
def golden_plan() -> Plan:
    return load_plan(inspect_weights(HERE / "model", range(5)))


@pytest.fixture(scope="session")
def golden_ensemble(golden_plan: Plan) -> Ensemble:
    manifest = inspect_weights(HERE / "model", range(5))
    return Ensemble(golden_plan, list(load_folds(manifest)), ModelOptions(device="cpu"))


def golden_prompts(name: str) -> tuple[LesionPrompt, ...]:
    """Prompts of a golden case."""
    case = read_case(discover(HERE / "cases" / name / "input"))
    return Locator(case, RegistrationCache(backend(UNMOVED))).locate().prompts


def _lesions(name: str, plan: Plan, ensemble: Ensemble) -> Iterator[GoldenLesion]:
    expected = {e["id"]: e for e in json.loads((HERE / "expected" / name / "lesions.json").read_text())}
    prompts = [prompt for prompt in golden_prompts(name) if prompt.lesion_id in expected]
    assert {prompt.lesion_id for prompt in prompts} == expected.keys()
    encoded = [encode_lesion(prompt, plan) for prompt in prompts]
    for prediction in ensemble.predict([partial(_channels, lesion) for lesion in encoded]):
        index = prediction.index
        published = expected[prompts[index].lesion_id]
        yield GoldenLesion(name, prompts[index], encoded[index], prediction, published)


def _channels(lesion: EncodedLesion) -> npt.NDArray[np.float32]:
    return lesion.channels


@pytest.fixture(scope="session", params=CASES)
def golden(
    request: pytest.FixtureRequest, golden_plan: Plan, golden_ensemble: Ensemble
) -> list[GoldenLesion]:
    """All lesions of a case that the published pipeline segments."""
    return list(_lesions(request.param, golden_plan, golden_ensemble))


def run_golden(
    name: str,
    output: Path,
    model: ModelOptions,
    weights: Path = HERE / "model",
    extras: Path | None = None,
    case_folder: Path | None = None,
) -> GoldenMaps:
    """Run a golden case end to end.

    Args:
        name: of the case.
        output: empty folder.
        model: options of the model.
        weights: folder of the model.
        case_folder: the case, if it does not lie among the golden ones.
        extras: folder for the record and one mask per lesion; None writes neither.

    Returns:
        The labelmaps.
    """
    options = CaseRunOptions(
        input_dir=case_folder or HERE / "cases" / name / "input",
        output_dir=output,
        weights_dir=weights,
        extras_dir=extras,
        per_lesion=extras is not None,
        model=model,
        case=CaseOptions(overlap="max-id", backend=UNMOVED),
    )
    assert run_case(options) == 0
    return {
        str(file.relative_to(output)): sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        for file in sorted(output.rglob("*.mha"))
    }


def dice(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Dice of two masks; 1 if both are empty."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / total if total else 1.0
