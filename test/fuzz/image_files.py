"""Images of all formats: damaged voxels, streams and headers."""

from __future__ import annotations

import bz2
import gzip
import logging
import struct
import tempfile
import zlib
from pathlib import Path
from random import Random
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk

from model.case.images import read_geometry, read_image

from .judge import Kind, Mutant, Seed
from .mutations import damaged_bytes, damaged_lines

logging.getLogger("nibabel").setLevel(logging.CRITICAL)

_SHAPE = (4, 5, 6)
_DIRECTION = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
_NAMES = ("ct.mha", "packed.mha", "ct.mhd", "packed.mhd", "ct.nii", "ct.nii.gz", "ct.nrrd", "packed.nrrd")
# Fields of a NIfTI header: format and position.
_NIFTI_FIELDS = {
    "sizeof_hdr": ("<i", 0),
    **{f"dim{n}": ("<h", 40 + 2 * n) for n in range(5)},
    "datatype": ("<h", 70),
    "bitpix": ("<h", 72),
    **{f"pixdim{n}": ("<f", 76 + 4 * n) for n in range(5)},
    "vox_offset": ("<f", 108),
    "scl_slope": ("<f", 112),
    "scl_inter": ("<f", 116),
    "xyzt_units": ("<b", 123),
    "qform_code": ("<h", 252),
    "sform_code": ("<h", 254),
    **{f"quatern{n}": ("<f", 256 + 4 * n) for n in range(6)},
    **{f"srow{n}": ("<f", 280 + 4 * n) for n in range(12)},
    "magic": ("<i", 344),
}
_NUMBERS = (0, -1, 1, 2, 3, 4, 5, 8, 16, 64, 100, 352, 512, 32767, 1e-30, 1e30, 0.5, np.nan, np.inf, -np.inf)


def _seeds() -> tuple[Seed, ...]:
    voxels = (np.arange(120).reshape(_SHAPE) * 7 - 300).astype(np.int16)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.75, 0.5, 2.5))
    image.SetOrigin((-10.5, 20.25, -300.0))
    image.SetDirection(_DIRECTION)
    seeds = []
    with tempfile.TemporaryDirectory() as name:
        for file in _NAMES:
            folder = Path(name) / file
            folder.mkdir()
            sitk.WriteImage(image, str(folder / file), file.startswith("packed") or file.endswith(".gz"))
            seeds.append(Seed(file, {path.name: path.read_bytes() for path in folder.iterdir()}, file))
    header, raw = _nrrd_parts(next(seed for seed in seeds if seed.name == "ct.nrrd"))
    packed = header.replace(b"encoding: raw", b"encoding: bzip2") + bz2.compress(raw)
    return (*seeds, Seed("bzip2.nrrd", {"bzip2.nrrd": packed}, "bzip2.nrrd"))


def _nrrd_parts(seed: Seed) -> tuple[bytes, bytes]:
    content = seed.files[seed.main]
    end = content.index(b"\n\n") + 2
    return content[:end], content[end:]


def _mutate(rng: Random, seed: Seed) -> Mutant:
    content = seed.files[seed.main]
    if ".nii" in seed.main:
        return _mutate_nifti(rng, seed, content)
    mark = b"\n\n" if seed.main.endswith(".nrrd") else b"LOCAL\n"
    start = content.index(mark) + len(mark) if mark in content else len(content)
    others = [name for name in seed.files if name != seed.main]
    is_packed = not seed.name.startswith("ct.")
    if rng.random() < 0.5:
        sign = ":" if seed.main.endswith(".nrrd") else "="
        text, words = damaged_lines(rng, content[:start].decode("latin-1"), sign)
        changed = text.encode("latin-1", "replace") + content[start:]
        return Mutant({**seed.files, seed.main: changed}, words)
    if others:
        voxels, words = damaged_bytes(rng, seed.files[others[0]])
        return Mutant({**seed.files, others[0]: voxels}, f"voxels: {words}", is_packed)
    voxels, words = damaged_bytes(rng, content[start:])
    return Mutant({**seed.files, seed.main: content[:start] + voxels}, f"voxels: {words}", is_packed)


def _mutate_nifti(rng: Random, seed: Seed, content: bytes) -> Mutant:
    is_packed = seed.main.endswith(".gz")
    if is_packed and rng.random() < 0.4:
        damaged, words = damaged_bytes(rng, content)
        return Mutant({seed.main: damaged}, f"stream: {words}", has_proof=True)
    plain = gzip.decompress(content) if is_packed else content
    plain, words = _other_fields(rng, plain) if rng.random() < 0.6 else damaged_bytes(rng, plain)
    return Mutant({seed.main: gzip.compress(plain, mtime=0) if is_packed else plain}, words)


def _other_fields(rng: Random, content: bytes) -> tuple[bytes, str]:
    """Give one or two fields of a NIfTI header other values."""
    changed, words = bytearray(content), []
    for _ in range(rng.choice((1, 1, 2))):
        field = rng.choice(list(_NIFTI_FIELDS))
        form, position = _NIFTI_FIELDS[field]
        value = rng.choice(_NUMBERS)
        if form != "<f":
            limit = 127 if form == "<b" else 32_767
            value = int(value) if abs(value) <= limit else 7
        struct.pack_into(form, changed, position, value)
        words.append(f"{field} = {value}")
    return bytes(changed), ", ".join(words)


def _read(path: Path) -> tuple[Any, tuple[str, ...]]:
    image, grid = read_image(path), read_geometry(path)
    assert grid == image.geometry
    return (image.array, grid.size_xyz, grid.spacing_xyz, grid.origin_xyz, grid.direction), image.notes


def _reference(path: Path) -> Any:
    """ITK's reading of files whose voxels are whole; of NIfTI also nibabel's voxels."""
    if path.name.startswith("bzip2"):  # which ITK's NRRD library lacks
        start, end, rest = path.read_bytes().partition(b"\n\n")
        path = path.with_name("unpacked.nrrd")
        path.write_bytes(start.replace(b"bzip2", b"raw") + end + bz2.decompress(rest))
    image = sitk.ReadImage(str(path))
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
        image = image[..., 0]
    array = sitk.GetArrayFromImage(image)
    content = path.read_bytes()
    if ".nii" in path.name:
        other = np.asarray(nibabel.Nifti1Image.from_bytes(_unpacked(content)).dataobj)
        if not np.allclose(other.T.reshape(array.shape), array, rtol=1e-5, equal_nan=True):
            raise ValueError("ITK and nibabel read other voxels")
    if ".nii" in path.name and (sheared := _sheared_grid(content)) is not None:
        return (array, image.GetSize(), *sheared)
    return (array, image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def _sheared_grid(content: bytes) -> tuple[tuple[float, ...], ...] | None:
    """The grid of a NIfTI file by nibabel if it is sheared: ITK takes the other one of its two then."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ nibabel.Nifti1Image.from_bytes(_unpacked(content)).affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    if np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
        return None
    return tuple(spacing.tolist()), tuple(affine[:3, 3].tolist()), tuple(direction.ravel().tolist())


def _unpacked(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return content


IMAGES = Kind("images", _seeds, _mutate, _read, _reference)
