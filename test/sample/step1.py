"""Lay out the sample case as it is in interactive step 1: `python -m test.sample.step1 DEST`.

Step 1 has the same images and an empty list of follow-up clicks. The images are stored once, in input/;
here they are linked.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent


def lay_out(dest: Path) -> Path:
    """Make `dest` a complete step-1 input folder (images linked, else copied; clicks copied); `dest`.

    What an earlier call left there is replaced; other files are left alone.
    """
    for source in sorted((HERE / "input" / "images").rglob("*.mha")):
        _link_or_copy(source, dest / source.relative_to(HERE / "input"))
    for source in sorted((HERE / "input-step1").glob("*.json")):
        dest.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, dest / source.name)
    return dest


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link where both lie on one file system that has them, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Lay out the sample case without follow-up clicks.")
    parser.add_argument("dest", type=Path, metavar="DEST")
    print(lay_out(parser.parse_args().dest))


if __name__ == "__main__":
    main()
