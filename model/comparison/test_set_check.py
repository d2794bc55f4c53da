"""Check that test patients are unseen: by name, by the files of their scans, and by voxels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..case.case import Scan
from ..case.geometry import Box, Index
from ..case.images import read_geometry
from ..crossval.pairs import EvaluationPair
from ..data.dataset import RawScan
from ..data.prepared_grid import prepared_grid
from ..data.scan_survey import load_scan
from ..errors import InputError
from ..network.patches import NetworkGrid, extract_ct
from ..network.plan import Plan
from ..network.resample import FloatVolume
from ..training.leakage import PatientScan, shared_patients, stored_scans
from ..training.prepared_data import PreparedData


def check_unseen(test: Sequence[EvaluationPair], prepared: Iterable[PreparedData]) -> None:
    """Check that no test patient and no test scan is in a prepared data set.

    They are compared as `train run` compares its data sets. All scans of the data sets count, even those
    without a pair, as they had a part in the plan. Test scans are read only if a prepared one has their
    shape.

    Raises:
        InputError: a test patient, or a test scan, is in one of the data sets.
    """
    for data in prepared:
        tested = [scan for pair in test for scan in _scans(pair, data.plan)]
        for patient, names in shared_patients(stored_scans(data.folder), tested).items():
            alias = f" as {', '.join(sorted(names))}" if patient not in names else ""
            raise InputError(
                f"--test: patient {patient} is in {data.folder} too{alias}, by name or by a scan; expected "
                "patients that no network was trained or chosen on"
            )


def _scans(pair: EvaluationPair, plan: Plan) -> Iterator[PatientScan]:
    """Both scans as they would be prepared, with their own axis signs and with those of the follow-up."""
    like = read_geometry(pair.followup.image)
    for scan in (pair.baseline, pair.followup):
        geometry = read_geometry(scan.image)
        grids = [prepared_grid(geometry, signs, plan) for signs in (geometry, like)]
        for grid in grids[: 1 if grids[0] == grids[1] else 2]:
            yield PatientScan(pair.patient_id, _Unprepared(scan, grid, plan), scan.image)


@dataclass(frozen=True, eq=False)
class _Unprepared:
    """A scan that is resampled when its voxels are read."""

    raw: RawScan
    grid: NetworkGrid
    plan: Plan

    @property
    def scan_id(self) -> str:
        return self.raw.scan_id

    @property
    def shape_zyx(self) -> Index:
        return self.grid.shape

    def read_ct(self, box: Box) -> FloatVolume:
        """Read a box (z, y, x) of the network grid: float32, normalised."""
        return extract_ct(_loaded(self.raw.image), self.grid, box, self.plan.normalization)


@lru_cache(maxsize=1)
def _loaded(image: Path) -> Scan:
    return load_scan(RawScan(image.name, "", 0, image))
