"""From a person's joints to a robot's: retargeting without a clock, and a governor that owns time.

robot = load_robot("g1", "upper_body")
retargeter = Retargeter(robot)
target, solution = retargeter.retarget(person)          # pure
session = Session(robot, settings, clock_ns)            # gate + retargeting + governor, for live use
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .command import Command, Flag, State, Target
from .human import Human, from_estimate, from_points
from .settings import TeleopSettings

__all__ = [
    "Command",
    "Flag",
    "Governor",
    "Human",
    "Retargeter",
    "Robot",
    "Session",
    "State",
    "Target",
    "TeleopSettings",
    "from_estimate",
    "from_points",
    "load_robot",
]

_LATER = {
    "Governor": ".governor",
    "Retargeter": ".retargeter",
    "Robot": ".robot",
    "Session": ".session",
    "load_robot": ".robot",
}
"""Imported when they are used: the kinematics take a second and are an extra."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name], __name__), name)
