"""Plays a recording as it was received, with its own stamps, and publishes its time on /clock.

    python -m hsr.play_node --ros-args -p path:=run1 -p rate:=0.5
    python -m hsr.play_node --ros-args -p path:=run1 -p mode:=stepped

`paced` keeps the recorded intervals, times a rate. `stepped` sends the next image only when the perception node has
answered the last one, or after a limit, which is counted. Messages are republished as the bytes that were recorded.
"""

from __future__ import annotations

import json
import logging
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hsr_msgs.msg import HumanArray
from rcl_interfaces.msg import ParameterDescriptor, ParameterType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Int64MultiArray

from hsr_core.errors import ConfigError, HsrError, SourceError
from hsr_core.sources.bag_reader import BagReader, BagTopic

from . import qos
from .environment import prepare_process
from .node_parameters import PLAYER
from .parameter_files import refuse_unknown
from .params import declare_fixed
from .record_topics import message_class
from .signals import ros, spin_until
from .stamps import ns_to_stamp
from .tf_wire import is_of_people

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO = "sensor_msgs/msg/CameraInfo"
CLOCK_S = 0.01
"""Time between two messages on /clock."""
SETTLE_S = 0.3
"""Before and after the descriptions (camera infos, latched messages): a node has matched and worked through them."""
OTHERS_S = 1.5
"""Longest wait for who listens to time and descriptions, once somebody listens to the images."""
COMPANY_NS = 100_000_000
"""What was received so much later than an image may belong to it."""
LATE_S = 0.05
LINGER_S = 0.5
"""After the last message, so that it leaves; Fast DDS would tell that it has arrived only every 3 s."""
_STAMP = {1: struct.Struct("<iI"), 0: struct.Struct(">iI")}
_CDR_HEADER_BYTES = 4
_LEAST_BYTES = 12
"""Encapsulation and stamp."""


def stamp_of(data: bytes) -> int:
    """Return the stamp at the head of a serialised message that begins with a header [ns]."""
    sec, nanosec = _STAMP[data[1] & 1].unpack_from(data, _CDR_HEADER_BYTES)
    return sec * 1_000_000_000 + nanosec


@dataclass
class Played:
    """How it went.

    Attributes:
        images: Sent. answered: Of those, in stepped mode. timeouts: Not answered within the limit.
        messages: Sent, of all topics. damaged: Images too short for a stamp, which are not sent.
        late: Messages sent more than 50 ms after their time. latest_s: The largest delay.
        seconds: Duration.
        ended: "end", "stopped", or why it ended early.
    """

    images: int = 0
    answered: int = 0
    timeouts: int = 0
    messages: int = 0
    damaged: int = 0
    late: int = 0
    latest_s: float = 0.0
    seconds: float = 0.0
    ended: str = ""


class PlayNode(Node):
    """`/human/player`. Publishes on `player/sent` when (steady clock [ns]) it sent the image of which stamp [ns].

    Attributes:
        finished: Set when everything was played.
        played: How it went.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__("player", namespace="human", **kwargs)
        declare_fixed(self, PLAYER)
        text = "Topics to play; none: all but what the stack itself publishes"
        names = ParameterDescriptor(description=text, read_only=True, type=ParameterType.PARAMETER_STRING_ARRAY)
        self.declare_parameter("topics", [""], names)
        refuse_unknown(self)
        if not self.value("path"):
            raise ConfigError("set the parameter path: the recording to play")
        self._reader = BagReader(self.value("path"))
        self._topics = self._chosen()
        self._without_people = self._is_for_new_people()
        self._image = self._answered_topic()
        self._senders = {name: self._sender(topic) for name, topic in self._topics.items()}
        self._sent = self.create_publisher(Int64MultiArray, "player/sent", qos.extra(True, False))
        self._clock = self.create_publisher(Clock, "/clock", qos.extra(True, False)) if self.value("clock") else None
        self._now_ns, self._ticked_s = 0, 0.0
        self._answers: set[int] = set()
        self._answered = threading.Condition()
        self._people = None
        if self.value("mode") == "stepped":
            self._people = self.create_subscription(
                HumanArray, "people", self._on_people, qos.refined_people(), raw=True
            )
        self.finished = threading.Event()
        self.played = Played()
        self.error = ""
        self._thread = threading.Thread(target=self._play, name="play", daemon=True)
        self._thread.start()

    def value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def stop(self) -> None:
        self.finished.set()
        with self._answered:
            self._answered.notify_all()
        self._thread.join(10.0)
        self._reader.close()

    # Topics

    def _chosen(self) -> dict[str, BagTopic]:
        known = {name: topic for name, topic in self._reader.topics.items() if topic.count}
        wanted = [name for name in self.value("topics") if name]
        missing = [name for name in wanted if name not in known]
        if missing:
            raise SourceError(f"no topic {', '.join(missing)}; it has: {self._reader.describe_topics()}")
        own = self.get_namespace().rstrip("/") + "/"
        topics = {
            name: topic
            for name, topic in known.items()
            if (name in wanted if wanted else not name.startswith(own) and name != "/clock")
        }
        for name in [name for name, topic in topics.items() if message_class(topic.kind) is None]:
            self.get_logger().warning(f"{name} is not played: the package of {topics[name].kind} is not installed")
            del topics[name]
        if not topics:
            raise SourceError(f"nothing to play in {self._reader.name}; it has: {self._reader.describe_topics()}")
        return topics

    def _answered_topic(self) -> str:
        named = self.value("image_topic")
        if named and named not in self._topics:
            raise SourceError(f"{named} is not played; played are: {', '.join(self._topics)}")
        images = [name for name, topic in self._topics.items() if topic.kind in IMAGES and "depth" not in name]
        if not named and len(images) != 1 and self.value("mode") == "stepped":
            raise SourceError(f"choose the image_topic that is answered, of: {', '.join(images) or 'none'}")
        return named or (images[0] if len(images) == 1 else "")

    def _is_for_new_people(self) -> bool:
        """Images without people: whoever finds these sends their frames, too, maybe under the same names."""
        own = self.get_namespace().rstrip("/") + "/"
        images = any(topic.kind in IMAGES for topic in self._topics.values())
        return images and not any(name.startswith(own) for name in self._topics)

    def _sender(self, topic: BagTopic) -> Any:
        latched = topic.latched or topic.name == "/tf_static"
        # An image that nobody had time for is replaced by the next one, as a camera would have it.
        profile = qos.image_input(reliable=True) if topic.kind in IMAGES else qos.extra(True, latched)
        return self.create_publisher(message_class(topic.kind), topic.name, profile)

    # Playing

    def _play(self) -> None:
        begin_s = time.monotonic()
        try:
            if self._wait_for_subscriber() and self._introduce():
                begin_s = time.monotonic()
                (self._play_stepped if self.value("mode") == "stepped" else self._play_paced)()
            self.played.seconds = time.monotonic() - begin_s
            self.played.ended = "stopped" if self.finished.is_set() else self._reader.damage or "end"
            self.finished.wait(LINGER_S)
        except Exception as error:  # the main thread tells and exits
            if self.context.ok():
                self.error = self.played.ended = f"{type(error).__name__}: {error}"
        self.finished.set()

    def _messages(self) -> Iterator[tuple[str, int, bytes]]:
        for topic, time_ns, data in self._reader.messages(self._topics):
            if self.finished.is_set():
                return
            data = bytes(data)
            if topic == "/tf" and self._without_people and is_of_people(data):
                continue
            yield topic, time_ns, data

    def _wait_for_subscriber(self) -> bool:
        """Wait for who listens to the images, and then a little for who listens to all the rest."""
        image = self._senders.get(self._image)
        if image and not self._wait(image.get_subscription_count, self.value("wait_for_subscriber_s")):
            self.get_logger().warning(f"nobody listens on {self._image}; playing all the same")
        others = [self._senders[name] for name in self._described()]
        matched = [sender.get_subscription_count for sender in (*others, self._sent, self._clock) if sender]
        if self._people is not None:
            matched.append(lambda: self.count_publishers(self._people.topic_name))
        self._wait(lambda: all(count() for count in matched), OTHERS_S)
        return not self.finished.is_set()

    def _wait(self, condition: Callable[[], Any], limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while not (met := condition()) and time.monotonic() < deadline:
            if self.finished.wait(0.02):
                return False
        return bool(met)

    def _described(self) -> list[str]:
        return [name for name, topic in self._topics.items() if topic.kind == INFO or topic.latched]

    def _introduce(self) -> bool:
        """Send the time and what describes the rest before the first image.

        A node would drop images that come before their camera info, and those in work when the time of a second replay
        jumps back.
        """
        first_ns = next((time_ns for _, time_ns, _ in self._messages()), 0)
        self._tick_for(SETTLE_S, first_ns)
        for name in self._described():
            for _, data in self._reader.first(name):
                self._senders[name].publish(bytes(data))
        return self._tick_for(SETTLE_S, first_ns)

    def _tick_for(self, seconds: float, time_ns: int) -> bool:
        """Publish the same time for a while; False when stopped meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._tick(time_ns)
            if self.finished.wait(CLOCK_S):
                return False
        return True

    def _play_paced(self) -> None:
        rate, origin_s, origin_ns = self.value("rate"), time.monotonic(), None
        for topic, time_ns, data in self._messages():
            origin_ns = time_ns if origin_ns is None else origin_ns
            due_s = origin_s + (time_ns - origin_ns) * 1e-9 / rate
            while (wait_s := due_s - time.monotonic()) > 0:
                if self.finished.wait(min(wait_s, CLOCK_S)):
                    return
                self._tick(min(time_ns, origin_ns + int((time.monotonic() - origin_s) * 1e9 * rate)))
            if time.monotonic() - self._ticked_s > CLOCK_S:  # also when there is never time to wait
                self._tick(time_ns)
            self.played.late += -wait_s > LATE_S
            self.played.latest_s = max(self.played.latest_s, -wait_s)
            self._send(topic, data)

    def _play_stepped(self) -> None:
        """Send each image after what was received with it: its depth, which comes later, is then there in time."""
        image: tuple[int, bytes] | None = None
        for topic, time_ns, data in self._messages():
            if image is not None and (topic == self._image or time_ns - image[0] > COMPANY_NS):
                self._step(*image)
                image = None
            if topic == self._image:
                image = time_ns, data
            else:
                self._tick(time_ns)
                self._send(topic, data)
        if image is not None:
            self._step(*image)

    def _step(self, time_ns: int, data: bytes) -> None:
        self._tick(time_ns)
        if self._send(self._image, data):
            self._await_answer(stamp_of(data))

    def _await_answer(self, stamp_ns: int) -> None:
        """Wait for the people of an image; of one without a stamp, for any."""
        with self._answered:
            found = self._answered.wait_for(
                lambda: self.finished.is_set() or (stamp_ns in self._answers if stamp_ns else self._answers),
                self.value("answer_timeout_s"),
            )
            self._answers.clear()
        if found:
            self.played.answered += not self.finished.is_set()
            return
        self.played.timeouts += 1
        self.get_logger().warning(f"no answer to the image of {stamp_ns * 1e-9:.3f} s", throttle_duration_sec=10.0)

    def _on_people(self, data: bytes) -> None:
        if data:  # now and then a raw take of rclpy gives nothing
            with self._answered:
                self._answers.add(stamp_of(data))
                self._answered.notify_all()

    def _send(self, topic: str, data: bytes) -> bool:
        if topic == self._image:
            if len(data) < _LEAST_BYTES:
                self.played.damaged += 1
                return False
            self.played.images += 1
            self._sent.publish(Int64MultiArray(data=[stamp_of(data), time.monotonic_ns()]))
        self._senders[topic].publish(data)
        self.played.messages += 1
        return True

    def _tick(self, time_ns: int) -> None:
        """Publish the time, which never goes back: without its index a recording comes in the order of writing."""
        self._now_ns, self._ticked_s = max(self._now_ns, time_ns), time.monotonic()
        if self._clock:
            self._clock.publish(Clock(clock=ns_to_stamp(self._now_ns)))


def main() -> None:
    logging.basicConfig(level=logging.WARNING)  # the library's own warnings: a damaged recording
    prepare_process()
    with ros():
        try:
            node = PlayNode()
        except HsrError as error:
            sys.exit(f"player: {error}")
        try:
            spin_until(node, node.finished.is_set)
        finally:
            node.stop()
            print(json.dumps(vars(node.played)), flush=True)
            node.destroy_node()
        if node.error:
            sys.exit(f"player: {node.error}")


if __name__ == "__main__":
    main()
