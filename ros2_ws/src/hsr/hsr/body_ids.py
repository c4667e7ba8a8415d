"""Names of people in frames and under /humans: the ids of `people`, or ids that are used again."""

from __future__ import annotations

from collections.abc import Collection

from hsr_core.skeleton.rep155_body import Rep155Body

from .convert import body_id, track_id_of

LINGER_S = 2.0
"""Between somebody's going and the end of their topics, or another's use of their id: listeners need to notice."""
FACE_HOLD_S = 1.0
"""A face is tracked for so long after it was seen: of many people not all faces are looked at in every frame."""
_IDS = 26**5
_FACE_OFFSET, _PERSON_OFFSET = _IDS // 2, _IDS // 3


def face_id(letters: str) -> str:
    """Return the id of a body's face: another one than any body near its number has."""
    return body_id((track_id_of(letters) + _FACE_OFFSET) % _IDS)


def person_id(letters: str) -> str:
    """Return the id of a body's person: neither that of a body near its number nor of a face."""
    return body_id((track_id_of(letters) + _PERSON_OFFSET) % _IDS)


class BodyIds:
    """Five-letter ids of those who are there, of their faces, and their REP-155 bodies.

    Args:
        pool: Use the ids of people who have been gone for 2 s again; then ids are not those of `people` for good.
        faces, persons: Faces and persons have ids too.
    """

    def __init__(self, *, pool: bool, faces: bool = False, persons: bool = False) -> None:
        self.pool = pool
        self._faces, self._persons = faces, persons
        self._ids: dict[int, str] = {}
        self._free_since: dict[str, float] = {}
        self._bodies: dict[int, Rep155Body] = {}
        self._face_until: dict[int, float] = {}
        self._now_s = 0.0

    def of(self, track_id: int) -> str:
        """Return the id of a track of the last update."""
        return self._ids[track_id]

    def body_of(self, track_id: int) -> Rep155Body:
        """Return the body of a track of the last update."""
        return self._bodies[track_id]

    def face_of(self, track_id: int) -> str | None:
        """Return the id of the face of a track of the last update; None: it is not tracked."""
        tracked = self._now_s < self._face_until.get(track_id, 0.0)
        return face_id(self._ids[track_id]) if tracked else None

    def person_of(self, track_id: int) -> str | None:
        """Return the id of the person of a track of the last update; None: persons have none here."""
        return person_id(self._ids[track_id]) if self._persons else None

    def update(self, track_ids: Collection[int], now_s: float, faces: Collection[int] = ()) -> None:
        """Let go of the ids of all other tracks, and name the new ones.

        Args:
            faces: Tracks whose face was seen.
        """
        self._now_s = now_s
        for track_id in self._ids.keys() - set(track_ids):
            letters = self._ids.pop(track_id)
            del self._bodies[track_id]
            self._face_until.pop(track_id, None)
            if self.pool:
                self._free_since[letters] = now_s
        for track_id in track_ids:
            if track_id not in self._ids:
                self._ids[track_id] = self._rested(now_s) or body_id(track_id)
                self._bodies[track_id] = Rep155Body()
        if self._faces:
            self._face_until.update(dict.fromkeys(faces, now_s + FACE_HOLD_S))

    def _rested(self, now_s: float) -> str | None:
        """Return the id that has been free for longest, if for long enough."""
        letters = next(iter(self._free_since), None)
        if letters is None or now_s - self._free_since[letters] < LINGER_S:
            return None
        del self._free_since[letters]
        return letters
