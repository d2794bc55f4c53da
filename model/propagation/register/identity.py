"""Scans that are aligned already: every point stays where it is in the world."""

from __future__ import annotations

from . import Registration, RegistrationImage
from .linear import LinearTransform
from .similarity import given_registration


class IdentityBackend:
    """Believes the headers; says so when the scans do not look aligned."""

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """The identity, and how alike the scans are as they lie; see `Backend.register`."""
        return given_registration(LinearTransform.identity(), fixed, moving)
