"""Scans that are asked about, read once: their images, and where lesions lie in their labelmaps."""

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
    """``boxes``: lesion id -> its box on the scan's axial grid."""

    scan: Scan
    boxes: dict[int, Box]

    def ml_of(self, lesion_id: int) -> float:
        """The volume of a lesion; 0 where the labelmap does not hold it."""
        if lesion_id not in self.boxes or self.scan.mask is None:
            return 0.0
        voxels = np.count_nonzero(self.scan.mask[self.boxes[lesion_id].slices] == lesion_id)
        return int(voxels) * self.scan.geometry.voxel_volume_ml

    def reference(self, path: Path, ids: frozenset[int]) -> Labelmap:
        """The labelmap as its file stores the axes, uint16, without all but some lesions."""
        assert self.scan.mask is not None
        kept = self.scan.mask.astype(np.uint16)
        for lesion_id in self.boxes.keys() - ids:
            part = kept[self.boxes[lesion_id].slices]
            part[part == lesion_id] = 0
        array = np.ascontiguousarray(self.scan.axes.inverse().array(kept))
        return Labelmap(path, array, self.scan.file_geometry)


class ScanReader:
    """Keeps the scans of the last pair: a patient's next pair often shares one of them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Path, Path | None], LoadedScan] = {}

    def read(self, pair: EvaluationPair) -> tuple[LoadedScan, LoadedScan]:
        """Baseline and follow-up.

        Raises:
            InputError: a file cannot be read, or does not go with the other one of its scan.
        """
        wanted = [(scan, _key(scan)) for scan in (pair.baseline, pair.followup)]
        self._kept = {key: self._kept[key] for _, key in wanted if key in self._kept}
        missing = {key: scan for scan, key in wanted if key not in self._kept}
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="read") as pool:
            self._kept |= zip(missing, pool.map(_load, missing.values()), strict=True)
        baseline, followup = (self._kept[key] for _, key in wanted)
        return baseline, followup


def _key(scan: RawScan) -> tuple[Path, Path | None]:
    return scan.image, scan.labels


def _load(scan: RawScan) -> LoadedScan:
    loaded = load_scan(scan)
    if loaded.mask is None:
        raise InputError(f"{scan.image}: has no labelmap; expected one of lesion ids")
    return LoadedScan(loaded, label_boxes(loaded.mask))


def check_files(pairs: Sequence[EvaluationPair]) -> None:
    """Raises InputError where a file of a pair is not there any more, before any work is done."""
    missing = sorted({path for pair in pairs for path in pair.files if not path.is_file()})
    if missing:
        others = f" (and {len(missing) - 1} others)" if len(missing) > 1 else ""
        raise InputError(
            f"{missing[0]}: is missing{others}; expected the original files of {len(pairs)} pairs of scans, "
            "which held-out patients are asked about with"
        )
