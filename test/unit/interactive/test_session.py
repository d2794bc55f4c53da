"""Sessions: equal to a run from the start after any clicks, in the axes of the caller."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

import model as ll
from model.case.axes import to_index
from model.case.geometry import Box, Geometry
from model.errors import InputError, LongilesionError
from model.interactive.false_alarm_rules import FalseAlarmRules
from model.interactive.false_alarms import with_rules
from model.interactive.load_pet_ct import PetCtModel
from model.interactive.segment_pet_ct import segment_pet_ct
from model.interactive.session import Session
from test.helpers.paths import CHECKOUT
from test.helpers.tiny_pet_ct import TINY_GEOMETRY, TINY_SHAPE, TINY_SPACING, tiny_pet_ct, tiny_pet_ct_model

CT, PET = tiny_pet_ct()
MODEL = tiny_pet_ct_model()
# Other spacings than the plan's: resampled in all axes, and by the nearest slice along the coarse axis.
SPACINGS = [TINY_SPACING, (2.3, 2.5, 1.7), (7.0, 2.1, 1.9)]

POINTS = st.tuples(*(st.one_of(st.integers(0, n - 1), st.floats(-1.5, n + 0.5)) for n in TINY_SHAPE))
KINDS = st.sampled_from(["tumor", "background"])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("click"), POINTS, KINDS),
        st.tuples(st.just("scribble"), st.lists(POINTS, max_size=4), KINDS),
        st.tuples(st.sampled_from(["again", "undo"])),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True)
@given(ACTIONS, st.sampled_from(SPACINGS), st.sampled_from([0, 0.01, 0.05, 10]))
def test_any_sequence_of_clicks_equals_a_run_from_the_start(
    actions: list[tuple[Any, ...]], spacing: tuple[float, float, float], memory_mib: float
) -> None:
    session = Session(MODEL, memory_mib=memory_mib).set_images(CT, PET, spacing_zyx=spacing)
    geometry = Geometry(TINY_SHAPE[::-1], spacing[::-1], (0.0, 0.0, 0.0))
    for name, *values in actions:
        before = session.mask
        if name == "click":
            session.add_click(values[0], values[1])
        elif name == "scribble":
            session.add_scribble(values[0], values[1])
        elif name == "undo" or not session.clicks:
            session.undo()
        else:
            session.add_click(session.clicks[-1].point_zyx, session.clicks[-1].kind)
        wanted = segment_pet_ct(MODEL, CT, PET, geometry, session.clicks)
        assert session._segmenter is not None
        found = session._segmenter.result()
        np.testing.assert_array_equal(found.margin, wanted.margin)
        np.testing.assert_array_equal(session.mask, wanted.mask)
        assert (found.box, found.clicks, found.warnings) == (wanted.box, wanted.clicks, wanted.warnings)
        _check_box(session.changed_box, before, session.mask)


def _check_box(box: Box | None, before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> None:
    """The box is the smallest around all differences."""
    differing = np.argwhere(before != after)
    if box is None:
        assert len(differing) == 0
        return
    assert box == Box(to_index(differing.min(0)), to_index(differing.max(0) + 1))


def _session(model: PetCtModel = MODEL) -> Session:
    return Session(model).set_images(CT, PET, spacing_zyx=TINY_SPACING)


def _image(array: npt.NDArray[Any]) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(TINY_SPACING[::-1])
    return image


def test_only_tiles_with_the_mark_are_predicted_and_undo_predicts_none() -> None:
    session = _session()
    assert session.predicted_tiles == (12, 12) and session.clicks == () and session.steps == 0
    first = session.mask
    session.add_click((0, 0, 0), "tumor")
    assert session.predicted_tiles == (2, 12)
    changed = session.mask
    session.add_click((0, 0, 0), "Tumour")  # the same once more
    assert session.predicted_tiles == (0, 12) and session.changed_box is None and session.steps == 2
    session.undo()
    session.undo()
    assert session.predicted_tiles == (0, 12) and np.array_equal(session.mask, first)
    assert not np.array_equal(changed, first) and not session.undo()


def test_rules_against_false_alarms_hold_after_each_change() -> None:
    rules = FalseAlarmRules(min_suv=15, remove_clicked=True, cover_clicks=True)
    session = Session(MODEL, rules=rules).set_images(CT, PET, spacing_zyx=TINY_SPACING)
    plain = _session()
    seen, differs = set[str](), list[bool]()
    steps = [((2, 3, 4), "background"), ((13, 11, 9), "tumor"), ((0, 0, 0), "tumor"), None, None]
    for step in steps:
        before = session.mask
        for one in (session, plain):
            if step is None:
                one.undo()
            else:
                one.add_click(*step)
        wanted = with_rules(
            segment_pet_ct(MODEL, CT, PET, TINY_GEOMETRY, session.clicks),
            PET,
            TINY_GEOMETRY,
            session.clicks,
            rules,
        )
        np.testing.assert_array_equal(session.mask, wanted.mask)
        assert session.warnings == wanted.warnings
        _check_box(session.changed_box, before, session.mask)
        seen |= {text.split()[-1] for text in session.warnings}
        differs.append(bool((session.mask != plain.mask).any()))
    assert {"removed", "added"} <= seen and any(differs)


def test_a_mask_is_read_only_and_later_clicks_leave_it() -> None:
    session = _session()
    mask, copy = session.mask, session.mask.copy()
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0, 0] = True
    session.add_scribble([(5, 6, 4), (5, 7, 4)], "background")
    assert np.array_equal(mask, copy) and session.steps == 1 and len(session.clicks) == 2
    assert session.volume_ml == pytest.approx(session.mask.sum() * 0.012)


def test_results_have_the_axes_of_the_ct() -> None:
    plain = _session()
    plain.add_click((3, 8, 2), "tumor")
    ct, pet = (sitk.PermuteAxes(_image(array), (2, 0, 1)) for array in (CT, PET))
    turned = Session(MODEL).set_images(ct, pet)
    turned.add_click((8, 2, 3), "tumor")
    np.testing.assert_array_equal(turned.mask, plain.mask.transpose(1, 2, 0))
    assert list(turned.clicks[0].point_zyx) == [8, 2, 3]
    image = turned.to_image()
    assert image.GetDirection() == ct.GetDirection() and image.GetSize() == ct.GetSize()
    assert plain.changed_box is not None and turned.changed_box is not None
    (z0, z1), (y0, y1), (x0, x1) = plain.changed_box.bounds()
    assert turned.changed_box == Box((y0, x0, z0), (y1, x1, z1))


def test_files_are_read_with_their_warnings(tmp_path: Path) -> None:
    paths = tmp_path / "ct.nii.gz", tmp_path / "pet.mha"
    ct = CT.copy()
    ct[0, 0, 0] = 5000
    sitk.WriteImage(_image(ct), str(paths[0]))
    sitk.WriteImage(_image(PET), str(paths[1]))
    session = Session(MODEL).set_images(*paths)
    from_arrays = Session(MODEL).set_images(ct, PET, spacing_zyx=TINY_SPACING)
    np.testing.assert_array_equal(session.mask, from_arrays.mask)
    session.add_click((-30, 0, 0), "tumor")
    assert any(text.startswith("ct.nii.gz: ") for text in session.warnings)
    assert "outside" in session.warnings[-1] and session.changed_box is None and session.steps == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: one.add_click((1, 2), "tumor"), "point: is"),
        (lambda one: one.add_click((1, 2, float("nan")), "tumor"), "point: is"),
        (lambda one: one.add_click((1, 2, 3), "organ"), "kind: is 'organ'; expected tumor or background"),
        (lambda one: one.set_images(CT, PET), "spacing_zyx: is missing"),
        (lambda one: one.set_images(CT, PET[1:], spacing_zyx=TINY_SPACING), "pet: has the shape"),
        (lambda one: one.set_images(CT, "pet.mha"), "pet: is a file, but the CT is an array"),
        (lambda one: one.set_images(CT, PET * 0, spacing_zyx=TINY_SPACING), "pet: is 0"),
    ],
)
def test_what_cannot_be_used_is_refused_and_changes_nothing(change: object, words: str) -> None:
    session = _session()
    session.add_click((1, 2, 3), "tumor")
    mask = session.mask
    with pytest.raises(InputError, match=words):
        change(session)  # type: ignore[operator]
    assert np.array_equal(session.mask, mask) and session.steps == 1


def test_a_session_needs_a_model_for_pet_ct_and_images() -> None:
    with pytest.raises(InputError, match="model: is a str; expected one for PET/CT"):
        Session("weights")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no images yet"):
        Session(MODEL).add_click((0, 0, 0), "tumor")


def test_a_failed_prediction_leaves_the_session_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    session, mask = _session(), _session().mask
    session.add_click((13, 11, 9), "tumor")
    after = session.mask
    ensemble = session._model.ensemble
    with monkeypatch.context() as patch:
        patch.setattr(type(ensemble), "_forward", lambda *_: (_ for _ in ()).throw(ValueError("broken")))
        with pytest.raises(LongilesionError, match="could not be predicted"):
            session.add_click((0, 0, 0), "tumor")
    assert np.array_equal(session.mask, after) and session.steps == 1
    session.undo()
    assert np.array_equal(session.mask, mask)


def test_after_a_step_down_all_tiles_are_computed_in_the_same_way() -> None:
    model = tiny_pet_ct_model()
    session = _session(model)
    model.ensemble.rung = replace(model.ensemble.rung, batch=1)
    session.add_click((0, 0, 0), "tumor")
    assert session.predicted_tiles == (12, 12)


def test_the_session_is_part_of_the_public_api() -> None:
    assert ll.interactive.Session is Session
    options = {"FalseAlarmRules", "InjectedDose", "ModelOptions"}
    assert set(dir(ll.interactive)) == {"Session", "load_pet_ct_model", "read_dose"} | options
    assert all(getattr(ll.interactive, name) is not None for name in dir(ll.interactive))
    with pytest.raises(AttributeError, match="no attribute 'Sesion'"):
        _ = ll.interactive.Sesion


def test_the_example_of_its_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (CHECKOUT / "docs" / "interactive.md").read_text(), re.MULTILINE | re.DOTALL
    )
    monkeypatch.chdir(CHECKOUT)
    exec(
        compile(block.replace("import longilesion as ll", "import model as ll"), "interactive.md", "exec"), {}
    )
    assert capsys.readouterr().out
