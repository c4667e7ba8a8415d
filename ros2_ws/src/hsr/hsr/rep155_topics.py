"""The REP-155 topics of one body, one face, one person. Imports hri_msgs, which need not be installed: see `rep155`."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, PointStamped, Twist, TwistStamped, Vector3
from hri_msgs.msg import (
    FacialLandmarks,
    NormalizedPointOfInterest2D,
    NormalizedRegionOfInterest2D,
    Skeleton2D,
)
from rclpy.event_handler import PublisherEventCallbacks
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float32, Header, String

from hsr_core.body.joints import J
from hsr_core.skeleton import face2d, points2d
from hsr_core.skeleton.proportions import Proportions
from hsr_core.skeleton.rep155 import JOINTS, BodyFrame, body_frame
from hsr_core.skeleton.rep155_body import Rep155Body
from hsr_core.skeleton.rep155_urdf import rep155_urdf
from hsr_core.types import N_FACE_LANDMARKS, Array, Camera, Frame, FrameResult, HumanEstimate

from . import qos
from .images import image_to_msg
from .stamps import header

BODY_KINDS = {
    "roi": NormalizedRegionOfInterest2D, "skeleton2d": Skeleton2D, "joint_states": JointState, "position": PointStamped,
    "velocity": TwistStamped, "urdf": String,
}  # fmt: skip
FACE_KINDS = {"roi": NormalizedRegionOfInterest2D, "landmarks": FacialLandmarks}
PERSON_KINDS = {"anonymous": Bool, "body_id": String, "face_id": String, "location_confidence": Float32}
PICTURES = ("cropped", "aligned")
_LATCHED = ("urdf", "anonymous", "body_id", "face_id")
_CHANNELS = {("bgr", 3): "bgr8", ("bgr", 4): "bgra8", ("rgb", 3): "rgb8", ("rgb", 4): "rgba8", ("mono", 1): "mono8"}
_HEAD = J["head"]


def create_publisher(node: Any, kind: type, topic: str, profile: Any) -> Any:
    """Return a publisher that any thread may destroy: without events, which the executor would be waiting for."""
    return node.create_publisher(
        kind, topic, profile, event_callbacks=PublisherEventCallbacks(use_default_callbacks=False)
    )


class Topics:
    """Publishers below one name; nothing is made for a topic that nobody listens to."""

    def __init__(self, node: Any, prefix: str, kinds: dict[str, type]) -> None:
        self._node = node
        self.publishers = {
            name: create_publisher(
                node, kind, f"{prefix}/{name}", qos.description() if name in _LATCHED else qos.rep155()
            )
            for name, kind in kinds.items()
        }  # fmt: skip

    def heard(self, name: str) -> bool:
        publisher = self.publishers.get(name)
        return publisher is not None and publisher.get_subscription_count() > 0

    def send(self, name: str, message: Any) -> None:
        publisher = self.publishers.get(name)
        if publisher is not None:  # not closed meanwhile
            publisher.publish(message)

    def close(self) -> None:
        for publisher in self.publishers.values():
            self._node.destroy_publisher(publisher)
        self.publishers = {}


class HeadOfShape:
    """The head's points of one person, made when they are first wanted and again when the person's shape changed."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self.reset()

    def reset(self) -> None:
        self._made, self._points = False, None

    def points(self, person: HumanEstimate) -> points2d.HeadPoints | None:
        if not self._made:
            self._points, self._made = points2d.head_points(self._body, person.params), True
        return self._points


class BodyTopics:
    """One body; `start_person` says whose.

    Args:
        name: Of its topics, such as /humans/bodies/<id>. letters: Its id.
        body: The body model.
        picture: With `cropped`.
    """

    def __init__(self, node: Any, name: str, letters: str, body: Any, *, picture: bool) -> None:
        kinds = {**BODY_KINDS, **({"cropped": Image} if picture else {})}
        self._topics = Topics(node, name, kinds)
        self._letters = letters
        self._names = [f"{name}_{letters}" for name in JOINTS]
        self._skeleton = Skeleton2D(skeleton=[NormalizedPointOfInterest2D() for _ in points2d.POINTS])
        self.head = HeadOfShape(body)

    def start_person(self, person: Rep155Body) -> None:
        """Take the person who has this id from now on; forget the last one."""
        self._person = person
        self._described: Proportions | None = None
        self.head.reset()

    def publish(
        self, frame: Frame, result: FrameResult, person: HumanEstimate, later: Callable[[Callable[[], None]], None]
    ) -> None:
        """Publish one person of one frame; a new description is made by `later`."""
        self._describe(person, later)
        topics = self._topics
        head = header(result.stamp_ns, result.frame_id)
        if topics.heard("roi"):
            self._send_roi(head, result.camera, person)
        if topics.heard("skeleton2d"):
            self._send_skeleton(head, result.camera, person)
        if topics.heard("joint_states"):
            self._send_joint_states(result.stamp_ns, person)
        if topics.heard("position") or topics.heard("velocity"):
            self._send_motion(head, result.stamp_ns, person)
        if topics.heard("cropped"):
            self._send_picture(frame, person)

    def close(self) -> None:
        self._topics.close()

    def _describe(self, person: HumanEstimate, later: Callable[[Callable[[], None]], None]) -> None:
        found = self._person.proportions(person.joints, person.joint_rotmats)
        if found is self._described:
            return
        self._described = found
        self.head.reset()
        later(lambda: self._topics.send("urdf", String(data=rep155_urdf(found, self._letters))))

    def _send_roi(self, head: Header, camera: Camera, person: HumanEstimate) -> None:
        box = points2d.normalised_box(person.regression.bbox_xyxy, camera)
        if box is not None:
            self._topics.send("roi", region_to_msg(head, box, person.regression.score))

    def _send_skeleton(self, head: Header, camera: Camera, person: HumanEstimate) -> None:
        points = points2d.skeleton2d(
            person.keypoints2d, person.joints, person.joint_rotmats[_HEAD], self.head.points(person), camera
        )
        self._skeleton.header = head
        _fill(self._skeleton.skeleton, points)
        self._topics.send("skeleton2d", self._skeleton)

    def _send_joint_states(self, stamp_ns: int, person: HumanEstimate) -> None:
        angles = self._person.angles(person.joints, person.joint_rotmats)
        self._topics.send(
            "joint_states",
            JointState(
                header=header(stamp_ns, f"body_{self._letters}"),
                name=self._names,
                position=array("d", angles.tolist()),
            ),
        )

    def _send_motion(self, head: Header, stamp_ns: int, person: HumanEstimate) -> None:
        body = body_frame(person.joints, person.joint_rotmats)
        if self._topics.heard("position"):
            x, y, z = body.origin.tolist()
            self._topics.send("position", PointStamped(header=head, point=Point(x=x, y=y, z=z)))
        if person.root_velocity is not None and self._topics.heard("velocity"):
            twist = velocity_in_body(person, body)
            self._topics.send(
                "velocity", TwistStamped(header=header(stamp_ns, f"body_{self._letters}"), twist=twist)
            )  # fmt: skip

    def _send_picture(self, frame: Frame, person: HumanEstimate) -> None:
        height, width = frame.image_hw
        x0, y0, x1, y1 = np.clip(person.regression.bbox_xyxy, 0, (width, height, width, height)).round().astype(int)
        if x1 > x0 and y1 > y0:
            self._topics.send("cropped", _picture_to_msg(frame.image[y0:y1, x0:x1], frame))


class FaceTopics:
    """One face.

    Args:
        name: Of its topics, such as /humans/faces/<id>.
        landmarks: Makes those of anybody.
        pictures: With `cropped` and `aligned`.
    """

    def __init__(self, node: Any, name: str, landmarks: face2d.FaceLandmarks2d, *, pictures: bool) -> None:
        kinds = {**FACE_KINDS, **(dict.fromkeys(PICTURES, Image) if pictures else {})}
        self._topics = Topics(node, name, kinds)
        self._landmarks = landmarks
        self._message = FacialLandmarks(landmarks=[NormalizedPointOfInterest2D() for _ in range(N_FACE_LANDMARKS)])

    def publish(self, frame: Frame, result: FrameResult, person: HumanEstimate, shape: HeadOfShape) -> None:
        """Publish a face that was seen in this frame."""
        heard = [name for name in self._topics.publishers if self._topics.heard(name)]
        if not heard:
            return
        head, camera, points = header(result.stamp_ns, result.frame_id), result.camera, shape.points(person)
        joints, rotmat = person.joints, person.joint_rotmats[_HEAD]
        landmarks = self._landmarks(person, camera)
        if "landmarks" in heard:
            if landmarks is not None:
                found = points2d.normalised(np.array(landmarks, np.float64), camera)
            else:
                found = face2d.five_landmarks(points2d.skeleton2d(person.keypoints2d, joints, rotmat, points, camera))
            self._send_landmarks(head, found, camera)
        if landmarks is not None:
            box = face2d.face_box(landmarks, camera)
        else:
            box = None if points is None else face2d.head_box(joints, rotmat, points, camera)
        if box is None:
            return
        if "roi" in heard:
            self._topics.send("roi", region_to_msg(head, box, float(person.regression.part_score[3])))
        for name in PICTURES:
            if name in heard:
                roll = face2d.face_roll(person, landmarks) if name == "aligned" else 0.0
                self._topics.send(name, _picture_to_msg(face2d.face_picture(frame.image, box, roll), frame))

    def _send_landmarks(self, head: Header, points: Array, camera: Camera) -> None:
        self._message.header = head
        self._message.height, self._message.width = camera.image_hw
        _fill(self._message.landmarks, points)
        self._topics.send("landmarks", self._message)

    def close(self) -> None:
        self._topics.close()


class PersonTopics:
    """One person who is not identified.

    Args:
        name: Of the topics, such as /humans/persons/<id>. body_id: Letters of their body.
    """

    def __init__(self, node: Any, name: str, body_id: str) -> None:
        self._topics = Topics(node, name, PERSON_KINDS)
        self._face_id: str | None = None
        self._lost = False
        self._topics.send("anonymous", Bool(data=True))
        self._topics.send("body_id", String(data=body_id))

    def publish(self, face_id: str | None) -> None:
        """Say that the person is there, and which face is theirs now; None: that is not tracked."""
        if face_id != self._face_id:
            self._face_id = face_id
            self._topics.send("face_id", String(data=face_id or ""))
        self._lost = False
        if self._topics.heard("location_confidence"):
            self._topics.send("location_confidence", Float32(data=1.0))

    def lose(self) -> None:
        """Say once that nobody knows where the person is."""
        if not self._lost:
            self._lost = True
            self._topics.send("location_confidence", Float32(data=0.0))

    def close(self) -> None:
        self._topics.close()


def region_to_msg(head: Header, box: Array, score: float) -> NormalizedRegionOfInterest2D:
    """Return a box in parts of the image, (4,), as a message."""
    xmin, ymin, xmax, ymax = box.tolist()
    return NormalizedRegionOfInterest2D(header=head, xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax, c=float(score))


def _picture_to_msg(image: Any, frame: Frame) -> Image:
    """Return a part of a frame's image as a message."""
    channels = image.shape[2] if image.ndim == 3 else 1
    return image_to_msg(image, frame.stamp_ns, frame.frame_id, _CHANNELS[frame.order, channels])


def velocity_in_body(person: HumanEstimate, body: BodyFrame) -> Twist:
    """Return the velocity of mid-hips in the body's axes; the estimate has the pelvis' in the camera's."""
    velocity = np.asarray(person.root_velocity, np.float64)
    turn = velocity[3:]
    linear = (velocity[:3] + np.cross(turn, body.origin - person.joints[0])) @ body.rotmat
    return Twist(linear=_vector(linear), angular=_vector(turn @ body.rotmat))


def _vector(values: Array) -> Vector3:
    x, y, z = values.tolist()
    return Vector3(x=x, y=y, z=z)


def _fill(messages: Any, points: Array) -> None:
    for message, (x, y, c) in zip(messages, points.tolist(), strict=True):
        message.x, message.y, message.c = x, y, c
