"""Interactive PET/CT: CT, PET and clicks → one mask of all tumour.

The names below belong to the Python API (docs/interactive.md) and are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..case.dose_files import read_dose
    from ..case.suv_checks import InjectedDose
    from ..inference.options import ModelOptions
    from .false_alarm_rules import FalseAlarmRules
    from .load_pet_ct import load_pet_ct_model
    from .session import Session

__all__ = ["FalseAlarmRules", "InjectedDose", "ModelOptions", "Session", "load_pet_ct_model", "read_dose"]

_MODULES = {
    "FalseAlarmRules": ".false_alarm_rules",
    "InjectedDose": "..case.suv_checks",
    "ModelOptions": "..inference.options",
    "Session": ".session",
    "load_pet_ct_model": ".load_pet_ct",
    "read_dose": "..case.dose_files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
