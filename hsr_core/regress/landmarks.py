"""The open regressor: MediaPipe's landmark networks, then a fast fit of the body model.

Per frame: find or follow people, body landmarks, hand and face landmarks on crops that the body gives, then rotations
by `fit_body`, `fit_hand` and `fit_face`. Parts that are not seen stay at rest and are marked.
"""

from __future__ import annotations

import time
from typing import Any

from ..config import Settings
from ..types import Camera, Frame, Regression
from .fit_person import PersonFit, PersonFitters
from .observe import Observer


class LandmarkRegressor:
    """See the module. Follows up to `people.max` people: the largest first, then whoever is found beside them.

    Of three people or more two get hands and face in a frame: the one attended to, and the others in turn. Between
    their turns the others' fingers and faces are held as they were, and `parts` does not have them.

    Attributes:
        name, stage_ms: As the protocol says; stages: detect, pose, hands_face, fit.
    """

    name = "landmarks"

    def __init__(self, settings: Settings, body: Any) -> None:
        self.stage_ms: dict[str, float] = {}
        self._settings = settings
        self._observer = Observer()
        self._shared = PersonFitters(body, self._observer.face_network)
        self._people: dict[int, PersonFit] = {}
        self._given: list[tuple[Regression, int]] = []

    def configure(self, settings: Settings) -> None:
        """Take live settings; another height keeps each person's proportions."""
        self._settings = settings
        for person in self._people.values():
            person.configure(settings)

    def attend(self, person: Regression | None) -> None:
        """Look at this person's hands and face in every frame, a person of the last answer; None: at the largest's."""
        self._observer.attend(self._key_of(person))

    def set_height(self, person: Regression, height_m: float) -> None:
        """Take the stature [m] of a person of the last answer, where `subject.height_m` is not theirs."""
        key = self._key_of(person)
        if key is not None:
            self._people[key].set_height(height_m)

    def reset(self) -> None:
        """Forget the people: where, who, pose and shape."""
        self._observer.reset()
        self._people.clear()
        self._given.clear()

    def close(self) -> None:
        """Release networks and threads."""
        self._observer.close()

    def regress(self, frame: Frame, camera: Camera) -> list[Regression]:
        """Return the people followed, the largest first."""
        seen = self._observer.observe(frame, self._settings.people, self._settings.parts)
        self.stage_ms = self._observer.stage_ms
        start = time.perf_counter()
        self._remember({observation.key for observation in seen})
        self._given = [(self._person(each.key).fit(frame, camera, each), each.key) for each in seen]
        self.stage_ms["fit"] = (time.perf_counter() - start) * 1e3
        return [person for person, _ in self._given]

    def _remember(self, seen: set[int]) -> None:
        """Forget those who are no longer followed; those who are only waited for start afresh when they return."""
        self._people = {key: self._people[key] for key in self._people.keys() & self._observer.keys}
        for key in self._people.keys() - seen:
            self._people[key].lose()

    def _person(self, key: int) -> PersonFit:
        if key not in self._people:
            self._people[key] = PersonFit(self._shared, self._settings)
        return self._people[key]

    def _key_of(self, person: Regression | None) -> int | None:
        return next((key for given, key in self._given if given is person), None)


def create(settings: Settings, body: Any) -> LandmarkRegressor:
    """Factory for the registry."""
    return LandmarkRegressor(settings, body)
