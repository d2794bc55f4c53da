"""Provenance of a trained fold besides its settings: patients, voxels of their scans, initial weights.

`health.json` records patients, lesions and points as one digest. `config.json` records the digests of the
scans' voxels and of the initial weights from the start of the run. Folds of earlier versions lack the latter
two; they count as unchanged if every such file is older than the fold.
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
    """Return the job with the digests of its scans and initial weights in its settings.

    Raises:
        InputError: a prepared scan cannot be read.
    """
    initial = NO_WEIGHTS
    if job.initial is not None:
        initial = file_digest(job.initial) if job.initial.is_file() else ""
    config = replace(job.config, scans=_scans_digest(job), initial_weights=initial)
    return replace(job, config=config)


def check_provenance(job: FoldJob) -> None:
    """Check that an existing fold was trained on the job's data and weights, unless the job restarts it.

    Raises:
        InputError: it was not.
    """
    if not job.restart and (difference := provenance_difference(job)) is not None:
        raise InputError(
            f"{job.folder}: {difference}; expected the same, another output folder, or --restart"
        )


def provenance_difference(job: FoldJob) -> str | None:
    """Describe how the data or weights of an existing fold, begun or finished, differ from the job's.

    Args:
        job: as returned by `with_provenance`.

    Returns:
        A phrase for an error message; None if they are the same, if there is no fold yet, or if the model
        folder was packed or moved without its records.
    """
    folder = job.folder
    if not any((folder / name).is_file() for name in (FINAL, LATEST)):
        return None
    digest = data_digest(job.plan, job.training, job.validation, job.pet)
    if trained_data_digest(folder) not in (None, digest):
        return "was trained on other patients, scans or lesions, or with another plan"
    saved = saved_config(folder)
    return None if saved is None else _file_difference(job, saved)


def _file_difference(job: FoldJob, saved: TrainingConfig) -> str | None:
    begun = (job.folder / CONFIG_FILE).stat().st_mtime_ns
    if not saved.scans:
        newer = next((path for path in _volume_files(job) if path.stat().st_mtime_ns > begun), None)
        if newer is not None:
            return f"was begun before {newer} was prepared"
    elif job.config.scans not in ("", saved.scans):
        return "was trained on scans whose voxels or lesions have changed since"
    if not saved.initial_weights:
        if job.initial is not None and job.initial.is_file() and job.initial.stat().st_mtime_ns > begun:
            return f"was begun before {job.initial} was written"
    elif job.config.initial_weights not in ("", saved.initial_weights):
        return f"began with other weights than {job.initial or 'random ones'}"
    return None


def _scans(job: FoldJob) -> dict[str, ScanSource]:
    """All scans of the job's patients, by name."""
    pairs = (pair for patients in (job.training, job.validation) for own in patients.pairs for pair in own)
    return {scan.scan_id: scan for pair in pairs for scan in (pair.baseline, pair.followup)}


def _scans_digest(job: FoldJob) -> str:
    """Digest of the voxels of all scans; "" if they are not stored on disk."""
    scans = sorted(_scans(job).items())
    stored = [(name, scan.digest) for name, scan in scans if isinstance(scan, PreparedScan)]
    return digest(stored) if len(stored) == len(scans) else ""


def _volume_files(job: FoldJob) -> Iterator[Path]:
    for scan in _scans(job).values():
        if isinstance(scan, PreparedScan):
            yield from (scan.folder / name for name in (CT_FILE, LABELS_FILE))
