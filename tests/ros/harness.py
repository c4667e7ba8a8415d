"""Real nodes in processes of their own, and a node of the test that talks to them.

Everything waits for conditions with limits; nothing sleeps to be on the safe side.
"""

from __future__ import annotations

import os
import re
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any
from unittest import mock

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from hsr import convert
from hsr.environment import transport_environment
from hsr.lifecycle import TRANSITIONS, LifecycleClient
from hsr.processes import NodeProcess, stop_all
from hsr_msgs.msg import FrameStats, Human, HumanArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from ros_domains import next_domain
from sensor_msgs.msg import CameraInfo, Image

from hsr_core.types import Camera

LIMIT_S = 60.0
"""Of every wait; only a computer that is slow and full comes near it."""
FRAME_ID = "camera_optical_frame"
HERE = Path(__file__).parent


class Rig:
    """A DDS domain of its own with the test's node in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.domain = next_domain()
        self.environ = {
            **os.environ,
            **transport_environment(),
            "ROS_DOMAIN_ID": str(self.domain),
            "ROS_LOG_DIR": str(folder / "ros"),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
        }
        self.context = rclpy.Context()
        # Fast DDS reads its profile with the first participant of the process.
        with mock.patch.dict(os.environ, transport_environment()):
            rclpy.init(context=self.context, domain_id=self.domain)
            self.node = rclpy.create_node("tester", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._processes: list[NodeProcess] = []

    def start(self, name: str, module: str, *arguments: str, environ: dict[str, str] | None = None) -> NodeProcess:
        process = NodeProcess(
            f"{name}{len(self._processes)}", module, arguments, self.folder, {**self.environ, **(environ or {})}
        )
        self._processes.append(process)
        return process

    def wait(self, condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        """Spin until `condition` gives something true; return it."""
        deadline = time.monotonic() + limit_s
        while not (found := condition()):
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {process.name}\n{process.tail(30)}" for process in self._processes)
                raise AssertionError(f"not within {limit_s:g} s: {what}\n{logs}")
            self.executor.spin_once(timeout_sec=0.02)
        return found

    def listen(self, kind: type, topic: str, profile: Any = 10, **options: Any) -> list:
        """Return a list that grows by what arrives on a topic."""
        heard: list = []

        def hear(msg: Any) -> None:
            if msg != b"":  # now and then a raw take of rclpy gives nothing
                heard.append(msg)

        self.node.create_subscription(kind, topic, hear, profile, **options)
        return heard

    def call(self, kind: type, service: str, /, limit_s: float = LIMIT_S, **fields: Any) -> Any:
        """Call a service; return its answer."""
        client = self.node.create_client(kind, service)
        self.wait(client.service_is_ready, f"service {service}")
        future = client.call_async(kind.Request(**fields))
        self.wait(future.done, f"answer of {service}", limit_s)
        self.node.destroy_client(client)
        return future.result()

    def stop(self, process: NodeProcess) -> int | None:
        self._processes.remove(process)
        return stop_all([process], LIMIT_S)[process.name]

    def close(self) -> None:
        stop_all(self._processes)
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


def image(
    command: int = 0,
    *,
    stamp_ns: int | None = None,
    size: tuple[int, int] = (64, 48),
    encoding: str = "bgr8",
    channels: int = 3,
    step: int | None = None,
    data: bytes | None = None,
    frame_id: str = FRAME_ID,
    bigendian: bool = False,
) -> Image:
    """Return an image whose bytes are all `command`. `size` is (width, height); `channels` bytes a pixel."""
    width, height = size
    step = width * channels if step is None else step
    msg = Image(height=height, width=width, encoding=encoding, step=step, is_bigendian=bigendian)
    msg.header.frame_id = frame_id
    msg.header.stamp = convert.ns_to_stamp(time.time_ns() if stamp_ns is None else stamp_ns)
    msg.data = array("B", bytes([command]) * (step * height) if data is None else data)
    return msg


def camera_info(size: tuple[int, int] = (64, 48), frame_id: str = FRAME_ID, hfov_deg: float = 60.0) -> CameraInfo:
    info = convert.camera_to_info(Camera.from_hfov(hfov_deg, (size[1], size[0])), 0)
    info.header.frame_id = frame_id
    return info


def until_frames(bringup: Popen, least: int = 1) -> str:
    """Wait until a bringup's perception node has processed so many frames; return what was printed."""
    text = ""
    for line in bringup.stdout:
        text += line
        if (found := re.search(r"processed +(\d+)", line)) and int(found[1]) >= least:
            return text
    raise AssertionError(f"the system did not come up:\n{text}{bringup.stderr.read()}")


def children_of(pid: int) -> dict[str, int]:
    """Return the node processes that a bringup started, by module."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "hsr.child" in words and words[words.index("hsr.child") + 1] == str(pid):
            found[words[words.index("hsr.child") + 2]] = int(path.parent.name)
    return found


def best_effort(depth: int = 1) -> QoSProfile:
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)


class Perception:
    """A perception node with the scripted stream (or another module's), and a camera that the test plays."""

    def __init__(
        self, rig: Rig, *parameters: str, activate: bool = True, environ: dict | None = None,
        module: str = "scripted_node", remap: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.rig = rig
        arguments = ["--ros-args", "-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info"]
        for name, topic in (remap or {}).items():
            arguments += ["-r", f"{name}:={topic}"]
        for pair in ("diagnostic_updater.period:=0.2", *parameters):
            arguments += ["-p", pair]
        self.process = rig.start("perception", module, *arguments, environ=environ)
        self.lifecycle = LifecycleClient(rig.node, rig.executor, "/human/perception")
        self._changes = rig.node.create_client(ChangeState, "/human/perception/change_state")
        self.people = rig.listen(HumanArray, "/human/people", 100)
        self.stats = rig.listen(FrameStats, "/human/stats", 100)
        self.diagnostics = rig.listen(DiagnosticArray, "/diagnostics", 100)
        self.images = rig.node.create_publisher(Image, "/camera/image_raw", 1)
        self.infos = rig.node.create_publisher(CameraInfo, "/camera/camera_info", 1)
        if activate:
            self.change("configure")
            self.change("activate")

    def change(self, transition: str, expected: bool = True) -> None:
        assert self.lifecycle.change(transition, LIMIT_S) == expected, self.process.tail()

    def state(self) -> str | None:
        return self.lifecycle.state(LIMIT_S)

    def begin(self, transition: str) -> Future:
        """Ask for a transition without waiting for its end; the future gives the answer of the service."""
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
        self.rig.wait(self._changes.service_is_ready, "the lifecycle's service")
        return self._changes.call_async(request)

    def send(self, msg: Image | None = None, info: CameraInfo | None = None, **fields: Any) -> Image:
        """Publish one image with its camera info; `fields` go to `image`."""
        msg = msg or image(**fields)
        info = info or camera_info((msg.width, msg.height), msg.header.frame_id)
        info.header.stamp = msg.header.stamp
        self.infos.publish(info)
        self.images.publish(msg)
        return msg

    def feed(
        self,
        until: Callable[[], Any],
        what: str,
        *,
        make: Callable[[], Image | None] = image,
        info: Callable[[Image], CameraInfo | None] = lambda msg: None,
        hz: float = 40.0,
        limit_s: float = LIMIT_S,
    ) -> Any:
        """Play a camera until a condition holds; return what it gave."""
        due = time.monotonic()

        def step() -> Any:
            nonlocal due
            if time.monotonic() >= due:
                due = max(due + 1 / hz, time.monotonic() - 1 / hz)
                msg = make()
                if msg is not None:
                    self.send(msg, info(msg))
            return until()

        return self.rig.wait(step, what, limit_s)

    def feed_until_more(self, heard: list, what: str, n: int = 1, **options: Any) -> Any:
        """Play the camera until `n` more messages were heard from now on; return the last."""
        goal = len(heard) + n
        self.feed(lambda: len(heard) >= goal, what, **options)
        return heard[-1]

    def works(self) -> HumanArray:
        """Assert that good input gives people; the node lives. Return those of the newest of these images."""
        begin, sent = len(self.people), []

        def make() -> Image:
            sent.append(image())
            return sent[-1]

        def found() -> list[HumanArray]:
            stamps = [msg.header.stamp for msg in sent]
            return [p for p in self.people[begin:] if _somebody(p) and p.header.stamp in stamps]

        people = self.feed(found, "people from good images", make=make)
        assert self.process.returncode is None
        return people[-1]

    def status(self, part: str) -> DiagnosticStatus | None:
        """Return the newest diagnostics status of a part."""
        for array_ in reversed(self.diagnostics):
            for status in array_.status:
                if status.name == f"perception: {part}":
                    return status
        return None

    def wait_status(self, part: str, matches: Callable[[DiagnosticStatus], Any], what: str, **options: Any) -> Any:
        """Wait for a status from now on, without playing the camera."""
        self.diagnostics.clear()
        self.rig.wait(lambda: (s := self.status(part)) is not None and matches(s), what, **options)
        return self.status(part)

    def counted(self, name: str) -> int:
        return getattr(self.stats[-1], name) if self.stats else 0

    def log(self) -> str:
        return self.process.log_path.read_text(errors="replace")


def level(status: DiagnosticStatus) -> int:
    """rclpy gives the level as one byte."""
    return status.level[0] if isinstance(status.level, bytes) else int(status.level)


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {item.key: item.value for item in status.values}


def _somebody(people: HumanArray) -> bool:
    return any(human.state != Human.LOST for human in people.humans)
