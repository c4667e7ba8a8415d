"""People's messages to a retargeting session: whom the robot follows, and why a frame cannot move it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from hsr_msgs.msg import Human, HumanArray
from rclpy.serialization import deserialize_message
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import N_JOINTS
from hsr_core.errors import BadFrame, ConfigError
from hsr_core.retarget.command import State
from hsr_core.retarget.gate import Reason
from hsr_core.retarget.human import check_transform
from hsr_core.retarget.session import Session
from hsr_core.types import Array, HumanEstimate, HumanParams, MetricSource, Part, Regression, TrackState

from .retarget_clock import TeleopClock
from .stamps import stamp_to_ns
from .stats import Counters, Rate

SEEN_S = 1.0
"""People of an older message are not there to be selected."""
SILENT = "no people arrive"
BROKEN_OFF = "people were silent"
OTHER_WORLD = "another world frame"
NO_WORLD = (
    "people have no world frame: set world_frame of the perception node to a frame whose z is up and that tf ties the "
    "camera to"
)
NOBODY = "nobody is selected: call retarget/select"
_NOT_NEEDED = HumanParams()
"""Retargeting looks at joints only."""
_NO_PARTS = np.zeros(4, np.float32)


@dataclass(frozen=True)
class Seen:
    """Somebody of the newest frame."""

    track_id: int
    id: str
    primary: bool


class People:
    """Hands frames of the operator to the session. `take` runs in one thread, the rest in any.

    Args:
        auto: True where the primary person is to be chosen when nobody is.

    Attributes:
        world_frame: Of the newest message.
        model_id: Of its body model.
        rate: Of messages.
    """

    def __init__(self, session: Session, clock: TeleopClock, counters: Counters, auto: bool) -> None:
        self._session, self._clock, self._counters, self.auto = session, clock, counters, auto
        self._future_ns = int(session.settings.freshness.future_s * 1e9)
        self._seen: tuple[Seen, ...] = ()
        self._heard_s = -float("inf")
        self._problem = ""
        self._locked: tuple[int | None, str] = (None, "")
        self._silence_s = max(SEEN_S, session.settings.freshness.stop_s)
        self._world = ""
        self.world_frame = self.model_id = ""
        self.rate = Rate()

    @property
    def problem(self) -> str:
        """Why the newest message cannot move a robot; "" = it can."""
        return self._problem if time.monotonic() - self._heard_s <= SEEN_S else SILENT

    def take(self, data: bytes) -> None:
        """Take a serialised HumanArray; one that cannot be used is counted, and `problem` says why."""
        self.rate.tick()
        last_s, self._heard_s = self._heard_s, time.monotonic()
        if self._heard_s - last_s > self._silence_s and self._session.governor.operator is not None:
            self._session.lose_operator(BROKEN_OFF)  # who comes back may be another run's, which counts ids anew
        try:
            msg = deserialize_message(data, HumanArray)
        except Exception as error:  # rclpy has no error of its own for bytes that are no such message
            self._refuse(f"a message that cannot be read: {error}")
            return
        try:
            self._problem = self._take(msg)
        except (BadFrame, ValueError) as error:
            self._refuse(str(error))

    def seen(self) -> tuple[Seen, ...]:
        """Return who can be selected now."""
        return self._seen if time.monotonic() - self._heard_s <= SEEN_S else ()

    def letters(self) -> str:
        """Return the five letters of the operator; "" = nobody is locked."""
        track_id, letters = self._locked
        return letters if track_id is not None and self._session.governor.operator == track_id else ""

    def select(self, wanted: str) -> str:
        """Choose the operator by the five letters, "" = who is primary now; return the letters.

        Raises:
            ConfigError: Nobody of that name is seen, or the robot follows somebody.
        """
        seen = self.seen()
        person = next((one for one in seen if one.id == wanted or (not wanted and one.primary)), None)
        if person is None:
            there = ", ".join(f"{one.id}{' (primary)' * one.primary}" for one in seen) or "nobody"
            raise ConfigError(f"no {f'person {wanted!r}' if wanted else 'primary person'}; seen now: {there}")
        self._lock(person)
        return person.id

    def _take(self, msg: HumanArray) -> str:
        """Hand a frame over; return why it cannot move the robot."""
        stamp_ns = stamp_to_ns(msg.header.stamp)
        ahead_ns = stamp_ns - self._clock()
        if stamp_ns == 0 or ahead_ns > self._future_ns:
            raise BadFrame("no stamp" if stamp_ns == 0 else f"people are stamped {ahead_ns * 1e-9:.2f} s in the future")
        humans = [human for human in msg.humans if human.state != Human.LOST]
        self._seen = tuple(Seen(human.track_id, human.id, human.primary) for human in humans)
        self.world_frame, self.model_id = msg.world_frame, msg.model_id
        if self.auto:
            self._choose_primary(self._seen)
        T, problem = _world(msg)
        if T is not None:
            problem = self._compare_world(msg.world_frame)
        operator = self._session.governor.operator
        people = [to_estimate(human) for human in humans if human.track_id == operator]
        self._session.on_people(people, stamp_ns, T)
        return problem or self._problem_of_operator(operator, bool(people))

    def _compare_world(self, world: str) -> str:
        """Forget the operator where people are given in another world than before: poses in two cannot be compared."""
        last, self._world = self._world, world
        if not last or world == last or self._session.governor.operator is None:
            return ""
        self._session.lose_operator(OTHER_WORLD)
        return f"people's world frame was {last!r} and is {world!r}: select the operator again"

    def _problem_of_operator(self, operator: int | None, seen: bool) -> str:
        if operator is None:
            return NOBODY
        if not seen:
            return "the operator is not seen"
        reason = self._session.gate.last_reason
        return "" if reason is Reason.OK else f"the operator's frame was dropped: {reason.value}"

    def _choose_primary(self, seen: tuple[Seen, ...]) -> None:
        """Lock the primary person where nobody is locked, and nothing has moved that a press would set going again."""
        governor = self._session.governor
        person = next((one for one in seen if one.primary), None)
        if person and governor.operator is None and governor.state in (State.DISARMED, State.READY):
            self._lock(person)

    def _lock(self, person: Seen) -> None:
        self._session.select(person.track_id)
        self._locked = person.track_id, person.id

    def _refuse(self, problem: str) -> None:
        self._counters.add("bad_people")
        self._problem = problem


def to_estimate(human: Human) -> HumanEstimate:
    """Return a person as the library has them: joints, rotations and scores, views of the message.

    Raises:
        ValueError: A state or a source of metres that does not exist.
    """
    regression = Regression(
        _NOT_NEEDED, human.bbox_xyxy, human.confidence, human.joint_score, _NO_PARTS, Part(human.parts),
        MetricSource(human.metric_source), human.depth_sigma_m,
    )  # fmt: skip
    return HumanEstimate(
        human.track_id, TrackState(human.state), human.primary, regression, _NOT_NEEDED,
        human.joints.reshape(N_JOINTS, 3), _rotmats(human.joint_quats_xyzw.reshape(N_JOINTS, 4)),
        human.keypoints2d.reshape(N_JOINTS, 3),
    )  # fmt: skip


def _rotmats(quats_xyzw: Array) -> Array:
    """Return (n, 3, 3); NaN where a quaternion is zero, that is unknown, or not finite."""
    known = np.square(quats_xyzw).sum(axis=1) > 0
    if known.all():
        return Rotation.from_quat(quats_xyzw).as_matrix()
    out = np.full((len(quats_xyzw), 3, 3), np.nan)
    if known.any():
        out[known] = Rotation.from_quat(quats_xyzw[known]).as_matrix()
    return out


def _world(msg: HumanArray) -> tuple[Array | None, str]:
    """Return T_world_header of people's frame, or None and why there is none."""
    if not msg.world_frame:
        return None, NO_WORLD
    if msg.world_frame.endswith("optical_frame"):
        return None, f"world_frame {msg.world_frame!r} is a camera's: its z is not up"
    if msg.header.frame_id == msg.world_frame:
        return np.eye(4), ""  # by definition: these people are given in the world
    T = np.eye(4)
    norm = np.linalg.norm(msg.t_world_cam[3:])
    if not abs(norm - 1) < 0.01:
        return None, f"t_world_cam is no pose: its quaternion has the length {norm:.3g}"
    T[:3, :3], T[:3, 3] = Rotation.from_quat(msg.t_world_cam[3:]).as_matrix(), msg.t_world_cam[:3]
    try:
        return check_transform(T), ""
    except BadFrame as error:
        return None, str(error)
