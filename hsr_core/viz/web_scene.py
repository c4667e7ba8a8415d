"""The 3D part of the web view: camera, image, people and ground as viser nodes that are made once and then moved."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..body.joints import JOINT_NAMES, PARENTS, J
from ..types import Array
from .colors import person_rgb
from .snapshot import PersonView, RobotView, ViewSnapshot
from .web_robot import BESIDE_M as ROBOT_BESIDE_M
from .web_robot import RobotNodes, RobotOnPage

if TYPE_CHECKING:
    import viser

MAX_PEOPLE = 8
IMAGE_PLANE = 0.25
"""Where the live picture floats: between the camera and the first person, at this part of the way."""

T_LEVEL_CAM = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
"""A level camera in a world with x where it looks, y to its left and z up."""

_GROUND_FRAMES = 45
_SOLE_M = 0.07
"""Height of the foot joints above the floor, roughly; used without a mesh."""

_SIDE_RGB = {"left": (236, 120, 0), "right": (0, 96, 224), "": (70, 76, 84)}
_UNSEEN_RGB = (176, 180, 184)

BESIDE_M = 0.75
"""A skeleton inside an opaque mesh cannot be seen: it is drawn this far to the camera's right."""

_DRAWN_BONES = [
    (parent, child)
    for child, (name, parent) in enumerate(zip(JOINT_NAMES, PARENTS, strict=True))
    if parent >= 0 and name not in ("jaw", "left_eye_smplhf", "right_eye_smplhf")
]
_BONES = np.array(_DRAWN_BONES)
_BONE_RGB = np.array([_SIDE_RGB.get(JOINT_NAMES[child].partition("_")[0], _SIDE_RGB[""]) for _, child in _DRAWN_BONES])


class PersonNodes:
    """Mesh, skeleton and label of one person slot, in the camera's frame."""

    def __init__(self, server: viser.ViserServer, slot: int) -> None:
        self._scene, self._path = server.scene, f"/camera/person_{slot}"
        self._root = self._scene.add_frame(self._path, show_axes=False, visible=False)
        bones = np.zeros((len(_BONES), 2, 3), np.float32)
        self._skeleton = self._scene.add_line_segments(
            f"{self._path}/skeleton", bones, np.zeros((len(_BONES), 2, 3), np.uint8), thickness=0.018
        )
        self._label = self._scene.add_label(f"{self._path}/label", "", position=(0.0, 0.0, 0.0))
        self._mesh: viser.MeshHandle | None = None
        self._faces: NDArray[np.integer] | None = None
        self._score: Array | None = None

    def hide(self) -> None:
        self._root.visible = False
        self._label.visible = False  # a label does not follow its parent

    def draw(self, person: PersonView, faces: NDArray[np.integer] | None, opacity: float, skeleton: bool) -> None:
        self._draw_mesh(person, faces, opacity)
        self._skeleton.visible = skeleton
        if skeleton:
            hidden = opacity >= 1 and person.vertices is not None and faces is not None
            self._skeleton.position = (BESIDE_M if hidden else 0.0, 0.0, 0.0)
            self._draw_skeleton(person)
        self._label.position = tuple(float(v) for v in person.joints[J["head"]] - np.array([0, 0.32, 0]))
        self._label.text = f"#{person.track_id}  {'~' if person.assumed else ''}{person.distance_m:.1f} m"
        self._label.visible = True
        self._root.visible = True

    def _draw_mesh(self, person: PersonView, faces: NDArray[np.integer] | None, opacity: float) -> None:
        if person.vertices is None or faces is None or opacity <= 0:
            if self._mesh is not None:
                self._mesh.visible = False
            return
        if self._mesh is None or self._faces is not faces:  # another body model: another topology
            if self._mesh is not None:
                self._mesh.remove()
            self._faces = faces
            self._mesh = self._scene.add_mesh_simple(
                f"{self._path}/mesh",
                person.vertices,
                np.asarray(faces, np.uint32),
                opacity=opacity,
                receive_shadow=False,
            )
        self._mesh.vertices = person.vertices
        self._mesh.color = person_rgb(person.track_id)
        self._mesh.opacity = None if opacity >= 1 else opacity
        self._mesh.visible = True

    def _draw_skeleton(self, person: PersonView) -> None:
        self._skeleton.points = person.joints[_BONES].astype(np.float32)
        seen = person.joint_score[_BONES].min(axis=1) > 0
        if self._score is None or not np.array_equal(seen, self._score):
            self._score = seen
            self._skeleton.colors = np.repeat(np.where(seen[:, None], _BONE_RGB, _UNSEEN_RGB)[:, None], 2, 1).astype(
                np.uint8
            )


class Scene:
    """Everything in the world. Only the drawing thread calls it."""

    def __init__(self, server: viser.ViserServer, robot: RobotOnPage | None = None) -> None:
        self._server = server
        self._robot = RobotNodes(server, robot) if robot else None
        scene = server.scene
        scene.set_up_direction("+z")
        self._ground = scene.add_grid(
            "/ground", 20, 20, cell_size=0.5, section_size=1.0, fade_distance=25, cell_color=(214, 218, 222),
            section_color=(178, 184, 190), plane_color=(246, 247, 248), plane_opacity=0.0, shadow_opacity=0.25,
        )  # fmt: skip
        self._camera = scene.add_frame("/camera", axes_length=0.15, axes_radius=0.006, show_axes=True)
        self._frustum = scene.add_camera_frustum(
            "/camera/image", 0.8, 1.5, thickness=1.2, thickness_units="screen", color=(120, 128, 138), cast_shadow=False
        )
        self._people: list[PersonNodes] = []
        self._lens: tuple[float, float] | None = None
        self._image_plane_m = 0.0
        self._level = True
        self._heights: deque[float] = deque(maxlen=_GROUND_FRAMES)
        self.mesh_opacity, self.show_skeleton, self.show_image = 1.0, True, True

    def draw(self, snapshot: ViewSnapshot) -> None:
        """Show a snapshot: moves and fills nodes that exist, makes new ones only for a new slot or another body."""
        self._place(snapshot)
        self._draw_camera(snapshot)
        people = drawable(snapshot)
        if self._robot and people and not self._robot.stands:
            self._robot.stand(*_beside(people[0], self._T_world_cam(snapshot)))
        while len(self._people) < len(people):
            self._people.append(PersonNodes(self._server, len(self._people)))
        for nodes, person in zip(self._people, people, strict=False):
            nodes.draw(person, snapshot.faces, self.mesh_opacity, self.show_skeleton)
        for nodes in self._people[len(people) :]:
            nodes.hide()

    def draw_robot(self, view: RobotView) -> None:
        """Show a robot's posture where it stands."""
        if self._robot:
            self._robot.draw(view, 0.0 if self._level or not self._heights else self._ground_z())

    def hide_people(self) -> None:
        """Show nobody: what is on the screen would be old."""
        for nodes in self._people:
            nodes.hide()

    def look_from(self, client: viser.ClientHandle, snapshot: ViewSnapshot) -> None:
        """Put a visitor behind the camera's right shoulder, with its picture and the first drawable person in view."""
        T = self._T_world_cam(snapshot)
        eye, pelvis = T[:3, 3], T[:3, :3] @ drawable(snapshot)[0].joints[0] + T[:3, 3]
        forward = T[:3, 2] * [1, 1, 0]  # along the camera and not towards the person, who will walk about
        if np.linalg.norm(forward) < 0.1:  # it looks up or down
            forward = (pelvis - eye) * [1, 1, 0]
        forward = forward / max(np.linalg.norm(forward), 1e-6)
        distance = max(1.0, float(forward @ (pelvis - eye)))
        middle = np.array([*(eye + distance * forward)[:2], pelvis[2]])
        right = np.array([forward[1], -forward[0], 0.0])
        with client.atomic():
            client.camera.fov = max(0.47, 2 * float(np.arctan(0.9 / distance)))  # a near person fits too
            client.camera.up_direction = (0.0, 0.0, 1.0)
            client.camera.position = eye - 0.36 * distance * forward + 0.44 * distance * right + [0, 0, 0.22 * distance]
            client.camera.look_at = 0.4 * eye + 0.6 * middle + 0.12 * distance * right + [0, 0, 0.02 * distance]

    def _T_world_cam(self, snapshot: ViewSnapshot) -> Array:
        if snapshot.T_world_cam is not None:
            return np.asarray(snapshot.T_world_cam, np.float64)
        T = T_LEVEL_CAM.copy()
        T[2, 3] = -self._ground_z() if self._heights else 1.2
        return T

    def _ground_z(self) -> float:
        """Where the floor is: low, but not the lowest that a single frame ever said."""
        return float(np.percentile(self._heights, 20))

    def _place(self, snapshot: ViewSnapshot) -> None:
        T = T_LEVEL_CAM if snapshot.T_world_cam is None else np.asarray(snapshot.T_world_cam, np.float64)
        if (snapshot.T_world_cam is None) != self._level:  # another world: its floor is elsewhere
            self._level = snapshot.T_world_cam is None
            self._heights.clear()
            self._ground.position = (0.0, 0.0, 0.0)
            if self._robot:
                self._robot.leave()
        for person in drawable(snapshot):
            feet = person.joints[[J["left_foot"], J["right_foot"]]] if person.vertices is None else person.vertices
            # Not feet @ T[2, :3]: a threaded BLAS would spin on the other cores after each call.
            z = feet[:, 0] * T[2, 0] + feet[:, 1] * T[2, 1] + feet[:, 2] * T[2, 2] + T[2, 3]
            low = float(z.min()) - (_SOLE_M if person.vertices is None else 0.0)
            if np.isfinite(low):
                self._heights.append(low)
        T = self._T_world_cam(snapshot)
        self._camera.position = tuple(float(v) for v in T[:3, 3])
        self._camera.wxyz = _wxyz(T[:3, :3])
        if snapshot.T_world_cam is not None and self._heights:
            self._ground.position = (0.0, 0.0, self._ground_z())

    def _draw_camera(self, snapshot: ViewSnapshot) -> None:
        height, width = snapshot.camera.image_hw
        lens = 2 * float(np.arctan(0.5 * height / snapshot.camera.K[1, 1])), width / height
        first = not self._image_plane_m and drawable(snapshot)
        if first:
            self._image_plane_m = IMAGE_PLANE * first[0].distance_m
        if first or lens != self._lens:
            self._lens = self._frustum.fov, self._frustum.aspect = lens
            self._frustum.scale = (self._image_plane_m or 1.0) / self._frustum.compute_canonical_frustum_size()[2]
        self._frustum.visible = self.show_image
        if snapshot.image is not None and self.show_image:
            set_picture(self._frustum, snapshot.image)


def _beside(person: PersonView, T_world_cam: Array) -> tuple[Array, float]:
    """Return where a robot stands beside a person, xy (2,) [m], and the person's heading [rad]."""
    R, t = T_world_cam[:3, :3], T_world_cam[:3, 3]
    left = -R[:2, 0]  # the camera's, on the ground
    left = left / max(float(np.linalg.norm(left)), 1e-6)
    across = R @ (person.joints[J["left_hip"]] - person.joints[J["right_hip"]])
    heading = float(np.arctan2(-across[0], across[1]))  # a quarter turn to the right of the person's left
    return (R @ person.joints[0] + t)[:2] + ROBOT_BESIDE_M * left, heading


def drawable(snapshot: ViewSnapshot) -> list[PersonView]:
    """Return the people who have a place: no NaN in their joints."""
    return [person for person in snapshot.people if np.isfinite(person.joints).all()][:MAX_PEOPLE]


def set_picture(frustum: viser.CameraFrustumHandle, image: bytes | NDArray[np.uint8]) -> None:
    """Put a picture into a frustum. An encoded one is passed on as it is: decoding it to encode it again costs 6 ms."""
    if isinstance(image, np.ndarray):
        height, width = image.shape[:2]
        if width > 960:
            image = cv2.resize(image, (960, round(height * 960 / width)), interpolation=cv2.INTER_AREA)
        image = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes()
    kind = "png" if image[:4] == b"\x89PNG" else "jpeg"
    frustum._format = kind
    frustum._image_data = image


def _wxyz(R: Array) -> tuple[float, float, float, float]:
    x, y, z, w = Rotation.from_matrix(R).as_quat()
    return float(w), float(x), float(y), float(z)
