"""What crosses module borders: frames, cameras, human parameters and estimates.

Arrays are numpy, float32 unless said. Lengths are metres, angles radians, the camera frame is the
optical one (x right, y down, z forward). Records are frozen; the arrays in them are not copied and
must not be written to.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidIntrinsics, ShapeError

Array = NDArray[np.floating]

N_FACE_LANDMARKS = 70
"""iBUG's 68 points of a face in dlib's order (jaw from the right ear, brows, nose, eyes, lips), right, left pupil."""


class Part(IntFlag):
    """Body parts that were regressed from pixels (and not filled in)."""

    NONE = 0
    BODY = 1
    LEFT_HAND = 2
    RIGHT_HAND = 4
    FACE = 8


class TrackState(IntEnum):
    NEW = 1
    TRACKED = 2
    PREDICTED = 3
    LOST = 4


class MetricSource(IntEnum):
    """Where a person's distance from the camera comes from."""

    NONE = 0
    ASSUMED_HEIGHT = 1
    MONO_DEPTH = 2
    DEPTH_CAMERA = 3
    REFINED = 4


class IntrinsicsSource(IntEnum):
    CAMERA_INFO = 1
    PARAMETER = 2
    ASSUMED_FOV = 3


class EstimateSource(IntEnum):
    REGRESSED = 1
    SMOOTHED = 2
    REFINED = 3


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated camera: OpenCV pinhole model with distortion.

    Attributes:
        K: Intrinsics, float64 (3, 3) [px]; pixel centres at integers.
        image_hw: (height, width) [px] of the image that K belongs to.
        dist: Distortion coefficients, float64; their meaning is given by `model`.
        model: `plumb_bob` (k1 k2 p1 p2 k3), `rational_polynomial` (8, with a thin prism 12, with a tilted sensor 14)
            or `equidistant` (4).
        source: Where K comes from.
        frame_id: Name of the optical frame.

    Raises:
        InvalidIntrinsics: K is not finite, a focal length is not positive, fx/fy is outside
            0.5..2, or the principal point lies outside the image. The message gives the values.
    """

    K: Array
    image_hw: tuple[int, int]
    dist: Array = field(default_factory=lambda: np.zeros(5))
    model: str = "plumb_bob"
    source: IntrinsicsSource = IntrinsicsSource.CAMERA_INFO
    frame_id: str = "camera_color_optical_frame"

    def __post_init__(self) -> None:
        K = np.asarray(self.K, np.float64)
        if K.shape != (3, 3):
            raise InvalidIntrinsics(f"K must have shape (3, 3), not {K.shape}")
        dist = np.asarray(self.dist, np.float64).reshape(-1)
        object.__setattr__(self, "K", K)
        object.__setattr__(self, "dist", dist)
        height, width = self.image_hw
        fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        values = f"fx={fx:g} fy={fy:g} cx={cx:g} cy={cy:g} for a {width}x{height} image"
        if not np.isfinite(K).all() or not np.isfinite(dist).all():
            raise InvalidIntrinsics(f"camera intrinsics are not finite: {values}; recalibrate")
        if fx <= 0 or fy <= 0:
            raise InvalidIntrinsics(f"focal lengths must be positive: {values}")
        if not 0.5 <= fx / fy <= 2.0:
            raise InvalidIntrinsics(f"fx/fy must lie in 0.5..2: {values}")
        if not (0 <= cx <= width and 0 <= cy <= height):
            raise InvalidIntrinsics(f"principal point outside the image: {values}")

    @property
    def distorted(self) -> bool:
        """True when any distortion coefficient is not zero."""
        return bool(np.any(self.dist))

    @classmethod
    def from_hfov(cls, hfov_deg: float, image_hw: tuple[int, int], frame_id: str = "") -> Camera:
        """Return a pinhole camera with square pixels and the given horizontal field of view [deg]."""
        height, width = image_hw
        f = 0.5 * width / np.tan(np.radians(hfov_deg) / 2)
        K = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1.0]])
        return cls(K, image_hw, source=IntrinsicsSource.ASSUMED_FOV, frame_id=frame_id)

    def scaled(self, image_hw: tuple[int, int]) -> Camera:
        """Return this camera for the same picture resized to `image_hw`.

        Raises:
            InvalidIntrinsics: The two aspect ratios differ by more than 1 %.
        """
        if image_hw == self.image_hw:
            return self
        sy, sx = image_hw[0] / self.image_hw[0], image_hw[1] / self.image_hw[1]
        if abs(sx / sy - 1) > 0.01:
            raise InvalidIntrinsics(
                f"camera info is for {self.image_hw[1]}x{self.image_hw[0]}, the image is "
                f"{image_hw[1]}x{image_hw[0]}: not the same picture resized; calibrate this mode"
            )
        K = self.K.copy()
        # Resizing aligns pixel edges, so centres at integers shift by half a pixel.
        K[0] = [K[0, 0] * sx, K[0, 1] * sx, (K[0, 2] + 0.5) * sx - 0.5]
        K[1] = [0.0, K[1, 1] * sy, (K[1, 2] + 0.5) * sy - 0.5]
        return replace(self, K=K, image_hw=image_hw)


@dataclass(frozen=True, eq=False)
class Frame:
    """One image with its time.

    Attributes:
        image: uint8 (H, W, C) with C = 3 or 4, or (H, W) for grey. May be a row-strided view.
        order: Channel order of `image`: `rgb`, `bgr` (a fourth channel is ignored) or `mono`.
        stamp_ns: Exposure time [ns].
        frame_id: Optical frame of the camera.
        camera: Intrinsics, or None when unknown.
        depth_m: z-depth registered to `image`, float32 (H, W) [m], invalid = not finite or <= 0;
            None without a depth camera.
        index: Running number in its source.
    """

    image: NDArray[np.uint8]
    stamp_ns: int
    order: str = "bgr"
    frame_id: str = "camera_color_optical_frame"
    camera: Camera | None = None
    depth_m: Array | None = None
    index: int = 0

    @property
    def image_hw(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]


def _zeros(*shape: int):
    return field(default_factory=lambda: np.zeros(shape, np.float32))


@dataclass(frozen=True, eq=False)
class HumanParams:
    """EHM-s parameters of one person; every rotation is a rotation vector [rad].

    Attributes:
        global_orient: (3,) body to camera frame.
        transl: (3,) [m], camera frame, added after skinning.
        body_pose: (21, 3) relative to the parent joint.
        left_hand_pose, right_hand_pose: (15, 3) full rotations; zero = flat template hand.
        jaw_pose, leye_pose, reye_pose: (3,) of the head part.
        eyelids: (2,) left, right; 0 open, 1 closed.
        betas, expression: (n,) of the body; n comes from the model.
        head_betas, head_expression: (n,) of the head part.
        head_scale: (3,) per axis, 1 = none.
    """

    global_orient: Array = _zeros(3)
    transl: Array = _zeros(3)
    body_pose: Array = _zeros(21, 3)
    left_hand_pose: Array = _zeros(15, 3)
    right_hand_pose: Array = _zeros(15, 3)
    jaw_pose: Array = _zeros(3)
    leye_pose: Array = _zeros(3)
    reye_pose: Array = _zeros(3)
    eyelids: Array = _zeros(2)
    betas: Array = _zeros(10)
    expression: Array = _zeros(10)
    head_betas: Array = _zeros(10)
    head_expression: Array = _zeros(10)
    head_scale: Array = field(default_factory=lambda: np.ones(3, np.float32))

    FIXED_SHAPES: ClassVar[dict[str, tuple[int, ...]]] = {
        "global_orient": (3,),
        "transl": (3,),
        "body_pose": (21, 3),
        "left_hand_pose": (15, 3),
        "right_hand_pose": (15, 3),
        "jaw_pose": (3,),
        "leye_pose": (3,),
        "reye_pose": (3,),
        "eyelids": (2,),
        "head_scale": (3,),
    }

    def __post_init__(self) -> None:
        for name, shape in self.FIXED_SHAPES.items():
            if np.shape(getattr(self, name)) != shape:
                raise ShapeError(f"{name} must have shape {shape}, not {np.shape(getattr(self, name))}")

    def finite(self) -> bool:
        """True when no parameter is NaN or infinite."""
        return all(np.isfinite(value).all() for value in vars(self).values())


@dataclass(frozen=True, eq=False)
class Regression:
    """What a regressor returns for one person in one image.

    Attributes:
        params: EHM-s parameters; `transl` is metric as far as `metric_source` says.
        bbox_xyxy: (4,) [px], full image, half open.
        score: Confidence that this is a person, [0, 1].
        joint_score: (55,) [0, 1]; 0 = not observed.
        part_score: (4,) [0, 1], in the order body, left hand, right hand, face.
        parts: Which parts were regressed from pixels.
        metric_source: Where the distance comes from.
        depth_sigma_m: One standard deviation of the root distance [m].
        mask: float32 (h, w) probability of this person over `mask_A_crop_img`'s crop, or None.
        mask_A_crop_img: (2, 3) affine from full-image pixels to mask pixels, or None.
        vertices: (V, 3) [m] of `params`, where the regressor has made them anyway; else None.
        appearance: (R, B) colour histograms of parts of the person, rows sum to 1 or are 0 where a part is not seen;
            of any parts and colours, the same in every frame. None: unknown. For telling people apart.
        face_landmarks: (70, 3) u, v [px, full image as it came] and score of the `N_FACE_LANDMARKS` points; None: the
            regressor has none for this frame.
    """

    params: HumanParams
    bbox_xyxy: Array
    score: float
    joint_score: Array
    part_score: Array
    parts: Part
    metric_source: MetricSource
    depth_sigma_m: float
    mask: Array | None = None
    mask_A_crop_img: Array | None = None
    vertices: Array | None = None
    appearance: Array | None = None
    face_landmarks: Array | None = None


@dataclass(frozen=True, eq=False)
class HumanEstimate:
    """One person of one frame, ready to publish.

    Attributes:
        track_id: Never reused within a run.
        state: Life of the track.
        primary: The operator or the chosen person.
        regression: The regressor's own answer, unsmoothed (params in the camera frame).
        params: The published parameters: smoothed when smoothing is on.
        joints: (55, 3) [m], camera frame.
        joint_rotmats: (55, 3, 3) global rotations, joint to camera frame.
        keypoints2d: (55, 3) u, v [px, full image as it came, distortion included] and score.
        root_velocity: (6,) m/s and rad/s in the camera frame, or None before the second sighting.
    """

    track_id: int
    state: TrackState
    primary: bool
    regression: Regression
    params: HumanParams
    joints: Array
    joint_rotmats: Array
    keypoints2d: Array
    root_velocity: Array | None = None


@dataclass(frozen=True, eq=False)
class FrameResult:
    """Everybody found in one frame.

    Attributes:
        seq: Number of the processed frame.
        stamp_ns, frame_id: Of the image.
        camera: The camera that was used (given, or assumed and flagged by its `source`).
        people: Empty = nobody, which is information.
        stage_ms: Duration of each stage [ms]: detect, regress, body, place, smooth, total.
        source: SMOOTHED, or REGRESSED when smoothing is off.
        world_frame: Frame that the camera is known in at this stamp; "" = unknown.
        T_world_cam: (4, 4) float64 pose of the camera in it; None = unknown. People stay in the camera's frame.
    """

    seq: int
    stamp_ns: int
    frame_id: str
    camera: Camera
    people: tuple[HumanEstimate, ...]
    stage_ms: dict[str, float]
    source: EstimateSource
    world_frame: str = ""
    T_world_cam: Array | None = None
