"""A user's own code by its name, ``module:attribute``."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from .errors import InputError, one_line


def load_object(name: str, expected: str) -> Any:
    """What a name stands for; modules of the current folder can be imported.

    Args:
        expected: what the user was to give, for the message.

    Raises:
        InputError: the module cannot be imported, or has no such attribute.
    """
    module, _, attribute = name.partition(":")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last: a file of the user's never stands in for a library
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # a user's module may fail in any way
        raise InputError(
            f"{name}: the module {module!r} cannot be imported ({one_line(error)}); expected {expected}"
        ) from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise InputError(f"{name}: the module {module!r} has no {attribute!r}; expected {expected}")
    return found
