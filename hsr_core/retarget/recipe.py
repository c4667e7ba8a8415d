"""A first mapping for a robot of one's own: joints with their limits, frames, and capsules about its collision shapes.

What only a person can know is left to fill in: which frame is which part of the body, and the T-pose.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingFile
from ..types import Array
from .collision import Capsules
from .find import need_libraries, package_folders
from .hand_model import mimic_joints
from .human import POINTS
from .mapping import Capsule, sha256_of
from .robot import build_model, joints_between
from .settings import PLACEHOLDER_RAD_S

COVERED = 0.9
"""Part of a shape's points that its capsule holds: a box's edges would make it far too thick."""
LEAST_M = 0.04
"""Shapes shorter than this get no capsule of their own."""
POSTURES = 400
_ALWAYS = 0.95
_LINK = 8
"""pinocchio's type of the frames that are links."""


def draft(urdf: str | Path, package_dirs: tuple[str, ...] = ()) -> str:
    """Return a mapping's YAML for a URDF, to be filled in.

    Args:
        urdf: The robot.
        package_dirs: Folders in which `package://` names of meshes are looked for, beside the URDF's own parents.

    Raises:
        MissingFile: No such URDF, or one of its meshes is not found; the message names it.
        BadFile: The URDF cannot be read.
    """
    need_libraries()
    path = Path(urdf).expanduser().resolve()
    if not path.is_file():
        raise MissingFile(f"no URDF {path}")
    model = build_model(path, floating=False)
    capsules = fit_capsules(path, package_dirs)
    return _yaml(path, model, capsules, always_touching(model, capsules))


def fit_capsules(urdf: Path, package_dirs: tuple[str, ...] = ()) -> list[Capsule]:
    """Return a capsule about each link's collision shapes, in the axes of the link's frame.

    Raises:
        MissingFile: A mesh is not found.
    """
    import pinocchio as pin

    model = build_model(urdf, floating=False)
    folders = [*package_dirs, *package_folders(), *(str(parent) for parent in list(urdf.parents)[:4])]
    try:
        shapes = pin.buildGeomFromUrdf(model, str(urdf), pin.GeometryType.COLLISION, package_dirs=folders)
    except Exception as error:
        raise MissingFile(
            f"{urdf}: a collision mesh is not found ({error}); give its folder as package_dirs"
        ) from error
    points: dict[int, list[Array]] = {}
    for shape in shapes.geometryObjects:
        T = (model.frames[shape.parentFrame].placement.inverse() * shape.placement).homogeneous
        points.setdefault(shape.parentFrame, []).append(shape_points(shape.geometry) @ T[:3, :3].T + T[:3, 3])
    fitted = [(frame, fit(np.concatenate(some))) for frame, some in points.items()]
    return [
        Capsule(model.frames[frame].name, tuple(a.round(3)), tuple(b.round(3)), round(float(radius), 3))
        for frame, (a, b, radius) in fitted
        if np.linalg.norm(b - a) + 2 * radius >= LEAST_M
    ]


def fit(points: Array) -> tuple[Array, Array, float]:
    """Return ends (3,), (3,) and radius [m] of the thinnest of three capsules along the points' main axes."""
    centre = (points.min(0) + points.max(0)) / 2
    axes = np.linalg.svd(points - points.mean(0), full_matrices=False)[2]
    best = None
    for axis in axes:
        along = (points - centre) @ axis
        radius = float(np.quantile(np.linalg.norm(points - centre - along[:, None] * axis, axis=1), COVERED))
        low, high = min(along.min() + radius, 0), max(along.max() - radius, 0)
        volume = np.pi * radius**2 * (high - low) + 4 / 3 * np.pi * radius**3
        if best is None or volume < best[0]:
            best = (volume, centre + low * axis, centre + high * axis, radius)
    assert best is not None
    return best[1:]


def always_touching(model: Any, capsules: list[Capsule]) -> list[tuple[str, str]]:
    """Return pairs of frames whose capsules overlap in the URDF's zero posture or in nearly all postures."""
    import pinocchio as pin

    ids = [model.getFrameId(capsule.frame) for capsule in capsules]
    parents = [model.frames[i].parent for i in ids]
    pairs = [
        (i, j)
        for i, j in itertools.combinations(range(len(ids)), 2)
        if len(joints_between(model, parents[i], parents[j])) > 1
    ]
    placed, data = Capsules(capsules, ids, pairs), model.createData()
    rng = np.random.default_rng(0)
    low, high = model.lowerPositionLimit.clip(-3, 3), model.upperPositionLimit.clip(-3, 3)
    hits = np.zeros(len(pairs))
    for n in range(POSTURES + 1):
        q = pin.neutral(model) if n == 0 else rng.uniform(np.minimum(low, high), np.maximum(low, high))
        pin.framesForwardKinematics(model, data, q)
        overlap = placed.distances(placed.place(data.oMf))[0] < 0
        hits += overlap * (POSTURES if n == 0 else 1)
    often = [pair for pair, hit in zip(pairs, hits, strict=True) if hit >= _ALWAYS * POSTURES]
    return sorted({tuple(sorted((capsules[i].frame, capsules[j].frame))) for i, j in often})


def shape_points(geometry: Any) -> Array:
    """Return points (n, 3) [m] on a shape of a URDF whose hull is the shape."""
    if hasattr(geometry, "num_vertices"):
        return np.array(geometry.vertices(), np.float64)
    corners = np.array(list(itertools.product((-1.0, 1), repeat=3)))
    if hasattr(geometry, "halfSide"):
        return corners * np.asarray(geometry.halfSide)
    radius, half = float(geometry.radius), float(getattr(geometry, "halfLength", 0.0))
    round_ends = type(geometry).__name__ in ("Sphere", "Capsule")
    slopes = np.linspace(0, np.pi / 2, 5) if round_ends else np.zeros(1)
    ring = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    rings = [
        (
            np.cos(slope) * radius * np.cos(ring),
            np.cos(slope) * radius * np.sin(ring),
            side * (half + radius * np.sin(slope)),
        )
        for slope in slopes
        for side in (-1, 1)
    ]
    return np.concatenate([np.stack([x, y, np.full_like(x, z)], axis=1) for x, y, z in rings])


def _yaml(path: Path, model: Any, capsules: list[Capsule], touching: list[tuple[str, str]]) -> str:
    lines = [
        f"name: {model.name}",
        f"urdf: {path}",
        f"urdf_sha256: {sha256_of(path)}",
        "modes:",
        "  upper_body:",
        "    base: fixed",
        "    joints:   # groups: arms, legs, trunk, fingers",
        "      arms:",
    ]
    doubtful, driven = [], mimic_joints(path)
    for name, joint in zip(list(model.names)[1:], list(model.joints)[1:], strict=True):
        if joint.nq != 1:
            lines.append(f"      # {name}: continuous, cannot be commanded")
            continue
        if name in driven:
            lines.append(f"      # {name}: driven by {driven[name].follows}")
            continue
        low, high, speed = (float(x[i]) for x, i in ((model.lowerPositionLimit, joint.idx_q),
                            (model.upperPositionLimit, joint.idx_q), (model.velocityLimit, joint.idx_v)))  # fmt: skip
        lines.append(f"      - {name}   # {low:.3f}..{high:.3f} rad, {speed:g} rad/s")
        if not 0 < speed < PLACEHOLDER_RAD_S:
            doubtful.append(name)
    lines += ["links:   # human part: {frame: ..., position: cost per m, orientation: cost per rad}"]
    lines += [f"  # {part}: {{frame: , position: 0, orientation: 0}}" for part in POINTS]
    frames = [frame.name for frame in model.frames if int(frame.type) == _LINK or "link" in frame.name]
    lines += [f"# frames: {', '.join(frames)}"]
    lines += ["rest: {}   # joints of the T-pose: arms to the sides, palms down", "neutral: {}"]
    if doubtful:
        lines += ["# these velocity limits are zero or placeholders and must be given:", "# limits:"]
        lines += [f"#   {name}: {{velocity: }}" for name in doubtful]
    lines += ["collision:", "  capsules:   # frame: [x0, y0, z0, x1, y1, z1, radius]"]
    lines += [f"    {c.frame}: [{', '.join(f'{x:g}' for x in (*c.a, *c.b, c.radius))}]" for c in capsules]
    lines += ["  ignore:"] + [f"    - [{a}, {b}]" for a, b in touching]
    return "\n".join(lines + _hands(model)) + "\n"


def _hands(model: Any) -> list[str]:
    """Return the entry of hands that follow fingertips, as a comment with the frames that may be tips."""
    ends = [frame.name for frame in model.frames
            if int(frame.type) == _LINK and frame.parent > 0 and len(model.subtrees[frame.parent]) == 1]  # fmt: skip
    return [
        "# hands:   # that follow fingertips; human point: frame, or {frame: , at: [x, y, z], radius: }",
        "#   right:",
        "#     scale:   # the robot's finger over a person's, base to tip: 85 mm for the index finger",
        "#     points: {wrist: , index0: , little0: , thumb3: , index3: }",
        f"#   links at the ends: {', '.join(ends)}",
    ]
