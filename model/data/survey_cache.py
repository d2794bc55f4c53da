"""Surveys of files, cached beside the prepared data until the files change."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..case.lesion_json import write_json
from ..case.text_files import read_json
from ..errors import InputError
from .provenance import Stamp


class _CachedSurvey(BaseModel):
    version: int
    stamp: Stamp
    survey: dict[str, Any]


_Survey = TypeVar("_Survey", bound=BaseModel)


def read_cached_survey(file: Path, kind: type[_Survey], version: int, stamp: Stamp) -> _Survey | None:
    """Read a cached survey; None unless its version and stamp are the given ones.

    Args:
        file: of the cache.
        kind: class of the survey.
        version: of the way of surveying.
        stamp: of the surveyed files.
    """
    try:
        cached = _CachedSurvey.model_validate(read_json(file, "a survey"))
        return (
            kind.model_validate(cached.survey) if (cached.version, cached.stamp) == (version, stamp) else None
        )
    except (InputError, ValidationError):
        return None


def write_cached_survey(file: Path, survey: BaseModel, version: int, stamp: Stamp) -> None:
    """Cache a survey for `read_cached_survey`.

    Raises:
        OutputError: the file cannot be written.
    """
    cached = _CachedSurvey(version=version, stamp=stamp, survey=survey.model_dump(mode="json"))
    write_json(file, cached.model_dump(mode="json"), decimals=None)
