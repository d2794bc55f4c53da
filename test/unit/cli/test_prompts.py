"""Command ``prompts``: files of clicks and boxes from masks."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.case.boxes import corners_to_box, read_boxes
from model.case.case import ScanFiles, Slot
from model.case.clicks import read_clicks
from model.case.geometry import AxisMap, Box, Geometry, flip_order
from model.case.images import write_image
from model.case.labelmaps import lesion_masks
from model.case.scans import read_scans
from model.cli.point_options import SAMPLINGS
from model.cli.prompts import POINT_RULES, add_arguments, run
from model.errors import InputError, OutputError
from model.inference.options import ModelOptions
from model.inference.robust import SegmenterOptions, make_segmenter
from model.prompts.sampling import ChoiceOptions, Sampling, SamplingOptions
from model.prompts.simulation import ClickRule
from model.tracking.point_chooser import PointChooser
from model.tracking.series import TrackingOptions
from test.helpers.orientations import ORIENTATIONS
from test.helpers.paths import CHECKOUT
from test.helpers.sheared_grids import tilted

GRID = Geometry((20, 18, 16), (0.8, 0.9, 2.5), (-100.3, 42.1, -800.7))


def _labels() -> np.ndarray:
    """A block 7 and a ring 65 535, whose middle is empty."""
    labels = np.zeros(GRID.shape_zyx, np.uint16)
    labels[2:5, 3:8, 2:9] = 7
    y, x = np.indices((18, 20))
    radius = np.hypot(y - 11, x - 13)
    labels[10:13, (radius > 2.5) & (radius < 5.5)] = 65_535
    return labels


def _mask(folder: Path, labels: np.ndarray, grid: Geometry = GRID, name: str = "mask.mha") -> Path:
    path = folder / name
    write_image(path, labels, grid)
    return path


def _run(mask: Path, output: Path, *options: str) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args(["--mask", str(mask), "-o", str(output), *options])) == 0


def test_clicks_are_deepest_voxels_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, output = _labels(), tmp_path / "out.json"
    _run(_mask(tmp_path, labels), output)
    clicks = read_clicks(output)
    assert clicks[7] == (5.0, 5.0, 3.0) and list(clicks) == [7, 65_535]
    for lesion_id, (x, y, z) in clicks.items():
        assert labels[int(z), int(y), int(x)] == lesion_id
    assert capsys.readouterr().out == f"{output}: 2 clicks\n"


def test_clicks_at_the_centre_of_gravity(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    _run(_mask(tmp_path, _labels()), output, "--point", "centre")
    assert read_clicks(output)[65_535] == pytest.approx((13, 11, 11))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mhd"])
def test_mask_formats(tmp_path: Path, suffix: str) -> None:
    _run(_mask(tmp_path, _labels(), name=f"mask{suffix}"), tmp_path / "out.json")
    assert read_clicks(tmp_path / "out.json")[7] == (5, 5, 3)


@pytest.mark.parametrize("axes", ORIENTATIONS[::5], ids=str)
def test_prompts_are_indices_of_the_files_grid(tmp_path: Path, axes: AxisMap) -> None:
    """Prompts refer to the same voxels of the patient for any order and signs of the file's axes."""
    grid = GRID.reoriented(axes)
    mask = _mask(tmp_path, axes.array(_labels()), grid)
    _run(mask, tmp_path / "voxel.json")
    _run(mask, tmp_path / "world.json", "--units", "world")
    x, y, z = read_clicks(tmp_path / "voxel.json")[7]
    assert axes.inverse().point((z, y, x), grid.shape_zyx) == (3, 5, 5)
    assert read_clicks(tmp_path / "world.json")[7] == pytest.approx(GRID.zyx_to_world((3, 5, 5)), abs=1e-3)
    for units in ("voxel", "world"):
        _run(mask, tmp_path / "box.json", "--type", "box", "--units", units)
        box = corners_to_box(read_boxes(tmp_path / "box.json")[7], grid, units)
        assert axes.inverse().box(box, grid.shape_zyx) == Box((2, 3, 2), (5, 8, 9))


def test_box_margins_are_clipped_to_the_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.json"
    _run(_mask(tmp_path, _labels()), output, "--type", "box", "--margin", "3")
    start, stop = (flip_order(corner) for corner in read_boxes(output)[7])
    assert start == (0.0, 0.0, 0.0) and stop == (8.0, 11.0, 12.0)
    assert capsys.readouterr().out == f"{output}: 2 boxes\n"


@pytest.mark.parametrize("kind", ["point", "box"])
def test_simulated_variants(tmp_path: Path, kind: str) -> None:
    mask = _mask(tmp_path, _labels())
    for folder, count, seed in (("a", 3, 4), ("b", 3, 4), ("c", 2, 4), ("d", 3, 5)):
        options = ("--type", kind, "--simulate", str(count), "--seed", str(seed))
        _run(mask, tmp_path / folder / "out.json", *options)
    names = ["out-001.json", "out-002.json", "out-003.json"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    texts = {folder: [(tmp_path / folder / name).read_text() for name in names[:2]] for folder in "abcd"}
    assert texts["a"] == texts["b"] == texts["c"] != texts["d"]
    assert texts["a"][0] != texts["a"][1]
    reader = read_clicks if kind == "point" else read_boxes
    for name in names:
        assert list(reader(tmp_path / "a" / name)) == [7, 65_535]


def test_first_simulated_click_is_the_deepest_voxel(tmp_path: Path) -> None:
    mask = _mask(tmp_path, _labels())
    _run(mask, tmp_path / "out.json", "--simulate", "2")
    assert read_clicks(tmp_path / "out-001.json")[7] == (5, 5, 3)
    x, y, z = read_clicks(tmp_path / "out-002.json")[7]
    assert z in (2, 4) or y in (3, 7) or x in (2, 8)
    _run(mask, tmp_path / "moved.json", "--simulate", "1", "--perturb", "2", "--seed", "1")
    moved = np.subtract(read_clicks(tmp_path / "moved-001.json")[7], (5, 5, 3))
    assert moved.any() and abs(moved).max() <= 2


def test_names_of_more_than_999_variants(tmp_path: Path) -> None:
    from model.tracking.prompt_files import PromptOptions

    files = PromptOptions(Path("m.mha"), tmp_path / "o.json", variants=1000).files()
    assert (files[0].name, files[-1].name) == ("o-0001.json", "o-1000.json")


def test_connected_components_become_lesions(tmp_path: Path) -> None:
    """Components that touch by a corner are one (26 neighbours); labels of the mask are ignored."""
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[1, 1, 1], labels[2, 2, 2], labels[8, 8, 8] = 1, 1, 200
    _run(_mask(tmp_path, labels), tmp_path / "out.json", "--instances", "--type", "box")
    assert read_boxes(tmp_path / "out.json") == {1: ((1, 1, 1), (3, 3, 3)), 2: ((8, 8, 8), (9, 9, 9))}


def test_labels_stored_as_floats(tmp_path: Path) -> None:
    _run(_mask(tmp_path, _labels().astype(np.float32)), tmp_path / "out.json")
    assert list(read_clicks(tmp_path / "out.json")) == [7, 65_535]


@pytest.mark.parametrize("options", [(), ("--type", "box"), ("--instances",), ("--simulate", "2")])
def test_empty_mask_gives_empty_lists_and_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    mask = _mask(tmp_path, np.zeros(GRID.shape_zyx, np.uint8))
    _run(mask, tmp_path / "out" / "prompts.json", *options)
    first, *others = capsys.readouterr().out.splitlines()
    assert first == f"warning: {mask}: contains no lesion; the list is empty"
    written = sorted((tmp_path / "out").iterdir())
    assert len(written) == len(others) == (2 if "--simulate" in options else 1)
    for path in written:
        document = json.loads(path.read_text())
        assert document.get("points", document.get("boxes")) == []


@pytest.mark.parametrize(
    ("voxel", "message"),
    [
        (0.5, "not whole numbers"),
        (float("nan"), "not whole numbers"),
        (-1, "labels from -1 to 0"),
        (65_536, "labels from 0 to 65536"),
        (float("inf"), "not whole numbers"),
    ],
)
def test_masks_that_are_not_labelmaps(tmp_path: Path, voxel: float, message: str) -> None:
    labels = np.zeros(GRID.shape_zyx, np.float32)
    labels[3, 3, 3] = voxel
    path = tmp_path / "mask.mha"
    write_image(path, labels, GRID, verify=False)
    with pytest.raises(InputError, match=message) as raised:
        _run(path, tmp_path / "out.json")
    assert str(raised.value).startswith(f"{path}: ") and "expected" in str(raised.value)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--simulate", "0"),
        ("--margin", "-1"),
        ("--seed", "-3"),
        ("--perturb", "-1"),
        ("--type", "box", "--point", "deepest"),
        ("--sample", "uniform", "--type", "box"),
        ("--sample", "uniform", "--point", "centre"),
        ("--sample", "uniform", "--perturb", "1"),
        ("--sample", "uniform", "--sample-hu", "0", "1"),
        ("--sample-hu", "0", "1"),
        ("--sample", "uniform", "--samples", "0"),
        ("--sample", "uniform", "--sample-probability", "2"),
    ],
)
def test_invalid_or_clashing_options(tmp_path: Path, options: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="^--.*expected"):
        _run(tmp_path / "mask.mha", tmp_path / "out.json", *options)


@pytest.mark.parametrize("name", ["mask.mha", "out", "out.txt"])
def test_output_must_end_in_json(tmp_path: Path, name: str) -> None:
    mask = _mask(tmp_path, _labels())
    before = mask.read_bytes()
    with pytest.raises(InputError, match=f"{name}: is not a name for prompts; expected it to end in .json"):
        _run(mask, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [mask.name] and mask.read_bytes() == before


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone.mha"):
        _run(tmp_path / "gone.mha", tmp_path / "out.json")
    mask = _mask(tmp_path, _labels())
    with pytest.raises(OutputError, match="cannot be written"):
        _run(mask, mask / "out.json")


def test_options_list_every_rule() -> None:
    assert set(POINT_RULES) == {str(rule) for rule in ClickRule}
    assert tuple(SAMPLINGS) == tuple(Sampling)


# --- sampled points --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SAMPLINGS)
@pytest.mark.parametrize("axes", ORIENTATIONS[::17], ids=str)
def test_sampled_points_are_those_of_track(tmp_path: Path, axes: AxisMap, method: str) -> None:
    labels, grid = _labels(), GRID.reoriented(axes)
    mask = _mask(tmp_path, axes.array(labels), grid)
    words = ("--sample", method, "--simulate", "3", "--seed", "5", "--units", "world")
    _run(mask, tmp_path / "out.json", *words)
    scan = read_scans([("t0", ScanFiles(Slot.PRIMARY, mask, mask))])[0][0]
    choice = ChoiceOptions(SamplingOptions(Sampling(method)))
    choose = PointChooser(TrackingOptions(choice=choice, seed=5))
    assert scan.mask is not None
    for lesion_id, lesion in lesion_masks(scan.mask):
        for number, point in enumerate(choose(lesion, scan, lesion_id)[:3], 1):
            written_mm = read_clicks(tmp_path / f"out-00{number}.json")[lesion_id]
            assert written_mm == pytest.approx(scan.geometry.zyx_to_world(point), abs=1e-3)
            x, y, z = np.rint(GRID.world_to_voxel(written_mm)).astype(int)
            assert labels[z, y, x] == lesion_id


def test_number_of_sampled_points(tmp_path: Path) -> None:
    mask = _mask(tmp_path, _labels())
    words = ("--sample", "uniform", "--samples", "2", "--simulate", "3")
    _run(mask, tmp_path / "out.json", *words)
    assert [len(read_clicks(tmp_path / f"out-00{n}.json")) for n in (1, 2, 3)] == [2, 2, 0]


def test_sampled_points_filtered_by_hu(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One voxel of the block is bright: it is the point. No voxel of the ring is, so all are kept."""
    labels = _labels()
    ct = np.zeros(GRID.shape_zyx, np.int16)
    ct[4, 6, 3] = 90
    axes = ORIENTATIONS[29]
    mask = _mask(tmp_path, axes.array(labels), GRID.reoriented(axes))
    write_image(tmp_path / "ct.mha", axes.array(ct), GRID.reoriented(axes))
    words = ("--scan", str(tmp_path / "ct.mha"), "--sample-hu", "80", "100", "--units", "world")
    for instances in ((), ("--instances",)):
        _run(mask, tmp_path / "out.json", "--sample", "uniform", "--samples", "999", *words, *instances)
        clicks = read_clicks(tmp_path / "out.json")
        assert len(clicks) == 2
        assert any(
            point == pytest.approx(GRID.zyx_to_world((4, 6, 3)), abs=1e-3) for point in clicks.values()
        )
    assert "lesion 65535 in primary-scan: no sampled point passes the filter, all are kept" in caplog.text


def test_ct_must_have_the_grid_of_the_mask(tmp_path: Path) -> None:
    mask = _mask(tmp_path, _labels())
    moved = Geometry(GRID.size_xyz, GRID.spacing_xyz, (0.0, 0.0, 0.0))
    write_image(tmp_path / "ct.mha", np.zeros(GRID.shape_zyx, np.int16), moved)
    with pytest.raises(InputError, match="mask.mha: lies on another grid than its CT ct.mha"):
        words = ("--sample", "uniform", "--sample-hu", "0", "1", "--scan", str(tmp_path / "ct.mha"))
        _run(mask, tmp_path / "out.json", *words)


@pytest.mark.slow
def test_sampled_points_ranked_by_unprompted_probability(tmp_path: Path) -> None:
    """The most probable points are written first.

    The weights are an ensemble that predicts foreground without a prompt, which not every ensemble does.
    """
    weights = CHECKOUT / "test" / "golden" / "model"
    sample = CHECKOUT / "test" / "sample" / "input" / "images"
    (ct,) = (sample / "primary-baseline-ct").glob("*.mha")
    (mask,) = (sample / "primary-baseline-ct-tumor-lesion-seg").glob("*.mha")
    words = (
        "--sample",
        "uniform",
        "--samples",
        "4",
        "--scan",
        str(ct),
        "--device",
        "cpu",
        "--weights",
        str(weights),
    )
    _run(mask, tmp_path / "drawn.json", *words, "--simulate", "4")
    _run(mask, tmp_path / "ranked.json", *words, "--simulate", "4", "--sample-probability", "0")
    drawn, ranked = (
        [read_clicks(tmp_path / f"{name}-00{number}.json")[1] for number in (1, 2, 3, 4)]
        for name in ("drawn", "ranked")
    )
    assert sorted(drawn) == sorted(ranked)
    scan = read_scans([("baseline", ScanFiles(Slot.PRIMARY, ct, mask))])[0][0]
    unprompted = make_segmenter(
        SegmenterOptions(weights_dir=weights, model=ModelOptions(device="cpu"))
    ).unprompted
    assert unprompted is not None
    values = unprompted(scan, [scan.axes.point(flip_order(p), scan.file_geometry.shape_zyx) for p in ranked])
    assert values == sorted(values, reverse=True)


def test_prompts_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, model.cli.prompts; "
        "print([name for name in ('torch', 'SimpleITK', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]", done.stderr


def test_points_filtered_by_hu_on_a_sheared_grid(tmp_path: Path) -> None:
    grid = tilted(GRID.size_xyz, GRID.spacing_xyz, 20.0)
    labels = _labels()
    hu = np.zeros(GRID.shape_zyx, np.int16)
    hu[3, 4:8, 3:6] = 90
    write_image(tmp_path / "ct.mha", hu, grid)
    words = ("--scan", str(tmp_path / "ct.mha"), "--sample-hu", "85", "95", "--sample", "uniform")
    _run(_mask(tmp_path, labels, grid), tmp_path / "out.json", *words, "--samples", "999")
    x, y, z = read_clicks(tmp_path / "out.json")[7]
    assert (3 <= x <= 5, 3.5 <= y <= 7.5, z) == (True, True, 3.0)
