"""REP-155 (ROS4HRI): who is there as topics under /humans, a set of topics for each body.

Topics of somebody new are made by another thread and are there a few milliseconds later; those of somebody gone go
after 2 s. `people` has the same in one message for everybody; this is a view of it for tools of ROS4HRI.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.clock import Clock, ClockType
from std_msgs.msg import Header

from hsr_core.config import Settings
from hsr_core.skeleton.face2d import FaceLandmarks2d
from hsr_core.skeleton.rep155_body import Rep155Body
from hsr_core.types import Frame, FrameResult, HumanEstimate, Part, TrackState

from . import qos
from .body_ids import LINGER_S, BodyIds, face_id, person_id
from .diagnostics import Status
from .stamps import header

try:
    from hri_msgs.msg import IdsList, IdsMatch

    from .rep155_topics import (
        BODY_KINDS,
        FACE_KINDS,
        PERSON_KINDS,
        BodyTopics,
        FaceTopics,
        PersonTopics,
        create_publisher,
    )
except ImportError as error:  # not installed, or built for another Python
    IMPORT_ERROR = str(error)
else:
    IMPORT_ERROR = ""

SWEEP_S = 0.5
SILENT_S = 1.0
"""Without a frame for so long nobody is tracked any more; longer where frames are slow."""


def reason_off(settings: Settings) -> str:
    """Return why there is nothing under /humans; empty when there is."""
    if not settings.rep155.enabled:
        return "rep155.enabled is false"
    return f"hri_msgs cannot be imported ({IMPORT_ERROR})" if IMPORT_ERROR else ""


def body_ids(settings: Settings) -> BodyIds:
    """Return the ids that frames and topics need."""
    rep155 = settings.rep155
    on = not reason_off(settings)
    return BodyIds(pool=on and rep155.id_pool, faces=on and rep155.faces, persons=on and rep155.persons)


def open_rep155(node: Any, settings: Settings, body: Any, later: Callable, ids: BodyIds) -> Rep155 | NoRep155:
    """Return the publishers, or what does nothing where they are off."""
    reason = reason_off(settings)
    return NoRep155(reason, wanted=settings.rep155.enabled) if reason else Rep155(node, settings, body, later, ids)


class NoRep155:
    """Stands in where REP-155 is off.

    Args:
        reason: Why. wanted: It was not switched off.
    """

    def __init__(self, reason: str, *, wanted: bool) -> None:
        self._reason, self._wanted = reason, wanted

    def status(self) -> Status:
        status = Status("rep155")
        (status.warn if self._wanted else status.note)(f"nothing under /humans: {self._reason}")
        return status

    def publish(self, frame: Frame, result: FrameResult) -> None: ...

    def forget(self, stamp_ns: int, frame_id: str) -> None: ...

    def close(self) -> None: ...


@dataclass(eq=False)
class _Body:
    """One id in use.

    Attributes:
        track_id, figure: Whose it is now. seen_s: Monotonic time when last seen.
        body, face, person: Topics; None until they have been made, and where there are none.
        gone: They are not wanted any more, should they be made yet.
    """

    letters: str
    track_id: int
    figure: Rep155Body
    seen_s: float = 0.0
    body: Any = None
    face: Any = None
    person: Any = None
    gone: bool = False


class Rep155:
    """Publishers under /humans. `publish` and `forget` belong to the worker's thread.

    Args:
        node: Of rclpy. body: The body model. later: Runs a job in another thread.
        ids: Of a frame's people, before it is published.
    """

    def __init__(
        self, node: Any, settings: Settings, body: Any, later: Callable[[Callable[[], None]], None], ids: BodyIds
    ) -> None:
        self._node, self._settings, self._body, self._later = node, settings.rep155, body, later
        self._root = settings.rep155.root.rstrip("/")
        self._ids = ids
        self._bodies: dict[str, _Body] = {}
        self._leaving: list[_Body] = []
        self._lock = threading.Lock()  # of all above, against the sweep in the executor's thread
        self._published_s, self._gap_s, self._tracked_some = 0.0, 0.0, False
        self._frame_id = ""
        self._landmarks = FaceLandmarks2d(body) if self._settings.faces else None
        create = node.create_publisher
        names = ["bodies/tracked"]
        names += ["faces/tracked"] if self._settings.faces else []
        names += ["persons/tracked", "persons/known"] if self._settings.persons else []
        self._lists = {
            name: create(IdsList, f"{self._root}/{name}", qos.rep155(), qos_overriding_options=qos.OVERRIDES)
            for name in names
        }
        self._matches = None
        if self._settings.faces:
            self._matches = create(
                IdsMatch, f"{self._root}/candidate_matches", qos.rep155_matches(), qos_overriding_options=qos.OVERRIDES
            )
        self._load_types()
        self._timer = node.create_timer(SWEEP_S, self._sweep, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self, frame: Frame, result: FrameResult) -> None:
        """Publish everybody of a frame who is not lost."""
        now = time.monotonic()
        seen = [person for person in result.people if person.state != TrackState.LOST]
        with self._lock:
            bodies = [self._at(person, now) for person in seen]
            self._gap_s = now - self._published_s
            self._published_s, self._tracked_some, self._frame_id = now, bool(seen), result.frame_id
            head = header(result.stamp_ns, result.frame_id)
            self._tell("bodies/tracked", head, [body.letters for body in bodies])
            for person, entry in zip(seen, bodies, strict=True):
                if entry.body is not None:
                    entry.body.publish(frame, result, person, self._later)
            if self._settings.faces:
                self._publish_faces(head, frame, result, seen, bodies)
            if self._settings.persons:
                self._publish_persons(head, bodies, now)

    def forget(self, stamp_ns: int, frame_id: str) -> None:
        """Say that nobody is tracked: tracks were reset, or the node is being deactivated."""
        with self._lock:
            self._nobody(stamp_ns, frame_id)

    def status(self) -> Status:
        with self._lock:
            ids = [entry.letters for entry in self._bodies.values() if entry.body is not None]
        return Status("rep155", {"bodies with topics": " ".join(ids), "id_pool": self._ids.pool})

    def close(self) -> None:
        """Destroy all endpoints; `later` has been stopped before."""
        self._node.destroy_timer(self._timer)
        for entry in (*self._bodies.values(), *self._leaving):
            self._close_topics(entry)
        self._bodies.clear()
        self._leaving.clear()
        for publisher in (*self._lists.values(), self._matches):
            if publisher is not None:
                self._node.destroy_publisher(publisher)

    def _at(self, person: HumanEstimate, now: float) -> _Body:
        letters = self._ids.of(person.track_id)
        entry = self._bodies.get(letters)
        if entry is None:
            entry = self._bodies[letters] = _Body(letters, person.track_id, self._ids.body_of(person.track_id))
            self._later(lambda: self._make_topics(entry))
        elif entry.track_id != person.track_id:  # an id of the pool
            entry.track_id, entry.figure = person.track_id, self._ids.body_of(person.track_id)
            if entry.body is not None:
                entry.body.start_person(entry.figure)
        entry.seen_s = now
        return entry

    def _make_topics(self, entry: _Body) -> None:
        name = f"{self._root}/bodies/{entry.letters}"
        body = BodyTopics(self._node, name, entry.letters, self._body, picture=self._settings.cropped)
        face = person = None
        if self._settings.faces:
            name = f"{self._root}/faces/{face_id(entry.letters)}"
            face = FaceTopics(self._node, name, self._landmarks, pictures=self._settings.cropped)
        if self._settings.persons:
            person = PersonTopics(self._node, f"{self._root}/persons/{person_id(entry.letters)}", entry.letters)
        with self._lock:
            body.start_person(entry.figure)
            entry.body, entry.face, entry.person = body, face, person
        if entry.gone:
            self._close_topics(entry)

    def _publish_faces(
        self, head: Header, frame: Frame, result: FrameResult, seen: list[HumanEstimate], bodies: list[_Body]
    ) -> None:
        ids = []
        for person, entry in zip(seen, bodies, strict=True):
            face = self._ids.face_of(entry.track_id)
            if face is None:
                continue
            ids.append(face)
            if entry.face is not None and person.regression.parts & Part.FACE:
                entry.face.publish(frame, result, person, entry.body.head)
            self._matches.publish(
                IdsMatch(id1=face, id1_type=IdsMatch.FACE, id2=entry.letters, id2_type=IdsMatch.BODY, confidence=1.0)
            )
        self._tell("faces/tracked", head, ids)

    def _publish_persons(self, head: Header, bodies: list[_Body], now: float) -> None:
        self._tell("persons/tracked", head, [person_id(entry.letters) for entry in bodies])
        known = [entry for entry in self._bodies.values() if now - entry.seen_s <= LINGER_S]
        self._tell("persons/known", head, [person_id(entry.letters) for entry in known])
        for entry in self._bodies.values():
            if entry.person is None:
                continue
            if entry.seen_s == now:
                entry.person.publish(self._ids.face_of(entry.track_id))
            else:
                entry.person.lose()

    def _tell(self, name: str, head: Header, ids: list[str]) -> None:
        self._lists[name].publish(IdsList(header=head, ids=ids))

    def _nobody(self, stamp_ns: int, frame_id: str) -> None:
        self._tracked_some = False
        for name in self._lists:
            self._tell(name, header(stamp_ns, frame_id), [])
        for entry in self._bodies.values():
            if entry.person is not None:
                entry.person.lose()

    def _sweep(self) -> None:
        """End the topics of those who have gone; tell when frames stopped that nobody is tracked."""
        now = time.monotonic()
        with self._lock:
            if self._tracked_some and now - self._published_s > self._silent_s():
                self._nobody(self._node.get_clock().now().nanoseconds, self._frame_id)
            gone = [] if self._ids.pool else [entry for entry in self._bodies.values() if self._has_left(entry, now)]
            for entry in gone:
                del self._bodies[entry.letters]
                entry.gone = True
            # `close` ends those whose jobs are dropped.
            self._leaving = [*(entry for entry in self._leaving if entry.body is not None), *gone]
        for entry in gone:
            self._later(lambda entry=entry: self._close_topics(entry))

    def _silent_s(self) -> float:
        """Return how long no frame is only a slow frame."""
        return max(SILENT_S, 3 * min(self._gap_s, LINGER_S))

    def _has_left(self, entry: _Body, now: float) -> bool:
        in_last_frame = self._tracked_some and entry.seen_s >= self._published_s
        return not in_last_frame and now - entry.seen_s > LINGER_S

    @staticmethod
    def _close_topics(entry: _Body) -> None:
        for topics in (entry.body, entry.face, entry.person):
            if topics is not None:
                topics.close()
        entry.body = entry.face = entry.person = None

    def _load_types(self) -> None:
        """Have the middleware load each type now: the first endpoint of one takes up to 13 ms, later ones 0.2 ms."""
        on = self._settings
        groups = [BODY_KINDS, *([FACE_KINDS] if on.faces else []), *([PERSON_KINDS] if on.persons else [])]
        for kind in {kind for group in groups for kind in group.values()}:
            # A hidden topic for each: several nodes may do this at once, and a topic has one type.
            name = f"{self._root}/_types/{kind.__name__}"
            self._node.destroy_publisher(create_publisher(self._node, kind, name, qos.rep155()))
