"""What a model's folder says of itself, and the check of all of its files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from model.network.checksums import CHECKSUM_FILE, read_checksums, write_checksums
from model.network.input_variants import Family
from model.network.model_facts import describe_model, find_models, verify_model
from model.network.pack import pack_weights
from model.network.weights import available_folds
from test.helpers.golden_pet_ct import PET_CT_MODEL

from ...helpers.checkpoints import FOLD, MODEL, refusal, save_checkpoint, small_model


def test_the_facts_of_a_model(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")
    shutil.copytree(model / "fold_0", model / "fold_all")
    dataset = json.loads((model / "dataset.json").read_text())
    dataset |= {"licence": "CC BY  4.0", "notice": "for tests"}
    (model / "dataset.json").write_text(json.dumps(dataset))
    (model / "LICENSE.txt").write_text("")
    facts = describe_model(model)
    assert (facts.family, facts.variant) == (Family.LONGITUDINAL, "longitudinal (5 channels)")
    assert (facts.folds, facts.size_bytes) == ((0, 1, "all"), 3 * FOLD.stat().st_size)
    assert (facts.patch_size_zyx, facts.spacing_zyx) == ((32, 64, 64), (2.4, 1.2, 1.2))
    assert (facts.licence, facts.licence_files, facts.notice) == ("CC BY 4.0", ("LICENSE.txt",), "for tests")
    assert json.loads(json.dumps(facts.document()))["family"] == "longitudinal"


def test_a_model_for_pet_ct() -> None:
    facts = describe_model(PET_CT_MODEL)
    assert facts.family is Family.PET_CT and facts.folds == (0, 1, 2, 3)
    assert [file.problem for file in verify_model(PET_CT_MODEL)] == [None] * 5


def test_models_are_found_below_a_folder(tmp_path: Path) -> None:
    for name in ("b", "a/one", "a/two"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "plans.json").touch()
    names = [str(folder.relative_to(tmp_path)) for folder in find_models(tmp_path)]
    assert names == ["a/one", "a/two", "b"] and find_models(tmp_path / "b") == [tmp_path / "b"]


def test_a_folder_without_folds(tmp_path: Path) -> None:
    refusal(lambda: available_folds(tmp_path), "holds no folds")


def test_checksums_are_those_of_the_system(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")
    pack_weights(model, tmp_path / "p")
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", CHECKSUM_FILE],
        cwd=tmp_path / "p",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.count(": OK") == 4, done.stderr
    assert all(file.is_recorded and not file.problem for file in verify_model(tmp_path / "p"))
    assert read_checksums(model) is None


@pytest.mark.parametrize("line", ["nothing", f"{'0' * 64}  ../plans.json", f"{'0' * 64}  /etc/passwd"])
def test_damaged_checksums_are_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / CHECKSUM_FILE).write_text(f"# of a model\n\n{'0' * 64} *plans.json\n{line}\n")
    refusal(lambda: read_checksums(tmp_path), CHECKSUM_FILE, "line 4")


def test_every_broken_file_is_named(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")
    write_checksums(model, [model / "plans.json", model / "dataset.json", model / "fold_0" / FOLD.name])
    save_checkpoint(model / "fold_1" / FOLD.name, lambda content: content["network_weights"].popitem())
    (model / "dataset.json").write_text("{}")
    problems = {
        file.path.name: file.problem for file in verify_model(model) if file.path.parent != model / "fold_1"
    }
    assert problems.keys() == {"plans.json", FOLD.name, "dataset.json"}
    assert problems["plans.json"] is None and problems[FOLD.name] is None
    assert "another checksum than in SHA256SUMS" in str(problems["dataset.json"])
    (fold,) = (file for file in verify_model(model) if file.path.parent == model / "fold_1")
    assert "does not fit its plan" in str(fold.problem) and not fold.is_recorded


def test_a_broken_plan_is_named(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")
    (model / "plans.json").write_text("{}")
    plan, *folds = verify_model(model)
    assert str(plan.problem).startswith(str(model / "plans.json"))
    assert all("cannot be checked against its plan" in str(fold.problem) for fold in folds)


def test_a_recorded_file_that_is_missing_is_named(tmp_path: Path) -> None:
    model = small_model(tmp_path / "m")
    (model / CHECKSUM_FILE).write_text(f"{'0' * 64}  LICENSE\n")
    problem = list(verify_model(model))[-1].problem
    assert problem is not None and "LICENSE: cannot be read" in problem
    assert MODEL.exists()
