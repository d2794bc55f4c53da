"""A registration back end that is imported on first use."""

from __future__ import annotations

from ..propagation.register import DEFAULT_BACKEND, Backend, Registration, RegistrationImage, backend


class LazyBackend:
    """A registration back end by its name, imported on first use: a case with all its clicks needs none.

    Args:
        name: of the back end, or a user's ``module:function``.
        device: of the registration: auto, cpu, cuda or cuda:N.
    """

    def __init__(self, name: str | None = None, device: str = "auto") -> None:
        self._name = name or DEFAULT_BACKEND
        self._device = device
        self._backend: Backend | None = None

    def load(self) -> Backend:
        """Import the back end; raises InputError if it does not exist."""
        self._backend = self._backend or backend(self._name, self._device)
        return self._backend

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Register the moving image to the fixed one; see `Backend`."""
        return self.load().register(fixed, moving)
