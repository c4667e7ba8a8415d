"""`input.transport: auto`: one of the two transports at a time, whichever is there, raw before compressed."""

from __future__ import annotations

import time
from array import array

import cv2
import numpy as np
from harness import FRAME_ID, Perception, camera_info, image
from hsr.convert import ns_to_stamp
from sensor_msgs.msg import CompressedImage, Image

RAW, COMPRESSED = "/camera/image_raw", "/camera/image_raw/compressed"
JPEG = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()


class Camera:
    """A driver that sends each picture on every topic that it has a publisher for."""

    def __init__(self, rig, perception: Perception) -> None:
        self.rig, self.perception = rig, perception
        self.publishers = {RAW: perception.images}

    def begin(self, topic: str) -> None:
        kind = Image if topic == RAW else CompressedImage
        self.publishers[topic] = self.rig.node.create_publisher(kind, topic, 1)

    def end(self, topic: str) -> None:
        self.rig.node.destroy_publisher(self.publishers.pop(topic))

    def play_until_only(self, topic: str) -> None:
        """Play until people come and the node listens to this topic alone."""
        heard, begin = self.perception.people, len(self.perception.people)
        due = time.monotonic()

        def step() -> bool:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + 0.03
                self._send(time.time_ns())
            listened = {name for name in (RAW, COMPRESSED) if self.rig.node.count_subscribers(name)}
            return listened == {topic} and len(heard) >= begin + 15

        self.rig.wait(step, f"people of {topic} alone")

    def _send(self, stamp_ns: int) -> None:
        info = camera_info((64, 48), FRAME_ID)
        info.header.stamp = ns_to_stamp(stamp_ns)
        self.perception.infos.publish(info)
        for topic, publisher in self.publishers.items():
            msg = image(stamp_ns=stamp_ns)
            if topic == COMPRESSED:
                msg = CompressedImage(header=msg.header, format="jpeg", data=array("B", JPEG))
            publisher.publish(msg)


def test_publishers_of_either_transport_come_and_go_and_no_picture_is_taken_twice(rig):
    perception = Perception(rig)  # `image` is remapped to RAW: COMPRESSED is that name's own
    camera = Camera(rig, perception)
    camera.begin(COMPRESSED)
    camera.play_until_only(RAW)
    camera.end(RAW)
    camera.play_until_only(COMPRESSED)
    camera.begin(RAW)
    camera.play_until_only(RAW)
    for topic in (RAW, COMPRESSED):
        camera.end(topic)
    rig.wait(lambda: not perception.rig.node.count_publishers(RAW), "the end of the driver")
    camera.begin(COMPRESSED)
    camera.play_until_only(COMPRESSED)
    stamps = [(msg.header.stamp.sec, msg.header.stamp.nanosec) for msg in perception.people]
    assert stamps == sorted(set(stamps))
    assert perception.counted("dropped_bad") == 0
