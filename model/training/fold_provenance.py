"""What a fold is made of besides its settings: patients, what their scans show, weights to begin with.

Patients, lesions and points stand in `health.json` as one digest, voxels of scans and the file of initial
weights in `config.json`, from the beginning of the run on. Folds of earlier versions lack the latter: they
pass where every such file is older than they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..data.provenance import digest, file_digest
from ..data.store import CT_FILE, LABELS_FILE, PreparedScan
from ..errors import InputError
from .checkpoint import FINAL, LATEST
from .config import TrainingConfig
from .data_source import ScanSource
from .job import CONFIG_FILE, FoldJob, data_digest, saved_config, trained_data_digest

NO_WEIGHTS = "none"


def with_provenance(job: FoldJob) -> FoldJob:
    """The same job, whose settings say what it is made of.

    Raises:
        InputError: a prepared scan cannot be read.
    """
    initial = NO_WEIGHTS
    if job.initial is not None:
        initial = file_digest(job.initial) if job.initial.is_file() else ""
    config = replace(job.config, scans=_scans_digest(job), initial_weights=initial)
    return replace(job, config=config)


def check_provenance(job: FoldJob) -> None:
    """Raises InputError where the fold is there, and made of something else; not where it begins anew."""
    if not job.restart and (other := provenance_difference(job)) is not None:
        raise InputError(f"{job.folder}: {other}; expected the same, another output folder, or --restart")


def provenance_difference(job: FoldJob) -> str | None:
    """What a fold that is there, begun or finished, is made of other than a job `with_provenance` asks for.

    None where it is made of the same, where nothing is there, and where a model folder was packed or moved
    without what it says of itself.
    """
    folder = job.folder
    if not any((folder / name).is_file() for name in (FINAL, LATEST)):
        return None
    if trained_data_digest(folder) not in (None, data_digest(job.plan, job.training, job.validation)):
        return "was trained on other patients, scans or lesions, or by another plan"
    saved = saved_config(folder)
    return None if saved is None else _other_files(job, saved)


def _other_files(job: FoldJob, saved: TrainingConfig) -> str | None:
    begun = (job.folder / CONFIG_FILE).stat().st_mtime_ns
    if not saved.scans:
        younger = next((path for path in _volumes(job) if path.stat().st_mtime_ns > begun), None)
        if younger is not None:
            return f"was begun before {younger} was prepared"
    elif job.config.scans not in ("", saved.scans):
        return "was trained on scans that are others now, by their voxels or lesions"
    if not saved.initial_weights:
        if job.initial is not None and job.initial.is_file() and job.initial.stat().st_mtime_ns > begun:
            return f"was begun before {job.initial} was written"
    elif job.config.initial_weights not in ("", saved.initial_weights):
        return f"began with other weights than {job.initial or 'random ones'}"
    return None


def _scans(job: FoldJob) -> dict[str, ScanSource]:
    """All scans of its patients, by name."""
    pairs = (pair for patients in (job.training, job.validation) for own in patients.pairs for pair in own)
    return {scan.scan_id: scan for pair in pairs for scan in (pair.baseline, pair.followup)}


def _scans_digest(job: FoldJob) -> str:
    """Of the voxels of all scans; "" where they are not in a store."""
    scans = sorted(_scans(job).items())
    stored = [(name, scan.digest) for name, scan in scans if isinstance(scan, PreparedScan)]
    return digest(stored) if len(stored) == len(scans) else ""


def _volumes(job: FoldJob) -> Iterator[Path]:
    for scan in _scans(job).values():
        if isinstance(scan, PreparedScan):
            yield from (scan.folder / name for name in (CT_FILE, LABELS_FILE))
