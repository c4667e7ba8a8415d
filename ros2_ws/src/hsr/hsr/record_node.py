"""Records a run's inputs and outputs as a bag: mcap, readable to the last half second whatever ends this process.

    python -m hsr.record_node --ros-args -p path:=run1 -r image:=/camera/image_raw -r camera_info:=/camera/camera_info

Messages are subscribed serialised and written as they came. Images are recorded compressed: as the camera sends them
where it does, else made into JPEGs here. The threads that write and make JPEGs are nice: the other nodes come first.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from typing import Any

import cv2
from rcl_interfaces.msg import ParameterDescriptor, ParameterType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hsr_core.errors import ConfigError, HsrError
from hsr_core.sources.bag_writer import Recording

from . import qos
from .environment import prepare_process
from .node_parameters import RECORDER
from .parameter_files import refuse_unknown
from .params import declare_fixed
from .processes import cpu_s, yield_to_other_sessions
from .record_topics import deep, kind_of, message_class, offered, outputs
from .record_writer import Disk, JpegMaker
from .signals import ros, spin_until

WATCH_S = 0.25
"""Time between two looks for new publishers."""
SLOW_START_S = 5.0


class RecordNode(Node):
    """`/human/recorder`.

    Attributes:
        finished: Set when recording has ended by itself; `error` says why if that was not wanted.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__("recorder", namespace="human", **kwargs)
        declare_fixed(self, RECORDER)
        text = "Full names of more topics to record, such as /human/refined/people"
        names = ParameterDescriptor(description=text, read_only=True, type=ParameterType.PARAMETER_STRING_ARRAY)
        self.declare_parameter("extra_topics", [""], names)
        refuse_unknown(self)
        self.finished = threading.Event()
        self._begin_s, self._begin_cpu_s = time.monotonic(), cpu_s(os.getpid())
        if not self.value("path"):
            raise ConfigError("set the parameter path: the folder to record into")
        self._recording = Recording(self.value("path"))
        self._disk = Disk(self._recording, self.value("flush_s"), int(self.value("queue_mb") * 1e6), self.finished.set)
        self._jpegs: JpegMaker | None = None
        self._offered: dict[str, list] = {}
        self._recorded: set[str] = set()
        self._camera = self._info = None
        self._extra = [name for name in self.value("extra_topics") if name]
        for topic in outputs():
            self._record(topic.name, topic.message, topic.profile)
        if not any(topic.name == "/tf" for topic in outputs()):
            self.get_logger().warning("tf2_msgs is not installed: /tf and /tf_static are not recorded")
        self._image = self.resolve_topic_name("image")
        self.create_timer(WATCH_S, self._watch)
        self.get_logger().info(f"recording into {self._recording.path}")

    @property
    def error(self) -> str:
        return self._disk.error

    def value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def close(self) -> dict[str, Any]:
        """End the recording; return what was recorded."""
        if self._jpegs:
            self._jpegs.close()
        self._disk.close()
        seconds = time.monotonic() - self._begin_s
        recording, jpegs = self._recording, self._jpegs
        return {
            "path": str(recording.path),
            "error": self.error,
            "seconds": round(seconds, 2),
            "megabytes": round(recording.kept_bytes / 1e6, 3),
            "messages": dict(recording.counts),
            "dropped": dict(self._disk.dropped) | ({"jpeg": jpegs.dropped} if jpegs and jpegs.dropped else {}),
            "refused_images": jpegs.refused if jpegs else 0,
            "cpu_percent": round(100 * (cpu_s(os.getpid()) - self._begin_cpu_s) / max(seconds, 1e-3), 2),
        }

    # Subscriptions

    def _record(self, name: str, message: type, profile: Any) -> Any:
        topic, kind = self.resolve_topic_name(name), kind_of(message)
        self._recorded.add(topic)

        def on_message(data: bytes) -> None:
            if data:  # now and then a raw take of rclpy gives nothing
                self._disk.put(topic, kind, time.time_ns(), data, self._offered_on(topic))

        return self.create_subscription(message, topic, on_message, profile, raw=True)

    def _offered_on(self, topic: str) -> list:
        if topic not in self._offered:
            self._offered[topic] = offered(self.get_publishers_info_by_topic(topic))
            self.get_logger().info(f"first message on {topic}")
        return self._offered[topic]

    def _watch(self) -> None:
        elapsed_s = time.monotonic() - self._begin_s
        if 0 < self.value("seconds") <= elapsed_s:
            self.finished.set()
        info = self.resolve_topic_name("camera_info")
        if self._info is None and self.count_publishers(info):
            profile = deep(qos.camera_info_input(qos.match_reliability(self, info)))
            self._info = self._record(info, CameraInfo, profile)
        if self._camera is None:
            self._look_for_camera()
            if self._camera is None and elapsed_s > SLOW_START_S:
                text = f"no images on {self._image} or {self._image}/compressed yet"
                self.get_logger().warning(text, throttle_duration_sec=30.0)
        if self._extra:
            self._look_for_extra()

    def _look_for_camera(self) -> None:
        """Subscribe to the camera once it is there: only its publishers say how reliably it sends."""
        transport = self.value("transport")
        compressed = f"{self._image}/compressed"
        if transport != "raw" and self.count_publishers(compressed):
            profile = deep(qos.image_input(qos.match_reliability(self, compressed)))
            self._camera = self._record(compressed, CompressedImage, profile)
            self.get_logger().info(f"images from {compressed}, as they come")
        elif transport != "compressed" and self.count_publishers(self._image):
            self._jpegs = JpegMaker(self.value("jpeg_quality"), self._put_jpeg)
            profile = qos.image_input(qos.match_reliability(self, self._image), depth=4)
            self._camera = self.create_subscription(Image, self._image, self._on_raw_image, profile, raw=True)
            self.get_logger().info(f"images from {self._image}, made into JPEGs here")

    def _on_raw_image(self, data: bytes) -> None:
        if data:
            self._jpegs.put(time.time_ns(), data)

    def _put_jpeg(self, time_ns: int, data: bytes) -> None:
        self._disk.put(f"{self._image}/compressed", kind_of(CompressedImage), time_ns, data, [])

    def _look_for_extra(self) -> None:
        known = dict(self.get_topic_names_and_types())
        for topic in [name for name in self._extra if name in known and self.count_publishers(name)]:
            self._extra.remove(topic)
            if topic in self._recorded:
                continue
            kind = known[topic][0]
            message = message_class(kind)
            if message is None or not self._recording.knows(kind):
                self.get_logger().warning(f"{topic} is not recorded: {kind} is not known")
                continue
            latched = any(
                info.qos_profile.durability.name == "TRANSIENT_LOCAL"
                for info in self.get_publishers_info_by_topic(topic)
            )
            profile = qos.extra(qos.match_reliability(self, topic), latched)
            self._record(topic, message, profile)


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    cv2.setNumThreads(1)
    prepare_process()
    yield_to_other_sessions()
    with ros():
        try:
            node = RecordNode()
        except HsrError as error:
            sys.exit(f"record: {error}")
        try:
            spin_until(node, node.finished.is_set)
        finally:
            summary = node.close()
            print_summary = node.value("print_summary")
            node.destroy_node()
            total = sum(summary["messages"].values())
            print(f"recorded {total} messages in {summary['seconds']:.1f} s into {summary['path']}", flush=True)
            if print_summary:
                print(json.dumps(summary), flush=True)
    if summary["error"]:
        sys.exit(f"record: {summary['error']}")


if __name__ == "__main__":
    main()
