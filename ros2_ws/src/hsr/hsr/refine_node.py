"""The refiner: images and people in, windows of better people and an avatar of them out, in a process of its own.

python -m hsr.refine_node --ros-args -r image:=/camera/image_raw -r camera_info:=/camera/camera_info
"""

from __future__ import annotations

import contextlib
import gc
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # idle BLAS threads spin; set before numpy is imported

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsr_core import progress
from hsr_core.depth import DepthSelector
from hsr_core.mask import MaskSelector

from . import diagnostics, qos, refine_diagnostics
from .cameras import CameraBook
from .environment import profile_status
from .guarded_node import GuardedNode, run
from .pairing import Pairing
from .refine_frames import FrameMaker
from .refine_input import RefineInput
from .refine_outputs import RefineOutputs
from .refine_params import DEFAULTS, RefinerSettings
from .refine_pipeline import RefinePipeline, Refiner
from .refine_services import RefineServices
from .slowdown import Slowdown
from .worker import Worker

if TYPE_CHECKING:
    from hsr_core.refine.online_settings import OnlineSettings

TICK_S = 0.05
"""How often it is looked whether there is work."""
SIDE_PER_PERSON = 4
"""Longer side of a refined image over the height that people in it are shrunk to: pixels beyond are of no use."""
STOP_LIMIT_S, END_LIMIT_S = 30.0, 3.0
"""The step in work ends by itself within this, on a slow machine; the end of the process does not wait so long."""


@dataclass
class Parts:
    """What is opened on configure.

    Attributes:
        body: As in the perception node (`hsr_core.body.EhmBody`).
        max_side_px: Of the images that the refiner can make use of; 0 = any.
    """

    body: Any
    refiner: Refiner
    depth: DepthSelector
    masks: MaskSelector
    max_side_px: int = 0

    def close(self) -> None:
        for part in (self.refiner, self.depth, self.masks):
            part.close()


LIBRARY = ("hsr_core.body", "hsr_core.refine.online")
OpenParts = Callable[[RefinerSettings], Parts]


def open_parts(settings: RefinerSettings) -> Parts:
    """Return the library's refiner with the body and the providers that the settings name."""
    progress.report("loading the library")
    from hsr_core.body import load_body  # torch and the networks: only when configuring
    from hsr_core.depth import open_depth
    from hsr_core.mask import open_masks
    from hsr_core.model_files import NetworkPlace
    from hsr_core.refine.online import OnlineRefiner

    place = NetworkPlace(device=settings.device, engine=settings.engine)
    progress.report("loading the body")
    body = load_body(settings.body_model.path)
    progress.report("opening depth and masks")
    depth, masks = open_depth(settings.depth, place=place), open_masks(settings.mask, place=place)
    progress.report("preparing the refinement")
    online = online_settings_for(settings, place.torch_device())
    return Parts(body, OnlineRefiner(body, online), depth, masks, SIDE_PER_PERSON * online.crop_height_px)


def online_settings_for(settings: RefinerSettings, device: str) -> OnlineSettings:
    """Return the library's settings for the node's, on a device (cuda or cpu)."""
    from hsr_core.refine.online_settings import online_settings

    automatic = "online_gpu" if device == "cuda" else "cpu_test"
    base = online_settings(automatic if settings.profile == "auto" else settings.profile)
    window = settings.window
    return replace(
        base,
        device=device,
        budget_ms=settings.budget_ms or base.budget_ms,
        depth=settings.depth.enabled,
        depth_scale=settings.depth.scale_mode,
        window=replace(base.window, seconds=window.seconds, stride_s=window.stride_s, max_frames=window.max_frames),
        avatar=replace(base.avatar, binding=settings.binding, start=min(base.avatar.start, settings.gaussians.max)),
        density=replace(base.density, cap=min(base.density.cap, settings.gaussians.max)),
    )


class RefineNode(GuardedNode):
    """`/human/refiner`. See docs/ros.md for topics, services and parameters."""

    def __init__(self, open_parts: OpenParts = open_parts, **kwargs) -> None:
        super().__init__("refiner", DEFAULTS, **kwargs)
        self._open_parts = open_parts
        self._cameras = CameraBook(self._notices)
        self._parts: Parts | None = None
        self._outputs: RefineOutputs | None = None
        self._pairing: Pairing | None = None
        self._pipeline: RefinePipeline | None = None
        self._input: RefineInput | None = None
        self._worker: Worker[object] | None = None
        RefineServices(self, self._active_parts, lambda: self._settings.data_dir, self.service_timeout_s)
        self._tick_timer = self.create_timer(TICK_S, self._tick)

    # Transitions

    def do_configure(self) -> None:
        super().do_configure()
        lower_priority(self._settings.nice)
        self._parts = self.start_up(partial(self._open_parts, self._settings))
        self._outputs = RefineOutputs(self, self._settings, self._parts.body, self._counters)

    def do_activate(self) -> None:
        settings, parts = self._settings, self._parts
        self._counters.reset()
        window = settings.window
        self._pairing = Pairing(
            self._counters,
            window.max_frames,
            window.seconds / window.max_frames,
            {"depth": settings.depth.max_offset_s, "mask": settings.mask.max_offset_s},
        )
        maker = FrameMaker(
            parts.body, parts.depth, parts.masks, self._cameras, self._counters, self._notices, settings.input,
            settings.input.max_side_px or parts.max_side_px,
        )  # fmt: skip
        slowdown = Slowdown()
        self._pipeline = pipeline = RefinePipeline(
            parts.refiner, maker, self._outputs, self._pairing, self._counters, self._notices, settings,
            self._epoch, self._interrupted, self._depth_info, slowdown, self._on_device_error,
        )  # fmt: skip
        self._worker = Worker(self._pipeline.handle, self._pipeline.on_error, name="worker")
        self._input = RefineInput(
            self,
            settings,
            self._cameras,
            self._counters,
            self._notices,
            self._pairing,
            slowdown,
            lambda: pipeline.refining,
            self._restart,
        )
        if self._input.static is not None:
            maker.extrinsics = self._input.static.lookup

    def do_deactivate(self) -> None:
        self._stop()
        self._outputs.retire(self.get_clock().now().nanoseconds)

    def free(self) -> None:
        self._stop()
        if self.abandoned:
            return
        outputs, self._outputs = self._outputs, None
        parts, self._parts = self._parts, None
        try:
            if outputs is not None:
                outputs.close()
        finally:
            try:
                if parts is not None:
                    parts.close()
            finally:
                del outputs, parts
                gc.collect()  # what only a cycle still holds may be the GPU's memory

    def _stop(self) -> None:
        """Stop taking messages, then wait for the step in work."""
        messages, self._input = self._input, None
        worker, self._worker = self._worker, None
        pipeline, self._pipeline = self._pipeline, None
        if messages is not None:
            messages.close()
        if worker is not None:
            self._wait_for(worker)
        if pipeline is not None and not self.abandoned:
            pipeline.close()
        self._cameras.restart()

    def _wait_for(self, worker: Worker) -> None:
        ending = self.finished or not self.context.ok()
        try:
            worker.stop(END_LIMIT_S if ending else STOP_LIMIT_S)
        except TimeoutError:
            if not ending:
                raise
            self.abandoned = True  # with all that the step in work still uses

    def _on_device_error(self, error: str) -> None:
        """Called in the worker's thread, which is to do nothing more."""
        worker = self._worker
        if worker is not None:  # else it is being stopped
            worker.quit()
        self.give_up(error)

    # Time, settings, work

    def _restart(self, reason: str) -> Future:
        """Begin anew from here on: a window in work is dropped."""
        self.get_logger().info(f"windows dropped: {reason}")
        self._input.images.restart()
        self._pairing.clear()
        self._worker.discard()
        return self._worker.call(self._pipeline.restart)

    def begin_anew(self, reason: str) -> None:
        if self._input is not None:
            self._restart(reason)

    def apply(self, settings: RefinerSettings) -> None:
        if self._pipeline is not None:
            self._worker.call(lambda: self._pipeline and self._pipeline.configure(settings))

    def _tick(self) -> None:
        worker = self._worker
        if worker is not None and worker.free and (self._pairing.ripe() or self._pipeline.more):
            worker.offer(self)

    def _epoch(self) -> int:
        messages = self._input
        return messages.images.epoch if messages is not None else -1

    def _interrupted(self) -> bool:
        worker = self._worker
        return worker is None or worker.wanted

    def _depth_info(self) -> Any:
        messages = self._input
        return messages.depth_info if messages is not None else None

    def _active_parts(self) -> tuple[Worker, RefinePipeline] | None:
        return None if self._worker is None else (self._worker, self._pipeline)

    # Watching and telling

    def watch(self) -> None:
        if self._input is not None:
            self._input.watch()

    def statuses(self) -> list[diagnostics.Status]:
        profile = profile_status()
        note = self._outputs.mesh_note if self._outputs else ""
        lost = self._counters["dropped_gap"]
        transport = diagnostics.transport_status(
            profile.rmw, profile.segment_bytes, profile.note, profile.active, lost, note
        )
        return [transport, *(self._active_statuses() if self._input is not None else [])]

    def _active_statuses(self) -> list[diagnostics.Status]:
        messages, pipeline, parts, images = self._input, self._pipeline, self._parts, self._input.images
        camera = diagnostics.CameraView(
            topic=images.topic,
            rate_hz=images.rate.hz(),
            silent_s=images.silent_s,
            size=images.size,
            encoding=images.encoding,
            reliable=images.reliable,
            mixed=images.mixed,
            no_stamps=images.rules.no_stamps,
            dropped_bad=self._counters["dropped_bad"],
            intrinsics_source="",
            camera_note=self._cameras.note,
            publishers=qos.describe_publishers(self, images.topic),
            rivals=self.count_publishers(images.topic) - 1,
        )
        return [
            diagnostics.camera_status(camera),
            refine_diagnostics.windows_status(
                pipeline, self._counters, messages.people_rate.hz(), images.rules.no_stamps
            ),
            refine_diagnostics.avatar_status(pipeline),
            refine_diagnostics.provider_status("depth", parts.depth.name, parts.depth.status),
            refine_diagnostics.provider_status("masks", parts.masks.name, ""),
        ]


def lower_priority(nice: int) -> None:
    """Let every other process go first; threads that are started from here on inherit it. It cannot be taken back.

    Where Linux groups processes by session (sched_autogroup), niceness counts only within the session: a process that
    leads one makes the session nice, too.
    """
    os.nice(max(0, nice - os.nice(0)))
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # no such grouping, or not allowed to change it
            Path("/proc/self/autogroup").write_text(str(nice))


def leave_cores_to_others() -> None:
    """Let torch and numba, which are not loaded yet, use half of the cores, and their threads wait without spinning.

    On cores that others keep busy, a step takes the longer the more threads have to wait for each other.
    """
    threads = str(max(1, len(os.sched_getaffinity(0)) // 2))
    for name, value in (("OMP_NUM_THREADS", threads), ("NUMBA_NUM_THREADS", threads), ("OMP_WAIT_POLICY", "PASSIVE")):
        os.environ.setdefault(name, value)


def main(make_parts: OpenParts | None = None, node: type[RefineNode] = RefineNode) -> None:
    """Run the node; on the library's refiner if `make_parts` is None."""
    leave_cores_to_others()
    run("refiner", partial(node, make_parts or open_parts), ahead=() if make_parts else LIBRARY)


if __name__ == "__main__":
    main()
