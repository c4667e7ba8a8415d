"""A refiner node in a process of its own; the test plays the camera, the perception node, depth and masks."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from harness import FRAME_ID, LIMIT_S, Rig, image
from hsr import convert
from hsr.lifecycle import LifecycleClient
from hsr.stamps import header
from hsr_msgs.msg import AvatarInfo, Human, HumanArray, WindowQuality
from scripted_refiner import LOG, BoxBody, Command, told
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import Marker

from hsr_core.types import Camera, IntrinsicsSource

SIZE = (160, 120)
CAMERA = Camera.from_hfov(60.0, (SIZE[1], SIZE[0]))
Z_M = 2.5
STEP_NS = 100_000_000
START_NS = 1_000_000_000_000


def human(track_id: int = 7, *, z_m: float = Z_M, **fields: Any) -> Human:
    """Return a person in front of the camera; `fields` are those of the message."""
    values = {
        "id": convert.body_id(track_id), "track_id": track_id, "state": Human.TRACKED, "primary": True,
        "confidence": 0.9, "metric_source": Human.METRIC_ASSUMED_HEIGHT, "depth_sigma_m": 0.5,
        "transl": np.float32([0, 0, z_m]), "head_scale": np.ones(3, np.float32),
        "joint_score": np.full(55, 0.75, np.float32), "parts": Human.BODY | Human.LEFT_HAND,
        "left_hand_pose": array("f", [0.125] * 45),
        **{name: array("f", [0.0] * 10) for name in ("betas", "expression", "head_betas", "head_expression")},
    }  # fmt: skip
    return Human(**{**values, **fields})


def people(stamp_ns: int, *humans: Human, camera: Camera = CAMERA, **fields: Any) -> HumanArray:
    values = {
        "header": header(stamp_ns, FRAME_ID), "seq": stamp_ns // STEP_NS, "source": HumanArray.SMOOTHED,
        "image_width": camera.image_hw[1], "image_height": camera.image_hw[0], "k": camera.K.reshape(-1),
        "intrinsics_source": int(IntrinsicsSource.CAMERA_INFO), "model_id": BoxBody.model_id, "humans": list(humans),
    }  # fmt: skip
    return HumanArray(**{**values, **fields})


def info(stamp_ns: int, camera: Camera = CAMERA) -> CameraInfo:
    msg = convert.camera_to_info(camera, stamp_ns)
    msg.header.frame_id = FRAME_ID
    return msg


def depth_image(stamp_ns: int, depth_m: np.ndarray, *, encoding: str = "16UC1", frame_id: str = FRAME_ID) -> Image:
    values = np.rint(depth_m * 1000).astype("<u2") if encoding == "16UC1" else depth_m.astype("<f4")
    return _image_of(stamp_ns, values, encoding, frame_id)


def mask_image(stamp_ns: int, mask: np.ndarray) -> Image:
    return _image_of(stamp_ns, mask.astype(np.uint8), "mono8", FRAME_ID)


def _image_of(stamp_ns: int, values: np.ndarray, encoding: str, frame_id: str) -> Image:
    height, width = values.shape
    msg = Image(header=header(stamp_ns, frame_id), height=height, width=width, encoding=encoding)
    msg.step = width * values.dtype.itemsize
    msg.data = array("B", values.tobytes())
    return msg


class Refiner:
    """The node with the scripted refiner, and everybody it listens to."""

    def __init__(self, rig: Rig, *parameters: str, module: str = "scripted_refiner", activate: bool = True) -> None:
        self.rig = rig
        self.log_path = rig.folder / "told.jsonl"
        arguments = ["--ros-args", "-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info"]
        # On a busy machine a nice node would be waited for in vain.
        for pair in ("nice:=0", "diagnostic_updater.period:=0.2", f"data_dir:={rig.folder / 'data'}", *parameters):
            arguments += ["-p", pair]
        self.process = rig.start("refiner", module, *arguments, environ={LOG: str(self.log_path)})
        self.lifecycle = LifecycleClient(rig.node, rig.executor, "/human/refiner")
        self.people = rig.listen(HumanArray, "/human/refined/people", 100)
        self.quality = rig.listen(WindowQuality, "/human/refined/quality", 100)
        self.meshes = rig.listen(Marker, "/human/refined/mesh", 100, raw=True)
        self.avatars = rig.listen(AvatarInfo, "/human/avatar", 100)
        self.diagnostics = rig.listen(DiagnosticArray, "/diagnostics", 100)
        create = rig.node.create_publisher
        self.images = create(Image, "/camera/image_raw", 5)
        self.infos = create(CameraInfo, "/camera/camera_info", 5)
        self.perceived = create(HumanArray, "/human/people", 5)
        self.depths = create(Image, "/human/depth", 5)
        self.depth_infos = create(CameraInfo, "/human/depth_info", 5)
        self.masks = create(Image, "/human/mask", 5)
        self.step_ns = STEP_NS
        self._stamp_ns = START_NS
        if activate:
            self.change("configure")
            self.change("activate")

    def change(self, transition: str, expected: bool = True) -> None:
        assert self.lifecycle.change(transition, 2 * LIMIT_S) == expected, self.process.tail()

    def told(self, what: str) -> list[dict]:
        return told(self.log_path, what)

    def send(self, command: int = Command.ACCEPT, *humans: Human, stamp_ns: int | None = None) -> int:
        """Publish camera info, image and people of one moment; return its stamp."""
        stamp_ns = self.next_stamp() if stamp_ns is None else stamp_ns
        self.infos.publish(info(stamp_ns))
        self.images.publish(image(command, stamp_ns=stamp_ns, size=SIZE))
        self.perceived.publish(people(stamp_ns, *(humans or (human(),))))
        return stamp_ns

    def next_stamp(self) -> int:
        self._stamp_ns += self.step_ns
        return self._stamp_ns

    def feed(
        self,
        until: Callable[[], Any],
        what: str,
        *,
        play: Callable[[], Any] | None = None,
        hz: float = 40.0,
        limit_s: float = LIMIT_S,
    ) -> Any:
        """Play until a condition holds; return what it gave. `play` publishes one moment."""
        import time

        play, due = play or self.send, time.monotonic()

        def step() -> Any:
            nonlocal due
            if time.monotonic() >= due:
                due = max(due + 1 / hz, time.monotonic() - 1 / hz)
                play()
            return until()

        return self.rig.wait(step, what, limit_s)

    def works(self) -> WindowQuality:
        """Assert that good input gives an accepted window; the node lives."""
        begin = len(self.quality)
        found = self.feed(lambda: [q for q in self.quality[begin:] if q.accepted], "an accepted window")
        assert self.process.returncode is None
        return found[-1]

    def status(self, part: str) -> DiagnosticStatus | None:
        for array_ in reversed(self.diagnostics):
            for status in array_.status:
                if status.name == f"refiner: {part}":
                    return status
        return None

    def count(self, name: str) -> int:
        """Return a counter of the newest diagnostics."""
        status = self.status("windows")
        values = {item.key: item.value for item in status.values} if status else {}
        return int(values.get(name, 0))
