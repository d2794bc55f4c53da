"""Headers of NIfTI-1 files (.nii, .nii.gz, and pairs .hdr with .img), as ITK's NIfTI library reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .input_files import open_input
from .nifti_affine import ORTHOGONAL_COSINE
from .stored_image import Encoding, HeaderFault, StoredImage, VoxelPart, check_sizes, check_spacing

NIFTI_BYTES = 348
_VOXEL_START = 352  # after the header and the four bytes that announce extensions
_NIFTI2_BYTES = 540
_UNIT_SQUARE = 1.001  # of the three stored parts of a rotation's quaternion, up to rounding
# Spacings of 'pixdim' and of the sform differ by rounding up to this share.
_SAME_LENGTH = 1e-2

_HEADER = np.dtype(
    [
        ("sizeof_hdr", "<i4"),
        ("unused1", "V35"),
        ("dim_info", "u1"),
        ("dim", "<i2", 8),
        ("intent", "<f4", 3),
        ("intent_code", "<i2"),
        ("datatype", "<i2"),
        ("bitpix", "<i2"),
        ("slice_start", "<i2"),
        ("pixdim", "<f4", 8),
        ("vox_offset", "<f4"),
        ("scl_slope", "<f4"),
        ("scl_inter", "<f4"),
        ("unused2", "V132"),
        ("qform_code", "<i2"),
        ("sform_code", "<i2"),
        ("quatern", "<f4", 3),
        ("qoffset", "<f4", 3),
        ("srow", "<f4", (3, 4)),
        ("intent_name", "S16"),
        ("magic", "V4"),
    ]
)
_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_OTHER_TYPES = {
    1: "single bits",
    32: "complex numbers",
    128: "RGB colours",
    1536: "128-bit floats",
    1792: "complex numbers",
    2048: "complex numbers",
    2304: "RGBA colours",
}


def is_nifti(start: bytes) -> bool:
    """Recognise a NIfTI file, of either version, by its first bytes (at least 348)."""
    if len(start) < 4:
        return False
    sizes = (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big"))
    return not {NIFTI_BYTES, _NIFTI2_BYTES}.isdisjoint(sizes) or start[344:347] in (b"n+1", b"ni1")


def read_nifti_header(path: Path, start: bytes, gzipped: bool, file_bytes: int) -> StoredImage:
    """Read the header of a NIfTI-1 file.

    Args:
        path: the file.
        start: its first bytes, decompressed, at least 348 unless it is truncated.
        gzipped: the file is compressed.
        file_bytes: size of the file on disk.

    Raises:
        HeaderFault: a field cannot be used, or it is NIfTI-2 or Analyze.
    """
    header = _parsed(start)
    sizes = _sizes(header)
    datatype = int(header["datatype"])
    if datatype not in _TYPES:
        kind = _OTHER_TYPES.get(datatype, f"the unknown type {datatype}")
        raise HeaderFault(f"has voxels of type {kind!r}; expected one number per voxel")
    order = "<" if header.dtype["sizeof_hdr"].str.startswith("<") else ">"
    dtype = np.dtype(order + _TYPES[datatype])
    _check_grid(header)
    magic = bytes(header["magic"])[:3]
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and 0 <= offset <= 2**31 and offset.is_integer()):
        raise HeaderFault(f"has the field 'vox_offset' with {offset:g}; expected a number of bytes")
    lead = int(offset)
    voxels, voxels_gzipped = path, gzipped
    if magic == b"ni1":
        voxels = _voxel_file(path)
        with open_input(voxels, f"the voxels of {path.name}") as file:
            voxels_gzipped = file.read(2) == b"\x1f\x8b"
    elif lead not in (0, NIFTI_BYTES) and lead < _VOXEL_START:
        raise HeaderFault(f"has the field 'vox_offset' with {lead}; expected at least {_VOXEL_START}")
    elif lead < _VOXEL_START:  # left at 0: after the header, with or without the four bytes
        needed = math.prod(sizes) * dtype.itemsize
        lead = NIFTI_BYTES if not gzipped and file_bytes == NIFTI_BYTES + needed else _VOXEL_START
    return StoredImage(
        sizes=sizes,
        dtype=dtype,
        encoding=Encoding.GZIP if voxels_gzipped else Encoding.RAW,
        parts=(VoxelPart(voxels, 0 if voxels_gzipped else lead),),
        header=_grid_header(header),
        suffix=".nii",
        lead=lead if voxels_gzipped else 0,
        rescale=_rescale(header),
    )


def _parsed(start: bytes) -> np.void:
    if len(start) < NIFTI_BYTES:
        raise HeaderFault(
            f"is truncated, {len(start)} bytes; expected at least the {NIFTI_BYTES} bytes of a NIfTI header"
        )
    little, big = _HEADER, _HEADER.newbyteorder(">")
    found = [
        header
        for header in (np.frombuffer(start, kind, count=1)[0] for kind in (little, big))
        if header["sizeof_hdr"] in (NIFTI_BYTES, _NIFTI2_BYTES)
    ]
    if found and found[0]["sizeof_hdr"] == _NIFTI2_BYTES:
        raise HeaderFault("is a NIfTI-2 file; expected NIfTI-1 (convert it with any NIfTI tool)")
    if not found:
        size = int(np.frombuffer(start, "<i4", count=1)[0])
        raise HeaderFault(f"has the field 'sizeof_hdr' with {size}; expected {NIFTI_BYTES}")
    magic = bytes(found[0]["magic"])[:3]
    if not magic.strip(b"\0"):
        raise HeaderFault("is an Analyze 7.5 header, which has no orientation; expected a NIfTI file")
    if magic not in (b"n+1", b"ni1"):
        shown = magic.decode("ascii", "backslashreplace")
        raise HeaderFault(f"has the field 'magic' with {shown!r}; expected 'n+1' of NIfTI-1")
    header: np.void = found[0]
    return header


def _sizes(header: np.void) -> tuple[int, ...]:
    """Sizes of the axes, the fastest first, without last axes of one."""
    dimension = int(header["dim"][0])
    if not 1 <= dimension <= 7:
        raise HeaderFault(f"has {dimension} dimensions; expected three")
    sizes = tuple(int(size) for size in header["dim"][1 : 1 + dimension])
    # ITK ignores further axes of size zero.
    sizes = sizes[:3] + tuple(size or 1 for size in sizes[3:])
    check_sizes(sizes)
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    return sizes


def _check_grid(header: np.void) -> None:
    axes = min(3, int(header["dim"][0]))
    used = {"pixdim": header["pixdim"][1 : 1 + axes]}
    if header["qform_code"] > 0:
        used |= {"quatern": header["quatern"], "qoffset": header["qoffset"]}
    if header["sform_code"] > 0:
        used["srow"] = header["srow"]
    for name, values in used.items():
        if not np.isfinite(values).all():
            raise HeaderFault(f"has a value that is NaN or infinite in the field {name!r}; expected numbers")
    check_spacing("pixdim", tuple(float(value) for value in used["pixdim"]))
    if header["qform_code"] > 0 and float(np.sum(header["quatern"].astype(np.float64) ** 2)) > _UNIT_SQUARE:
        shown = ", ".join(f"{value:g}" for value in header["quatern"])
        raise HeaderFault(f"has the quaternion ({shown}), longer than one; expected a rotation")
    if header["sform_code"] > 0:
        columns = header["srow"][:, :3].astype(np.float64)
        lengths = np.linalg.norm(columns, axis=0)
        if lengths.min() == 0 or abs(np.linalg.det(columns / lengths)) < 1e-3:
            raise HeaderFault("has a matrix without an inverse in the field 'srow'; expected a grid in space")
        cosines = np.abs(np.triu((columns / lengths).T @ (columns / lengths), 1))
        is_sheared = cosines.max() > ORTHOGONAL_COSINE  # 'pixdim' does not count then
        if not is_sheared and np.any(np.abs(lengths[:axes] / used["pixdim"] - 1) > _SAME_LENGTH):
            raise HeaderFault(
                f"has the spacing {_listed(used['pixdim'])} in 'pixdim' but {_listed(lengths)} in 'srow', "
                "which programs read differently; expected the same"
            )


def _listed(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"


def _voxel_file(path: Path) -> Path:
    """The .img of a header: same name, same capitals, maybe compressed."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    stem = name[: -len(".hdr")] if name.lower().endswith((".hdr", ".img", ".nii")) else name
    candidates = [path.with_name(stem + ending) for ending in (".img", ".IMG", ".img.gz", ".IMG.GZ")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise HeaderFault(
        f"is the header of a pair of files; expected the voxels beside it in {candidates[0].name}"
    )


def _rescale(header: np.void) -> tuple[float, float] | None:
    """Slope and intercept, None if the header has none: a slope of zero or NaN means that."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isfinite(slope) and slope != 0 and not math.isfinite(intercept):
        raise HeaderFault(f"has the slope {slope:g} but {intercept:g} in 'scl_inter'; expected a number")
    intercept = intercept if math.isfinite(intercept) else 0.0
    if not math.isfinite(slope) or slope == 0:
        if intercept != 0:
            raise HeaderFault(
                f"has {intercept:g} in 'scl_inter' but no slope in 'scl_slope', which programs read "
                "differently; expected both or neither"
            )
        return None
    return None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)


def _grid_header(header: np.void) -> bytes:
    """The header of a single file without extensions; three axes are of scalars whatever the intent is."""
    copy = np.array([header], header.dtype)
    if len(_sizes(header)) <= 3:
        copy["intent_code"] = 0
    copy["magic"] = np.void(b"n+1\0")
    copy["vox_offset"] = _VOXEL_START
    return copy.tobytes() + b"\0\0\0\0"
