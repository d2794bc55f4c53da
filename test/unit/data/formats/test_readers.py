"""Choice of the reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.formats.readers import read_cohort
from model.errors import InputError


def test_an_unknown_or_missing_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no known data set"):
        read_cohort(tmp_path)
    with pytest.raises(InputError, match="is missing"):
        read_cohort(tmp_path / "absent")
