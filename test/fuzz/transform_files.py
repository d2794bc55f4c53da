"""Transforms of ITK as text and as HDF5, and images of displacements."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import SimpleITK as sitk

from model.propagation.register.stored import read_transform

from .judge import Kind, Mutant, Seed
from .lesion_files import Reading
from .mutations import damaged_bytes, damaged_lines

_POINTS = [[1.5, 2.0, 3.0], [4.0, 3.5, 2.5], [2.0, 4.5, 4.25]]


def _field() -> sitk.Image:
    values = np.linspace(-1, 1, 6 * 6 * 6 * 3).reshape(6, 6, 6, 3)
    image = sitk.GetImageFromArray(values, isVector=True)
    image.SetSpacing((2.0, 2.0, 2.0))
    return image


def _seeds() -> tuple[Seed, ...]:
    affine = sitk.AffineTransform(3)
    affine.SetMatrix((1.1, 0.1, 0, 0, 0.9, 0, 0, 0.05, 1))
    affine.SetTranslation((5, -3, 2))
    rigid = sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (4, 5, 6))
    spline = sitk.BSplineTransformInitializer(_field()[:, :, :], (2, 2, 2))
    spline.SetParameters(np.linspace(-1, 1, len(spline.GetParameters())).tolist())
    both = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(_field())])
    content: dict[str, Any] = {
        "affine.tfm": affine,
        "rigid.txt": rigid,
        "spline.tfm": spline,
        "both.h5": both,
        "affine.h5": affine,
        "field.mha": _field(),
        "field.nii.gz": _field(),
        "field.nrrd": _field(),
    }
    seeds = []
    with tempfile.TemporaryDirectory() as name:
        for file, value in content.items():
            path = Path(name) / file
            if isinstance(value, sitk.Image):
                sitk.WriteImage(value, str(path), useCompression=True)
            else:
                sitk.WriteTransform(value, str(path))
            seeds.append(Seed(file, {file: path.read_bytes()}, file))
    return tuple(seeds)


def _mutate(rng: Random, seed: Seed) -> Mutant:
    content = seed.files[seed.main]
    if seed.main.endswith((".tfm", ".txt")):
        if rng.random() < 0.3:
            damaged, words = damaged_bytes(rng, content)
        else:
            text, words = damaged_lines(rng, content.decode(), ":")
            damaged = text.encode()
        return Mutant({seed.main: damaged}, words)
    if seed.main.endswith(".h5"):
        stop = rng.choice((1000, len(content)))
        damaged, words = damaged_bytes(rng, content[:stop])
        return Mutant({seed.main: damaged + content[stop:]}, words)
    if seed.main.endswith(".gz"):
        start = 0
    else:
        mark = b"\n\n" if seed.main.endswith(".nrrd") else b"LOCAL\n"
        start = content.index(mark) + len(mark)
    if start and rng.random() < 0.5:
        sign = ":" if seed.main.endswith(".nrrd") else "="
        text, words = damaged_lines(rng, content[:start].decode(), sign)
        return Mutant({seed.main: text.encode() + content[start:]}, words)
    damaged, words = damaged_bytes(rng, content[start:])
    return Mutant({seed.main: content[:start] + damaged}, f"stream: {words}", has_proof=True)


def _read(path: Path) -> Reading:
    return read_transform(path).fixed_to_moving(_POINTS).tolist(), ()


def _reference(path: Path) -> Any:
    if path.suffix in (".tfm", ".txt", ".h5"):
        transform = sitk.ReadTransform(str(path))
        return [list(transform.TransformPoint(point)) for point in _POINTS]
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkVectorFloat64)
    last = [n - 1 for n in image.GetSize()]
    indices = [image.TransformPhysicalPointToContinuousIndex(point) for point in _POINTS]
    transform = sitk.DisplacementFieldTransform(image)
    # Outside of a field ITK has no displacement, and we let it fade.
    is_inside = [all(0 <= i <= n for i, n in zip(index, last, strict=True)) for index in indices]
    ours = _read(path)[0]
    return [
        list(transform.TransformPoint(point)) if inside else own
        for point, own, inside in zip(_POINTS, ours, is_inside, strict=True)
    ]


TRANSFORMS = Kind("transforms", _seeds, _mutate, _read, _reference)
