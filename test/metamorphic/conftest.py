"""One patient, one loaded network and its results for all tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.inference.case_result import CaseResult
from model.inference.ensemble import Ensemble
from model.inference.load import LoadedModel, load_model
from model.inference.options import CaseOptions, ModelOptions

from ..helpers.paths import GOLDEN_MODEL
from .patient import Patient, patient

# With all points given; with two propagated as they are; with two by a registration, and boosting.
SETTINGS = {
    "given points": CaseOptions(backend="identity", boost="none"),
    "propagated points": CaseOptions(backend="identity", boost="none"),
    "registered points": CaseOptions(backend="affine"),
}
_SLOW = "registered points"
# Divides the cost of a forward pass of the golden model by eight; the network itself stays as it is.
_PATCH_ZYX = (16, 32, 32)


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    options = ModelOptions(device="cpu", folds=(0,))
    loaded = load_model(GOLDEN_MODEL, options)
    plan = replace(loaded.plan, patch_size_zyx=_PATCH_ZYX)
    return LoadedModel(plan, Ensemble(plan, loaded.ensemble.folds, options), loaded.manifest)


@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=pytest.mark.slow) if name == _SLOW else name for name in SETTINGS],
)
def setting(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def options(setting: str) -> CaseOptions:
    return SETTINGS[setting]


@pytest.fixture(scope="session")
def unchanged(setting: str) -> Patient:
    return patient() if setting == "given points" else patient().unclicked()


@pytest.fixture(scope="session")
def expected(unchanged: Patient, model: LoadedModel, options: CaseOptions) -> CaseResult:
    """The result of the unchanged patient."""
    return unchanged.segmented(model, options)


@pytest.fixture(scope="session")
def given(model: LoadedModel) -> tuple[CaseOptions, CaseResult]:
    """Options and result of the patient with all points given."""
    options = SETTINGS["given points"]
    return options, patient().segmented(model, options)
