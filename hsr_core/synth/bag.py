"""A synthetic scene as a rosbag2 file (mcap), written without ROS.

Topics

    /camera/image_raw          sensor_msgs/Image rgb8
    /camera/camera_info        sensor_msgs/CameraInfo
    /camera/depth/image_raw    sensor_msgs/Image 16UC1, z-depth [mm] registered to the image, 0 = invalid
    /camera/depth/camera_info  the same as the image's
    /synth/mask                sensor_msgs/Image 16UC1, track id of the person at each pixel, 0 = nobody
    /synth/initial             hsr_msgs/HumanArray, initial estimates
    /synth/truth               hsr_msgs/HumanArray, exact parameters
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..body.base import BodyModel
from ..body.joints import N_JOINTS
from ..errors import ConfigError, MissingPackage
from ..geometry.camera import project
from ..geometry.rotations import rotmat_to_quat_wxyz, wxyz_to_xyzw
from ..refine.frames import PARAMETERS, RefineFrame
from ..sources.bag_reader import register_hsr_messages
from ..types import Array, Camera, EstimateSource, HumanParams, MetricSource, Part, TrackState

FRAME_ID = "camera_color_optical_frame"
BEGIN_NS = 1_000_000_000
"""Stamp of what happens at 0 s: in a message a stamp of zero says that there is none."""
_ALL_PARTS = int(Part.BODY | Part.LEFT_HAND | Part.RIGHT_HAND | Part.FACE)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class BagWriter:
    """Writes frames into a new bag; use it in a `with` block.

    Args:
        path: Folder of the bag; must not exist.
        camera: Camera of all frames.
        body: Poses the parameters.

    Raises:
        MissingPackage: `rosbags` is not installed.
        MissingFile: The definitions of hsr_msgs are neither installed nor beside the library.
        ConfigError: The folder exists.
    """

    def __init__(self, path: str | os.PathLike[str], camera: Camera, body: BodyModel) -> None:
        try:
            from rosbags.rosbag2 import StoragePlugin, Writer
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise MissingPackage("writing a bag needs rosbags: pip install 'hsr-core[bag]'") from error
        if Path(path).exists():
            raise ConfigError(f"{path} exists; delete it or choose another folder for the bag")
        self._camera, self._body = camera, body
        self._store = get_typestore(Stores.ROS2_JAZZY)
        register_hsr_messages(self._store)
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._connections: dict[str, Any] = {}
        self._seq = 0

    def __enter__(self) -> BagWriter:
        self._writer.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, people: Sequence[RefineFrame]) -> None:
        """Write one instant: everybody's frames, all with the same stamp, image and depth."""
        frame = people[0]
        stamp_ns = frame.stamp_ns + BEGIN_NS
        header = self._header(stamp_ns)
        info = self._camera_info(header)
        rgb = np.rint(np.clip(frame.image, 0, 1) * 255).astype(np.uint8)
        self._write("/camera/image_raw", stamp_ns, self._image(header, "rgb8", rgb))
        self._write("/camera/camera_info", stamp_ns, info)
        if frame.depth_m is not None:
            mm = np.rint(frame.depth_m * 1000.0)
            depth = np.where((mm > 0) & (mm < 65536), mm, 0).astype("<u2")
            self._write("/camera/depth/image_raw", stamp_ns, self._image(header, "16UC1", depth))
            self._write("/camera/depth/camera_info", stamp_ns, info)
        self._write("/synth/mask", stamp_ns, self._image(header, "16UC1", _instances(people)))
        self._write_people("/synth/initial", header, stamp_ns, [p.params for p in people], EstimateSource.REGRESSED)
        if frame.truth is not None:
            truth = [p.truth for p in people if p.truth is not None]
            self._write_people("/synth/truth", header, stamp_ns, truth, EstimateSource.REFINED)
        self._seq += 1

    def _type(self, name: str) -> Callable[..., Any]:
        return self._store.types[name]

    def _write(self, topic: str, stamp_ns: int, message: Any) -> None:
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._store)
        self._writer.write(self._connections[topic], stamp_ns, self._store.serialize_cdr(message, kind))

    def _header(self, stamp_ns: int) -> Any:
        time = self._type("builtin_interfaces/msg/Time")(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        return self._type("std_msgs/msg/Header")(stamp=time, frame_id=FRAME_ID)

    def _image(self, header: Any, encoding: str, pixels: Array) -> Any:
        return self._type("sensor_msgs/msg/Image")(
            header=header,
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels[0].nbytes,
            data=np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8),
        )

    def _camera_info(self, header: Any) -> Any:
        height, width = self._camera.image_hw
        K = self._camera.K
        no_roi = self._type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
        return self._type("sensor_msgs/msg/CameraInfo")(
            header=header,
            height=height,
            width=width,
            distortion_model=self._camera.model,
            d=self._camera.dist,
            k=K.reshape(-1),
            r=np.eye(3).reshape(-1),
            p=np.concatenate([K, np.zeros((3, 1))], 1).reshape(-1),
            binning_x=0,
            binning_y=0,
            roi=no_roi,
        )

    def _write_people(
        self, topic: str, header: Any, stamp_ns: int, people: Sequence[HumanParams], source: EstimateSource
    ) -> None:
        height, width = self._camera.image_hw
        message = self._type("hsr_msgs/msg/HumanArray")(
            header=header,
            seq=self._seq,
            source=int(source),
            image_width=width,
            image_height=height,
            k=self._camera.K.reshape(-1),
            intrinsics_source=int(self._camera.source),
            world_frame="",
            t_world_cam=np.zeros(7),
            model_id=self._body.model_id,
            humans=[self._human(params, i) for i, params in enumerate(people)],
        )
        self._write(topic, stamp_ns, message)

    def _human(self, params: HumanParams, index: int) -> Any:
        posed = self._body.pose_one(params)
        uv = project(posed.joints, self._camera)
        skin = project(posed.vertices, self._camera)
        box = np.concatenate([np.nanmin(skin, 0), np.nanmax(skin, 0)])
        return self._type("hsr_msgs/msg/Human")(
            id=_LETTERS[index] * 5,
            track_id=index + 1,
            state=int(TrackState.TRACKED),
            primary=index == 0,
            confidence=1.0,
            bbox_xyxy=_flat(box),
            metric_source=int(MetricSource.DEPTH_CAMERA),
            depth_sigma_m=0.0,
            joints=_flat(posed.joints),
            joint_quats_xyzw=_flat(wxyz_to_xyzw(rotmat_to_quat_wxyz(posed.joint_rotmats))),
            joint_score=np.ones(N_JOINTS, np.float32),
            keypoints2d=_flat(np.concatenate([uv, np.ones((N_JOINTS, 1))], 1)),
            root_velocity=np.zeros(0, np.float32),
            foot_contact=np.zeros(0, np.float32),
            parts=_ALL_PARTS,
            **{name: _flat(getattr(params, name)) for name in PARAMETERS},
        )


def _flat(values: Array) -> Array:
    return np.asarray(values, np.float32).reshape(-1)


def _instances(people: Sequence[RefineFrame]) -> Array:
    """Return the person who covers most of each pixel, by track id; less than half is nobody."""
    masks = np.stack([person.mask for person in people])
    return np.where(masks.max(0) >= 0.5, masks.argmax(0) + 1, 0).astype("<u2")
