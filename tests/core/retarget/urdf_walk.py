"""Forward kinematics by walking a URDF with nothing but an XML parser: a second opinion on pinocchio's."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy.spatial.transform import Rotation


def walk(urdf: Path, joints: dict[str, float], T_world_root: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return T_world_link (4, 4) of every link; joints that are not named are 0."""
    tree = ElementTree.parse(urdf).getroot()
    children: dict[str, list] = {}
    for joint in tree.findall("joint"):
        children.setdefault(joint.find("parent").get("link"), []).append(joint)
    below = {joint.find("child").get("link") for joint in tree.findall("joint")}
    root = next(link.get("name") for link in tree.findall("link") if link.get("name") not in below)
    out = {root: np.eye(4) if T_world_root is None else T_world_root}
    todo = [root]
    while todo:
        parent = todo.pop()
        for joint in children.get(parent, []):
            child = joint.find("child").get("link")
            out[child] = out[parent] @ _origin(joint) @ _motion(joint, joints.get(joint.get("name"), 0.0))
            todo.append(child)
    return out


def _origin(joint) -> np.ndarray:
    origin = joint.find("origin")
    T = np.eye(4)
    if origin is not None:
        T[:3, 3] = _numbers(origin.get("xyz", "0 0 0"))
        T[:3, :3] = Rotation.from_euler("xyz", _numbers(origin.get("rpy", "0 0 0"))).as_matrix()
    return T


def _motion(joint, value: float) -> np.ndarray:
    T = np.eye(4)
    if joint.get("type") == "fixed":
        return T
    axis = joint.find("axis")
    along = np.array(_numbers(axis.get("xyz"))) if axis is not None else np.array([1.0, 0, 0])
    along = along / np.linalg.norm(along)
    if joint.get("type") == "prismatic":
        T[:3, 3] = value * along
    else:
        T[:3, :3] = Rotation.from_rotvec(value * along).as_matrix()
    return T


def _numbers(text: str) -> list[float]:
    return [float(x) for x in text.split()]
