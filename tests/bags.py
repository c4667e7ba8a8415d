"""Small recordings made by rosbags, message by message."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
FRAME_ID = "camera_color_optical_frame"
BEGIN_NS = 1_700_000_000_000_000_000
STEP_NS = 33_333_333
HW = (48, 64)


def _type(name: str):
    return STORE.types[name]


def header(stamp_ns: int, frame_id: str = FRAME_ID):
    time = _type("builtin_interfaces/msg/Time")(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return _type("std_msgs/msg/Header")(stamp=time, frame_id=frame_id)


def picture(i: int, hw: tuple[int, int] = HW) -> np.ndarray:
    """A smooth BGR picture whose brightness says its number; smooth, so that JPEG changes it little."""
    ramp = np.linspace(0, 60, hw[1], dtype=np.float32)[None, :, None] + np.float32([0, 40, 80])
    return np.broadcast_to(ramp + i, (*hw, 3)).astype(np.uint8)


def image(pixels: np.ndarray, stamp_ns: int, encoding: str = "bgr8", frame_id: str = FRAME_ID):
    return _type("sensor_msgs/msg/Image")(
        header=header(stamp_ns, frame_id), height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
        is_bigendian=0, step=pixels[0].nbytes, data=np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8),
    )  # fmt: skip


def compressed(pixels: np.ndarray, stamp_ns: int, kind: str = "jpeg"):
    _, data = cv2.imencode(f".{kind}", pixels)
    return _type("sensor_msgs/msg/CompressedImage")(header=header(stamp_ns), format=kind, data=data.reshape(-1))


def info(stamp_ns: int, hw: tuple[int, int] = HW, focal: float = 50.0, frame_id: str = FRAME_ID):
    K = np.array([focal, 0, hw[1] / 2, 0, focal, hw[0] / 2, 0, 0, 1.0])
    return _type("sensor_msgs/msg/CameraInfo")(
        header=header(stamp_ns, frame_id), height=hw[0], width=hw[1], distortion_model="plumb_bob", d=np.zeros(5), k=K,
        r=np.eye(3).reshape(-1), p=np.zeros(12), binning_x=0, binning_y=0,
        roi=_type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False),
    )  # fmt: skip


def transforms(stamp_ns: int, *links: tuple[str, str]):
    """Parents and children, without a motion between them."""
    still = _type("geometry_msgs/msg/Transform")(
        translation=_type("geometry_msgs/msg/Vector3")(0.0, 0.0, 0.0),
        rotation=_type("geometry_msgs/msg/Quaternion")(0.0, 0.0, 0.0, 1.0),
    )
    stamped = _type("geometry_msgs/msg/TransformStamped")
    return _type("tf2_msgs/msg/TFMessage")([stamped(header(stamp_ns, parent), child, still) for parent, child in links])


def write_bag(path: Path, messages, *, sqlite: bool = False, compress: bool = False) -> Path:
    """Write (topic, time of receipt [ns], message) in the given order."""
    plugin = StoragePlugin.SQLITE3 if sqlite else StoragePlugin.MCAP
    writer = Writer(path, version=9, storage_plugin=plugin)
    if compress:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for topic, time_ns, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            writer.write(connections[topic], time_ns, STORE.serialize_cdr(message, message.__msgtype__))
    return path


def camera(n: int, *, late_ns: int = 2_000_000):
    """Yield n images with their camera infos, 30 a second, received a little after their stamps."""
    for i in range(n):
        stamp_ns = BEGIN_NS + i * STEP_NS
        yield "/camera/camera_info", stamp_ns + late_ns, info(stamp_ns)
        yield "/camera/image_raw", stamp_ns + late_ns, image(picture(i), stamp_ns)


def storage_file(bag: Path) -> Path:
    return next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
