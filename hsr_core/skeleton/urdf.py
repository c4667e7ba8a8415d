"""A tree of links as URDF text, with capsules to look at."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EFFORT, VELOCITY = 1000.0, 20.0
"""Formal entries of a joint's limit: nobody drives these joints."""
Vector = Sequence[float]


@dataclass(frozen=True)
class Capsule:
    """A line with a radius, from `start` to `end` [m] in the link's frame; equal ends give a sphere."""

    start: Vector
    end: Vector
    radius: float


@dataclass(frozen=True)
class Joint:
    """A joint and the link after it.

    Attributes:
        name: Of the joint. child, parent: Of the links.
        xyz, rpy: Where the joint is in the parent's frame [m, rad].
        axis: Revolute about it; None = fixed.
        limit_rad: A revolute joint's range is +- this.
        shapes: What the child looks like.
        color: The name of one of the `colors`.
    """

    name: str
    parent: str
    child: str
    xyz: Vector = (0.0, 0.0, 0.0)
    rpy: Vector = (0.0, 0.0, 0.0)
    axis: Vector | None = None
    limit_rad: float = math.pi
    shapes: tuple[Capsule, ...] = ()
    color: str = "skin"


def urdf_text(name: str, root: str, joints: Iterable[Joint], colors: dict[str, Vector]) -> str:
    """Return a URDF.

    Capsules become a cylinder and a sphere at the far end, since URDF has no capsules.

    Args:
        name: Of the robot. root: Link that the first joints hang on.
        joints: Parents before their children.
        colors: rgba by name, each in [0, 1].
    """
    robot = ET.Element("robot", name=name)
    for color, rgba in colors.items():
        ET.SubElement(ET.SubElement(robot, "material", name=color), "color", rgba=_text(rgba))
    ET.SubElement(robot, "link", name=root)
    for joint in joints:
        link = ET.SubElement(robot, "link", name=joint.child)
        for shape in joint.shapes:
            _draw(link, shape, joint.color)
        element = ET.SubElement(robot, "joint", name=joint.name, type="fixed" if joint.axis is None else "revolute")
        ET.SubElement(element, "parent", link=joint.parent)
        ET.SubElement(element, "child", link=joint.child)
        ET.SubElement(element, "origin", xyz=_text(joint.xyz), rpy=_text(joint.rpy))
        if joint.axis is not None:
            ET.SubElement(element, "axis", xyz=_text(joint.axis))
            limit = {"lower": -joint.limit_rad, "upper": joint.limit_rad, "effort": EFFORT, "velocity": VELOCITY}
            ET.SubElement(element, "limit", {key: f"{value:.6g}" for key, value in limit.items()})
    return '<?xml version="1.0"?>\n' + ET.tostring(robot, encoding="unicode") + "\n"


def _draw(link: ET.Element, capsule: Capsule, color: str) -> None:
    dx, dy, dz = (b - a for a, b in zip(capsule.start, capsule.end, strict=True))
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    if length > 1e-6:
        middle = [0.5 * (a + b) for a, b in zip(capsule.start, capsule.end, strict=True)]
        # Rz(yaw) Ry(pitch) takes z, the cylinder's axis, to the capsule's.
        rpy = (0.0, math.atan2(math.hypot(dx, dy), dz), math.atan2(dy, dx))
        geometry = _visual(link, middle, rpy, color)
        ET.SubElement(geometry, "cylinder", length=f"{length:.6g}", radius=f"{capsule.radius:.6g}")
    ET.SubElement(_visual(link, capsule.end, (0.0, 0.0, 0.0), color), "sphere", radius=f"{capsule.radius:.6g}")


def _visual(link: ET.Element, xyz: Vector, rpy: Vector, color: str) -> ET.Element:
    visual = ET.SubElement(link, "visual")
    ET.SubElement(visual, "origin", xyz=_text(xyz), rpy=_text(rpy))
    geometry = ET.SubElement(visual, "geometry")
    ET.SubElement(visual, "material", name=color)
    return geometry


def _text(values: Vector) -> str:
    # Adding 0 turns -0 into 0.
    return " ".join(f"{round(float(value), 9) + 0.0:.9g}" for value in values)
