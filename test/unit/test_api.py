"""The Python API: public names, arrays in and out, geometry, errors, and the examples of its page."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

import model as ll
from model.case.case import Case, TimePoint, TimePointName
from model.inference.options import CaseOptions
from model.inference.robust import RobustOptions, function_segmenter
from model.inference.segment_case import segment_case
from model.propagation.register import deformable
from test.helpers.paths import CHECKOUT, SAMPLE

SHAPE, SPACING = (24, 40, 48), (2.0, 1.5, 1.0)
PAGE = CHECKOUT / "docs" / "python_api.md"


def _hu(centre: tuple[int, int, int] = (12, 20, 24)) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """A body with a bright lesion: HU and the lesion's voxels."""
    z, y, x = np.indices(SHAPE)
    hu = np.where(((y - 20) / 17) ** 2 + ((x - 24) / 20) ** 2 < 1, 30, -1000)
    lesion = ((z - centre[0]) * 2.0) ** 2 + ((y - centre[1]) * 1.5) ** 2 + (x - centre[2]) ** 2 < 36
    return np.where(lesion, 150, hu).astype(np.int16), lesion


def _bright(request: ll.SegmentRequest) -> npt.NDArray[np.bool_]:
    return request.image > 90


HU, LESION = _hu()
BASELINE = ll.Scan.from_array(HU, SPACING, mask=LESION * np.uint8(7))
BARE = ll.Scan.from_array(HU, SPACING)
CLICKED = ll.Scan.from_array(HU, SPACING, clicks={7: (12, 20, 24)})


def _registered(moving: ll.Scan) -> Any:
    return ll.register(BASELINE, moving, backend="identity")


def test_importing_is_light() -> None:
    code = (
        "import sys, time; start = time.process_time(); import model as ll; names = dir(ll)\n"
        "print(time.process_time() - start < 0.1, 'torch' in sys.modules, 'numpy' in sys.modules, names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.stdout.strip() == f"True False False {sorted(ll.__all__)}", done.stderr


def test_names_exist_and_others_do_not() -> None:
    assert all(getattr(ll, name) is not None for name in ll.__all__)
    with pytest.raises(AttributeError, match="no attribute 'segmentt'"):
        _ = ll.segmentt


def test_a_clicked_lesion_comes_back_in_the_array_of_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    hu, lesion = _hu((13, 22, 22))
    done: list[tuple[int, int]] = []
    followup = ll.Scan.from_array(hu, SPACING, clicks={7: (13, 22, 22)})
    result = ll.segment(_bright, BASELINE, followup, progress=lambda *counts: done.append(counts))
    assert np.array_equal(result.labelmap, lesion * np.uint8(7)) and result.labelmap.dtype == np.uint8
    assert np.array_equal(result.mask(7), lesion)
    with pytest.raises(KeyError):
        result.mask(8)
    found = result.lesions[7]
    assert (found.status, found.point_zyx, found.point_source) == ("segmented", (13, 22, 22), "given")
    assert found.volume_ml == pytest.approx(lesion.sum() * 0.003)
    assert found.baseline_volume_ml == pytest.approx(LESION.sum() * 0.003)
    assert (found.confidence_mm, found.is_flagged) == (None, False)
    assert done == [(1, 1)] and result.spacing_zyx == SPACING
    assert capsys.readouterr() == ("", "")


def test_an_unclicked_lesion_is_propagated() -> None:
    hu, lesion = _hu((13, 21, 25))
    result = ll.segment(_bright, BASELINE, ll.Scan.from_array(hu, SPACING), backend="identity")
    found = result.lesions[7]
    assert found.point_source == "propagated" and found.confidence_mm is not None and found.confidence_mm >= 1
    assert found.point_zyx == pytest.approx((12, 20, 24), abs=0.5)
    assert np.array_equal(result.mask(7), lesion)


def test_unusual_voxels_are_reported_in_the_result() -> None:
    hu = HU.astype(np.float32)
    hu[0, 0, 0] = np.nan
    scan = ll.Scan.from_array(hu, SPACING, mask=LESION, clicks={1: (12, 20, 24)})
    result = ll.segment(_bright, scan, BARE, backend="identity")
    assert any(warning.startswith("baseline: ct: 1 voxels are NaN") for warning in result.warnings)
    tracked = ll.track(_bright, [scan, BARE], backend="identity")
    assert any("NaN" in warning for warning in tracked[0].warnings)


def test_doubts_about_scans_are_notes_of_the_result() -> None:
    followup = ll.Scan.from_array(HU.astype(np.int32) + 1024, SPACING, clicks={7: (12, 20, 24)})
    result = ll.segment(_bright, BASELINE, followup)
    (note,) = result.notes
    assert (note.scan, note.kind) == ("primary-followup-ct", "not-hu")
    assert note.sentence in result.warnings
    wide = np.pad(HU, ((0, 0), (15, 15), (15, 15)), constant_values=-1000)
    astray = ll.Scan.from_array(wide, SPACING, clicks={7: (12, 35, 39), 9: (12, 3, 3)})
    before, after = ll.track(_bright, [astray, ll.Scan.from_array(wide, SPACING)], backend="identity")
    assert [(note.scan, note.kind) for note in before.notes] == [("primary-0", "click")]
    assert before.notes[0].sentence in before.warnings and after.notes == ()


def test_scans_without_any_lesion_are_reported() -> None:
    result = ll.segment(_bright, BARE, BARE)
    assert dict(result.lesions) == {} and not result.labelmap.any()
    assert any(warning.startswith("no lesion:") for warning in result.warnings)
    with pytest.raises(ll.InputError, match="no lesion"):
        ll.track(_bright, [BARE, BARE])


def test_a_failing_function_fails_its_lesion() -> None:
    def fails_for_seven(request: ll.SegmentRequest) -> npt.NDArray[np.bool_]:
        if request.lesion_id == 7:
            raise ValueError("not this one")
        return _bright(request)

    clicks = {7: (12, 20, 24), 8: (12, 20, 24)}
    followup = ll.Scan.from_array(HU, SPACING, clicks=clicks)
    result = ll.segment(fails_for_seven, BASELINE, followup, backend="identity")
    assert {key: lesion.status for key, lesion in result.lesions.items()} == {7: "failed", 8: "segmented"}
    assert "not this one" in str(result.lesions[7].message)
    with pytest.raises(ll.AllLesionsFailedError, match="not this one"):
        ll.segment(fails_for_seven, BASELINE, CLICKED)


def test_a_function_cannot_write_to_the_scan() -> None:
    def writes(request: ll.SegmentRequest) -> npt.NDArray[np.bool_]:
        request.image[0] = 0
        return _bright(request)

    with pytest.raises(ll.AllLesionsFailedError, match="read-only"):
        ll.segment(writes, BASELINE, CLICKED)


def test_time_points_keep_their_names() -> None:
    scans = [
        ll.Scan.from_array(HU, SPACING, mask=LESION, time_point="2020-01"),
        ll.Scan.from_array(HU, SPACING, time_point="2020-07"),
    ]
    assert [one.name for one in ll.track(_bright, scans, backend="identity")] == ["2020-01", "2020-07"]


def test_a_case_of_scans_in_memory_needs_no_names() -> None:
    """Which scan is the follow-up is known by the case, not by the scans' own time points."""
    case = Case(TimePoint(TimePointName.BASELINE, (BASELINE,)), TimePoint(TimePointName.FOLLOWUP, (BARE,)))
    segmenter = function_segmenter(_bright, RobustOptions())
    result = segment_case(case, segmenter, CaseOptions(backend="identity"))
    assert [str(outcome.status) for outcome in result.outcomes] == ["segmented"]


def test_representations_are_short() -> None:
    registration = repr(_registered(BASELINE))
    assert registration == "PairRegistration(similarity=1.000, is_reliable=True)"
    assert len(repr(BASELINE)) < 1000


def test_flipped_and_permuted_axes_keep_their_order() -> None:
    """A sagittal, left-right mirrored array: points and labelmap come back on its own axes."""
    hu, lesion = _hu((13, 22, 22))
    axes = (2, 0, 1)  # stored as (x, z, y), x mirrored
    stored, truth = hu.transpose(axes)[::-1].copy(), lesion.transpose(axes)[::-1]
    direction = np.array([[0, 0, -1], [1, 0, 0], [0, 1, 0]])  # columns: y, z, and x the other way
    followup = ll.Scan.from_array(
        stored, (1.0, 2.0, 1.5), direction=direction, origin_xyz=(47, 0, 0), clicks={7: (47 - 22, 13, 22)}
    )
    result = ll.segment(_bright, BASELINE, followup)
    assert np.array_equal(result.mask(7), truth)
    assert result.lesions[7].point_zyx == pytest.approx((25, 13, 22))
    image = result.to_image()
    assert image.GetDirection() == tuple(direction.astype(float).ravel()) and image.GetOrigin() == (47, 0, 0)
    assert np.array_equal(sitk.GetArrayFromImage(image) == 7, truth)
    registration = ll.register(followup, BASELINE, backend="identity")
    (point,) = registration.points([(12, 20, 24)])
    assert point.point_zyx == pytest.approx((47 - 24, 12, 20))
    (back,) = registration.points([point.point_zyx], to="moving")
    assert back.point_zyx == pytest.approx((12, 20, 24))
    propagated = registration.labelmap()
    assert propagated.shape == stored.shape
    assert np.array_equal(propagated == 7, LESION.transpose(axes)[::-1])


def test_files_and_images_are_read_alike(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(HU)
    image.SetSpacing(SPACING[::-1])
    mask = sitk.GetImageFromArray(LESION.astype(np.uint8))
    mask.CopyInformation(image)
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    sitk.WriteImage(mask, str(tmp_path / "mask.nii.gz"))
    clicks = {1: (12, 20, 24)}
    of_files = ll.read_scan(tmp_path / "ct.nii.gz", mask=str(tmp_path / "mask.nii.gz"), clicks=clicks)
    of_images = ll.read_scan(image, mask=mask, clicks=clicks)
    for scan in (of_files, of_images):
        assert np.array_equal(scan.ct, HU) and scan.mask is not None and np.array_equal(scan.mask, LESION)
        assert scan.clicks[0].point_zyx == (12.0, 20.0, 24.0)
        assert scan.geometry.spacing_zyx == pytest.approx(SPACING)
    clicked = ll.read_scan(
        SAMPLE / "input" / "images" / "primary-followup-ct" / "lidc0314-followup.mha",
        clicks=SAMPLE / "input" / "primary-followup-lesion-clicks.json",
    )
    assert [click.lesion_id for click in clicked.clicks] == [1]


def test_lesions_are_tracked_forward_and_backward() -> None:
    middle = ll.Scan.from_array(HU, SPACING, mask=LESION * np.uint8(7))
    first, last = (ll.Scan.from_array(_hu((12, 20 + d, 24))[0], SPACING) for d in (-1, 1))
    done: list[tuple[int, int]] = []
    tracked = ll.track(
        _bright,
        [first, middle, last],
        topology="chain",
        backend="identity",
        progress=lambda *counts: done.append(counts),
    )
    assert [one.lesions[7].status for one in tracked] == ["persistent", "source", "persistent"]
    assert [one.name for one in tracked] == ["0", "1", "2"] and done == [(1, 3), (2, 3), (3, 3)]
    assert np.array_equal(tracked[2].mask(7), _hu((12, 21, 24))[1])
    assert tracked[0].lesions[7].point_source == "propagated" and tracked[1].lesions[7].point_source == "mask"


def test_a_single_scan_is_its_own_baseline() -> None:
    requests: list[ll.SegmentRequest] = []

    def segmenter(request: ll.SegmentRequest) -> Any:
        requests.append(request)
        return _bright(request)

    (alone,) = ll.track(segmenter, [CLICKED])
    assert np.array_equal(alone.labelmap > 0, LESION > 0) and alone.baseline is None
    (lesion,) = alone.lesions.values()
    assert (lesion.status, lesion.point_source, lesion.baseline_volume_ml) == ("source", "given", None)
    for request in requests:
        assert request.baseline_image is not None and np.array_equal(request.baseline_image, request.image)
        assert request.baseline_point_zyx == request.point_zyx


def test_labelmaps_are_compared() -> None:
    _, shifted = _hu((12, 20, 25))
    evaluation = ll.evaluate(LESION * 7, shifted * 7, spacing_zyx=SPACING)
    overlap = 2 * (LESION & shifted).sum() / (LESION.sum() + shifted.sum())
    assert evaluation.lesions[7].dice == pytest.approx(overlap)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ll.segment(_bright, BASELINE, BASELINE, boost="more"), "boost: is 'more'; expected one of"),
        (lambda: ll.segment(_bright, BASELINE, CLICKED, backend="warp"), "'warp'"),
        (lambda: ll.segment(_bright, BASELINE, BARE, overlap=cast(Any, "foo")), "overlap: is 'foo'"),
        (lambda: ll.segment(cast(Any, None), BASELINE, BARE), "model: is a NoneType"),
        (lambda: ll.segment(_bright, cast(Any, HU), BARE), "baseline: is a ndarray; expected a Scan"),
        (lambda: ll.load_model(folds=[]), "folds: is empty"),
        (lambda: ll.load_model(precision=cast(Any, "fp8")), "precision: is 'fp8'"),
        (lambda: ll.load_model(device="gpu"), "device: is 'gpu'"),
        (lambda: _registered(BASELINE).points([(1, 2), (3,)]), "points_zyx: is no array of numbers"),
        (lambda: ll.track(_bright, []), "scans: is empty"),
        (lambda: ll.track(_bright, [BARE]), "no lesion"),
        (lambda: ll.track(_bright, [BASELINE, BARE], topology="ring"), "topology: is 'ring'; expected"),
        (lambda: ll.track(_bright, [BASELINE, BARE], source=5), "source: is 5"),
        (lambda: _registered(BASELINE).points([1, 2, 3]), "points_zyx: has the shape"),
        (lambda: _registered(BASELINE).points([(0, 0, 0)], to="up"), "to: is 'up'"),
        (lambda: _registered(BARE).labelmap(), "no mask"),
        (lambda: ll.load_model("nowhere"), "nowhere"),
        (lambda: ll.read_scan("nowhere.mha"), "nowhere.mha"),
        (lambda: ll.read_scan(sitk.GetImageFromArray(HU), mask="mask.mha"), "mask, clicks: are files"),
        (lambda: ll.read_scan("ct.mha", mask=sitk.GetImageFromArray(HU)), "mask: is an image"),
        (lambda: ll.Scan.from_array(HU[0], SPACING), "hu"),
        (lambda: ll.Scan.from_array(HU, (0, 1, 1)), "spacing_zyx"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call: Any, message: str) -> None:
    with pytest.raises(ll.LongilesionError, match=re.escape(message)):
        call()


def test_a_library_is_silent() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("model").handlers)


@pytest.mark.slow
def test_the_page_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """All examples of docs/python_api.md, one after the other as a reader would run them."""
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(deformable, "_VOXELS", 100_000)  # as large as those for whole bodies
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 9
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(
            compile(block.replace("import longilesion as ll", "import model as ll"), str(PAGE), "exec"),
            namespace,
        )
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("segmented 2.74")
    assert printed[1].startswith("propagated ") and printed[2] == "1.0"
    assert [line.split()[:2] for line in printed[3:]] == [
        ["0", "source"],
        ["1", "persistent"],
        ["2", "persistent"],
    ]
    patient = tmp_path / "patients" / "p1"
    patient.mkdir(parents=True)
    (tmp_path / "patients" / "broken").mkdir()
    writer = sitk.WriteImage
    writer(sitk.GetImageFromArray(namespace["hu"]), str(patient / "baseline.nii.gz"))
    writer(
        sitk.GetImageFromArray(namespace["lesion"] * np.uint8(7)), str(patient / "baseline_lesions.nii.gz")
    )
    writer(sitk.GetImageFromArray(namespace["hu2"]), str(patient / "followup.nii.gz"))
    namespace["segment_folder"](tmp_path / "patients", tmp_path / "table.csv")
    assert "broken: " in capsys.readouterr().out
    assert (patient / "followup_lesions.nii.gz").is_file()
    assert (tmp_path / "table.csv").read_text().splitlines()[1].startswith("p1,7,")
