"""Faster registrations: the limits on their errors in mm are those of the full settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model.propagation.register import affine


@pytest.fixture(scope="package", autouse=True)
def fewer_samples() -> Iterator[None]:
    """Sample the affine metric at a quarter of the points; test/proof registers with all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(affine, "_SAMPLES", 15_000)
        yield
