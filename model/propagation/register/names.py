"""Names of scans in files of landmarks and transforms."""

from __future__ import annotations

from pathlib import PurePath

from ...case.stored_image import IMAGE_SUFFIXES

_PRIMARY = "primary-"


def scan_keys(name: str) -> tuple[str, ...]:
    """Accepted names of a scan, its own first, then without folder, suffix and ``primary-``."""
    last = PurePath(name).name
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if last.lower().endswith(suffix)), "")
    stem = last[: len(last) - len(suffix)]
    return tuple(dict.fromkeys(key for key in (name, last, stem, stem.removeprefix(_PRIMARY)) if key))
