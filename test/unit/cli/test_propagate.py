"""The command `propagate`: results, units, and errors of invalid input."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model.case.boxes import Corners, read_boxes, write_boxes
from model.case.clicks import read_clicks, write_clicks
from model.case.geometry import Array, FloatArray, Geometry, Vector
from model.case.images import read_image, write_image
from model.cli.propagate import add_arguments, run
from model.errors import InputError, OutputError
from model.propagation.confidence import is_estimated
from model.propagation.register import Registration, RegistrationImage, Transform, backend_names
from model.propagation.register.identity import IdentityBackend
from model.propagation.register.linear import LinearTransform
from test.helpers.paths import CHECKOUT

from ...helpers.registration_scans import around, followup_of, grid_like, phantom, turn

BASELINE = Geometry((24, 20, 16), (2.0, 2.0, 3.0), (-24.0, -20.0, -24.0))
# The same field of view, y reversed, other spacings, and stored with z first.
FOLLOWUP = Geometry((24, 24, 20), (2.0, 2.0, 2.0), (-24.0, 18.0, -24.0), (0, 1, 0, 0, 0, -1, 1, 0, 0))
MODULE = "test.unit.cli.test_propagate"


def noise(grid: Geometry) -> Array:
    return np.random.default_rng(0).integers(-100, 100, grid.shape_zyx).astype(np.int16)


@pytest.fixture
def scans(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "before.nii.gz", tmp_path / "after.mha"
    write_image(source, noise(BASELINE), BASELINE)
    write_image(target, noise(FOLLOWUP), FOLLOWUP)
    return source, target


def propagate(source: Path, target: Path, *options: str | Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args(["--from", str(source), "--to", str(target), *map(str, options)])) == 0


def entries(path: Path) -> dict[str, dict[str, Any]]:
    document = json.loads(path.read_text())
    return {entry["name"]: entry for entry in document.get("points", document.get("boxes"))}


def voxels_of(path: Path) -> Array:
    image = read_image(path)  # its array lives only as long as the image
    return image.array.copy()


def test_points_keep_their_world_position(scans: tuple[Path, Path], tmp_path: Path) -> None:
    clicks, output = tmp_path / "clicks.json", tmp_path / "out" / "points.json"
    points = {7: (10.5, 8.0, 4.0), 65_535: (0.0, 0.0, 0.0), 3: (12.0, 40.0, 8.0)}
    write_clicks(clicks, points)
    propagate(*scans, "--points", clicks, "-o", output, "--backend", "identity")
    found = read_clicks(output)
    assert list(found) == [7, 65_535, 3]
    for lesion_id, point in points.items():
        expected = FOLLOWUP.world_to_voxel(BASELINE.voxel_to_world(point))
        assert found[lesion_id] == pytest.approx(expected, abs=1e-3)
    document = json.loads(output.read_text())
    assert document["type"] == "Multiple points"
    far, near = entries(output)["3"], entries(output)["7"]
    assert near["source"] == "propagated" and near["in_view"] is True
    assert near["confidence_mm"] >= 1.0
    assert far["in_view"] is False and far["is_flagged"] is True


def test_implausible_scans_and_pairs_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = np.full(BASELINE.shape_zyx, -1000, np.int16)
    body[:, 5:15, 6:18] = 40
    before, after = tmp_path / "before.mha", tmp_path / "after.mha"
    write_image(before, body, BASELINE)
    write_image(after, body + 1024, BASELINE)
    clicks = tmp_path / "clicks.json"
    write_clicks(clicks, {1: (12.0, 10.0, 8.0), 4: (1.0, 1.0, 8.0)})
    options = ("--points", clicks, "-o", tmp_path / "out.json", "--backend", f"{MODULE}:unlike")
    propagate(before, after, *options)
    notes = [one.getMessage() for one in caplog.records if "; expected" in one.getMessage()]
    assert len(notes) == 3
    assert "primary-before: the click of lesion 4 lies outside of the patient" in notes[0]
    assert "primary-after-ct: is hardly in HU" in notes[1]
    assert "primary-after and primary-before: the two scans match poorly" in notes[2]


def unlike(fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
    """A registration that has aligned nothing."""
    return Registration(LinearTransform.identity(), similarity=0.4)


def test_world_units(scans: tuple[Path, Path], tmp_path: Path) -> None:
    clicks, output = tmp_path / "clicks.json", tmp_path / "out.json"
    write_clicks(clicks, {1: (3.25, -4.5, 6.0)})
    options = ("--points", clicks, "-o", output, "--clicks", "world", "--backend", f"{MODULE}:shifted")
    propagate(*scans, *options)
    assert read_clicks(output)[1] == pytest.approx((-1.75, -4.5, 6.0))
    propagate(*scans, *options, "--time", "backward")
    assert read_clicks(output)[1] == pytest.approx((8.25, -4.5, 6.0))


def shifted(fixed: RegistrationImage, moving: RegistrationImage) -> Transform:
    """A translation in both directions; checks the names of the scans."""
    names = (fixed.name, moving.name)
    assert set(names) == {"primary-after", "primary-before"}
    return LinearTransform.translation((5.0, 0.0, 0.0))


def test_boxes(scans: tuple[Path, Path], tmp_path: Path) -> None:
    boxes, output = tmp_path / "boxes.json", tmp_path / "out.json"
    # 4 to 12 mm along x, -8 to 0 along y, 0 to 12 along z; the second reaches out of the scan.
    corners: dict[int, Corners] = {5: ((3, -9, -1), (13, 1, 13)), 6: ((19, 11, 11), (43, 23, 43))}
    write_boxes(boxes, corners)
    propagate(*scans, "--boxes", boxes, "-o", output, "--clicks", "world", "--backend", "identity")
    found = read_boxes(output)
    assert found == corners
    assert entries(output)["5"]["in_view"] is True and entries(output)["6"]["in_view"] is False
    assert {"confidence_mm", "source", "is_flagged"} <= entries(output)["5"].keys()
    propagate(
        *scans, "--boxes", output, "-o", tmp_path / "again.json", "--clicks", "world", "--backend", "identity"
    )
    assert read_boxes(tmp_path / "again.json") == corners


def test_a_mask_keeps_ids_position_and_volume(scans: tuple[Path, Path], tmp_path: Path) -> None:
    labels = np.zeros(BASELINE.shape_zyx, np.int32)
    labels[4:8, 5:11, 6:12] = 65_535
    labels[10, 4, 3] = 2
    mask, output = tmp_path / "mask.mha", tmp_path / "moved.nii.gz"
    write_image(mask, labels, BASELINE)
    propagate(*scans, "--mask", mask, "-o", output, "--backend", "identity")
    moved = read_image(output)
    assert moved.geometry.same_grid(FOLLOWUP) and moved.array.dtype == np.uint16
    for lesion_id in (2, 65_535):
        before = BASELINE.voxel_to_world(np.argwhere(labels == lesion_id)[:, ::-1])
        after = FOLLOWUP.voxel_to_world(np.argwhere(moved.array == lesion_id)[:, ::-1])
        assert after.mean(axis=0) == pytest.approx(before.mean(axis=0), abs=1.0)
        assert len(after) * 8 == pytest.approx(len(before) * 12, abs=8)


def test_all_outputs_in_a_folder(scans: tuple[Path, Path], tmp_path: Path) -> None:
    labels = np.zeros(BASELINE.shape_zyx, np.uint8)
    labels[4:8, 5:11, 6:12] = 1
    mask, clicks, boxes = tmp_path / "m.mha", tmp_path / "c.json", tmp_path / "b.json"
    write_image(mask, labels, BASELINE)
    write_clicks(clicks, {1: (8.5, 7.5, 5.5)})
    write_boxes(boxes, {1: ((6, 5, 4), (12, 11, 8))})
    folder = tmp_path / "out"
    propagate(
        *scans, "--mask", mask, "--points", clicks, "--boxes", boxes, "-o", folder, "--backend", "identity"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["boxes.json", "mask.nii.gz", "points.json"]
    voxels = np.argwhere(voxels_of(folder / "mask.nii.gz"))[:, ::-1]
    start, stop = read_boxes(folder / "boxes.json")[1]
    assert (voxels.min(axis=0) == start).all() and (voxels.max(axis=0) + 1 == stop).all()
    assert read_clicks(folder / "points.json")[1] == pytest.approx(voxels.mean(axis=0), abs=0.5)


@pytest.mark.slow
def test_registration_of_a_phantom(tmp_path: Path) -> None:
    """A moved phantom: points are propagated, and the confidence covers their errors."""
    scan = phantom((40, 34, 27), 7.0)
    truth = around(scan.geometry, turn(6.0), (14.0, -9.0, 20.0))
    followup = followup_of(scan, grid_like(scan.geometry, truth, (8.0, 8.0, 8.0)), truth, 10.0)
    source, target = tmp_path / "source.mha", tmp_path / "target.mha"
    write_image(source, scan.array, scan.geometry)
    write_image(target, followup.array, followup.geometry)
    clicks, output = tmp_path / "clicks.json", tmp_path / "out.json"
    write_clicks(clicks, {1: (20.0, 17.0, 13.0), 2: (12.0, 15.0, 17.0), 3: (20.0, 17.0, -300.0)})
    propagate(source, target, "--points", clicks, "-o", output, "--backend", "rigid")
    for lesion_id in (1, 2):
        expected = truth.moving_to_fixed(scan.geometry.voxel_to_world([read_clicks(clicks)[lesion_id]]))
        found = followup.geometry.voxel_to_world(read_clicks(output)[lesion_id])
        entry = entries(output)[str(lesion_id)]
        error_mm = float(np.linalg.norm(found - expected[0]))
        assert error_mm < 3.0 and error_mm < entry["confidence_mm"]
        assert entry["in_view"] is True and entry["is_flagged"] == (entry["confidence_mm"] > 10)
    assert entries(output)["3"]["in_view"] is False


def test_a_failing_backend_is_reported_in_one_line(
    scans: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("itk::ERROR:\nno overlap")

    monkeypatch.setattr(IdentityBackend, "register", fail)
    write_clicks(tmp_path / "c.json", {1: (0.0, 0.0, 0.0)})
    with pytest.raises(InputError, match=r"cannot be registered \(itk::ERROR: no overlap\); expected"):
        propagate(*scans, "--points", tmp_path / "c.json", "-o", tmp_path / "o.json", "--backend", "identity")


NOTHING: dict[int, Vector] = {}
CALLS: list[tuple[str, str]] = []


class Fragile:
    """Loses points of x above 10 mm; fails in the opposite direction."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        CALLS.append((fixed.name, moving.name))
        if fixed.name != "primary-after":
            raise RuntimeError("no way back")
        return Registration(_Torn(), 0.9, refine=_refuse)


def _refuse(points_mm: npt.ArrayLike) -> Transform:
    raise MemoryError("too close")


class _Torn:
    def fixed_to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        points = np.array(points_mm, np.float64)
        # A user's transform is checked at the corners of the scans first: those are valid.
        corner = (np.abs(points) > 17).all(axis=1)
        points[(points[:, 0] > 10) & ~corner] = np.nan
        return points

    moving_to_fixed = fixed_to_moving


def test_a_saved_transform_gives_the_same_points(scans: tuple[Path, Path], tmp_path: Path) -> None:
    clicks, saved = tmp_path / "c.json", tmp_path / "saved.tfm"
    write_clicks(clicks, {1: (3.25, -4.5, 6.0)})
    options = ("--points", clicks, "--clicks", "world", "-o")
    propagate(
        *scans, *options, tmp_path / "first.json", "--backend", f"{MODULE}:shifted", "--save-transform", saved
    )
    propagate(*scans, *options, tmp_path / "again.json", "--backend", f"transform:{saved}")
    assert read_clicks(tmp_path / "again.json")[1] == pytest.approx((-1.75, -4.5, 6.0), abs=1e-3)
    # From the follow-up to the baseline, with the same file.
    propagate(
        scans[1],
        scans[0],
        *options,
        tmp_path / "back.json",
        "--backend",
        f"transform:{saved}",
        "--time",
        "backward",
    )
    assert read_clicks(tmp_path / "back.json")[1] == pytest.approx((8.25, -4.5, 6.0), abs=1e-3)


def test_lost_lesions_and_failures_do_not_affect_others(
    scans: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clicks, boxes, folder = tmp_path / "c.json", tmp_path / "b.json", tmp_path / "out"
    write_clicks(clicks, {1: (0.0, 0.0, 0.0), 2: (12.0, 0.0, 0.0), 3: (9.0, 0.0, 0.0)})
    write_boxes(boxes, {1: ((-5, -5, -5), (5, 5, 5)), 2: ((11, -5, -5), (15, 5, 5))})
    labels = np.zeros(BASELINE.shape_zyx, np.uint8)
    labels[4:8, 5:11, 6:12], labels[4:8, 5:11, 18:20] = 1, 2
    mask = tmp_path / "mask.mha"
    write_image(mask, labels, BASELINE)
    CALLS.clear()
    propagate(
        *scans,
        "--points",
        clicks,
        "--boxes",
        boxes,
        "--mask",
        mask,
        "-o",
        folder,
        "--clicks",
        "world",
        "--backend",
        f"{MODULE}:Fragile",
    )
    assert CALLS == [("primary-after", "primary-before"), ("primary-before", "primary-after")]
    assert list(read_clicks(folder / "points.json")) == [1, 3]
    edge = entries(folder / "points.json")["3"]
    assert edge["confidence_mm"] is None and edge["is_flagged"] is True and edge["in_view"] is True
    assert list(read_boxes(folder / "boxes.json")) == [1]
    assert np.unique(voxels_of(folder / "mask.nii.gz")).tolist() == [0, 1]
    for text in ("lesion 2 has no place", "lesion 2 has no voxel", "no way back", "too close"):
        assert text in caplog.text


def test_the_opposite_direction_is_only_registered_if_needed(
    scans: tuple[Path, Path], tmp_path: Path
) -> None:
    clicks, output = tmp_path / "c.json", tmp_path / "out.json"
    for points, options in (NOTHING, ()), ({1: (0.0, 0.0, 0.0)}, ("--no-reverse",)):
        write_clicks(clicks, points)
        CALLS.clear()
        propagate(*scans, "--points", clicks, "-o", output, "--backend", f"{MODULE}:Fragile", *options)
        assert CALLS == [("primary-after", "primary-before")]
    assert [is_estimated(name) for name in ("rigid", "identity", "transform:a.h5", "landmarks:a,b")] == [
        True,
        False,
        False,
        False,
    ]


def test_empty_lists_and_masks(scans: tuple[Path, Path], tmp_path: Path) -> None:
    clicks, mask, folder = tmp_path / "c.json", tmp_path / "m.mha", tmp_path / "out"
    write_clicks(clicks, {})
    write_image(mask, np.zeros(BASELINE.shape_zyx, np.uint8), BASELINE)
    propagate(*scans, "--points", clicks, "--mask", mask, "-o", folder, "--backend", "identity")
    assert read_clicks(folder / "points.json") == {}
    assert not voxels_of(folder / "mask.nii.gz").any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "out.json"], "--points, --boxes, --mask: none is given; expected"),
        (["--points", "c.json", "-o", "out.mha"], "out.mha: is no name for points; expected .*json"),
        (["--mask", "m.mha", "-o", "out.json"], "out.json: is no name for mask; expected .*nii.gz"),
        (["--mask", "m.mha", "-o", "out.mhd"], "out.mhd: is no name for mask"),
        (["--points", "c.json", "--mask", "m.mha", "-o", "o.json"], "one file for points and mask; .*folder"),
        (["--points", "c.json", "-o", "c.json"], "c.json: is an input"),
        (["--points", "c.json", "-o", "before.nii.gz/../c.json"], "c.json: is an input"),
        (["--points", "none.json", "-o", "o.json"], "none.json: cannot be read"),
        (["--points", "broken.json", "-o", "o.json"], "broken.json: is not valid JSON"),
        (["--boxes", "c.json", "-o", "o.json"], "c.json: .*boxes"),
        (["--mask", "after.mha", "-o", "o.mha"], "after.mha: lies on another grid than its CT"),
        (["--points", "c.json", "-o", "o.json", "--backend", "magic"], "'magic' is unknown"),
        (["--points", "c.json", "-o", "o.json", "--flag-mm", "0"], "--flag-mm: is 0; expected"),
        (["--points", "c.json", "-o", "o.json", "--flag-mm", "nan"], "--flag-mm: is nan; expected"),
        (["--points", "c.json", "-o", "broken"], "broken: is a file; expected a folder"),
        (["--points", "c.json", "-o", "o.json", "--save-transform", "t.xyz"], "t.xyz: is no name for .*h5"),
    ],
)
def test_invalid_input_is_reported_in_one_line(
    scans: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: Sequence[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clicks(Path("c.json"), {1: (1.0, 1.0, 1.0)})
    write_image(Path("m.mha"), np.zeros(BASELINE.shape_zyx, np.uint8), BASELINE)
    for name in ("broken", "broken.json"):
        Path(name).write_text("{")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    identity = [] if "--backend" in options else ["--backend", "identity"]
    with pytest.raises(InputError) as error:
        propagate(Path("before.nii.gz"), Path("after.mha"), *options, *identity)
    assert re.search(message, str(error.value)) and "\n" not in str(error.value)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "options", [("-o", "c.json/o.json"), ("-o", "o.json", "--save-transform", "c.json/t.h5")]
)
def test_unwritable_output_is_reported_before_any_work(
    options: Sequence[str], scans: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clicks(Path("c.json"), {1: (1.0, 1.0, 1.0)})
    CALLS.clear()
    with pytest.raises(OutputError, match="c.json/.*: cannot be written .*expected a writable folder"):
        propagate(*scans, "--points", Path("c.json"), "--backend", f"{MODULE}:shifted", *options)
    assert CALLS == [] and not Path("o.json").exists()


def test_a_spline_through_landmarks_is_saved_over_the_followup(
    scans: tuple[Path, Path], tmp_path: Path
) -> None:
    clicks, marks, saved = tmp_path / "c.json", tmp_path / "marks.csv", tmp_path / "saved.nii.gz"
    write_clicks(clicks, {1: (3.25, -4.5, 6.0)})
    rows = ["scan,name,x,y,z"]
    for number, (x, y, z) in enumerate(np.ndindex(2, 2, 2)):
        rows += [
            f"before,{number},{15 * x},{15 * y},{15 * z}",
            f"after,{number},{15 * x - 4},{15 * y},{16 * z}",
        ]
    marks.write_text("\n".join(rows))
    options = ("--points", clicks, "--clicks", "world", "-o")
    for direction, (one, other) in (("forward", scans), ("backward", (scans[1], scans[0]))):
        propagate(
            one,
            other,
            *options,
            tmp_path / "first.json",
            "--backend",
            f"landmarks:{marks}",
            "--time",
            direction,
            "--save-transform",
            saved,
        )
        propagate(
            one,
            other,
            *options,
            tmp_path / "again.json",
            "--backend",
            f"transform:{saved}",
            "--time",
            direction,
        )
        first, again = (read_clicks(tmp_path / f"{name}.json")[1] for name in ("first", "again"))
        assert again == pytest.approx(first, abs=0.05)
        assert first != pytest.approx((3.25, -4.5, 6.0), abs=1)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x"])
def test_devices_are_checked(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        propagate(Path("a"), Path("b"), "-o", "c", "--device", device)
    assert "is no device" in capsys.readouterr().err


def test_help_names_all_back_ends_and_is_quick() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = re.sub(r"\s", "", parser.format_help())
    assert all(name in text for name in backend_names())
    code = (
        "import argparse, sys, model.cli.propagate as command\n"
        "command.add_arguments(argparse.ArgumentParser())\n"
        "print([name for name in ('torch', 'SimpleITK', 'numpy', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]", done.stderr
