"""The perception node: images in, people out. It converts, calls the library, and publishes.

python -m hsr.perception_node --ros-args -r image:=/camera/image_raw -r camera_info:=/camera/camera_info
"""

from __future__ import annotations

import gc
import os

# Before numpy loads: the fits solve small systems, after each of which idle BLAS threads spin. One thread halves the
# processor time of a frame on two cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from hsr_core import progress
from hsr_core.config import Settings

from . import diagnostics
from .cameras import CameraBook
from .depth_input import DepthInput, open_depth_input
from .environment import give_back_memory
from .guarded_node import GuardedNode, run
from .image_input import ImageInput, Incoming
from .outputs import Outputs
from .params import DEFAULTS
from .perception_diagnostics import PerceptionDiagnostics
from .pipeline import Pipeline, Stream
from .services import Services
from .tf_input import TfInput, check_world_frame
from .worker import Worker

RESERVED_BLOCKS, RESERVED_BLOCK_BYTES = 8, 8 * 1024 * 1024
LIBRARY = ("hsr_core.body.ehm", "hsr_core.stream", "hsr_core.regress.landmarks")
OpenStream = Callable[[Settings], Stream]


def open_stream(settings: Settings) -> Stream:
    """Return the library's stream with the body and the regressor that the settings name."""
    progress.report("loading the library")
    from hsr_core.body import load_body  # the body and the networks: only when configuring
    from hsr_core.stream import HumanStream

    progress.report("loading the body")
    body = load_body(settings.body_model.path)
    progress.report("loading the regressor")
    return HumanStream(settings, body)


def reserve_memory() -> None:
    """Touch the memory that a few images in flight will need, so that the process does not grow while it runs.

    It stays with the allocator where the launch environment has raised glibc's thresholds (see `environment`).
    """
    blocks = [b"\1" * RESERVED_BLOCK_BYTES for _ in range(RESERVED_BLOCKS)]
    del blocks


class PerceptionNode(GuardedNode):
    """`/human/perception`. See docs/ros.md for topics, services and parameters."""

    def __init__(self, open_stream: OpenStream = open_stream, **kwargs) -> None:
        super().__init__("perception", DEFAULTS, **kwargs)
        self._open_stream = open_stream
        self._cameras = CameraBook(self._notices)
        self._stream: Stream | None = None
        self._outputs: Outputs | None = None
        self._pipeline: Pipeline | None = None
        self._input: ImageInput | None = None
        self._worker: Worker[Incoming] | None = None
        self._tf: TfInput | None = None
        self._depth: DepthInput | None = None
        Services(self, self._active_parts, self._restart, self._pause, self.service_timeout_s)
        self._health = PerceptionDiagnostics(self, self._counters)

    # Transitions

    def do_configure(self) -> None:
        super().do_configure()
        check_world_frame(self._settings.world_frame)
        self._stream = self.start_up(partial(self._open_stream, self._settings))
        self._outputs = Outputs(
            self, self._settings, self._stream.body, self._stream.mesh, self._counters, self._on_draw_error
        )
        reserve_memory()
        for note in filter(None, (self._outputs.marker_writer.note, self._outputs.tf.note)):
            self.get_logger().warning(note)

    def do_activate(self) -> None:
        self._counters.reset()
        if self._settings.world_frame:
            self._tf = TfInput(self, self._settings.world_frame, self._notices)
        self._depth = open_depth_input(self, self._settings, self._cameras, self._notices)
        self._pipeline = Pipeline(
            self._stream, self._outputs, self._cameras, self._counters, self._notices, self._settings,
            self.get_clock(), self._epoch, self._ages_mean_something, self._too_old, self._on_device_error,
            self._tf and self._tf.lookup, self._depth,
        )  # fmt: skip
        pipeline = self._pipeline
        # A frame that fails because ROS was shut down under it is no failure.
        self._worker = Worker(
            pipeline.handle, lambda error: self.context.ok() and pipeline.on_error(error), name="worker"
        )
        self._input = ImageInput(
            self, self._settings, self._cameras, self._counters, self._notices, self._worker.offer, self._restart
        )

    def do_deactivate(self) -> None:
        self._stop()
        self._outputs.retire(self.get_clock().now().nanoseconds)
        self._stream.reset()

    def free(self) -> None:
        self._stop()
        outputs, self._outputs = self._outputs, None
        stream, self._stream = self._stream, None
        try:
            if outputs is not None:
                outputs.close()
        finally:
            try:
                if stream is not None:
                    stream.close()
            finally:
                del outputs, stream
                gc.collect()  # what only a cycle still holds may be the GPU's memory, and the next configure needs it
                give_back_memory()

    def _on_device_error(self, error: str) -> None:
        """Called in the worker's thread, which is to take no further image."""
        worker = self._worker
        if worker is not None:  # else it is being stopped
            worker.quit()
        self.give_up(error)

    def _stop(self) -> None:
        """Stop taking images, then wait for the frame in work."""
        camera_input, self._input = self._input, None
        worker, self._worker = self._worker, None
        pipeline, self._pipeline = self._pipeline, None
        tf, self._tf = self._tf, None
        depth, self._depth = self._depth, None
        if camera_input is not None:
            camera_input.close()
        if tf is not None:
            tf.close()
        if depth is not None:
            depth.close()
        if worker is not None:
            worker.stop()
        if pipeline is not None:
            pipeline.close()
        self._cameras.restart()

    # Time, settings, requests

    def _restart(self, reason: str) -> Future:
        """Forget all tracks from here on: a result of the frame in work is dropped."""
        self.get_logger().info(f"tracks reset: {reason}")
        self._input.restart()
        if self._tf is not None:
            self._tf.clear()
        if self._depth is not None:
            self._depth.reset()
        self._discard()
        return self._worker.call(self._pipeline.restart)

    def begin_anew(self, reason: str) -> None:
        if self._input is not None:
            self._restart(reason)

    def apply(self, settings: Settings) -> None:
        if self._pipeline is not None:
            self._worker.call(lambda: self._pipeline and self._pipeline.configure(settings))

    def _pause(self, paused: bool) -> None:
        if paused != self._input.paused:
            self._input.paused = paused
            self._discard()

    def _discard(self) -> None:
        """Forget the image that waits; it counts as stale."""
        self._counters.add("dropped_stale", int(self._worker.discard()))

    def _epoch(self) -> int:
        return self._input.epoch if self._input is not None else -1

    def _too_old(self, stamp_ns: int, now_ns: int, max_age_s: float) -> bool:
        return self._input is not None and self._input.rules.too_old(stamp_ns, now_ns, max_age_s)

    def _ages_mean_something(self) -> bool:
        rules = self._input.rules if self._input is not None else None
        return rules is not None and not (rules.other_clock or rules.no_stamps or self.get_clock().ros_time_is_active)

    def _active_parts(self) -> tuple[Worker, Pipeline, Stream] | None:
        return None if self._worker is None else (self._worker, self._pipeline, self._stream)

    def _on_draw_error(self, error: Exception) -> None:
        self._notices.error("overlay", f"overlay not drawn: {type(error).__name__}: {error}", every_s=10.0)

    # Watching and telling

    def watch(self) -> None:
        if self._input is not None:
            self._input.watch()
        if self._depth is not None:
            self._depth.watch()

    def statuses(self) -> list[diagnostics.Status]:
        inputs = [one for one in (self._input, self._depth) if one is not None]
        statuses = self._health.always([topic for one in inputs for topic in one.topics], self._outputs)
        if self._outputs is not None:
            statuses.append(self._outputs.rep155.status())
        if self._input is not None:
            statuses += self._health.active(
                self._settings, self._input, self._pipeline, self._cameras, self._outputs, self._stream
            )
        if self._tf is not None:
            statuses.append(self._tf.lookup.status())
        if self._depth is not None:
            statuses.append(self._depth.status(getattr(self._stream, "counters", None)))
        return statuses

    def hardware_id(self) -> str:
        return self._pipeline.result.frame_id if self._pipeline and self._pipeline.result else ""


def main(make_stream: OpenStream | None = None, node: type[PerceptionNode] = PerceptionNode) -> None:
    """Run the node; on the library's stream if `make_stream` is None."""
    run("perception", partial(node, make_stream or open_stream), ahead=() if make_stream else LIBRARY)


if __name__ == "__main__":
    main()
