"""Make the sample case: `python -m test.sample.make SOURCE_DIR [--output DIR]`.

SOURCE_DIR holds LIDC-IDRI-0314 as lidc0314_2mm_ct.nii.gz and _mask.nii.gz (whole thorax) and
lidc0314_crop_mask.nii.gz (the readers' consensus at the scanner's resolution). The baseline is the real
scan; the follow-up is that scan, deformed by `warp.py`, on another grid, with noise. Same source, same
output: the seed is fixed. README.md in this folder has the rest.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from .warp import Points, Warp, beyond_linear_mm, jacobian_determinant

HERE = Path(__file__).resolve().parent
LESION_ID = 1
SEED = 314
NOISE_HU = 14.0
BODY_HU = -400

FOLLOWUP_SPACING_XYZ_MM = (1.8, 1.8, 2.5)
FOLLOWUP_SIZE_XYZ = (192, 192, 82)
# Low corner of the follow-up's field of view, before the couch offset is added. It lies wholly inside the
# baseline's (an assertion holds that), so no voxel is invented: shoulders, flank and abdomen are partly cut.
FOLLOWUP_CORNER_XYZ_MM = (-184.0, -28.0, -661.0)


@dataclass(frozen=True)
class Volume:
    """An image with identity direction: array (z, y, x), spacing and origin x, y, z in mm."""

    array: NDArray[Any]
    spacing_xyz_mm: tuple[float, float, float]
    origin_xyz_mm: tuple[float, float, float]

    def index_zyx(self, points_xyz_mm: Points) -> Points:
        """World points (..., 3) to continuous voxel indices z, y, x, coordinates first: (3, ...)."""
        index_xyz = (points_xyz_mm - np.asarray(self.origin_xyz_mm)) / np.asarray(self.spacing_xyz_mm)
        return np.moveaxis(index_xyz[..., ::-1], -1, 0)

    def points_xyz_mm(self) -> Points:
        """World points of all voxels, (z, y, x, 3)."""
        index_xyz: Points = np.moveaxis(np.indices(self.array.shape, dtype=np.float64)[::-1], 0, -1)
        spacing = np.asarray(self.spacing_xyz_mm, np.float64)
        return index_xyz * spacing + np.asarray(self.origin_xyz_mm, np.float64)

    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return float(np.prod(self.spacing_xyz_mm)) / 1000.0


def read(path: Path) -> Volume:
    """An image file of identity direction as a Volume."""
    image = sitk.ReadImage(str(path))
    assert np.allclose(image.GetDirection(), np.eye(3).ravel()), f"{path}: direction is not the identity"
    # NIfTI keeps single-precision headers; rounding gives back the millimetres that were meant.
    spacing, origin = ([round(v, 4) for v in values] for values in (image.GetSpacing(), image.GetOrigin()))
    return Volume(
        sitk.GetArrayFromImage(image), (spacing[0], spacing[1], spacing[2]), (origin[0], origin[1], origin[2])
    )


def write(volume: Volume, path: Path) -> None:
    """A Volume as a compressed image file, with a header of the grid alone."""
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.spacing_xyz_mm)
    image.SetOrigin(volume.origin_xyz_mm)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=9)


def centre_index_xyz(mask: NDArray[Any]) -> list[float]:
    """Centre of gravity of a mask (z, y, x) as float voxel index x, y, z."""
    return [float(v) for v in np.argwhere(mask).mean(axis=0)[::-1]]


def write_clicks(path: Path, clicks: dict[int, list[float]]) -> None:
    """Clicks (lesion id -> voxel index x, y, z) as the platform's JSON."""
    points = [{"name": str(lesion_id), "point": point} for lesion_id, point in clicks.items()]
    content = {
        "name": "Points of interest",
        "points": points,
        "type": "Multiple points",
        "version": {"major": 1, "minor": 0},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def signed_distance(mask: Volume) -> NDArray[np.float64]:
    """Signed distance to the mask's surface, mm, (z, y, x), positive inside.

    Smoothed a little, so that on another grid its zero level has no steps of this one.
    """
    sampling = mask.spacing_xyz_mm[::-1]
    inside = mask.array > 0
    distance = ndimage.distance_transform_edt(inside, sampling) - ndimage.distance_transform_edt(
        ~inside, sampling
    )
    return np.asarray(ndimage.gaussian_filter(distance, [0.8 / s for s in sampling]))


def noise_hu(shape_zyx: tuple[int, ...]) -> NDArray[np.float64]:
    """Noise with a little correlation between neighbours, as a reconstruction kernel leaves it; HU."""
    noise = np.random.default_rng(SEED).standard_normal(shape_zyx)
    noise = ndimage.gaussian_filter(noise, (0.4, 0.6, 0.6), mode="wrap")
    return np.asarray(noise * (NOISE_HU / noise.std()))


def make_followup(baseline: Volume, fine_mask: Volume, warp: Warp) -> tuple[Volume, Volume, dict[str, Any]]:
    """Follow-up CT (int16), its true mask (uint8) on the same grid, and the facts about the deformation."""
    size, spacing = FOLLOWUP_SIZE_XYZ, FOLLOWUP_SPACING_XYZ_MM
    corner = warp.couch(warp.turn_about_xyz_mm) - warp.turn_about_xyz_mm + np.asarray(FOLLOWUP_CORNER_XYZ_MM)
    grid = Volume(
        np.zeros(size[::-1], np.int16),
        spacing,
        (round(corner[0], 1), round(corner[1], 1), round(corner[2], 1)),
    )
    points = grid.points_xyz_mm()
    mapped = warp.to_baseline(points)
    index = baseline.index_zyx(mapped)
    last = np.asarray(baseline.array.shape).reshape(3, 1, 1, 1) - 1
    assert (index >= 0).all() and (index <= last).all(), "the follow-up looks beyond the baseline"

    hu = ndimage.map_coordinates(baseline.array.astype(np.float64), index, order=3, mode="mirror")
    hu = np.clip(np.rint(hu + noise_hu(hu.shape)), -1024, 3071).astype(np.int16)
    distance = ndimage.map_coordinates(
        signed_distance(fine_mask), fine_mask.index_zyx(mapped), order=1, mode="constant", cval=-50.0
    )
    jacobian = jacobian_determinant(mapped, spacing)
    body = points[::3, ::4, ::4][hu[::3, ::4, ::4] > BODY_HU]
    facts = deformation_facts(warp, body) | {
        "jacobian_min": round(float(jacobian.min()), 3),
        "jacobian_max": round(float(jacobian.max()), 3),
    }
    truth = Volume((distance > 0).astype(np.uint8) * LESION_ID, grid.spacing_xyz_mm, grid.origin_xyz_mm)
    return Volume(hu, grid.spacing_xyz_mm, grid.origin_xyz_mm), truth, facts


def deformation_facts(warp: Warp, body_xyz_mm: Points) -> dict[str, Any]:
    """Displacements of the nodule by the warp, mm. `body_xyz_mm` (n, 3): points of the follow-up's body."""
    nodule, still = warp.nodule_xyz_mm, warp.nodule_without_couch()
    couch_at_nodule = float(np.linalg.norm(warp.couch(still) - still))
    about = warp.turn_about_xyz_mm
    return {
        "couch_offset_mm": round(float(np.linalg.norm(warp.couch(about) - about)), 2),
        "couch_offset_at_nodule_mm": round(couch_at_nodule, 2),
        "deformation_at_nodule_mm": round(float(np.linalg.norm(still - nodule)), 2),
        "deformation_at_nodule_beyond_best_rigid_mm": round(
            beyond_linear_mm(warp, body_xyz_mm, affine=False), 2
        ),
        "deformation_at_nodule_beyond_best_affine_mm": round(
            beyond_linear_mm(warp, body_xyz_mm, affine=True), 2
        ),
        "nodule_baseline_xyz_mm": [round(float(v), 2) for v in nodule],
        "nodule_followup_xyz_mm": [round(float(v), 2) for v in warp.nodule_in_followup()],
    }


def grid_facts(ct: Volume, mask: Volume) -> dict[str, Any]:
    """Grid of a scan and the size of its lesion."""
    volume_ml = int((mask.array == LESION_ID).sum()) * mask.voxel_ml()
    return {
        "size_xyz": list(ct.array.shape[::-1]),
        "spacing_xyz_mm": list(ct.spacing_xyz_mm),
        "origin_xyz_mm": list(ct.origin_xyz_mm),
        "lesion_voxels": int((mask.array == LESION_ID).sum()),
        "lesion_ml": round(volume_ml, 3),
        "lesion_equivalent_diameter_mm": round((6000.0 * volume_ml / np.pi) ** (1 / 3), 1),
    }


def check(facts: dict[str, Any]) -> None:
    """Check the properties that the sample case promises."""
    baseline, followup = facts["baseline"], facts["followup"]
    assert facts["couch_offset_mm"] >= 25.0 and facts["couch_offset_at_nodule_mm"] >= 25.0
    assert 8.0 <= facts["deformation_at_nodule_mm"] <= 10.0
    assert facts["deformation_at_nodule_beyond_best_rigid_mm"] >= 8.0
    assert facts["volume_change_percent"] >= 40.0
    assert facts["jacobian_min"] > 0.0
    assert followup["lesion_equivalent_diameter_mm"] >= 18.0
    assert all(a != b for a, b in zip(baseline["spacing_xyz_mm"], followup["spacing_xyz_mm"], strict=True))
    assert baseline["size_xyz"] != followup["size_xyz"]


def make(source: Path, output: Path) -> dict[str, Any]:
    """Write input/, input-step1/, truth/ and facts.json below `output`; the facts."""
    baseline, mask = read(source / "lidc0314_2mm_ct.nii.gz"), read(source / "lidc0314_2mm_mask.nii.gz")
    fine_mask = read(source / "lidc0314_crop_mask.nii.gz")
    mask = Volume((mask.array > 0).astype(np.uint8) * LESION_ID, mask.spacing_xyz_mm, mask.origin_xyz_mm)
    nodule = fine_mask.points_xyz_mm()[fine_mask.array > 0].mean(axis=0)
    about = baseline.points_xyz_mm()[::4, ::4, ::4][baseline.array[::4, ::4, ::4] > BODY_HU].mean(axis=0)
    followup, truth, facts = make_followup(baseline, fine_mask, Warp(nodule, about))

    facts = {"baseline": grid_facts(baseline, mask), "followup": grid_facts(followup, truth)} | facts
    change = facts["followup"]["lesion_ml"] / facts["baseline"]["lesion_ml"] - 1.0
    facts |= {"volume_change_percent": round(100.0 * change, 1), "noise_hu": NOISE_HU, "seed": SEED}
    check(facts)

    images = output / "input" / "images"
    write(baseline, images / "primary-baseline-ct" / "lidc0314-baseline.mha")
    write(mask, images / "primary-baseline-ct-tumor-lesion-seg" / "lidc0314-baseline.mha")
    write(followup, images / "primary-followup-ct" / "lidc0314-followup.mha")
    write(truth, output / "truth" / "lidc0314-followup.mha")
    baseline_clicks = {LESION_ID: centre_index_xyz(mask.array)}
    followup_clicks = {LESION_ID: centre_index_xyz(truth.array)}
    for folder, followup_list in (("input", followup_clicks), ("input-step1", {})):
        write_clicks(output / folder / "primary-baseline-lesion-clicks.json", baseline_clicks)
        write_clicks(output / folder / "primary-followup-lesion-clicks.json", followup_list)
    (output / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the sample case from LIDC-IDRI-0314.")
    parser.add_argument("source", type=Path, metavar="SOURCE_DIR")
    parser.add_argument("--output", type=Path, default=HERE, metavar="DIR")
    options = parser.parse_args()
    print(json.dumps(make(options.source, options.output), indent=2))


if __name__ == "__main__":
    main()
