"""People and robots in the files of other programs.

from hsr_core.export import export
export("people.npz", "bvh", "walk.bvh")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import ExportOptions
    from .inputs import InputOptions
    from .run import RobotOptions, export, formats

__all__ = ["ExportOptions", "InputOptions", "RobotOptions", "export", "formats"]

_MODULES = {
    "ExportOptions": "base", "InputOptions": "inputs", "RobotOptions": "run", "export": "run", "formats": "run",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
