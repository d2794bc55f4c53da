"""Cross-validation of the interactive network, with a stand-in for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.case.tumor_clicks import TumorClick
from model.crossval.validate_interactive import validate_interactive
from model.data.formats.pet_ct_sets import read_pet_ct_cohort
from model.data.pet_ct.studies import PetCtStudy
from model.errors import InputError
from model.protocol.loaded_case import BoolArray, LoadedCase
from model.protocol.protocol_network import ProtocolNetwork, Segment

from ...helpers.pet_ct_sets import write_pet_ct_folder

HELD_OUT = {"0": ("a",), "1": ("b",)}


@pytest.fixture
def studies(tmp_path: Path) -> tuple[PetCtStudy, ...]:
    return read_pet_ct_cohort(write_pet_ct_folder(tmp_path / "raw", ("a", "b"))).studies


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Folds, cases and numbers of clicks that the network was called with; it finds tumour with any."""
    seen: list[tuple[Any, ...]] = []

    def load(network: ProtocolNetwork) -> Segment:
        def segment(case: LoadedCase, clicks: tuple[TumorClick, ...]) -> BoolArray:
            seen.append((network.folds, case.name, len(clicks)))
            tumor = case.on_axial(case.truth)
            return tumor if clicks else np.zeros_like(tumor)

        return segment

    def settings(network: ProtocolNetwork) -> dict[str, Any]:
        return {"weights": [{"fold": (network.weights[0] / "digest").read_text()}], "tta": False}

    monkeypatch.setattr(ProtocolNetwork, "load", load)
    monkeypatch.setattr(ProtocolNetwork, "settings", settings)
    return seen


@pytest.mark.slow
def test_each_fold_segments_its_own_studies_with_rising_numbers_of_clicks(
    tmp_path: Path, studies: tuple[PetCtStudy, ...], calls: list[tuple[Any, ...]]
) -> None:
    (tmp_path / "digest").write_text("one")
    output = tmp_path / "cross_validation"
    summary = validate_interactive(studies, HELD_OUT, tmp_path, output)
    expected = [((n,), case, 2 * k) for n, case in enumerate("ab") for k in (0, 3, 7, 10)]
    assert calls == expected
    assert summary["steps"] == [0, 3, 7, 10] and summary["cases"] == 2
    assert [step["dice"]["mean"] for step in summary["by_step"]] == [0, 1, 1, 1]
    assert summary["auc"]["dice"]["mean"] == 2.5 and (output / "steps.csv").is_file()
    assert validate_interactive(studies, HELD_OUT, tmp_path, output) == summary
    assert calls == expected  # nothing is predicted twice
    (tmp_path / "digest").write_text("trained anew")
    validate_interactive(studies, HELD_OUT, tmp_path, output)
    assert calls == 2 * expected


def test_a_fold_without_studies_is_refused(tmp_path: Path, studies: tuple[PetCtStudy, ...]) -> None:
    with pytest.raises(InputError, match="fold 0: holds out no study"):
        validate_interactive(studies, {"0": ("c",)}, tmp_path, tmp_path / "out")
