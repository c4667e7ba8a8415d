"""Everything that the refiner publishes; nothing expensive is done for nobody."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hsr_msgs.msg import AvatarInfo, Human, HumanArray, WindowQuality
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from visualization_msgs.msg import Marker

from hsr_core.geometry.camera import project
from hsr_core.refine.window import AvatarView, RefinedWindow
from hsr_core.types import Camera, HumanParams

from . import convert, marker, qos
from .refine_params import RefinerSettings
from .splat_cloud import splats_to_msg
from .stamps import stamp_to_ns
from .stats import Counters, RateLimit

NAMESPACE = "refined"
MESH_LIFETIME_S = 10.0
"""On a slow machine the next window takes so long; a node that dies leaves a mesh no longer than this."""
MESH_SLOTS = 4
WHITENED = 0.55
"""How far the colour of a refined mesh is moved towards white, away from that of the unrefined one."""


@dataclass(frozen=True)
class Source:
    """What a frame was made from: needed again when its refined people come.

    Attributes:
        people: As the perception node sent them. camera: Of the image, distortion included. received_s: Monotonic.
    """

    people: HumanArray
    camera: Camera
    received_s: float


class Sources:
    """The newest frames that went into the refinement, by stamp."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._sources: OrderedDict[int, Source] = OrderedDict()

    def put(self, source: Source) -> None:
        self._sources[stamp_to_ns(source.people.header.stamp)] = source
        while len(self._sources) > self._kept:
            self._sources.popitem(last=False)

    def get(self, stamp_ns: int) -> Source | None:
        return self._sources.get(stamp_ns)

    def clear(self) -> None:
        self._sources.clear()


class RefineOutputs:
    """The publishers. Used by the worker's thread while it runs.

    Args:
        body: Poses refined parameters and gives the triangles.
    """

    def __init__(self, node: LifecycleNode, settings: RefinerSettings, body: Any, counters: Counters) -> None:
        self._node, self._body, self._counters = node, body, counters
        self._publishers: list = []
        self.people = self._publisher(HumanArray, "refined/people", qos.refined_people())
        self.mesh = self._publisher(Marker, "refined/mesh", qos.refined_mesh())
        self.quality = self._publisher(WindowQuality, "refined/quality", qos.quality())
        self.gaussians = self._publisher(PointCloud2, "refined/gaussians", qos.picture())
        self.render = self._publisher(Image, "refined/render", qos.picture())
        self.render_jpeg = self._publisher(CompressedImage, "refined/render/compressed", qos.picture())
        self.avatar = self._publisher(AvatarInfo, "avatar", qos.avatar())
        self._mesh_writer = marker.build_mesh_writer(
            body.faces, slots=MESH_SLOTS, lifetime_s=MESH_LIFETIME_S, ns=NAMESPACE, color_of=refined_color
        )
        self.mesh_note = self._mesh_writer.note
        self._gaussians_limit = RateLimit(settings.publish_gaussians_hz)
        self._render_limit = RateLimit(settings.render.max_rate_hz)
        self._shown: dict[int, str] = {}

    def configure(self, settings: RefinerSettings) -> None:
        self._gaussians_limit.max_hz = settings.publish_gaussians_hz
        self._render_limit.max_hz = settings.render.max_rate_hz

    def publish_quality(self, window: RefinedWindow, frame_id: str) -> None:
        self.quality.publish(convert.quality_to_msg(window, frame_id))

    def publish_people(self, window: RefinedWindow, sources: Sources) -> int:
        """Publish one message for each refined frame, and the newest one's mesh; return how many."""
        depth_took_part = window.quality.depth_source not in ("none", "")
        sent = 0
        for stamp_ns, params in zip(window.stamps_ns, window.people, strict=True):
            source = sources.get(stamp_ns)
            original = source and _person(source.people, window.track_id)
            if source is None or original is None or not params.finite():
                self._counters.add("bad_results")
                continue
            posed = self._body.pose_one(params, vertices=False)
            uv = project(posed.joints, source.camera)
            human = convert.refined_human(
                original, params, posed.joints, posed.joint_rotmats, uv, depth_took_part=depth_took_part
            )
            self.people.publish(convert.refined_people_to_msg(source.people, [human]))
            sent += 1
        if sent:
            self._publish_mesh(window, sources)
        return sent

    def publish_pictures(
        self, track_id: int, frame_id: str, view_of: Callable[[int], AvatarView | None],
        picture_of: Callable[[int], np.ndarray | None],
    ) -> None:  # fmt: skip
        """Publish Gaussians and a rendered view to those who listen.

        Args:
            view_of: The avatar in its last refined pose.
            picture_of: That drawn, (H, W, 3) RGB uint8.
        """
        view = None
        if _heard(self.gaussians) and self._gaussians_limit.passes():
            view = view_of(track_id)
            if view is not None:
                self.gaussians.publish(_cloud(view, frame_id))
        raw, jpeg = _heard(self.render), _heard(self.render_jpeg)
        if (raw or jpeg) and self._render_limit.passes():
            picture = picture_of(track_id)
            view = view or view_of(track_id)
            if picture is None or view is None:
                return
            if raw:
                self.render.publish(convert.image_to_msg(picture, view.stamp_ns, frame_id, "rgb8"))
            if jpeg:
                bgr = np.ascontiguousarray(picture[..., ::-1])
                self.render_jpeg.publish(convert.image_to_compressed_msg(bgr, view.stamp_ns, frame_id))

    def remove(self, track_id: int, stamp_ns: int) -> None:
        """Take a person's mesh off the displays."""
        frame_id = self._shown.pop(track_id, None)
        if frame_id is not None:
            self.mesh.publish(marker.delete_marker(track_id, stamp_ns, frame_id, ns=NAMESPACE))

    def retire(self, stamp_ns: int) -> None:
        """Take everything off the displays."""
        for track_id in list(self._shown):
            self.remove(track_id, stamp_ns)

    def close(self) -> None:
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def _publisher(self, kind: type, topic: str, profile: Any) -> Any:
        publisher = self._node.create_lifecycle_publisher(kind, topic, profile, qos_overriding_options=qos.OVERRIDES)
        self._publishers.append(publisher)
        return publisher

    def _publish_mesh(self, window: RefinedWindow, sources: Sources) -> None:
        source = sources.get(window.stamps_ns[-1])
        if source is None or not _heard(self.mesh):
            return
        params: HumanParams = window.people[-1]
        vertices, frame_id = self._body.pose_one(params).vertices, source.people.header.frame_id
        try:
            message = self._mesh_writer.encode(window.track_id, vertices, window.stamps_ns[-1], frame_id)
        except marker.NonFiniteVertices:
            self._counters.add("bad_results")
            return
        if message is not None:
            self.mesh.publish(message)
            self._shown[window.track_id] = frame_id


def refined_color(track_id: int) -> tuple[float, float, float]:
    """Return the person's colour, paler."""
    r, g, b = (value + (1 - value) * WHITENED for value in marker.person_color(track_id))
    return r, g, b


def _person(people: HumanArray, track_id: int) -> Human | None:
    return next((human for human in people.humans if human.track_id == track_id), None)


def _cloud(view: AvatarView, frame_id: str) -> PointCloud2:
    from hsr_core.refine.avatar_io import principal_axes  # torch: only where Gaussians are

    gaussians = view.gaussians
    log_scales, quats = principal_axes(gaussians.covariances[0])
    columns = (gaussians.means[0], log_scales.exp(), quats, gaussians.opacities[0], gaussians.colors[0])
    arrays = (column.detach().cpu().numpy() for column in columns)
    return splats_to_msg(*arrays, view.stamp_ns, frame_id)


def _heard(publisher: Any) -> bool:
    return publisher.get_subscription_count() > 0
