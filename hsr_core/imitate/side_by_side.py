"""The video to judge an imitation by: the person in the camera's picture beside the robot in their posture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import progress
from ..body.ehm import EhmBody
from ..body.joints import PARENTS
from ..export.lerobot import paired
from ..export.motion import LEVEL_CAMERA, Motion
from ..export.robot_motion import people_of
from ..export.spool import chunks
from ..geometry.camera import project, ray_rotation
from ..geometry.raster import Topology
from ..geometry.view import rgb_of
from ..retarget.command import Flag
from ..retarget.frames import heading
from ..retarget.gate import Reason
from ..retarget.robot import Robot
from ..types import Array, Camera, Frame
from ..viz.colors import person_rgb
from ..viz.overlay import draw_mesh, draw_skeleton, put_text
from ..viz.video import VideoWriter
from .follow import Followed
from .framing import Window, steady, windows
from .person import PersonBody, joints_in_camera, poses_in_camera
from .pieces import Piece
from .scene import RobotScene, View

PANEL_HW = 540, 640
LIGHT, DARK = (245, 245, 245), (40, 40, 40)
_HEAD_M = 0.15
"""From the head's joint to the top of the head."""
_FLAGS = {
    Flag.LIMITED_VELOCITY: "at speed limit", Flag.AT_POSITION_LIMIT: "at joint limit",
    Flag.BARRIER_ACTIVE: "near itself", Flag.JOINT_MISSING: "part not seen", Flag.FALLBACK_QP: "fallback",
    Flag.COLLISION: "step refused",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Shown:
    """One episode to draw.

    Attributes:
        piece, motion, followed: The person and the robot.
        robot, scene: The robot and its surface.
        camera: Of the pictures.
        body: Of the person; None = a skeleton alone.
        fps: Of the frames [Hz].
    """

    piece: Piece
    motion: Motion
    followed: Followed
    robot: Robot
    scene: RobotScene
    camera: Camera
    body: EhmBody | None
    fps: float


def write_side_by_side(path: Path, shown: Shown, frames: Iterator[Frame]) -> int:
    """Write the video; return how many of its pictures are missing.

    Args:
        path: Of the MP4.
        frames: The pictures in the order of their stamps, from before the episode's beginning; those before it are
            skipped.
    """
    stamps, missing = shown.motion.track.stamps, 0
    joints = np.concatenate([joints_in_camera(shown.motion, at) for at in chunks(len(stamps))])
    cuts = windows(joints, shown.camera, PANEL_HW, shown.fps)
    left, right = _Left(shown), _Right(shown, joints[:, 0])
    with VideoWriter(path, shown.fps) as video:
        for i, frame in enumerate(paired(frames, stamps, 0.5e9 / shown.fps)):
            progress.report("drawing", i + 1, len(stamps))
            missing += frame is None
            panels = left.draw(i, frame, cuts[i]), right.draw(i, cuts[i])
            video.write(np.concatenate(panels, axis=1), int(stamps[i]))
    return missing


class _Left:
    """The camera's picture, cut to the person, with their smoothed mesh and skeleton."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._person = PersonBody(shown.motion, shown.body) if shown.body is not None else None
        self._topology = Topology(shown.body.faces) if shown.body is not None else None
        self._color = person_rgb(shown.motion.track.track_id)

    def draw(self, i: int, frame: Frame | None, window: Window) -> NDArray[np.uint8]:
        shown, motion = self._shown, self._shown.motion
        size = PANEL_HW[::-1]
        if frame is None:
            canvas = np.full((*PANEL_HW, 3), DARK, np.uint8)
        else:
            shrinks = cv2.INTER_AREA if window.scale < 1 else cv2.INTER_LINEAR
            canvas = _cut(rgb_of(frame)[..., ::-1], window, size, shrinks)
        if motion.valid[i]:
            self._draw_person(canvas, i, lambda uv: uv @ window.A_panel_img[:, :2].T + window.A_panel_img[:, 2])
        seconds = (motion.track.stamps[i] - motion.track.stamps[0]) * 1e-9
        about = f"person {motion.track.track_id}   frame {motion.track.first + i}   {seconds:6.2f} s"
        put_text(canvas, [about, _state_of_person(shown.piece.reasons[i])], (8, PANEL_HW[0] - 6), LIGHT)
        return canvas

    def _draw_person(self, canvas: NDArray[np.uint8], i: int, to_panel: Callable[[Array], Array]) -> None:
        shown, at = self._shown, slice(i, i + 1)
        if self._person is not None:
            params = self._person.params(poses_in_camera(shown.motion, at), 0)
            vertices = shown.body.pose_one(params).vertices
            draw_mesh(canvas, vertices, self._topology, shown.camera, to_panel, self._color)
        points = np.ones((55, 3), np.float32)
        points[:, :2] = project(joints_in_camera(shown.motion, at)[0], shown.camera)
        score = shown.motion.track.read("joint_score", at)[0]
        points[:, 2] = np.where(np.isfinite(points[:, 0]), np.nan_to_num(score, nan=1.0), 0)
        draw_skeleton(canvas, np.nan_to_num(points), to_panel)


def _cut(image: NDArray[np.uint8], window: Window, size: tuple[int, int], how: int) -> NDArray[np.uint8]:
    """Return the window of an image; shrunk by whole pixels first, because warping alone would flicker."""
    A = window.A_panel_img.copy()
    if how == cv2.INTER_AREA and (steps := int(1 / window.scale)) > 1:
        height, width = (n // steps * steps for n in image.shape[:2])
        image = cv2.resize(image[:height, :width], (width // steps, height // steps), interpolation=cv2.INTER_AREA)
        A[:, 2] += A[:, :2] @ np.full(2, (steps - 1) / 2)
        A[:, :2] *= steps
    return cv2.warpAffine(np.ascontiguousarray(image), A, size, flags=cv2.INTER_LINEAR)


class _Right:
    """The robot, from the direction from which the camera sees the person, as large as they are."""

    def __init__(self, shown: Shown, pelvis: Array) -> None:
        self._shown = shown
        motion, count = shown.motion, len(shown.motion.track)
        self._distance = np.nan_to_num(steady(np.linalg.norm(pelvis, axis=1)[:, None], shown.fps)[:, 0], nan=1.0)
        self._T_world_model = np.eye(4) if shown.robot.floating else _standing(motion, shown.scene.sole_m)
        made = shown.followed.motion
        place = made.base[:, :2] if made.base is not None else np.zeros((count, 2))
        self._place = np.nan_to_num(steady(place, shown.fps))
        person_m = float(np.abs(np.ptp(_upright(motion.offsets), axis=0)[1])) + _HEAD_M
        self._size = float(np.clip(person_m / shown.scene.height_m, 0.3, 3.0))
        known = np.flatnonzero(made.valid)
        self._last = int(known[0]) if len(known) else None

    def draw(self, i: int, window: Window) -> NDArray[np.uint8]:
        shown, made = self._shown, self._shown.followed.motion
        follows = bool(made.valid[i])
        if follows:
            self._last = i
        view = self._view(i, window)
        if self._last is None:
            canvas = np.full((*PANEL_HW, 3), LIGHT, np.uint8)
        else:
            T = None if made.base is None else _pose(made.base[self._last])
            q = shown.robot.configuration(made.position[self._last], T)
            canvas = shown.scene.draw(q, self._T_world_model, view, idle=not follows)
        name = f"{made.robot} {shown.robot.mapping.mode}"
        put_text(canvas, [name, self._state(i, follows)], (8, PANEL_HW[0] - 6), LIGHT)
        return canvas

    def _state(self, i: int, follows: bool) -> str:
        if not follows:
            return "no command"
        flags = Flag(int(self._shown.followed.motion.flags[i]))
        standing = zip(("left", "right"), self._shown.followed.standing[i], strict=True)
        feet = [f"{side} foot held" for side, on in standing if on]
        return ", ".join(["following", *feet, *(text for flag, text in _FLAGS.items() if flag in flags)])

    def _view(self, i: int, window: Window) -> View:
        """Return a camera at the person's distance, turned as the ray to the person is, aimed at the robot."""
        shown, motion = self._shown, self._shown.motion
        T = LEVEL_CAMERA if motion.assumes_world else _known(motion, i)
        R = T[:3, :3] @ ray_rotation(window.center, shown.camera.K)
        focal = shown.camera.K[1, 1] * window.scale * self._size
        K = np.array([[focal, 0, (PANEL_HW[1] - 1) / 2], [0, focal, (PANEL_HW[0] - 1) / 2], [0, 0, 1]])
        aim = np.array([*self._place[i], shown.scene.height_m / 2])
        from_world = np.eye(4)
        from_world[:3, :3] = R.T
        from_world[:3, 3] = R.T @ -aim + (0, 0, self._distance[i])
        return View(Camera(K, PANEL_HW), from_world)


def _known(motion: Motion, i: int) -> Array:
    """Return the camera's pose at the nearest frame in which it is known."""
    known = np.flatnonzero(motion.valid)
    at = int(known[np.argmin(np.abs(known - i))])
    return motion.track.T_world_cam(slice(at, at + 1))[0]


def _standing(motion: Motion, sole_m: float) -> Array:
    """Return where a robot with a fixed base stands: on the ground, facing where the person faces in the mean."""
    T, across = np.eye(4), np.zeros(2)
    for at in chunks(len(motion.track)):
        for person in people_of(motion, at):
            R = None if person is None else heading(person)
            if R is not None:
                across += R[:2, 0]
    if np.linalg.norm(across) > 1e-6:
        c, s = across / np.linalg.norm(across)
        T[:2, :2] = [[c, -s], [s, c]]
    T[2, 3] = -sole_m
    return T


def _upright(offsets: Array) -> Array:
    """Return the joints of a skeleton at rest (55, 3) [m], y up."""
    joints = np.zeros_like(offsets)
    for j in range(1, len(offsets)):
        joints[j] = joints[PARENTS[j]] + offsets[j]
    return joints


def _pose(base: Array) -> Array:
    import pinocchio as pin

    return pin.XYZQUATToSE3(base).homogeneous


def _state_of_person(reason: Reason | None) -> str:
    if reason is None:
        return "not seen"
    return "seen" if reason is Reason.OK else f"left out: {reason.value}"
