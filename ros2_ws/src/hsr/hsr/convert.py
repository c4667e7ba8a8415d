"""Messages to core types and back. The only module that knows both sides.

Numbers go into variable-length fields as `array.array` filled from bytes: assigning a numpy array to such a field
makes rclpy convert it element by element, a thousand times slower. Fixed-length fields are numpy arrays in rclpy, whose
length nobody checks when a message is sent: `_fixed` does.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion
from hsr_msgs.msg import BodyModel, FrameStats, Human, HumanArray, WindowQuality
from sensor_msgs.msg import CameraInfo

from hsr_core.body.joints import JOINT_NAMES, N_JOINTS, PARENTS
from hsr_core.errors import ShapeError
from hsr_core.geometry.rotations import rotmat_to_quat_wxyz, wxyz_to_xyzw
from hsr_core.image_messages import ACCEPTED_ENCODINGS, compressed_to_frame, conversion_note, image_to_frame
from hsr_core.messages import FREE_PARAMS, camera_from_info, human_params_from_msg
from hsr_core.refine.window import RefinedWindow
from hsr_core.types import (
    Array,
    Camera,
    EstimateSource,
    FrameResult,
    HumanEstimate,
    HumanParams,
    MetricSource,
    Part,
    TrackState,
)

from .images import image_to_compressed_msg, image_to_msg
from .stamps import header, ns_to_stamp, stamp_to_ns

__all__ = [
    "ACCEPTED_ENCODINGS",
    "body_id",
    "body_model_to_msg",
    "camera_from_info",
    "camera_to_info",
    "compressed_to_frame",
    "conversion_note",
    "header",
    "human_params_from_msg",
    "image_to_compressed_msg",
    "image_to_frame",
    "image_to_msg",
    "joint_poses_to_msg",
    "ns_to_stamp",
    "people_to_msg",
    "primary_of",
    "quality_to_msg",
    "refined_human",
    "refined_people_to_msg",
    "stamp_to_ns",
    "stats_to_msg",
    "track_id_of",
]

# --- numbers --------------------------------------------------------------------------------------------------


def _fixed(name: str, values: Array, length: int, dtype: Any = np.float32) -> Array:
    """Return values for a fixed-length field: 1-D, C-contiguous, of exactly that length.

    Raises:
        ShapeError: Another number of values; the serialiser would read past the end.
    """
    flat = np.ascontiguousarray(values, dtype).reshape(-1)
    if flat.size != length:
        raise ShapeError(f"{name} takes {length} numbers, not {flat.size} (shape {np.shape(values)})")
    return flat


def _floats(values: Array) -> array:
    """Return values for a float32[] field."""
    out = array("f")
    out.frombytes(np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8).data)
    return out


# --- ids ------------------------------------------------------------------------------------------------------

_IDS = 26**5
_SPREAD = 7_368_787  # coprime with 26: neighbouring track ids get letters that look different
_OFFSET = 3_141_593


def body_id(track_id: int) -> str:
    """Return the five-letter id of a track: one to one for 26**5 consecutive track ids."""
    number = (track_id * _SPREAD + _OFFSET) % _IDS
    letters = []
    for _ in range(5):
        number, digit = divmod(number, 26)
        letters.append(chr(ord("a") + digit))
    return "".join(letters)


def track_id_of(letters: str) -> int:
    """Return the track id (below 26**5) of a five-letter id.

    Raises:
        ValueError: Not five lower-case letters.
    """
    if len(letters) != 5 or not all("a" <= letter <= "z" for letter in letters):
        raise ValueError(f"an id is five lower-case letters, not {letters!r}")
    number = sum((ord(letter) - ord("a")) * 26**place for place, letter in enumerate(letters))
    return (number - _OFFSET) * pow(_SPREAD, -1, _IDS) % _IDS


# --- camera ---------------------------------------------------------------------------------------------------


def camera_to_info(camera: Camera, stamp_ns: int) -> CameraInfo:
    """Return a camera as an info message for unrectified images."""
    height, width = camera.image_hw
    K = camera.K
    projection = np.zeros((3, 4))
    projection[:, :3] = K
    return CameraInfo(
        header=header(stamp_ns, camera.frame_id),
        height=height,
        width=width,
        distortion_model=camera.model,
        d=array("d", camera.dist.tolist()),
        k=_fixed("k", K, 9, np.float64),
        r=_fixed("r", np.eye(3), 9, np.float64),
        p=_fixed("p", projection, 12, np.float64),
    )


# --- people ---------------------------------------------------------------------------------------------------


def primary_of(result: FrameResult) -> HumanEstimate | None:
    """Return the primary person of a frame."""
    return next((person for person in result.people if person.primary), None)


def people_to_msg(result: FrameResult, model_id: str, *, raw_body: Any = None) -> HumanArray:
    """Return everybody of one frame.

    Args:
        result: The frame's people.
        model_id: Of the body model, as in `body_model`.
        raw_body: The body (`hsr_core.body.EhmBody`) when the regressor's unsmoothed answer is wanted: it
            computes the joints of those parameters.

    Raises:
        ShapeError: An array has the wrong length.
    """
    height, width = result.camera.image_hw
    return HumanArray(
        header=header(result.stamp_ns, result.frame_id),
        seq=result.seq,
        source=int(result.source if raw_body is None else EstimateSource.REGRESSED),
        image_width=width,
        image_height=height,
        k=_fixed("k", result.camera.K, 9, np.float64),
        intrinsics_source=int(result.camera.source),
        world_frame=result.world_frame,
        t_world_cam=_fixed("t_world_cam", _xyz_xyzw(result.T_world_cam), 7, np.float64),
        model_id=model_id,
        humans=[_human(person, raw_body) for person in result.people],
    )


def _xyz_xyzw(T: Array | None) -> Array:
    """Return x, y, z, qx, qy, qz, qw of a pose (4, 4); zeros, which are no pose, where it is unknown."""
    if T is None:
        return np.zeros(7)
    return np.concatenate([T[:3, 3], wxyz_to_xyzw(rotmat_to_quat_wxyz(T[:3, :3]))])


def _human(person: HumanEstimate, raw_body: Any) -> Human:
    regression = person.regression
    params, joints, rotmats = person.params, person.joints, person.joint_rotmats
    if raw_body is not None:
        params = regression.params
        posed = raw_body.pose_one(params, vertices=False)
        joints, rotmats = posed.joints, posed.joint_rotmats
    msg = Human(
        id=body_id(person.track_id),
        track_id=person.track_id,
        state=int(person.state),
        primary=person.primary,
        confidence=float(regression.score),
        bbox_xyxy=_fixed("bbox_xyxy", regression.bbox_xyxy, 4),
        metric_source=int(regression.metric_source),
        depth_sigma_m=_sigma(regression.metric_source, regression.depth_sigma_m),
        joints=_fixed("joints", joints, 3 * N_JOINTS),
        joint_quats_xyzw=_fixed("joint_quats_xyzw", wxyz_to_xyzw(rotmat_to_quat_wxyz(rotmats)), 4 * N_JOINTS),
        joint_score=_fixed("joint_score", regression.joint_score, N_JOINTS),
        keypoints2d=_fixed("keypoints2d", person.keypoints2d, 3 * N_JOINTS),
        parts=int(regression.parts),
    )
    _fill_params(msg, params, regression.parts)
    if person.root_velocity is not None and raw_body is None:
        msg.root_velocity = _floats(person.root_velocity)
    return msg


def _sigma(source: MetricSource, sigma_m: float) -> float:
    return math.inf if source == MetricSource.NONE else float(sigma_m)


_FIXED_PARAMS = {
    "global_orient": 3, "transl": 3, "body_pose": 63, "jaw_pose": 3, "leye_pose": 3, "reye_pose": 3, "head_scale": 3
}  # fmt: skip
_PART_PARAMS = {"left_hand_pose": Part.LEFT_HAND, "right_hand_pose": Part.RIGHT_HAND, "eyelids": Part.FACE}


def _fill_params(msg: Human, params: HumanParams, parts: Part) -> None:
    for name, length in _FIXED_PARAMS.items():
        setattr(msg, name, _fixed(name, getattr(params, name), length))
    for name in FREE_PARAMS:
        setattr(msg, name, _floats(getattr(params, name)))
    for name, part in _PART_PARAMS.items():
        if parts & part:
            setattr(msg, name, _floats(getattr(params, name)))


def refined_human(
    original: Human, params: HumanParams, joints: Array, rotmats: Array, uv: Array, *, depth_took_part: bool
) -> Human:
    """Return a person's message with refined parameters; who they are and what was observed stays.

    Args:
        original: Of the same frame.
        params: Refined, in the frame of the message.
        joints: (55, 3) [m]. rotmats: (55, 3, 3), joint to the message's frame.
        uv: (55, 2) [px] of the joints in the image as it came; not finite = behind the camera.
        depth_took_part: The distance comes from measured depth; else it is as sure as before.
    """
    score = np.array(original.joint_score, np.float32)
    seen = np.isfinite(uv).all(axis=1)
    keypoints2d = np.column_stack([np.where(seen[:, None], uv, np.nan), np.where(seen, score, 0)])
    msg = Human(
        **{name: getattr(original, name) for name in ("id", "track_id", "state", "primary", "confidence", "parts")},
        bbox_xyxy=_fixed("bbox_xyxy", original.bbox_xyxy, 4),
        metric_source=Human.METRIC_REFINED if depth_took_part else original.metric_source,
        depth_sigma_m=max(0.01, 0.015 * float(joints[0, 2])) if depth_took_part else original.depth_sigma_m,
        joints=_fixed("joints", joints, 3 * N_JOINTS),
        joint_quats_xyzw=_fixed("joint_quats_xyzw", wxyz_to_xyzw(rotmat_to_quat_wxyz(rotmats)), 4 * N_JOINTS),
        joint_score=_fixed("joint_score", score, N_JOINTS),
        keypoints2d=_fixed("keypoints2d", keypoints2d, 3 * N_JOINTS),
    )
    _fill_params(msg, params, Part(original.parts))
    return msg


def refined_people_to_msg(original: HumanArray, humans: list[Human]) -> HumanArray:
    """Return the message of a frame again, with the refined people in it."""
    same = ("header", "seq", "image_width", "image_height", "intrinsics_source", "world_frame", "model_id")
    return HumanArray(
        **{name: getattr(original, name) for name in same},
        k=_fixed("k", original.k, 9, np.float64),
        t_world_cam=_fixed("t_world_cam", original.t_world_cam, 7, np.float64),
        source=HumanArray.REFINED,
        humans=humans,
    )


def quality_to_msg(window: RefinedWindow, frame_id: str) -> WindowQuality:
    """Return how a window went."""
    quality, stamps_ns = window.quality, window.stamps_ns or (0,)
    depth_source = "" if quality.depth_source == "none" else quality.depth_source
    return WindowQuality(
        header=header(stamps_ns[-1], frame_id),
        id=body_id(window.track_id),
        track_id=window.track_id,
        start=ns_to_stamp(stamps_ns[0]),
        end=ns_to_stamp(stamps_ns[-1]),
        frames=quality.frames,
        iterations=quality.iterations,
        accepted=quality.accepted,
        reason=quality.reason,
        status=quality.status,
        objective_before=float(quality.before),
        objective_after=float(quality.after),
        psnr_db=float(quality.psnr_db),
        mask_iou=float(quality.iou),
        depth_rmse_m=math.nan,
        depth_source=depth_source,
        gaussians=quality.gaussians,
        time_ms=quality.seconds * 1e3,
    )


def joint_poses_to_msg(result: FrameResult, person: HumanEstimate) -> PoseArray:
    """Return the 55 joint poses of one person in the camera frame."""
    quats = wxyz_to_xyzw(rotmat_to_quat_wxyz(person.joint_rotmats)).tolist()
    poses = [
        Pose(position=Point(x=p[0], y=p[1], z=p[2]), orientation=Quaternion(x=q[0], y=q[1], z=q[2], w=q[3]))
        for p, q in zip(person.joints.tolist(), quats, strict=True)
    ]
    return PoseArray(header=header(result.stamp_ns, result.frame_id), poses=poses)


def body_model_to_msg(body: Any, *, publish_faces: bool) -> BodyModel:
    """Return the description of a body (`hsr_core.body.EhmBody`); triangles only of the open body."""
    rest = HumanParams(
        betas=np.zeros(body.n_betas, np.float32),
        expression=np.zeros(body.n_expression, np.float32),
        head_betas=np.zeros(body.n_head_betas, np.float32),
        head_expression=np.zeros(body.n_head_expression, np.float32),
    )
    vertices, joints = body.rest(rest)
    msg = BodyModel(
        model_id=body.model_id,
        family=body.family,
        licence_note=body.licence_note,
        joint_names=list(JOINT_NAMES),
        joint_parents=_fixed("joint_parents", np.array(PARENTS), N_JOINTS, np.int16),
        rest_joints=_fixed("rest_joints", joints, 3 * N_JOINTS),
        vertex_count=len(vertices),
    )
    if publish_faces and body.family == "OPEN":
        faces = array("I")
        faces.frombytes(np.ascontiguousarray(body.faces, np.uint32).reshape(-1).view(np.uint8).data)
        msg.faces = faces
    return msg


# --- statistics -----------------------------------------------------------------------------------------------

_COUNTERS = ("received", "processed", "dropped_busy", "dropped_stale", "dropped_bad", "dropped_gap")
_STAGES = (
    "receive", "decode", "detect", "regress", "body", "place", "smooth", "publish", "total", "image_age", "gpu"
)  # fmt: skip


def stats_to_msg(
    result: FrameResult, counters: Mapping[str, int], stage_ms: Mapping[str, float], *, ros_time: bool = False
) -> FrameStats:
    """Return what one frame cost.

    Args:
        result: The frame; its own `stage_ms` is used for the stages that `stage_ms` lacks.
        counters: received, processed, dropped_busy, dropped_stale, dropped_bad, dropped_gap; missing = 0.
        stage_ms: Durations [ms] by stage: receive, decode, detect, ... total, image_age; missing = NaN.
        ros_time: Ages were measured with the ROS clock.
    """
    durations = {**result.stage_ms, **stage_ms}
    return FrameStats(
        header=header(result.stamp_ns, result.frame_id),
        seq=result.seq,
        people=sum(person.state != TrackState.LOST for person in result.people),
        time_source=FrameStats.ROS_TIME if ros_time else FrameStats.SYSTEM_TIME,
        **{name: int(counters.get(name, 0)) for name in _COUNTERS},
        **{f"{name}_ms": float(durations.get(name, math.nan)) for name in _STAGES},
    )
