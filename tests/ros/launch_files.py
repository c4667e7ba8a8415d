"""A launch file as a module where ROS's launch is installed, and as text where it is not."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# The project's own folder is called launch too: a package without a file is that folder.
_spec = importlib.util.find_spec("launch")
HAS_LAUNCH = _spec is not None and _spec.origin is not None and importlib.util.find_spec("launch_ros") is not None
needs_launch = pytest.mark.skipif(
    not HAS_LAUNCH, reason="launch and launch_ros are missing: part of a ROS 2 installation"
)


class LaunchFile:
    """One of the project's launch files, by the first part of its name."""

    def __init__(self, name: str) -> None:
        self.path = Path(__file__).resolve().parents[2] / "launch" / f"{name}.launch.py"

    def load(self) -> ModuleType:
        """Run the file; a new module each time."""
        spec = importlib.util.spec_from_file_location(self.path.name.replace(".", "_").removesuffix("_py"), self.path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def assigned(self, name: str) -> ast.expr:
        """Return what the file assigns to a name, without importing it."""
        for node in ast.parse(self.path.read_text()).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
                return node.value
        raise AssertionError(f"{self.path.name} has no {name}")

    def constant(self, name: str) -> Any:
        """Return a literal of the file, without importing it."""
        return ast.literal_eval(self.assigned(name))

    def context_with(self, **given: str):
        """Return a launch context as it is when the file's actions run, with these arguments."""
        from launch.actions import DeclareLaunchArgument

        from launch import LaunchContext

        context = LaunchContext()
        context.launch_configurations.update(given)
        for name, default, text, choices in self.load().ARGUMENTS:
            DeclareLaunchArgument(name, default_value=default, description=text, choices=choices).execute(context)
        return context
