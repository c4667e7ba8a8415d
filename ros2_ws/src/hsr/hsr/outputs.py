"""Everything the perception node publishes for a frame; nothing expensive is done for nobody."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from geometry_msgs.msg import PoseArray
from hsr_msgs.msg import BodyModel, FrameStats, HumanArray, HumanMesh
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image, JointState
from visualization_msgs.msg import Marker

from hsr_core.config import Settings
from hsr_core.track.unseen import all_lost
from hsr_core.types import Array, Frame, FrameResult, HumanEstimate, Part, TrackState
from hsr_core.viz.overlay import draw_overlay

from . import convert, marker, qos
from .joint_states import JointStateBuilder
from .later import Later
from .primary_urdf import PrimaryUrdf
from .rep155 import body_ids, open_rep155
from .stats import Counters, RateLimit
from .tf_output import TfOutput
from .worker import Worker

SKELETON_MAX_HZ = 30.0
MeshOf = Callable[[HumanEstimate], Array]


class Outputs:
    """The publishers and what they remember between frames. Used by the worker's thread while it runs.

    Args:
        body: Gives faces, model_id and the body_model message.
        mesh_of: Vertices (V, 3) [m] of a person in the camera frame.
        on_draw_error: Told what drawing an overlay raised.
    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: Settings,
        body: Any,
        mesh_of: MeshOf,
        counters: Counters,
        on_draw_error: Callable[[Exception], None],
    ) -> None:
        self._node, self._body, self._mesh_of, self._counters = node, body, mesh_of, counters
        self._settings = settings
        people_max = settings.people.max
        self._publishers: list = []
        self.people = self._publisher(HumanArray, "people", qos.people())
        self.people_raw = self._publisher(HumanArray, "people_raw", qos.people())
        self.mesh = self._publisher(Marker, "mesh", qos.mesh(people_max))
        self.skeleton = self._publisher(Marker, "skeleton", qos.skeleton(people_max))
        self.mesh_compact = self._publisher(HumanMesh, "mesh_compact", qos.mesh_compact(people_max))
        self.joint_states = self._publisher(JointState, "joint_states", qos.joint_states())
        self.joint_poses = self._publisher(PoseArray, "joint_poses", qos.joint_poses())
        self.overlay = self._publisher(Image, "overlay", qos.overlay())
        self.overlay_jpeg = self._publisher(CompressedImage, "overlay/compressed", qos.overlay())
        self.stats = self._publisher(FrameStats, "stats", qos.stats())
        self._ids = body_ids(settings)
        ids = self._ids
        self.tf = TfOutput(settings.tf.mode, self._publisher, ids.of, ids.body_of, ids.face_of, ids.person_of)
        # Not a lifecycle publisher: the model is sent on configure, while those are still silent.
        self._body_model = node.create_publisher(
            BodyModel, "body_model", qos.body_model(), qos_overriding_options=qos.OVERRIDES
        )
        self._body_model.publish(convert.body_model_to_msg(body, publish_faces=settings.body_model.publish_faces))
        self.marker_writer = marker.build_mesh_writer(
            body.faces, slots=people_max, color_mode=settings.marker.color_mode, lifetime_s=settings.marker.lifetime_s
        )
        self._compact_writer = marker.CompactMeshWriter(encoding=settings.compact.encoding, model_id=body.model_id)
        self._joint_state_builder = JointStateBuilder(self._ids.of)
        self._later = Later(lambda error: node.get_logger().error(f"topics of a person: {error}"))
        self._urdf = PrimaryUrdf(node, self._later, self._ids.of)
        self.rep155 = open_rep155(node, settings, body, self._later, self._ids)
        self._mesh_limit = RateLimit(settings.marker.max_rate_hz)
        self._skeleton_limit = RateLimit(SKELETON_MAX_HZ)
        self._overlay_limit = RateLimit(settings.overlay.max_rate_hz)
        self._shown: dict[int, str] = {}
        self._last: FrameResult | None = None
        # Drawing and JPEG have a thread of their own: the next frame does not wait for a picture.
        self._painter: Worker = Worker(lambda job: self._draw(*job), on_draw_error, name="overlay")

    @property
    def topics(self) -> list[str]:
        """Those that are published in the node's namespace."""
        return [publisher.topic_name for publisher in self._publishers]

    def configure(self, settings: Settings) -> None:
        """Take live settings between two frames."""
        self._settings = settings
        self.marker_writer.configure(color_mode=settings.marker.color_mode, lifetime_s=settings.marker.lifetime_s)
        self._mesh_limit.max_hz = settings.marker.max_rate_hz
        self._overlay_limit.max_hz = settings.overlay.max_rate_hz

    def publish(self, frame: Frame, result: FrameResult) -> dict[int, Array]:
        """Publish one frame; return the vertices that were computed, by track_id."""
        self._last = result
        seen = [person for person in result.people if person.state != TrackState.LOST]
        faces = [person.track_id for person in seen if person.regression.parts & Part.FACE]
        self._ids.update([person.track_id for person in seen], time.monotonic(), faces)
        # First: who gets anything else of this stamp can look it up.
        self.tf.publish(seen, result.stamp_ns, result.frame_id)
        self.people.publish(convert.people_to_msg(result, self._body.model_id))
        if _heard(self.people_raw):
            self.people_raw.publish(convert.people_to_msg(result, self._body.model_id, raw_body=self._body))
        primary = next((person for person in seen if person.primary), None)
        if primary is not None:
            self.joint_states.publish(self._joint_state_builder.to_msg(primary, result.stamp_ns))
            self._urdf.update(primary)
            if _heard(self.joint_poses):
                self.joint_poses.publish(convert.joint_poses_to_msg(result, primary))
        picture = self._picture_is_due()
        meshes = self._publish_meshes(seen, result, also=picture)
        if _heard(self.skeleton) and self._skeleton_limit.passes():
            for message in marker.skeleton_markers(result, lifetime_s=self._settings.marker.lifetime_s):
                self.skeleton.publish(message)
        self._delete_gone({person.track_id for person in seen}, result)
        self.rep155.publish(frame, result)
        if picture:
            self._painter.offer((frame, result, meshes, self._settings.overlay.scale))
        return meshes

    def publish_stats(self, result: FrameResult, stage_ms: Mapping[str, float], *, ros_time: bool) -> None:
        self.stats.publish(convert.stats_to_msg(result, self._counters.snapshot(), stage_ms, ros_time=ros_time))

    def forget(self, stamp_ns: int, frame_id: str) -> None:
        """Take everything off the displays: tracks were reset, or time went back."""
        self._say_lost(stamp_ns)
        for publisher, namespace in ((self.mesh, "mesh"), (self.skeleton, "skeleton")):
            publisher.publish(marker.delete_all_marker(stamp_ns, frame_id, ns=namespace))
        self._shown.clear()
        self._joint_state_builder.reset()
        self.tf.forget()
        self._ids.update((), time.monotonic())
        self.rep155.forget(stamp_ns, frame_id)

    def retire(self, stamp_ns: int) -> None:
        """Delete our own markers: the node is being deactivated."""
        self._say_lost(stamp_ns)
        for track_id, frame_id in self._shown.items():
            self._delete(track_id, stamp_ns, frame_id)
        self._shown.clear()
        self._joint_state_builder.reset()
        self._ids.update((), time.monotonic())
        self.rep155.forget(stamp_ns, "")

    def _say_lost(self, now_ns: int) -> None:
        """End all tracks: each is LOST once, with the last frame's stamp, or now where that lies in the future."""
        last, self._last = self._last, None
        gone = None if last is None else all_lost(last, min(last.stamp_ns, now_ns))
        if gone is not None and gone.people:
            self.people.publish(convert.people_to_msg(gone, self._body.model_id))

    def close(self) -> None:
        self._painter.stop()
        self._later.stop()
        self.rep155.close()
        self._urdf.close()
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        self._node.destroy_publisher(self._body_model)

    def _publisher(self, kind: type, topic: str, profile: Any) -> Any:
        publisher = self._node.create_lifecycle_publisher(kind, topic, profile, qos_overriding_options=qos.OVERRIDES)
        self._publishers.append(publisher)
        return publisher

    def _picture_is_due(self) -> bool:
        wanted = _heard(self.overlay) or _heard(self.overlay_jpeg)
        return wanted and self._painter.free and self._overlay_limit.passes()

    def _publish_meshes(self, seen: list[HumanEstimate], result: FrameResult, also: bool) -> dict[int, Array]:
        """Publish what is listened to; skin at most once a person, and not at all when nobody (nor `also`) wants it."""
        mesh = self._settings.mesh
        if not mesh.enabled or result.seq % mesh.every_n:
            return {}
        as_marker = _heard(self.mesh) and self._mesh_limit.passes()
        as_compact = _heard(self.mesh_compact)
        if not (as_marker or as_compact or also):
            return {}
        meshes: dict[int, Array] = {}
        for person in seen:
            vertices = self._mesh_of(person)
            try:
                if as_marker:
                    self._publish_marker(person.track_id, vertices, result)
                if as_compact:
                    self._publish_compact(person.track_id, vertices, result)
            except marker.NonFiniteVertices:
                self._counters.add("bad_meshes")
            else:
                meshes[person.track_id] = vertices
        return meshes

    def _publish_marker(self, track_id: int, vertices: Array, result: FrameResult) -> None:
        message = self.marker_writer.encode(track_id, vertices, result.stamp_ns, result.frame_id)
        if message is not None:
            self.mesh.publish(message)
            self._counters.add("markers")

    def _publish_compact(self, track_id: int, vertices: Array, result: FrameResult) -> None:
        self.mesh_compact.publish(
            self._compact_writer.encode(
                convert.body_id(track_id), track_id, result.seq, vertices, result.stamp_ns, result.frame_id
            )
        )

    def _delete_gone(self, seen: set[int], result: FrameResult) -> None:
        for track_id in self._shown.keys() - seen:
            self._delete(track_id, result.stamp_ns, self._shown.pop(track_id))
        self._shown.update(dict.fromkeys(seen, result.frame_id))

    def _delete(self, track_id: int, stamp_ns: int, frame_id: str) -> None:
        self.mesh.publish(marker.delete_marker(track_id, stamp_ns, frame_id))
        for marker_id in (2 * track_id, 2 * track_id + 1):
            self.skeleton.publish(marker.delete_marker(marker_id, stamp_ns, frame_id, ns="skeleton"))

    def _draw(self, frame: Frame, result: FrameResult, meshes: Mapping[int, Array], scale: float) -> None:
        picture = draw_overlay(frame, result, lambda person: meshes.get(person.track_id), self._body.faces, scale=scale)
        if _heard(self.overlay):
            self.overlay.publish(convert.image_to_msg(picture, result.stamp_ns, result.frame_id))
        if _heard(self.overlay_jpeg):
            self.overlay_jpeg.publish(convert.image_to_compressed_msg(picture, result.stamp_ns, result.frame_id))


def _heard(publisher: Any) -> bool:
    return publisher.get_subscription_count() > 0
