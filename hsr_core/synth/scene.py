"""Larger scenes: several people in a room, seen by a still camera while they turn, or by a camera that goes round them.

Nothing is kept: each frame is a pure function of the options and its number, except for the noise of depth, which is
drawn frame by frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from ..body.ehm import EhmBody
from ..body.joints import J
from ..errors import ConfigError
from ..geometry.rigid import moved
from ..geometry.rotations import rotvec_to_rotmat
from ..refine.frames import RefineFrame
from ..types import Array, Camera, HumanParams
from .benchmark import LIGHT
from .clothing import DressedBody
from .motion import Motion, stage_params, turned_about
from .noise import EXACT_DEPTH, EXACT_POSE, DepthNoise, PoseNoise
from .render import Picture, Surface, render
from .room import Room, shadow
from .texture import Style, Texture

NOISE: dict[str, tuple[PoseNoise, DepthNoise]] = {
    "regressor": (PoseNoise(), DepthNoise()),
    "weak": (PoseNoise(scale=0.5), DepthNoise()),
    "strong": (PoseNoise(scale=2.0), DepthNoise()),
    "depth-bias": (PoseNoise(depth_bias_m=0.15), DepthNoise(scale_sigma=0.005)),
    "exact-depth": (PoseNoise(), EXACT_DEPTH),
    "none": (EXACT_POSE, EXACT_DEPTH),
}
"""Errors of the initial estimates and of depth, by name."""

BACKGROUNDS = ("room", "plain", "none")
ORBITS = ("person", "camera")
MAX_PEOPLE = 5

_ONE_THREAD = threadpool_limits.wrap(limits=1, user_api="blas")
"""Products of several threads differ in the last bit, and a scene must not."""

_CAMERA_HEIGHT_M, _PITCH_RAD = 1.3, float(np.radians(8))
_DISTANCE_M, _SPACING_M, _SWAY_M = 3.2, 0.95, 0.25
_PLAIN = np.full(3, 0.55, np.float32)


@dataclass(frozen=True)
class SceneOptions:
    """What to draw.

    Attributes:
        frames: Length of the clip: one turn, whatever the length.
        image_hw: Height and width [px]; the focal length is 1.25 times the height.
        people: 1 to `MAX_PEOPLE`. clothing: Factor on the clothes' thickness.
        noise: A key of `NOISE`. background: One of `BACKGROUNDS`; `none` = cut out, without depth around the people.
        orbit: `person`: everybody turns before a still camera. `camera`: it goes round people who walk on the spot.
        fps: Frame rate [Hz].
        seed: Draws people, room and noise.
    """

    frames: int = 40
    image_hw: tuple[int, int] = (480, 640)
    people: int = 1
    clothing: float = 1.0
    noise: str = "regressor"
    background: str = "room"
    orbit: str = "person"
    fps: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        height, width = self.image_hw
        for name, value, allowed in (
            ("noise", self.noise, NOISE),
            ("background", self.background, BACKGROUNDS),
            ("orbit", self.orbit, ORBITS),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
        for name, value, low, high in (
            ("frames", self.frames, 1, 100_000),
            ("people", self.people, 1, MAX_PEOPLE),
            ("seed", self.seed, 0, 2**32 - 1),
            ("image height", height, 32, 2160),
            ("image width", width, 32, 3840),
            ("fps", self.fps, 1, 240),
            ("clothing", self.clothing, 0, 3),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} must lie in {low}..{high}, not {value:g}")


@dataclass(frozen=True, eq=False)
class SceneFrame:
    """One instant.

    Attributes:
        people: One `RefineFrame` a person, all with the same image and depth.
        T_cam_stage: (4, 4) of this frame's camera.
        exact_depth_m: (H, W) [m], without noise.
    """

    people: tuple[RefineFrame, ...]
    T_cam_stage: Array
    exact_depth_m: Array


@dataclass(frozen=True, eq=False)
class _Person:
    dressed: DressedBody
    texture: Texture
    stage: list[HumanParams]
    truth: list[HumanParams]  # camera frame
    initial: list[HumanParams]
    hem_cycles: float


class Scene:
    """A scene to iterate over.

    Attributes:
        camera: Pinhole camera without distortion.
        truth: For each person the exact parameters of each frame, camera frame.

    Args:
        options: What to draw.
        body: The open body.
    """

    def __init__(self, options: SceneOptions, body: EhmBody) -> None:
        self.options, self.body = options, body
        height, width = options.image_hw
        f = 1.25 * height
        self.camera = Camera(np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]]), options.image_hw)
        half_row = 0.5 * _SPACING_M * (options.people - 1)
        self.pivot = np.array([0.0, 0.0, max(_DISTANCE_M, (half_row + 0.75) * 2 * f / width + 0.3)])
        self.T_cam_stage = [self._camera_pose(t) for t in range(options.frames)]
        self._people = [self._person(i) for i in range(options.people)]
        self.truth = [person.truth for person in self._people]
        room_middle = self.pivot + np.array([0, _CAMERA_HEIGHT_M, 0])
        rng = np.random.default_rng([options.seed, 3])
        self._room = Room(room_middle, self.pivot[2] + 0.7, rng) if options.background == "room" else None
        self._drawn: tuple[Array, Array, Array] | None = None  # the room, where the camera stands still

    def facts(self) -> dict[str, object]:
        """Return what a reader may want beside the frames: options, and T_cam_stage of each frame, JSON-able."""
        return {
            **asdict(self.options),
            "stage": "axes of the level camera: x right, y down, z forward [m]; x_cam = T_cam_stage x_stage",
            "floor_y_m": _CAMERA_HEIGHT_M,
            "T_cam_stage": [T.tolist() for T in self.T_cam_stage],
        }

    def _progress(self, t: int) -> float:
        return t / self.options.frames

    def _camera_pose(self, t: int) -> Array:
        """Return T_cam_stage: the stage turns before the camera and sways, which is a camera going round it."""
        T = np.eye(4)
        T[:3, :3] = rotvec_to_rotmat(np.array([_PITCH_RAD, 0.0, 0.0]))
        if self.options.orbit == "camera":
            round_trip = Motion(depth_sway_m=_SWAY_M)
            shift = np.eye(4)
            shift[2, 3] = round_trip.sway(self._progress(t))
            T = T @ shift @ turned_about(self.pivot, round_trip.yaw(self._progress(t)))
        return T

    @_ONE_THREAD
    def _person(self, i: int) -> _Person:
        options, n = self.options, self.options.people
        rng = np.random.default_rng([options.seed, 4, i])
        betas = np.zeros(self.body.n_betas, np.float32)
        betas[:5] = rng.normal(0, 0.6, 5)
        shape = HumanParams(betas=betas, head_betas=self.body.head_betas_for(betas))
        turning = options.orbit == "person"
        motion = Motion(
            turns=1.0 if turning else 0.0,
            depth_sway_m=_SWAY_M if turning else 0.0,
            phase_rad=float(rng.uniform(0, 2 * np.pi)),
            yaw_rad=0.0 if n == 1 else float(rng.uniform(-0.8, 0.8)),
            spot=(_SPACING_M * (i - (n - 1) / 2), self.pivot[2] + (0.3 * (-1) ** i if n > 1 else 0.0)),
        )
        dressed = DressedBody(self.body, shape, options.clothing)
        stage = stage_params(self.body, shape, motion, options.frames, _CAMERA_HEIGHT_M)
        truth = [moved(p, T, dressed.joints[0]) for p, T in zip(stage, self.T_cam_stage, strict=True)]
        initial = NOISE[options.noise][0].apply(truth, np.random.default_rng([options.seed, 1, i]))
        style = Style.random(rng)
        return _Person(dressed, Texture(dressed.joints, style), stage, truth, initial, float(rng.uniform(4, 6)))

    def __len__(self) -> int:
        return self.options.frames

    def __iter__(self) -> Iterator[SceneFrame]:
        """Draw the frames in order; every pass gives the same bits."""
        rng = np.random.default_rng([self.options.seed, 2])
        for t in range(len(self)):
            yield self._frame(t, rng)

    @_ONE_THREAD
    def _frame(self, t: int, rng: np.random.Generator) -> SceneFrame:
        T = self.T_cam_stage[t]
        picture = render([self._surface(person, t) for person in self._people], self.camera, T[:3, :3] @ LIGHT)
        image, depth_m = self._before_background(picture, t)
        noisy = NOISE[self.options.noise][1].apply(depth_m, rng)
        stamp_ns = round(t * 1e9 / self.options.fps)
        alone = len(self._people) == 1
        people = tuple(
            RefineFrame(
                image, picture.coverage[i], noisy, self.camera.K, person.initial[t], stamp_ns,
                None if alone else self._hidden(picture, i, t), person.truth[t],
            )
            for i, person in enumerate(self._people)
        )  # fmt: skip
        return SceneFrame(people, T, depth_m)

    def _surface(self, person: _Person, t: int) -> Surface:
        hem = 2 * np.pi * person.hem_cycles * self._progress(t)
        vertices = person.dressed.pose(person.truth[t], hem)
        return Surface(vertices, person.dressed.topology, person.dressed.rest, person.texture)

    def _before_background(self, picture: Picture, t: int) -> tuple[Array, Array]:
        if self._room is None:
            image = picture.cut_out() if self.options.background == "none" else picture.over(_PLAIN)
            return image, picture.depth_m
        color, room_depth, floor = self._draw_room(t)
        image = picture.over(color * shadow(floor, *self._feet(t))[..., None])
        return np.clip(image, 0, 1), np.where(picture.owner >= 0, picture.depth_m, room_depth)

    def _draw_room(self, t: int) -> tuple[Array, Array, Array]:
        if self.options.orbit == "camera":
            return self._room.draw(self.camera, self.T_cam_stage[t])
        if self._drawn is None:
            self._drawn = self._room.draw(self.camera, self.T_cam_stage[t])
        return self._drawn

    def _feet(self, t: int) -> tuple[Array, Array]:
        """Return ankles (x, height, z) and pelvises (x, z) on the stage."""
        feet, pelvises = [], []
        for person in self._people:
            joints = self.body.pose_one(person.stage[t], vertices=False).joints
            ankles = joints[[J["left_ankle"], J["right_ankle"]]]
            ankles[:, 1] = _CAMERA_HEIGHT_M - ankles[:, 1]
            feet.append(ankles)
            pelvises.append(joints[0, [0, 2]])
        return np.concatenate(feet), np.stack(pelvises)

    def _hidden(self, picture: Picture, i: int, t: int) -> Array:
        """Return where somebody nearer stands: what lies behind is unknown, (H, W) bool."""
        z = [person.dressed.joints[0, 2] + person.truth[t].transl[2] for person in self._people]
        nearer = [k for k in range(len(z)) if k != i and z[k] < z[i]]
        return (picture.coverage[nearer].sum(0) > 0) if nearer else np.zeros(picture.depth_m.shape, bool)
