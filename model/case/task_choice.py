"""Recognise the task of an input folder: PET/CT, or baseline and follow-up CTs. Light, for the entrypoint."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ..errors import InputError
from .input_files import path_exists
from .text_files import read_json

CT_FOLDER, PET_FOLDER = Path("images", "ct"), Path("images", "pet")
CLICKS_FILE = Path("lesion-clicks.json")
_BASELINE_FOLDER = Path("images", "primary-baseline-ct")
MASK_FOLDER = Path("images", "tumor-lesion-segmentation")


def holds_pet_ct(input_dir: Path) -> bool:
    """True if an input folder holds a PET/CT: by `inputs.json` if there is one, else by `images/pet`.

    A CT of that task without a PET counts, too, unless there is a baseline: its reader names what is missing.
    A damaged `inputs.json` counts as that of baseline and follow-up, whose reader names its fault.
    """
    listing = input_dir / "inputs.json"
    if not path_exists(listing):
        has_baseline = path_exists(input_dir / _BASELINE_FOLDER)
        return path_exists(input_dir / PET_FOLDER) or (
            path_exists(input_dir / CT_FOLDER) and not has_baseline
        )
    try:
        document = read_json(listing, "a list of inputs")
    except InputError:
        return False
    listed = {PurePosixPath(path) for path in _listed_paths(document)}
    pet, ct, baseline = (PurePosixPath(one) for one in (PET_FOLDER, CT_FOLDER, _BASELINE_FOLDER))
    return pet in listed or (ct in listed and baseline not in listed)


def _listed_paths(document: object) -> list[str]:
    """The relative paths of all sockets in a listing."""
    entries = document if isinstance(document, list) else []
    sockets = [
        entry.get(key) for entry in entries if isinstance(entry, dict) for key in ("socket", "interface")
    ]
    paths = [socket.get("relative_path") for socket in sockets if isinstance(socket, dict)]
    return [path for path in paths if isinstance(path, str)]
