"""Refinement beside a running perception: frames come in, windows of refined people come out.

refiner = OnlineRefiner(body, online_settings("online_gpu"))
refiner.add(track_id, frame, mask_quality=0.8, depth_source="topic")   # from any thread, cheap
window = refiner.refine()                                              # from one thread; None: nothing is due

Source:
    HumanSplatHMR (arXiv 2605.02784) window by window; windows and key frames after MonoGS (Matsuki et al. 2024).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..body.ehm import EhmBody
from ..errors import ConfigError
from ..geometry.raster import Topology
from ..threads import few_torch_threads
from ..types import HumanParams
from .avatar import Avatar
from .avatar_io import load_avatar, save_avatar
from .frames import RefineFrame
from .gates import Entry
from .online_settings import OnlineSettings
from .person import Person
from .render import render
from .schedule import Budget
from .window import AvatarView, RefinedWindow

MAX_WAITING = 512
"""Estimates that wait for the worker, at most, of one person."""
THINNING = 0.9
"""Of the even distance of images: a camera's clock jitters."""


@dataclass(eq=False)
class _Inbox:
    """What came of one person since the worker last looked."""

    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=MAX_WAITING))
    count: int = 0
    newest_ns: int | None = None
    image_ns: int | None = None
    heard: float = 0.0


class OnlineRefiner:
    """Learns an avatar of each person and refines their poses, a window at a time.

    `add`, `add_estimate`, `lost`, `reset`, `spare`, `gaussians`, `render_view` and `status` return at once and may be
    called from any thread. `refine` is called from one thread; `save_avatar` and `load_avatar` wait until it has ended,
    at most one budget.

    Memory is bounded: of each person `window.max_frames` images (the caller's own, not copied) and the key frames'
    crops; of a parked person the avatar alone, for `keep_s`.

    Args:
        body: Whose parameters the frames carry; not to be used elsewhere at the same time.
        settings: See `online_settings.PROFILES`.
        clock: Monotonic [s]. Measures the budget, and when people are parked and deleted.
    """

    def __init__(self, body: EhmBody, settings: OnlineSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._body, self._clock = body, clock
        self._topology = Topology(body.faces)
        self._people: dict[int, Person] = {}
        self._inboxes: dict[int, _Inbox] = {}
        self._requests: list[tuple[str, int | None]] = []
        self._served: dict[int, int] = {}
        self._rounds = 0
        self._worked_until = clock()
        self._offered: Avatar | None = None
        self._closed = self._spared = False
        self._lock = threading.Lock()  # of inboxes and requests: held for moments
        self._work = threading.Lock()  # of people: held for windows

    # --- from any thread ------------------------------------------------------------------------------------------

    def add(
        self,
        track_id: int,
        frame: RefineFrame,
        *,
        mask_quality: float = 1.0,
        depth_source: str = "none",
        depth_weight: float = 1.0,
        metric: bool = True,
    ) -> None:
        """Take a frame of a person. Images nearer in time than `seconds / max_frames` are not kept, estimates are.

        Args:
            frame: Is kept, not copied.
            mask_quality: [0, 1], see `MaskFrame.quality`.
            depth_source: Provider of `frame.depth_m`. The body's own depth (`body_height`, `none`) is not used; that of
                `unidepth...` or `mono...` has a scale error of its own in each frame.
            depth_weight: How far it is trusted, see `DepthFrame.weight`.
            metric: Something metric is known of the person's distance.
        """
        with self._lock:
            box = self._box(track_id, frame.stamp_ns)
            if box is None:
                return
            window = self.settings.window
            spacing = THINNING * window.seconds * 1e9 / window.max_frames
            keep = box.image_ns is None or frame.stamp_ns - box.image_ns >= spacing
            if keep:
                box.image_ns = frame.stamp_ns
            image = frame if keep else None
            self._append(
                box,
                Entry(box.count, frame.stamp_ns, frame.params, image, mask_quality, depth_source, depth_weight, metric),
            )

    def add_estimate(self, track_id: int, stamp_ns: int, params: HumanParams) -> None:
        """Take a person's estimate without an image: it is refined as its neighbours in time that have one.

        Args:
            stamp_ns: In order with those of the frames. params: Initial estimate.
        """
        with self._lock:
            box = self._box(track_id, stamp_ns)
            if box is not None:
                self._append(box, Entry(box.count, stamp_ns, params))

    def lost(self, track_id: int) -> None:
        """The person is gone: their avatar is parked. A window in progress is given up."""
        self._request("lost", track_id)

    def reset(self, track_id: int | None = None) -> None:
        """Forget a person's avatar and frames, or everybody's. A window in progress is given up."""
        self._request("reset", track_id)

    def spare(self, on: bool) -> None:
        """Do without learning, from the next window on: others need the machine. An avatar is begun all the same."""
        self._spared = on

    def gaussians(self, track_id: int) -> AvatarView | None:
        """Return a person's avatar in their newest refined pose; None while there is none."""
        person = self._people.get(track_id)
        return person.view if person else None

    def render_view(self, track_id: int) -> NDArray[np.uint8] | None:
        """Return that picture on black as the camera would see it, RGB (H, W, 3); None while there is none."""
        view = self.gaussians(track_id)
        if view is None:
            return None
        K = torch.as_tensor(view.K, dtype=torch.float32).clone()
        K[:2, 2] += 0.5
        with torch.no_grad():
            drawn = render(
                view.gaussians, K[None].to(view.gaussians.means), view.image_hw,
                backend=self.settings.backend, max_weight=False,
            )  # fmt: skip
        return (drawn.color[0].clamp(0, 1) * 255).round().byte().cpu().numpy()

    @property
    def status(self) -> dict[int, str]:
        """Where each person stands, see `window.STATUSES`."""
        return {track_id: person.status for track_id, person in list(self._people.items())}

    def _box(self, track_id: int, stamp_ns: int) -> _Inbox | None:
        """Return where a person's frame of this time goes; None after the end."""
        if self._closed:
            return None
        box = self._inboxes.setdefault(track_id, _Inbox())
        box.heard = self._clock()
        if box.newest_ns is not None and stamp_ns <= box.newest_ns:
            box.entries.clear()  # time was set back: what waits is of no use
            box.image_ns = None
        box.newest_ns = stamp_ns
        return box

    def _append(self, box: _Inbox, entry: Entry) -> None:
        box.entries.append(entry)
        box.count += 1
        while box.entries[0].stamp_ns < entry.stamp_ns - self.settings.window.seconds * 1e9:
            box.entries.popleft()

    def _request(self, what: str, track_id: int | None) -> None:
        with self._lock:
            self._requests.append((what, track_id))
            for box in self._boxes(track_id):
                box.entries.clear()
                box.newest_ns = box.image_ns = None

    def _boxes(self, track_id: int | None) -> list[_Inbox]:
        if track_id is None:
            return list(self._inboxes.values())
        return [self._inboxes[track_id]] if track_id in self._inboxes else []

    # --- from the worker ------------------------------------------------------------------------------------------

    def refine(self, should_stop: Callable[[], bool] = lambda: False) -> RefinedWindow | None:
        """Work on the window that has waited longest, for `budget_ms` at most; None when none is due.

        The time is looked at between two steps; the last step and the judging are expected to take as long as before.

        Args:
            should_stop: Asked between two steps.
        """
        with self._work:
            if self._closed:
                return None
            self._serve()
            due = [person for person in self._people.values() if person.due_ns is not None]
            if not due:
                return None
            person = min(due, key=lambda p: (self._served.get(p.track_id, 0), p.due_ns))
            self._rounds += 1
            self._served[person.track_id] = self._rounds
            called_off = lambda: self._called_off(person.track_id)  # noqa: E731
            budget = Budget(self._clock, self.settings.budget_ms / 1e3, lambda: should_stop() or called_off())
            with few_torch_threads():
                window = person.refine(budget, mapping=not self._spared)
            self._worked_until = self._clock()
            return None if called_off() else window

    def save_avatar(self, path: str | os.PathLike[str], track_id: int | None = None) -> None:
        """Write a person's avatar as npz.

        Args:
            track_id: None = the only person who has one.

        Raises:
            ConfigError: Nobody, or several people, have one. MissingFile: The folder does not exist.
        """
        with self._work:
            have = {p.track_id: p.avatar for p in self._people.values() if p.avatar is not None}
            if track_id is None and len(have) == 1:
                track_id = next(iter(have))
            if track_id not in have:
                names = ", ".join(map(str, have)) or "nobody yet"
                raise ConfigError(f"say whose avatar to save; people with an avatar: {names}")
            save_avatar(have[track_id], path)

    def load_avatar(self, path: str | os.PathLike[str], track_id: int | None = None) -> None:
        """Go on with an avatar from a file.

        Args:
            track_id: Whose; None = the only person there is, or else the next one who comes.

        Raises:
            MissingFile, BadFile: As `avatar_io.load_avatar`.
            ConfigError: Several people are there.
        """
        with self._work:
            avatar = load_avatar(path, self._body)
            self._serve()
            present = [p.track_id for p in self._people.values() if p.status != "parked"]
            if track_id is None and len(present) > 1:
                raise ConfigError(f"say whose avatar it is; people: {', '.join(map(str, present))}")
            track_id = present[0] if track_id is None and present else track_id
            if track_id is None:
                self._offered = avatar
            else:
                self._person(track_id).load(avatar)

    def close(self) -> None:
        """Forget everybody. A window in progress is given up; `refine` returns None from now on."""
        self._request("close", None)
        with self._lock:
            self._closed = True
            self._inboxes.clear()
        with self._work:
            self._people.clear()
            self._offered = None

    def _called_off(self, track_id: int) -> bool:
        with self._lock:
            return any(who in (None, track_id) for _, who in self._requests)

    def _person(self, track_id: int) -> Person:
        if track_id not in self._people:
            person = Person(track_id, self._body, self._topology, self.settings)
            if self._offered is not None:
                person.load(self._offered)
                self._offered = None
            self._people[track_id] = person
        return self._people[track_id]

    def _serve(self) -> None:
        """Do what was asked for, hand out what came in, park and delete who is gone."""
        now = self._clock()
        with self._lock:
            requests, self._requests = self._requests, []
            came = {track_id: list(box.entries) for track_id, box in self._inboxes.items()}
            heard = {track_id: box.heard for track_id, box in self._inboxes.items()}
            for box in self._inboxes.values():
                box.entries.clear()
        for what, who in requests:
            for person in [p for p in self._people.values() if who in (None, p.track_id)]:
                if what == "lost":
                    person.park()
                else:
                    person.forget()
                    person.cut()
        for track_id, entries in came.items():
            if entries:
                self._person(track_id).take(entries)
        for track_id, person in list(self._people.items()):
            # Who fed frames and refined in one thread was not silent while it refined.
            silent = now - max(heard.get(track_id, now), self._worked_until)
            if silent > self.settings.keep_s:
                self._delete(track_id)
            elif silent > self.settings.lost_s and person.status != "parked":
                person.park()

    def _delete(self, track_id: int) -> None:
        self._people.pop(track_id)
        self._served.pop(track_id, None)
        with self._lock:
            box = self._inboxes.get(track_id)
            if box is not None and not box.entries:
                del self._inboxes[track_id]
