"""A case in memory: references on the CT's grid, and clicks that do not depend on how the file lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.case.images import read_image, write_image
from model.click_simulation.challenge_clicks import ChallengeRules, challenge_clicks
from model.errors import InputError
from model.protocol.loaded_case import load_protocol_case, simulated_clicks
from model.protocol.protocol_cases import ProtocolCase, find_protocol_cases
from test.helpers.protocol_cases_on_disk import GRID, write_protocol_case

# Index axes x, y, z run along patient axes z, -x, y.
TURNED = replace(GRID, direction=(0.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0))


def _only_case(folder: Path) -> ProtocolCase:
    (case,) = find_protocol_cases(folder).cases
    return case


def test_clicks_are_drawn_in_the_order_of_the_file(tmp_path: Path) -> None:
    write_protocol_case(tmp_path, "turned", grid=TURNED)
    case = _only_case(tmp_path)
    loaded = load_protocol_case(case)
    assert loaded.scan.ct.shape != GRID.shape_zyx
    clicks = simulated_clicks(loaded, ChallengeRules(), 42)
    truth, pet = read_image(case.labels).array > 0, read_image(case.files.pet).array
    in_file = challenge_clicks(truth, pet, ChallengeRules(), np.random.RandomState(42))
    to_file = loaded.scan.file_grid.file_point
    assert [to_file(click.point_zyx) for click in clicks] == [click.point_zyx for click in in_file]
    axial = loaded.on_axial(loaded.truth)
    assert all(axial[tuple(int(i) for i in click.point_zyx)] for click in clicks[:10])
    np.testing.assert_array_equal(loaded.in_file(axial), truth)


def test_a_reference_on_another_grid_is_refused(tmp_path: Path) -> None:
    write_protocol_case(tmp_path, "one")
    case = _only_case(tmp_path)
    moved = replace(GRID, origin_xyz=(0.0, 0.0, 0.0))
    write_image(case.labels, read_image(case.labels).array, moved)
    with pytest.raises(InputError, match="one.nii.gz: lies on another grid than one_0000.nii.gz"):
        load_protocol_case(case)
