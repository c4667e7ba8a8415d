"""Draw the people of a frame over its image: shaded mesh, skeleton, box, name and distance."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from ..body.joints import JOINT_NAMES, LEFT_HAND, PARENTS, J
from ..geometry.raster import Topology, image_points, rasterize, shade, tone
from ..types import Array, Camera, Frame, FrameResult, HumanEstimate, MetricSource
from .colors import person_rgb

MeshOf = Callable[[HumanEstimate], "Array | None"]

MESH_OPACITY = 0.85
MAX_MESH_PX = 60_000
"""A person's box larger than this is rasterised at a lower resolution and enlarged: a body is smooth, time is short."""

MIN_HAND_PX = 24
"""Fingers are drawn when the hand is at least this long; in a smaller one they would hide it."""

_SIDE_BGR = {"left": (80, 200, 255), "right": (255, 190, 60), "": (235, 235, 235)}
_HEAD_JOINTS = {"jaw", "left_eye_smplhf", "right_eye_smplhf"}

Image = NDArray[np.uint8]


def _bones(hands: bool) -> dict[tuple[int, int, int], list[tuple[int, int]]]:
    """Colour -> bones (parent, child) of the body, or of the two hands."""
    bones: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for child, (name, parent) in enumerate(zip(JOINT_NAMES, PARENTS, strict=True)):
        if parent < 0 or name in _HEAD_JOINTS or (child >= LEFT_HAND.start) != hands:
            continue
        side = name.partition("_")[0]
        bones.setdefault(_SIDE_BGR.get(side, _SIDE_BGR[""]), []).append((parent, child))
    return bones


_BODY_BONES, _HAND_BONES = _bones(hands=False), _bones(hands=True)


def draw_overlay(
    frame: Frame, result: FrameResult, mesh_of: MeshOf | None, faces: NDArray[np.integer], *, scale: float = 1.0
) -> Image:
    """Return the frame's image with the people drawn over it.

    Nearer people cover farther ones. Whatever cannot be drawn (behind the camera, not finite, outside) is left out.

    Args:
        frame: The image, colour or grey; lens distortion stays in it.
        result: The people found in it, and the camera they were placed with.
        mesh_of: Gives a person's vertices (V, 3) [m] in the camera frame, or None for a skeleton alone.
        faces: Triangles of those vertices, (F, 3); pass the same array each time, its tables are kept.
        scale: Size of the result relative to the image.

    Returns:
        BGR uint8, (round(H scale), round(W scale), 3), in memory of its own.
    """
    canvas = _to_bgr(frame, scale)
    A = _Resize(frame.image_hw, canvas.shape[:2])
    people = sorted(result.people, key=_distance_m, reverse=True)
    if mesh_of is not None:
        topology = _topology(faces)
        for person in people:
            vertices = mesh_of(person)
            if vertices is not None:
                draw_mesh(canvas, vertices, topology, result.camera, A, person_rgb(person.track_id))
    for person in people:
        draw_skeleton(canvas, person.keypoints2d, A)
    for person in people:
        _draw_label(canvas, person, A)
    return canvas


class _Resize:
    """Maps pixels of the full image to pixels of the canvas: edges on edges, centres at integers."""

    def __init__(self, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> None:
        self.factor = np.array([to_hw[1] / from_hw[1], to_hw[0] / from_hw[0]], np.float32)

    def __call__(self, uv: Array) -> Array:
        return (uv + np.float32(0.5)) * self.factor - np.float32(0.5)


def _to_bgr(frame: Frame, scale: float) -> Image:
    """Return a resized BGR copy; resizing first makes the colour conversion cheap."""
    height, width = frame.image_hw
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = frame.image[:, :, 0] if frame.image.ndim == 3 and frame.image.shape[2] == 1 else frame.image
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    codes = {
        ("rgb", 3): cv2.COLOR_RGB2BGR,
        ("rgb", 4): cv2.COLOR_RGBA2BGR,
        ("bgr", 4): cv2.COLOR_BGRA2BGR,
    }
    code = codes.get((frame.order, image.shape[2]))
    if code is not None:
        return cv2.cvtColor(image, code)
    return np.array(image, order="C") if image is frame.image else np.ascontiguousarray(image)


_TOPOLOGIES: dict[int, Topology] = {}


def _topology(faces: NDArray[np.integer]) -> Topology:
    """Return the kept tables of `faces`. The table holds the array, so its id cannot be taken by another."""
    known = _TOPOLOGIES.get(id(faces))
    if known is None or known.faces is not faces:
        if len(_TOPOLOGIES) >= 4:
            _TOPOLOGIES.clear()
        known = _TOPOLOGIES[id(faces)] = Topology(faces)
    return known


def _distance_m(person: HumanEstimate) -> float:
    z = float(person.joints[0, 2])
    return z if np.isfinite(z) else 0.0


def draw_mesh(
    canvas: Image,
    vertices: Array,
    topology: Topology,
    camera: Camera,
    to_canvas: Callable[[Array], Array],
    color_rgb: tuple[int, int, int],
) -> None:
    """Blend a shaded mesh into `canvas`, with hidden surfaces removed and a soft outline.

    Args:
        canvas: BGR image, changed in place.
        vertices: (V, 3) [m], camera frame.
        topology: Its triangles.
        camera: Of the full image.
        to_canvas: Maps pixels of the full image to pixels of the canvas.
        color_rgb: Colour of the surface.
    """
    vertices = np.asarray(vertices, np.float32)
    uv, inv_depth = image_points(vertices, camera)
    uv = to_canvas(uv)
    box = _visible_box(uv, canvas.shape[:2])
    if box is None:
        return
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    shrink = min(1.0, float(np.sqrt(MAX_MESH_PX / (width * height))))
    small_hw = max(1, round(height * shrink)), max(1, round(width * shrink))
    to_small = _Resize((height, width), small_hw)
    seen = rasterize(to_small(uv - np.float32([left, top])), inv_depth, topology, small_hw)
    if not len(seen.pixel):
        return
    level = np.zeros(small_hw, np.uint8)
    alpha = np.zeros(small_hw, np.float32)
    brightness = seen.interpolate(shade(topology.vertex_normals(vertices)), topology.faces)
    level.reshape(-1)[seen.pixel] = np.clip(brightness * 255, 1, 255)
    alpha.reshape(-1)[seen.pixel] = MESH_OPACITY
    # The outline is softened by blurring the opacity alone; the brightness is carried one pixel outwards for it.
    level = np.where(level > 0, level, cv2.dilate(level, None))
    alpha = cv2.blur(alpha, (3, 3))
    color = cv2.applyColorMap(level, tone(color_rgb)[:, None])
    if small_hw != (height, width):
        color = cv2.resize(color, (width, height), interpolation=cv2.INTER_LINEAR)
        alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR)
    patch = canvas[top:bottom, left:right]
    patch[:] = cv2.blendLinear(color, np.ascontiguousarray(patch), alpha, 1 - alpha)


def _visible_box(uv: Array, hw: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return left, top, right, bottom (half open) of the points within the image, two pixels wider; None if empty."""
    finite = uv[np.isfinite(uv[:, 0])]
    if not len(finite):
        return None
    low, high = finite.min(0), finite.max(0)
    limit = np.array([hw[1], hw[0]])
    left, top = np.clip(np.floor(low) - 2, 0, limit).astype(int)
    right, bottom = np.clip(np.ceil(high) + 3, 0, limit).astype(int)
    return (left, top, right, bottom) if right > left and bottom > top else None


def draw_skeleton(canvas: Image, keypoints2d: Array, to_canvas: Callable[[Array], Array]) -> None:
    """Draw bones between joints that were observed: left orange, right blue, middle white.

    Args:
        canvas: BGR image, changed in place.
        keypoints2d: (55, 3) u, v [px] of the full image and score; 0 = not observed.
        to_canvas: Maps pixels of the full image to pixels of the canvas.
    """
    points = to_canvas(np.asarray(keypoints2d[:, :2], np.float32))
    limit = 4.0 * max(canvas.shape)  # far outside, and within the integers that the line drawer takes
    with np.errstate(invalid="ignore"):
        drawable = (np.abs(points) < limit).all(axis=1) & (keypoints2d[:, 2] > 0)
    fixed = np.where(drawable[:, None], points * 16, 0).astype(np.int32)
    thick = max(1, round(canvas.shape[0] / 400))
    layers = [(_BODY_BONES, thick)]
    if _hand_length(points) >= MIN_HAND_PX:
        layers.append((_HAND_BONES, 1))
    for bones, thickness in layers:
        for color, pairs in bones.items():
            lines = [fixed[[a, b]] for a, b in pairs if drawable[a] and drawable[b]]
            if lines:
                cv2.polylines(canvas, lines, False, color, thickness, cv2.LINE_AA, shift=4)
    for x, y in fixed[: LEFT_HAND.start][drawable[: LEFT_HAND.start]]:
        cv2.circle(canvas, (int(x), int(y)), 24 * thick, (30, 30, 30), -1, cv2.LINE_AA, shift=4)


def _hand_length(points: Array) -> float:
    """Return the longer distance from wrist to middle finger in the picture [px]; 0 when not finite."""
    wrists, tips = points[[J["left_wrist"], J["right_wrist"]]], points[[J["left_middle3"], J["right_middle3"]]]
    length = np.linalg.norm(wrists - tips, axis=1)
    return float(np.max(length, initial=0, where=np.isfinite(length)))


def _draw_label(canvas: Image, person: HumanEstimate, to_canvas: _Resize) -> None:
    corners = to_canvas(np.asarray(person.regression.bbox_xyxy, np.float32).reshape(2, 2))
    height, width = canvas.shape[:2]
    (left, top), (right, bottom) = corners
    if not (np.isfinite(corners).all() and right > 0 and bottom > 0 and left < width and top < height):
        return
    corners = np.clip(corners, -2, [width + 2, height + 2])
    (left, top), (right, bottom) = np.rint(corners).astype(int).tolist()
    color = person_rgb(person.track_id)[::-1]
    cv2.rectangle(canvas, (left, top), (right, bottom), color, 1, cv2.LINE_AA)
    put_text(canvas, [label(person)], (left, top), color)


def label(person: HumanEstimate) -> str:
    """Return number and distance, for example `#3  4.02 m`; `~` marks a distance that rests on an assumed height."""
    distance = float(np.linalg.norm(person.joints[0]))
    if person.regression.metric_source == MetricSource.NONE or not np.isfinite(distance):
        return f"#{person.track_id}"
    about = "~" if person.regression.metric_source == MetricSource.ASSUMED_HEIGHT else ""
    return f"#{person.track_id}  {about}{distance:.2f} m"


def put_text(canvas: Image, lines: Iterable[str], bottom_left: tuple[int, int], color: tuple[int, int, int]) -> None:
    """Write lines on dark plates above `bottom_left`, moved to stay inside the image."""
    height, width = canvas.shape[:2]
    size = float(np.clip(height / 1000, 0.35, 1.0))
    x, y = bottom_left
    for line in reversed(list(lines)):
        (w, h), below = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        x0, y0 = int(np.clip(x, 0, max(0, width - w - 6))), int(np.clip(y, h + below + 4, max(h + below + 4, height)))
        plate = canvas[y0 - h - below - 4 : y0, x0 : x0 + w + 6]
        plate //= 3
        cv2.putText(canvas, line, (x0 + 3, y0 - below - 1), cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)
        y = y0 - h - below - 4
