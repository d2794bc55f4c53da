"""Sockets of a case: what `inputs.json` may list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.case.challenge import discover
from model.errors import InputError

SLUGS = ("primary-baseline-ct", "primary-baseline-ct-tumor-lesion-seg", "primary-followup-ct")


def listing(folder: Path, **further: str) -> list[dict[str, dict[str, str]]]:
    """The entries of a case with empty images, and of further sockets."""
    for slug in SLUGS:
        (folder / slug).mkdir()
        (folder / slug / "ct.mha").touch()
    paths = {slug: slug for slug in SLUGS} | {slug.replace("_", "-"): path for slug, path in further.items()}
    return [{"socket": {"slug": slug, "relative_path": path}} for slug, path in paths.items()]


def test_a_listed_scan_that_is_missing_is_left_out_with_a_warning(tmp_path: Path) -> None:
    entries = listing(tmp_path, secondary_followup_ct="images/gone")
    (tmp_path / "inputs.json").write_text(json.dumps(entries))
    files = discover(tmp_path)
    assert len(files.followup) == 1
    assert any("lists secondary-followup-ct" in line and "gone is missing" in line for line in files.warnings)


def test_listed_clicks_that_are_missing_are_an_empty_list_with_a_warning(tmp_path: Path) -> None:
    entries = listing(tmp_path, primary_followup_lesion_clicks="gone.json")
    (tmp_path / "inputs.json").write_text(json.dumps(entries))
    assert any(
        "primary-followup-lesion-clicks.json: is missing" in line for line in discover(tmp_path).warnings
    )


def test_a_socket_that_is_listed_twice(tmp_path: Path) -> None:
    entries = listing(tmp_path)
    (tmp_path / "inputs.json").write_text(json.dumps([*entries, entries[0]]))
    assert discover(tmp_path).baseline
    entries.append({"socket": {"slug": SLUGS[0], "relative_path": SLUGS[2]}})
    (tmp_path / "inputs.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match="lists primary-baseline-ct twice"):
        discover(tmp_path)
