"""A registration back end that gives way to a cheaper one if the time is short."""

from __future__ import annotations

from collections.abc import Callable

from ..propagation.register import DEFAULT_BACKEND, Backend, Registration, RegistrationImage, backend
from .time_budget import TimeBudget

# Of the time left, this share may go into one registration: predicting and other pairs come after it.
_SHARE = 0.5
# An affine registration took up to 5 s, the deformable one up to 30 times as long as it (docs/benchmarks.md).
_AFFINE_SECONDS, _TIMES_AFFINE = 5.0, 30.0
NOT_REGISTERED = "the scans were not registered, points are placed by headers"
_QUICK = ("identity", "landmarks", "landmarks-rigid", "transform")
_AFFINE = ("affine", "rigid")


class TimedBackend:
    """Registers by a back end, or by an affine one or none if that would take too long; see `Backend`.

    Args:
        inner: the back end.
        name: of it; None for the default one.
        budget: of the run.
        cheaper: imports a back end by its name.
    """

    def __init__(
        self,
        inner: Backend,
        name: str | None,
        budget: TimeBudget,
        cheaper: Callable[[str], Backend] = backend,
    ) -> None:
        self._inner, self._budget, self._cheaper = inner, budget, cheaper
        self._name = (name or DEFAULT_BACKEND).partition(":")[0]

    def register(self, fixed: RegistrationImage, moving: RegistrationImage) -> Registration:
        """Register the moving image to the fixed one."""
        if self._name in _QUICK:
            return self._inner.register(fixed, moving)
        if self._share < _AFFINE_SECONDS:
            self._budget.note(f"the time is short: {NOT_REGISTERED}")
            return self._cheaper("identity").register(fixed, moving)
        if self._name in _AFFINE:
            return self._inner.register(fixed, moving)
        start = self._budget.clock()
        affine = self._cheaper("affine").register(fixed, moving)
        if (self._budget.clock() - start) * _TIMES_AFFINE <= self._share:
            return self._inner.register(fixed, moving)
        self._budget.note("the time is short: the scans were registered by an affine transform only")
        return affine

    @property
    def _share(self) -> float:
        """Seconds that one registration may take."""
        return self._budget.left * _SHARE
