"""A robot's URDF as ROS tools can load it."""

from __future__ import annotations

import re
from pathlib import Path

from hsr_core.retarget.find import package_folders, resolve
from hsr_core.retarget.mapping import load_mapping


def robot_description(robot: str, mode: str) -> str:
    """Return the text of a robot's URDF, with files for the meshes of robots from Python packages.

    ROS knows no such packages, and would not find `package://` of them.

    Args:
        robot, mode: As `hsr_core.retarget.load_robot` takes them.

    Raises:
        HsrError: No such robot or URDF.
    """
    mapping = load_mapping(robot, mode)
    folders = [Path(folder) for folder in package_folders()]

    def located(match: re.Match[str]) -> str:
        found = next((folder for folder in folders if (folder / match[1]).is_dir()), None)
        return f"file://{found / match[1]}/" if found else match[0]

    return re.sub(r"package://([^/\"]+)/", located, resolve(mapping.urdf, mapping.path.parent).read_text())
