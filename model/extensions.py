"""Import a user's own code by its name, ``module:attribute``."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from .errors import InputError, one_line


def load_object(name: str, expected: str) -> Any:
    """Import an object by its name; modules in the current folder can be imported.

    Args:
        name: ``module:attribute``; the attribute may have dots.
        expected: description of a valid name, for the message.

    Raises:
        InputError: the module cannot be imported, or has no such attribute.
    """
    module, _, attribute = name.partition(":")
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)  # last, so that a user's file never shadows a library
    try:
        loaded: Any = importlib.import_module(module)
    except Exception as error:  # a user's module may fail in any way
        raise InputError(
            f"{name}: the module {module!r} cannot be imported ({one_line(error)}); expected {expected}"
        ) from error
    for part in attribute.split("."):
        loaded = getattr(loaded, part, None)
    if loaded is None:
        raise InputError(f"{name}: the module {module!r} has no {attribute!r}; expected {expected}")
    return loaded
