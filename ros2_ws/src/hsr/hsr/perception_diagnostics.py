"""The perception node's /diagnostics: what its parts and the ROS graph say, put together once a second."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from hsr_core.config import Settings
from hsr_core.types import TrackState

from . import diagnostics, graph_watch, qos
from .cameras import CameraBook
from .convert import body_id
from .diagnostics import Status
from .environment import profile_status
from .gpu_watch import GpuWatch
from .image_input import SILENT_S, ImageInput
from .outputs import Outputs
from .pipeline import Pipeline, Stream
from .stats import Counters

REFUSED = {"people.min_score": "below_min_score", "people.min_height_px": "below_min_height"}
"""Settings that keep people out, and the library's counts of it."""


class PerceptionDiagnostics:
    """Makes the statuses; keeps what a rate needs from one time to the next.

    Args:
        node: The perception node.
        counters: Its counts of images.
    """

    def __init__(self, node: Any, counters: Counters) -> None:
        self._node, self._counters = node, counters
        self._gpu = GpuWatch()
        self._optional_parts = diagnostics.optional_parts_status()
        self._counts: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._births: dict[int, float] = {}

    def always(self, subscribed: Iterable[str], outputs: Outputs | None) -> list[Status]:
        """Return what is told in every state.

        Args:
            subscribed: Topics of the images and of the depth camera.
        """
        return [self._transport(outputs), self._graph(subscribed, outputs), self._gpu.status(), self._optional_parts]

    def active(
        self,
        settings: Settings,
        camera_input: ImageInput,
        pipeline: Pipeline,
        cameras: CameraBook,
        outputs: Outputs,
        stream: Stream,
    ) -> list[Status]:
        """Return what is told while images are taken."""
        counts = self._counters.snapshot()
        drops = diagnostics.drops_text(self._counts, counts, settings.input.max_age_s)
        self._counts = counts
        rules = camera_input.rules
        latency = diagnostics.latency_status(
            *pipeline.latency_ms.percentiles(50, 99, 100), rules.clock_offset_s, rules.other_clock
        )
        return [
            self._camera(camera_input, pipeline, cameras, counts, drops),
            self._inference(settings, camera_input, pipeline, stream, counts),
            latency,
            self._people(settings, pipeline, stream),
            self._mesh(settings, pipeline, outputs, counts),
        ]

    def _camera(
        self, camera_input: ImageInput, pipeline: Pipeline, cameras: CameraBook, counts: dict[str, int], drops: str
    ) -> Status:
        node, topic, silent = self._node, camera_input.topic, camera_input.silent_s > SILENT_S
        result = pipeline.result
        wanted = "sensor_msgs/msg/CompressedImage" if topic.endswith("/compressed") else "sensor_msgs/msg/Image"
        hint = (graph_watch.image_hint(node, topic) or graph_watch.wrong_type(node, topic, wanted)) if silent else ""
        view = diagnostics.CameraView(
            topic=topic,
            rate_hz=camera_input.rate.hz(),
            silent_s=camera_input.silent_s,
            size=camera_input.size,
            encoding=camera_input.encoding,
            reliable=camera_input.reliable,
            mixed=camera_input.mixed,
            no_stamps=camera_input.rules.no_stamps,
            dropped_bad=counts["dropped_bad"],
            intrinsics_source=result.camera.source.name if result else "",
            camera_note=cameras.note,
            publishers=qos.describe_publishers(node, topic),
            hint=hint,
            rivals=node.count_publishers(topic) - 1,
            drops={name: counts[name] for name in Counters.FRAME},
            last_bad=str(pipeline.bad),
        )
        status = diagnostics.camera_status(view)
        status.values |= {"camera_info": node.resolve_topic_name("camera_info"), "paused": camera_input.paused,
                          "clock_jumps": counts.get("clock_jumps", 0)}  # fmt: skip
        if camera_input.paused:
            status.note("paused by the service perception/pause")
        elif drops:
            status.warn(drops)
        return status

    def _inference(
        self,
        settings: Settings,
        camera_input: ImageInput,
        pipeline: Pipeline,
        stream: Stream,
        counts: dict[str, int],
    ) -> Status:
        stages = {name: window.percentiles(50, 99) for name, window in pipeline.work_ms.copy().items()}
        engine = getattr(getattr(stream, "regressor", None), "engine_reason", "")
        camera_hz = 0.0 if camera_input.paused else camera_input.rate.hz()
        return diagnostics.inference_status(
            settings.regressor, settings.device, engine, camera_hz, pipeline.rate.hz(), stages,
            str(pipeline.errors.recent), counts.get("errors", 0), counts.get("nan_people", 0),
        )  # fmt: skip

    def _people(self, settings: Settings, pipeline: Pipeline, stream: Stream) -> Status:
        result = pipeline.result
        people = [person for person in result.people if person.state != TrackState.LOST] if result else []
        limits = {"people.min_score": settings.people.min_score, "people.min_height_px": settings.people.min_height_px}
        return diagnostics.people_status(
            len(people),
            [body_id(person.track_id) for person in people],
            next((body_id(person.track_id) for person in people if person.primary), ""),
            self._new_tracks_per_min({person.track_id for person in people}),
            settings.people.max,
            limits,
            self._newly_refused(stream),
        )

    def _newly_refused(self, stream: Stream) -> dict[str, int]:
        counted = getattr(stream, "counters", None)
        now = {setting: getattr(counted, name, 0) for setting, name in REFUSED.items()}
        before, self._refused = self._refused, now
        return {setting: max(0, count - before.get(setting, 0)) for setting, count in now.items()}

    def _mesh(self, settings: Settings, pipeline: Pipeline, outputs: Outputs, counts: dict[str, int]) -> Status:
        result = pipeline.result
        view = diagnostics.MeshView(
            enabled=settings.mesh.enabled,
            every_n=settings.mesh.every_n,
            max_rate_hz=settings.marker.max_rate_hz,
            frame_id=result.frame_id if result else "",
            listeners={
                "mesh": outputs.mesh.get_subscription_count(),
                "mesh_compact": outputs.mesh_compact.get_subscription_count(),
            },
            markers=counts.get("markers", 0),
            bad_meshes=counts.get("bad_meshes", 0),
        )
        return diagnostics.mesh_status(view)

    def _graph(self, subscribed: Iterable[str], outputs: Outputs | None) -> Status:
        names = {name: self._node.resolve_topic_name(name) for name in ("image", "camera_info", "depth", "mesh")}
        return graph_watch.graph_status(self._node, names, subscribed, outputs.topics if outputs else ())

    def _transport(self, outputs: Outputs | None) -> Status:
        profile = profile_status()
        note = outputs.marker_writer.note if outputs else ""
        return diagnostics.transport_status(
            profile.rmw, profile.segment_bytes, profile.note, profile.active, self._counters["dropped_gap"], note
        )

    def _new_tracks_per_min(self, track_ids: set[int]) -> int:
        now = time.monotonic()
        for track_id in track_ids:
            self._births.setdefault(track_id, now)
        self._births = {
            track_id: born for track_id, born in self._births.items() if track_id in track_ids or now - born < 60.0
        }
        return sum(now - born < 60.0 for born in self._births.values())
