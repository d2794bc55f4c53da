"""Files of a small run as an earlier version wrote them, which later versions must resume.

`train prepare` and `train run` on two patients (epochs=1, iterations=1), then `train table` on the same data;
20 HU samples a scan in place of 10 000. Left out are original images, checkpoints, and most volumes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

FILES = Path(__file__).parent / "earlier_run_files"
_FOLDER = "@RUN@"  # in the place of the run's folder


def write_earlier_run(folder: Path) -> None:
    """Write the run into a folder; its original images are empty files of the same size and time."""
    shutil.copytree(FILES, folder, dirs_exist_ok=True)
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text().replace(_FOLDER, str(folder)))
    for name, (size, mtime_ns) in json.loads((folder / "files.json").read_text()).items():
        (folder / name).touch()
        os.truncate(folder / name, size)
        os.utime(folder / name, ns=(mtime_ns, mtime_ns))
