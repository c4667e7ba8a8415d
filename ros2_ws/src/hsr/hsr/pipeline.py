"""What the worker does with one image: unpack, one call of the library, publish."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from rclpy.clock import Clock
from sensor_msgs.msg import CompressedImage

from hsr_core.config import Settings
from hsr_core.errors import BadFrame
from hsr_core.types import Array, Frame, FrameResult, HumanEstimate

from . import convert
from .cameras import CameraBook
from .depth_input import DepthInput
from .image_input import Incoming
from .notices import Notices
from .outputs import Outputs
from .snapshot import save_snapshot, snapshot_folder
from .stats import Counters, Rate, Window
from .tf_input import WorldLookup
from .worker_errors import Recent, WorkerErrors

if TYPE_CHECKING:
    from hsr_core.stream import DepthOf

NAN_FRAMES_BEFORE_RESET = 10


class Stream(Protocol):
    """The part of `hsr_core.stream.HumanStream` that the node uses."""

    body: Any

    def process(self, frame: Frame, depth_of: DepthOf | None = None) -> FrameResult: ...

    def mesh(self, estimate: HumanEstimate) -> Array: ...

    def set_primary(self, track_id: int | None) -> None: ...

    def lock_shape(self, track_id: int, locked: bool) -> None: ...

    def reset(self) -> None: ...

    def configure(self, settings: Settings) -> None: ...

    def close(self) -> None: ...


class Pipeline:
    """Turns incoming images into published people; every method but the properties runs in the worker's thread.

    Attributes:
        result: The last published result, or None.
        latency_ms: Stamp of the image to the last output, of the newest frames.
        work_ms: Durations of the stages of the newest frames, by name.
        errors: The exceptions of the library.
        bad: Why an image of the last seconds could not be used.
    """

    def __init__(
        self,
        stream: Stream,
        outputs: Outputs,
        cameras: CameraBook,
        counters: Counters,
        notices: Notices,
        settings: Settings,
        clock: Clock,
        epoch: Callable[[], int],
        ages_mean_something: Callable[[], bool],
        too_old: Callable[[int, int, float], bool],
        on_device_error: Callable[[str], None],
        world: WorldLookup | None = None,
        depth: DepthInput | None = None,
    ) -> None:
        self._stream, self._outputs, self._cameras = stream, outputs, cameras
        self._counters, self._notices, self._settings, self._clock = counters, notices, settings, clock
        self._epoch, self._ages_mean_something, self._too_old = epoch, ages_mean_something, too_old
        self._world, self._depth = world, depth
        self.result: FrameResult | None = None
        self.rate = Rate()
        self.latency_ms = Window()
        self.work_ms: dict[str, Window] = {}
        self.errors = WorkerErrors(counters, notices, on_device_error)
        self.bad = Recent()
        self._nan_frames = 0
        self._snapshots: list[tuple[str, Future[Path]]] = []

    def handle(self, incoming: Incoming) -> None:
        """Process one image and publish its people.

        Raises:
            BadFrame: The image cannot be used.
        """
        start, began_s = time.perf_counter(), time.monotonic()
        settings = self._settings
        if self._too_old(incoming.stamp_ns, self._clock.now().nanoseconds, settings.input.max_age_s):
            self._counters.add("dropped_stale")
            return
        frame = self._to_frame(incoming)
        if frame is None:
            return
        decoded = time.perf_counter()
        result = self._without_nan(self._stream.process(frame, self._depth_of(incoming)))
        if self._world is not None:  # now, when a transform that was late is there
            result = self._world.locate(result, began_s, settings.tf.timeout_s)
        if incoming.epoch != self._epoch():
            self._counters.add("dropped_stale")  # time jumped or tracks were reset while this was in work
            return
        worked = time.perf_counter()
        meshes = self._outputs.publish(frame, result)
        done = time.perf_counter()
        self._counters.add("processed")
        stage_ms = {
            **result.stage_ms,
            "receive": incoming.receive_ms,
            "decode": (decoded - start) * 1e3,
            "publish": (done - worked) * 1e3,
            "total": (done - start) * 1e3,
        }
        self._measure(incoming, stage_ms)
        self._outputs.publish_stats(result, stage_ms, ros_time=self._clock.ros_time_is_active)
        self.result = result
        self._serve_snapshots(frame, result, meshes)

    def on_error(self, error: Exception) -> None:
        """Count an image that could not be used, or an exception of the library, and go on; a lost GPU is handed on."""
        self._counters.add("dropped_bad")
        if isinstance(error, BadFrame):
            self.bad.set(str(error))
            self._notices.warn(("bad", str(error)), f"image dropped: {error}", every_s=60.0)
        else:
            self.errors.add(error, "frame dropped")

    def configure(self, settings: Settings) -> None:
        """Take live settings between two frames."""
        self._settings = settings
        self._stream.configure(settings)
        self._outputs.configure(settings)
        if self._depth is not None:
            self._depth.configure(settings)

    def restart(self) -> None:
        """Forget all tracks; new ids from here on, and empty displays."""
        self._stream.reset()
        self._nan_frames = 0
        now_ns = self._clock.now().nanoseconds
        self._outputs.forget(now_ns, self.result.frame_id if self.result else "")
        self.result = None
        self.latency_ms.clear()

    def snapshot(self, name: str, written: Future[Path]) -> None:
        """Write the next processed frame; `written` gets the folder."""
        self._snapshots.append((name, written))

    def close(self) -> None:
        """Cancel the snapshots that wait and let go of the stream; the executor may hold this object a while longer."""
        for _, written in self._snapshots:
            written.cancel()
        self._snapshots.clear()
        del self._stream, self._outputs

    def _to_frame(self, incoming: Incoming) -> Frame | None:
        """Return the image as a Frame with its camera; None while camera info may still come."""
        settings = self._settings
        msg, rename = incoming.msg, settings.input.frame_id
        index = self._counters["processed"]
        if isinstance(msg, CompressedImage):
            frame = convert.compressed_to_frame(msg, frame_id=rename, index=index)
        else:
            override = settings.input.encoding_override
            note = convert.conversion_note(override or msg.encoding)
            if note:
                self._notices.warn(("encoding", note), note)
            frame = convert.image_to_frame(msg, encoding_override=override, frame_id=rename, index=index)
        frame_id = msg.header.frame_id
        camera = self._cameras.find(frame_id, frame.image_hw, rename or frame_id)
        if camera is None:
            if self._cameras.still_waiting(frame_id):
                self._counters.add("dropped_busy")
                return None
            if self._depth is not None:
                camera = self._depth.intrinsics(frame_id, frame.image_hw, rename or frame_id)
            if camera is None:
                self._cameras.explain_none(frame_id, settings.camera.assumed_hfov_deg)
        return dataclasses.replace(frame, camera=camera, stamp_ns=incoming.stamp_ns)

    def _depth_of(self, incoming: Incoming) -> DepthOf | None:
        """Return what the library asks for the depth of this image."""
        if self._depth is None:
            return None
        return self._depth.expect(incoming.stamp_ns, incoming.msg.header.frame_id)

    def _without_nan(self, result: FrameResult) -> FrameResult:
        people = tuple(person for person in result.people if _finite(person))
        if len(people) == len(result.people):
            self._nan_frames = 0
            return result
        self._counters.add("nan_people", len(result.people) - len(people))
        self._nan_frames += 1
        self._notices.warn("nan", "a person with NaN parameters was dropped", every_s=10.0)
        if self._nan_frames == NAN_FRAMES_BEFORE_RESET:
            self._stream.reset()
            text = f"NaN in {NAN_FRAMES_BEFORE_RESET} frames in a row"
            self.errors.recent.set(text)
            self._notices.error("nan reset", f"{text}: tracks and filters were reset", every_s=10.0)
        return dataclasses.replace(result, people=people)

    def _measure(self, incoming: Incoming, stage_ms: dict[str, float]) -> None:
        self.rate.tick()
        stage_ms["image_age"] = float("nan")
        if self._ages_mean_something():
            stage_ms["image_age"] = (self._clock.now().nanoseconds - incoming.stamp_ns) * 1e-6
            self.latency_ms.add(stage_ms["image_age"])
        for name, value in stage_ms.items():
            self.work_ms.setdefault(name, Window()).add(value)

    def _serve_snapshots(self, frame: Frame, result: FrameResult, meshes: dict[int, Array]) -> None:
        if not self._snapshots:
            return
        waiting, self._snapshots = self._snapshots, []
        for person in result.people:
            if person.track_id not in meshes and self._settings.mesh.enabled:
                meshes[person.track_id] = self._stream.mesh(person)
        faces, data_dir = self._stream.body.faces, self._settings.data_dir

        def write() -> None:  # PNG and npz take longer than a frame: not in the worker
            for name, written in waiting:
                try:
                    folder = snapshot_folder(data_dir, name, result.stamp_ns)
                    written.set_result(save_snapshot(folder, frame, result, meshes, faces))
                except Exception as error:
                    written.set_exception(error)

        threading.Thread(target=write, name="snapshot", daemon=True).start()


def _finite(person: HumanEstimate) -> bool:
    return person.params.finite() and bool(np.isfinite(person.joints).all())
