"""Saved transforms are read back as the same maps, by the package and by ITK."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.case.geometry import FloatArray, Geometry
from model.errors import InputError, OutputError
from model.propagation.register import RegistrationImage, Transform, backend
from model.propagation.register.field import (
    FADE_MM,
    Composition,
    FieldTransform,
    coarser_grid,
    sample_on_grid,
    voxel_centres_mm,
)
from model.propagation.register.itk import InverseTransform, ItkTransform
from model.propagation.register.landmarks import rigid_fit, spline_fit
from model.propagation.register.linear import LinearTransform
from model.propagation.register.stored import pair_name, read_transform, save_transform

from ....helpers.registration_scans import around, followup_of, grid_like, phantom, turn

OBLIQUE = tuple((turn(25.0) @ np.diag([1.0, -1.0, 1.0]))[:, [2, 0, 1]].ravel().tolist())
GRID = Geometry((9, 8, 7), (12.0, 11.0, 14.0), (-40.0, 25.0, -300.0), OBLIQUE)
POINTS = GRID.voxel_to_world(
    np.random.default_rng(1).uniform(0.2, 0.8, (60, 3)) * np.subtract(GRID.size_xyz, 1)
)


def linear(degrees: float = 7.0) -> LinearTransform:
    return LinearTransform(turn(degrees) * 1.05, np.asarray([12.0, -30.0, 45.0]))


def field(seed: int = 0, geometry: Geometry = GRID) -> FieldTransform:
    u = np.random.default_rng(seed).normal(0.0, 1.5, (*geometry.shape_zyx, 3)).astype(np.float32)
    return FieldTransform(linear(), u, geometry)


def back() -> LinearTransform:
    matrix = np.asarray(np.linalg.inv(linear().matrix), np.float64)
    return LinearTransform(matrix, -matrix @ linear().offset_mm)


def spline() -> Transform:
    rng = np.random.default_rng(5)
    fixed = voxel_centres_mm(Geometry((3, 3, 3), (50.0, 45.0, 45.0), GRID.origin_xyz, GRID.direction))
    moving = linear().fixed_to_moving(fixed) + rng.normal(0, 2.0, fixed.shape)
    return spline_fit(fixed, moving, rigid_fit(fixed, moving))


def same(first: Transform, second: Transform, points: FloatArray = POINTS, within_mm: float = 1e-3) -> bool:
    there = np.abs(first.fixed_to_moving(points) - second.fixed_to_moving(points)).max()
    ends = first.fixed_to_moving(points)
    back = np.abs(first.moving_to_fixed(ends) - second.moving_to_fixed(ends)).max()
    return bool(there < within_mm and back < within_mm + 0.05)


TRANSFORMS: dict[str, Transform] = {
    "linear": linear(),
    "field": field(),
    "compositions": Composition(Composition(field(1), back()), field(2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt", ".HDF5"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_saved_transforms_are_read_back(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / "new" / f"a{suffix}"
    save_transform(path, TRANSFORMS[name])
    found = backend(f"transform:{path}").register(phantom(), phantom()).transform
    assert type(found) is type(TRANSFORMS[name])
    assert same(found, TRANSFORMS[name])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1000), st.floats(-40, 40), st.permutations(range(3)), st.booleans())
def test_fields_of_any_orientation(
    tmp_path: Path, seed: int, degrees: float, order: list[int], is_image: bool
) -> None:
    direction = tuple((turn(degrees)[:, order]).ravel().tolist())
    geometry = Geometry((5, 4, 6), (9.0, 8.0, 7.0), (30.0, -20.0, 5.0), direction)
    truth = field(seed, geometry)
    path = tmp_path / ("a.mha" if is_image else "a.tfm")
    save_transform(path, truth)
    assert np.allclose(
        read_transform(path).fixed_to_moving(voxel_centres_mm(geometry)),
        truth.fixed_to_moving(voxel_centres_mm(geometry)),
        atol=1e-3,
    )


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd", ".nii"])
def test_images_of_displacements(tmp_path: Path, suffix: str) -> None:
    truth = sample_on_grid(linear(), GRID, LinearTransform.identity())
    path = tmp_path / f"a{suffix}"
    save_transform(path, truth)
    assert same(read_transform(path), truth, within_mm=0.01)
    u = sitk.DisplacementFieldTransform(sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkVectorFloat64))
    assert u.TransformPoint(POINTS[0].tolist()) == pytest.approx(
        truth.fixed_to_moving(POINTS[:1])[0], abs=0.01
    )


def test_a_field_is_the_same_in_itk_where_it_fades(tmp_path: Path) -> None:
    constant = np.full((*GRID.shape_zyx, 3), 6.0, np.float32)
    truth = FieldTransform(linear(), constant, GRID)
    save_transform(tmp_path / "a.h5", truth)
    itk = sitk.ReadTransform(str(tmp_path / "a.h5"))
    step = np.asarray(GRID.direction).reshape(3, 3)[:, 0]
    for away_mm in (-50.0, 0.0, 2 * FADE_MM):
        point = np.asarray(GRID.origin_xyz) - away_mm * step
        assert itk.TransformPoint(point.tolist()) == pytest.approx(truth.fixed_to_moving(point)[0], abs=1e-3)
    once = read_transform(tmp_path / "a.h5")
    save_transform(tmp_path / "b.h5", once)
    twice = read_transform(tmp_path / "b.h5")
    assert isinstance(once, FieldTransform) and isinstance(twice, FieldTransform)
    assert once.geometry.same_grid(twice.geometry)


@pytest.mark.parametrize("suffix", [".h5", ".mha"])
def test_transforms_without_an_itk_counterpart_are_sampled(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for transform in (spline(), InverseTransform(field(3, coarser_grid(GRID, 40.0)))):
        with pytest.raises(InputError, match="geometry"):
            save_transform(path, transform)
        save_transform(path, transform, GRID)
        assert same(read_transform(path), transform, within_mm=0.3)


def test_transforms_of_other_programs(tmp_path: Path) -> None:
    euler = sitk.Euler3DTransform((10.0, 20.0, 30.0), 0.1, -0.2, 0.3, (5.0, 6.0, 7.0))
    grid = sitk.Image([60, 60, 60], sitk.sitkUInt8)
    grid.SetOrigin((-30.0, -30.0, -30.0))
    bspline = sitk.BSplineTransformInitializer(grid, [3, 3, 3])
    values = np.random.default_rng(0).normal(0, 2.0, bspline.GetNumberOfParameters())
    bspline.SetParameters(values.tolist())
    points = np.random.default_rng(2).uniform(-20, 20, (30, 3))
    both = sitk.CompositeTransform([euler, bspline])
    for itk in (euler, bspline, both, sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), sitk.Transform()):
        sitk.WriteTransform(itk, str(tmp_path / "a.tfm"))
        found = read_transform(tmp_path / "a.tfm")
        wanted = [itk.TransformPoint(point) for point in points.tolist()]
        assert np.allclose(found.fixed_to_moving(points), wanted, atol=1e-4)
        assert np.allclose(found.moving_to_fixed(wanted), points, atol=0.05)
        save_transform(tmp_path / "b.tfm", found)
        assert same(read_transform(tmp_path / "b.tfm"), found, points)
    assert isinstance(read_transform(tmp_path / "b.tfm"), LinearTransform)
    assert ItkTransform(bspline).fixed_to_moving([]).shape == (0, 3)


def named(scan: RegistrationImage, name: str) -> RegistrationImage:
    return RegistrationImage(scan.array, scan.geometry, name)


@pytest.mark.slow
def test_a_folder_with_one_file_per_pair(tmp_path: Path) -> None:
    scan = phantom((30, 25, 20), 10.0)
    before, after = named(scan, "primary-week00"), named(scan, "data/week12.nii.gz")
    assert pair_name(after.name, before.name) == "week12_to_week00"
    chosen = backend(f"transform:{tmp_path}")
    with pytest.raises(InputError, match="week12_to_week00.h5"):
        chosen.register(after, before)
    save_transform(tmp_path / "week12_to_week00.h5", linear())
    assert same(chosen.register(after, before).transform, linear())
    assert same(chosen.register(before, after).transform, InverseTransform(linear()))
    save_transform(tmp_path / "week00_to_week12.mha", field())
    assert isinstance(chosen.register(before, after).transform, FieldTransform)
    save_transform(tmp_path / "week00_to_week12.tfm", field())
    with pytest.raises(InputError, match="several"):
        chosen.register(before, after)


@pytest.mark.slow
def test_an_unsuitable_transform_is_reported(tmp_path: Path) -> None:
    baseline = phantom()
    truth = around(baseline.geometry, turn(6.0), (30.0, 0.0, 60.0))
    followup = followup_of(baseline, grid_like(baseline.geometry, truth, (5.0, 5.0, 5.0)), truth)
    save_transform(tmp_path / "a.h5", truth)
    right = backend(f"transform:{tmp_path}/a.h5").register(followup, baseline)
    assert right.is_reliable and not right.warnings and right.similarity > 0.9
    save_transform(tmp_path / "a.h5", LinearTransform.translation((90.0, 0.0, -80.0)))
    wrong = backend(f"transform:{tmp_path}/a.h5").register(followup, baseline)
    assert not wrong.is_reliable and "match poorly" in wrong.warnings[0]


INSIGHT = b"#Insight Transform File V1.0\n#Transform 0\n"
FOO = b"Transform: Foo_double_3_3\nParameters: 0\nFixedParameters: 0\n"
AFFINE = INSIGHT + b"Transform: AffineTransform_double_3_3\n"
NOT_FINITE = sitk.BSplineTransformInitializer(sitk.Image([20, 20, 20], sitk.sitkUInt8), [2, 2, 2])
NOT_FINITE.SetParameters([float("nan")] * len(NOT_FINITE.GetParameters()))


def write(path: Path, what: sitk.Transform | sitk.Image) -> None:
    if isinstance(what, sitk.Image):
        sitk.WriteImage(what, str(path))
    else:
        sitk.WriteTransform(what, str(path))


@pytest.mark.parametrize(
    ("name", "what", "says"),
    [
        ("a.h5", b"not a transform", "is no HDF5 file"),
        ("b.H5", b"", "is no HDF5 file"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + b"x" * 2000, "it is damaged, or no transform"),
        ("a.tfm", INSIGHT + FOO, "no transform of the class"),
        ("a.tfm", AFFINE + b"Parameters: 1 0 0\nFixedParameters: 0 0 0\n", "cannot be read"),
        ("a.tfm", AFFINE + b"Parameters: 1 0 0 0 nan 0 0 0 1 0 0 0\nFixedParameters: 0 0 0\n", "finite"),
        ("a.tfm", sitk.AffineTransform([1, 0, 0, 0, 1, 0, 0, 0, 1], [float("inf"), 0, 0]), "."),
        ("a.h5", NOT_FINITE, "NaN or infinite"),
        ("a.tfm", sitk.TranslationTransform(3, [1e308, 0, 0]), r"parameters up to 1e\+308"),
        ("a.tfm", sitk.AffineTransform([-1e308] * 9, [0, 0, 0]), r"parameters up to 1e\+308"),
        ("a.h5", sitk.Euler3DTransform([2e6, 0, 0], 0.1, 0, 0), r"parameters up to 2e\+06"),
        ("a.nrrd", sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3) + 1e30, r"displacements up to 1e\+30"),
        ("a.tfm", b"", "cannot be read"),
        ("a.mha", b"", "is an empty file"),
        ("a.mha", sitk.Image([4, 4, 4], sitk.sitkFloat32), "1 values per voxel"),
        ("a.mha", sitk.Image([4, 4], sitk.sitkVectorFloat32, 3), "3-D image of displacements"),
        ("a.mha", sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3) + float("nan"), "NaN"),
        ("a.tfm", sitk.TranslationTransform(2), "2 dimensions"),
        ("a.tfm", sitk.AffineTransform([1, 0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0]), "without an inverse"),
    ],
)
def test_invalid_files_are_rejected(tmp_path: Path, name: str, what: object, says: str) -> None:
    path = tmp_path / name
    if isinstance(what, bytes):
        path.write_bytes(what)
    else:
        assert isinstance(what, sitk.Transform | sitk.Image)
        write(path, what)
    with pytest.raises(InputError, match=says) as error:
        read_transform(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def displacements(path: Path) -> np.ndarray:
    """Write an image of displacements."""
    u = np.random.default_rng(2).normal(size=(6, 7, 8, 3)).astype(np.float32)
    image = sitk.GetImageFromArray(u, isVector=True)
    sitk.WriteImage(image, str(path), True)
    return u


@pytest.mark.parametrize("name", ["a.mha", "a.nii.gz", "a.nrrd", "a.mhd"])
def test_damaged_images_of_displacements(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    u = displacements(path)
    field = read_transform(path)
    assert isinstance(field, FieldTransform) and np.array_equal(field.displacement_mm, u)
    voxels = tmp_path / "a.zraw" if name == "a.mhd" else path
    content = bytearray(voxels.read_bytes())
    content[-9] ^= 0xFF
    voxels.write_bytes(content)
    with pytest.raises(InputError, match="corrupt|more than"):
        read_transform(path)


@pytest.mark.parametrize("name", [b"M\xfcller.tfm", "Müller.NII.GZ".encode(), b"a\nb.H5", b"A.MHA"])
def test_transforms_with_odd_names(tmp_path: Path, name: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / os.fsdecode(name)
    plain = tmp_path / f"plain{path.suffix.lower()}".replace(".gz", ".nii.gz")
    if plain.suffix in (".tfm", ".h5"):
        sitk.WriteTransform(sitk.TranslationTransform(3, [1.0, 2.0, 3.0]), str(plain))
    else:
        displacements(plain)
    plain.rename(path)
    moved = read_transform(path).fixed_to_moving([[0.0, 0.0, 0.0]])
    assert moved.shape == (1, 3)
    save_transform(path, linear(), GRID)
    read_transform(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["x.h5", "x.tfm", "x.nii.gz"])
def test_a_pipe_is_no_transform(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="it is a pipe"):
        read_transform(tmp_path / name)


def test_invalid_names_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        backend(f"transform:{tmp_path}/none.h5")
    with pytest.raises(InputError, match="expected it to end in"):
        save_transform(tmp_path / "a.json", linear())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save_transform(tmp_path / "file" / "a.h5", linear())


RIGID = """#Insight Transform File V1.0
#Transform 0
Transform: Euler3DTransform_double_3_3
Parameters: 0.1 0.2 0.3 4 5 6
FixedParameters: 1 2 3 0
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("4 5 6", "4 5", "with 5 parameters; expected 6"),
        ("4 5 6", "4 5 6 7", "with 7 parameters; expected 6"),
        ("4 5 6", "4 x 6", "'x' in its Parameters"),
        ("4 5 6", "4 5\xa06", "in its Parameters"),
        ("1 2 3 0", "1 nan 3 0", "'nan' in its FixedParameters"),
        ("Parameters: 0.1 0.2 0.3 4 5 6\n", "", "with FixedParameters; expected"),
        ("FixedParameters: 1 2 3 0\n", "", "with Parameters; expected"),
        ("FixedParameters", "Parameters", "with Parameters and Parameters; expected"),
        ("Euler3D", "Eul\xff3D", "cannot be read"),
    ],
)
def test_damaged_fields_of_the_text_format(tmp_path: Path, old: str, new: str, says: str) -> None:
    """ITK reads numbers up to the first word that is none, and takes what is missing for the identity."""
    path = tmp_path / "a.tfm"
    path.write_text(RIGID)
    assert read_transform(path).fixed_to_moving([[1.0, 2.0, 3.0]]).ravel() == pytest.approx((5.0, 7.0, 9.0))
    path.write_text(RIGID.replace(old, new), encoding="latin-1")
    with pytest.raises(InputError, match=f"a.tfm: .*{says}"):
        read_transform(path)


def test_a_spline_with_an_impossible_grid(tmp_path: Path) -> None:
    image = sitk.Image(6, 6, 6, sitk.sitkFloat32)
    sitk.WriteTransform(sitk.BSplineTransformInitializer(image, (2, 2, 2)), str(tmp_path / "a.tfm"))
    text = (tmp_path / "a.tfm").read_text()
    start = text.index("FixedParameters: ") + len("FixedParameters: ")
    (tmp_path / "a.tfm").write_text(f"{text[:start]}1e300{text[start + 1 :]}")
    with pytest.raises(InputError, match=r"a.tfm: cannot be read"):
        read_transform(tmp_path / "a.tfm")


def test_several_transforms_in_one_file_are_refused(tmp_path: Path) -> None:
    """SimpleITK takes the first one without a word."""
    (tmp_path / "a.tfm").write_text(RIGID + RIGID.split("\n", 1)[1])
    sitk.WriteTransform(sitk.Euler3DTransform(), str(tmp_path / "one.mat"))
    (tmp_path / "a.mat").write_bytes((tmp_path / "one.mat").read_bytes() * 2)
    linear_part = "Transform_Type = Linear;\nLinear_Transform =\n 1 0 0 1\n 0 1 0 2\n 0 0 1 3;\n"
    (tmp_path / "a.xfm").write_text("MNI Transform File\n\n" + linear_part * 2)
    for name in ("a.tfm", "a.mat", "a.xfm"):
        with pytest.raises(InputError, match="holds several transforms"):
            read_transform(tmp_path / name)
    read_transform(tmp_path / "one.mat")


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
@pytest.mark.parametrize("count", [1, 3])
def test_composite_transforms_are_one(tmp_path: Path, suffix: str, count: int) -> None:
    path = tmp_path / f"a{suffix}"
    itk = sitk.CompositeTransform([sitk.TranslationTransform(3, (1.0, 2.0, 3.0))] * count)
    sitk.WriteTransform(itk, str(path))
    assert np.allclose(
        read_transform(path).fixed_to_moving(np.zeros((1, 3))), [[count, 2 * count, 3 * count]]
    )


def test_classes_that_simpleitk_lacks(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    affine = "1 0.1 0 0 1 0 0 0 1 4 5 6\nFixedParameters: 10 20 30\n"
    begin = "#Insight Transform File V1.0\n#Transform 0\nTransform: "
    path.write_text(f"{begin}MatrixOffsetTransformBase_double_3_3\nParameters: {affine}")  # of old ANTs
    moved = read_transform(path).fixed_to_moving([[1.0, 2.0, 3.0]])
    assert np.allclose(moved, [[3.2, 7.0, 9.0]])
    path.write_text(f"{begin}ComposeScaleSkewVersor3DTransform_double_3_3\nParameters: {affine}")
    with pytest.raises(InputError, match="a class that SimpleITK lacks"):
        read_transform(path)


@pytest.mark.parametrize("name", ["Müller.mhd", "A.MHD", "a.mhd"])
def test_displacements_beside_their_header(tmp_path: Path, name: str) -> None:
    u = np.random.default_rng(2).normal(size=(3, 4, 5, 3)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(u, isVector=True), str(tmp_path / "a.mhd"), True)
    (tmp_path / "a.mhd").rename(tmp_path / name)
    field = read_transform(tmp_path / name)
    assert isinstance(field, FieldTransform) and np.array_equal(field.displacement_mm, u)


def test_displacements_are_those_that_were_proved(tmp_path: Path) -> None:
    """Without the optional field ITK reads other numbers."""
    u = np.random.default_rng(2).normal(size=(3, 4, 5, 3)).astype(np.float32)
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(u, isVector=True), str(path), True)
    lines = path.read_bytes().split(b"\n", 20)
    path.write_bytes(b"\n".join(line for line in lines if not line.startswith(b"CompressedDataSize")))
    field = read_transform(path)
    assert isinstance(field, FieldTransform) and np.array_equal(field.displacement_mm, u)


def test_displacements_on_an_impossible_grid(tmp_path: Path) -> None:
    """ITK would invert its direction without end."""
    save_transform(tmp_path / "a.mha", TRANSFORMS["field"])
    content = (tmp_path / "a.mha").read_bytes()
    start, end = content.index(b"TransformMatrix"), content.index(b"Offset")
    other = b"TransformMatrix = 1 0 0 0 1 0 0 1e308 1\n"
    (tmp_path / "a.mha").write_bytes(content[:start] + other + content[end:])
    with pytest.raises(InputError, match="no scan has"):
        read_transform(tmp_path / "a.mha")
