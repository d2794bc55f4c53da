"""Files that are written whole or not at all: under a temporary name first, then under their own."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import OutputError, one_line

TEMPORARY_PREFIX = ".writing-"


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or one_line(error)


@contextlib.contextmanager
def atomic_write(path: Path, suffix: str = "", reason: Callable[[Exception], str] = _said) -> Iterator[Path]:
    """A temporary file to write to, which gets the name ``path`` at the end of the block.

    The folder is made. Whatever goes wrong, a file that was there before stays as it was, and the temporary
    one goes.

    Args:
        suffix: the end of the temporary name, for those who tell the format by it.
        reason: what is said of an error.

    Raises:
        OutputError: for any OSError or RuntimeError of the block or of this.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # The temporary file is private by default; results belong to whoever mounted the folder.
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"{path}: cannot be written ({reason(error)}); expected a writable folder"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text (UTF-8), its line ends as they are.

    Raises:
        OutputError: it cannot be written; a file that was there before stays as it was.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
