from __future__ import annotations

from pathlib import Path

import pytest

from ..helpers.cases_on_disk import CaseOnDisk


@pytest.fixture
def case(tmp_path: Path) -> CaseOnDisk:
    """A good case with the lesions 1 and 2, clicked in both scans."""
    return CaseOnDisk(tmp_path / "case").write()
