"""Facts about a run that every `run.json` holds: versions, weights, device, grids, memory."""

from __future__ import annotations

import math
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..case.file_grid import FileGrid
from ..case.geometry import Geometry
from ..timing import peak_memory_mib

if TYPE_CHECKING:  # bring torch
    from ..network.weights import WeightsManifest
    from .ensemble import Ensemble

_PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "acvl-utils", "safetensors")


def software_facts() -> dict[str, Any]:
    """Versions of this package and of those that numbers depend on."""
    packages = {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}
    return {"version": __version__, "packages": packages}


def files_facts(manifest: WeightsManifest) -> dict[str, Any]:
    """Folder, folds and hashes of a model."""
    return {"folder": str(manifest.folder), "folds": list(manifest.folds), "sha256": manifest.hashes()}


def computing_facts(ensemble: Ensemble) -> dict[str, Any]:
    """Networks of an ensemble, and how they were computed."""
    first, rung = ensemble.folds[0], ensemble.rung
    return {
        "trainer": first.trainer_name,
        "configuration": first.configuration,
        "variant": first.variant.name.lower(),
        "device": rung.device,
        "device_name": ensemble.device_name,
        "precision": rung.precision,
        "batch": rung.batch,
        "folds_resident": rung.resident,
    }


def grid_facts(grid: FileGrid) -> dict[str, Any]:
    """The grid of a file; of a sheared one also the orthogonal grid to which it was resampled."""
    facts = _geometry_facts(grid.geometry)
    if grid.shear is not None:
        shear_degrees = round(grid.geometry.shear_degrees, 3)
        facts["resampled"] = {"shear_degrees": shear_degrees} | _geometry_facts(grid.axial)
    return facts


def _geometry_facts(geometry: Geometry) -> dict[str, Any]:
    return {
        "size_xyz": list(geometry.size_xyz),
        "spacing_xyz_mm": list(geometry.spacing_xyz),
        "origin_xyz_mm": list(geometry.origin_xyz),
        "direction": list(geometry.direction),
    }


def memory_facts(ensemble: Ensemble | None) -> dict[str, float]:
    """Peak memory (MiB) of the process and, if there is one, of the GPU."""
    memory = {"process": round(peak_memory_mib(), 1)}
    if ensemble is not None and (gpu := ensemble.peak_gpu_mib) is not None:
        memory["gpu"] = round(gpu, 1)
    return memory


def finite_number(value: float | None) -> float | None:
    """A number as it is written: 6 decimals, None for one that is not finite."""
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
