"""Load the scans of a pair: their images, and the boxes of the lesions in their labelmaps."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..case.case import Scan
from ..case.geometry import Box
from ..case.labelmaps import label_boxes
from ..data.dataset import RawScan
from ..data.scan_survey import load_scan
from ..errors import InputError
from ..evaluation.measure_scan import Labelmap
from .pairs import EvaluationPair


@dataclass(frozen=True, eq=False)
class LoadedScan:
    """A scan with its labelmap.

    Attributes:
        scan: image and labelmap on the axial grid.
        boxes: lesion id -> its box in voxels (z, y, x) of the axial grid.
    """

    scan: Scan
    boxes: dict[int, Box]

    def ml_of(self, lesion_id: int) -> float:
        """Return the volume of a lesion in ml; 0 if it is not in the labelmap."""
        if lesion_id not in self.boxes or self.scan.mask is None:
            return 0.0
        voxels = np.count_nonzero(self.scan.mask[self.boxes[lesion_id].slices] == lesion_id)
        return int(voxels) * self.scan.geometry.voxel_volume_ml

    def reference(self, path: Path, ids: frozenset[int]) -> Labelmap:
        """Return the labelmap with some lesions only.

        Args:
            path: file that the labelmap is attributed to.
            ids: lesions to keep.

        Returns:
            uint16 labelmap with the axes of the file, 0 outside the kept lesions.
        """
        assert self.scan.mask is not None
        kept = self.scan.mask.astype(np.uint16)
        for lesion_id in self.boxes.keys() - ids:
            part = kept[self.boxes[lesion_id].slices]
            part[part == lesion_id] = 0
        array = np.ascontiguousarray(self.scan.axes.inverse().array(kept))
        return Labelmap(path, array, self.scan.file_geometry)


class ScanReader:
    """Reads pairs of scans and keeps those of the last pair, as the next pair often shares one of them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Path, Path | None], LoadedScan] = {}

    def read(self, pair: EvaluationPair) -> tuple[LoadedScan, LoadedScan]:
        """Read baseline and follow-up.

        Raises:
            InputError: a file cannot be read, or image and labelmap do not fit together.
        """
        scans = [(scan, _key(scan)) for scan in (pair.baseline, pair.followup)]
        self._kept = {key: self._kept[key] for _, key in scans if key in self._kept}
        missing = {key: scan for scan, key in scans if key not in self._kept}
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="read") as pool:
            self._kept |= zip(missing, pool.map(_load, missing.values()), strict=True)
        baseline, followup = (self._kept[key] for _, key in scans)
        return baseline, followup


def _key(scan: RawScan) -> tuple[Path, Path | None]:
    return scan.image, scan.labels


def _load(scan: RawScan) -> LoadedScan:
    loaded = load_scan(scan)
    if loaded.mask is None:
        raise InputError(f"{scan.image}: has no labelmap; expected one of lesion ids")
    return LoadedScan(loaded, label_boxes(loaded.mask))


def check_files(pairs: Sequence[EvaluationPair]) -> None:
    """Check before any work that all files of the pairs exist.

    Raises:
        InputError: one is missing.
    """
    missing = sorted({path for pair in pairs for path in pair.files if not path.is_file()})
    if missing:
        others = f" (and {len(missing) - 1} others)" if len(missing) > 1 else ""
        raise InputError(
            f"{missing[0]}: is missing{others}; expected the original files of {len(pairs)} pairs of scans, "
            "which held-out patients are predicted from"
        )
