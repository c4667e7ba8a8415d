"""What the refiner's worker does: frames in, a step of the library, windows out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from hsr_msgs.msg import AvatarInfo
from sensor_msgs.msg import CameraInfo

from hsr_core.errors import BadFrame, ConfigError, InvalidIntrinsics
from hsr_core.refine.frames import RefineFrame
from hsr_core.refine.window import AvatarView, RefinedWindow
from hsr_core.types import Camera, HumanParams

from . import convert
from .convert import body_id
from .notices import Notices
from .pairing import Bundle, Pairing
from .refine_frames import FrameMaker, NoCameraInfo
from .refine_outputs import RefineOutputs, Source, Sources
from .refine_params import RefinerSettings
from .slowdown import Slowdown
from .stats import Counters, Window
from .worker_errors import WorkerErrors

RECENT_WINDOWS = 20
KEPT_SOURCES = 1024
"""Messages of people that may still be refined, 5 kB each."""
KEPT_AVATARS = 64
"""People about whose avatars is known what was last told."""


class Refiner(Protocol):
    """The part of `hsr_core.refine.online.OnlineRefiner` that the node uses."""

    def add(
        self,
        track_id: int,
        frame: RefineFrame,
        *,
        mask_quality: float,
        depth_source: str,
        depth_weight: float,
        metric: bool,
    ) -> None: ...

    def add_estimate(self, track_id: int, stamp_ns: int, params: HumanParams) -> None: ...

    def refine(self, should_stop: Callable[[], bool]) -> RefinedWindow | None: ...

    def spare(self, on: bool) -> None: ...

    def lost(self, track_id: int) -> None: ...

    def reset(self, track_id: int | None = None) -> None: ...

    def save_avatar(self, path: Path, track_id: int) -> None: ...

    def load_avatar(self, path: Path, track_id: int) -> None: ...

    def gaussians(self, track_id: int) -> AvatarView | None: ...

    def render_view(self, track_id: int) -> np.ndarray | None: ...

    def close(self) -> None: ...


@dataclass
class Avatar:
    """What was told of one person's avatar."""

    version: int = 0
    path: str = ""
    trained_frames: int = 0
    psnr_db: float = float("nan")
    gaussians: int = 0
    frame_id: str = ""
    stamp_ns: int = 0


class RefinePipeline:
    """Every method but the properties runs in the worker's thread.

    Args:
        epoch: Changes when everything before must be forgotten.
        interrupted: True when the window in work should be left.
        depth_info: Newest camera info of the depth camera.
        slowdown: Of the perception node.
        on_device_error: Told that the GPU is lost.

    Attributes:
        slowdown: As given.
        more: The last call gave a window: there may be another one.
        refining: A step of the library is in work.
        newest: The last window, accepted or not, or None.
        accepted: Of the newest windows, true or false each.
        accepted_s: Monotonic time of the last accepted window, or of the start.
        fed_s: Monotonic time of the last frame that went into the refinement.
        time_ms: Of the newest windows.
        errors: The exceptions of the library.
    """

    def __init__(
        self,
        refiner: Refiner,
        maker: FrameMaker,
        outputs: RefineOutputs,
        pairing: Pairing,
        counters: Counters,
        notices: Notices,
        settings: RefinerSettings,
        epoch: Callable[[], int],
        interrupted: Callable[[], bool],
        depth_info: Callable[[], CameraInfo | None],
        slowdown: Slowdown,
        on_device_error: Callable[[str], None],
    ) -> None:
        self._refiner, self._maker, self._outputs, self._pairing = refiner, maker, outputs, pairing
        self._counters, self._notices, self._settings = counters, notices, settings
        self._epoch, self._interrupted, self._depth_info = epoch, interrupted, depth_info
        self.slowdown = slowdown
        self._sources = Sources(KEPT_SOURCES)
        self._camera: Camera | None = None
        self._avatars: dict[int, Avatar] = {}
        self.more = self.refining = False
        self.newest: RefinedWindow | None = None
        self.accepted: deque[bool] = deque(maxlen=RECENT_WINDOWS)
        self.accepted_s = self.fed_s = time.monotonic()
        self.time_ms = Window(RECENT_WINDOWS)
        self.errors = WorkerErrors(counters, notices, on_device_error)

    def handle(self, tick: object) -> None:
        """Hand over what has come, then work on one window."""
        epoch = self._epoch()
        while not self._interrupted() and (bundle := self._pairing.take()) is not None:
            if bundle.epoch == epoch:
                self._add(bundle)
        if self._interrupted():  # between two frames, too: each may take a tenth of a second
            return
        for track_id in self._pairing.take_gone():
            self._refiner.lost(track_id)
            self._outputs.remove(track_id, self._newest_stamp_ns())
        self._refiner.spare(self._settings.spare_perception and self.slowdown.slow)
        self.refining = True
        try:
            window = self._refiner.refine(lambda: self._interrupted() or epoch != self._epoch())
        finally:
            self.refining = False
        self.more = window is not None
        if window is None:
            if self._interrupted():
                self._counters.add("interrupted")
            return
        self._counters.add("windows")
        if epoch != self._epoch() or self._too_late(window):
            self._counters.add("stale_windows")
            return
        self._publish(window)

    def on_error(self, error: Exception) -> None:
        """Count an exception of the library and go on; a lost GPU is handed on."""
        self.more = False
        self.errors.add(error, "a window was lost")

    def configure(self, settings: RefinerSettings) -> None:
        """Take live settings."""
        self._settings = settings
        self._outputs.configure(settings)

    def restart(self) -> None:
        """Forget what belongs to the time before; avatars stay, for their people may still be there."""
        self._maker.reset()
        self._sources.clear()
        self._camera = None
        self._outputs.retire(self._newest_stamp_ns())
        self.newest = None

    def save_avatar(self, path: Path, relative: str, track_id: int | None) -> str:
        """Save a person's avatar; return their id.

        Raises:
            ConfigError: There is no such person.
        """
        track_id = self._who(track_id)
        self._refiner.save_avatar(path, track_id)
        self._avatar(track_id).path = relative
        self._tell(track_id)
        return body_id(track_id)

    def load_avatar(self, path: Path, relative: str, track_id: int | None) -> str:
        """Load an avatar for a person; return their id."""
        track_id = self._who(track_id)
        self._refiner.load_avatar(path, track_id)
        self._avatar(track_id).path = relative
        self._tell(track_id)
        return body_id(track_id)

    def reset_avatar(self) -> None:
        """Forget all avatars."""
        self._refiner.reset()
        for track_id, avatar in self._avatars.items():
            self._avatars[track_id] = Avatar(avatar.version + 1, frame_id=avatar.frame_id)
            self._tell(track_id)
        self._avatars.clear()
        self.restart()

    def close(self) -> None:
        """Let go of everything; the executor may hold this object a while longer."""
        self._sources.clear()
        del self._refiner, self._maker, self._outputs

    def _add(self, bundle: Bundle) -> None:
        if bundle.image is None:
            self._add_estimates(bundle)
            return
        try:
            camera, people = self._maker.make(bundle, self._depth_info())
        except (BadFrame, InvalidIntrinsics) as error:
            self._counters.add("no_camera_info" if isinstance(error, NoCameraInfo) else "dropped_bad")
            self._notices.warn(("bad", str(error)[:60]), f"image not used: {error}", every_s=60.0)
            return
        self._camera = camera
        if not people:
            return
        self._sources.put(Source(bundle.people, camera, bundle.received_s))
        for person in people:
            self._refiner.add(
                person.track_id,
                person.frame,
                mask_quality=person.mask_quality,
                depth_source=person.depth_source,
                depth_weight=person.depth_weight,
                metric=person.metric,
            )
        self.fed_s = time.monotonic()

    def _add_estimates(self, bundle: Bundle) -> None:
        """Hand over people whose image is not needed: they are refined as their neighbours in time."""
        if self._camera is None:
            return
        estimates = self._maker.estimates(bundle.people)
        if estimates:
            self._sources.put(Source(bundle.people, self._camera, bundle.received_s))
        for track_id, params in estimates.items():
            self._refiner.add_estimate(track_id, bundle.stamp_ns, params)

    def _too_late(self, window: RefinedWindow) -> bool:
        limit_s = self._settings.window.max_age_s
        source = self._sources.get(window.stamps_ns[-1]) if window.stamps_ns else None
        return limit_s > 0 and source is not None and time.monotonic() - source.received_s > limit_s

    def _publish(self, window: RefinedWindow) -> None:
        quality = window.quality
        source = self._sources.get(window.stamps_ns[-1]) if window.stamps_ns else None
        frame_id = source.people.header.frame_id if source else ""
        self._outputs.publish_quality(window, frame_id)
        self.newest = window
        self.accepted.append(quality.accepted)
        self.time_ms.add(quality.seconds * 1e3)
        self._counters.add("accepted" if quality.accepted else "rejected")
        if quality.accepted:
            self.accepted_s = time.monotonic()
            self._counters.add("refined", self._outputs.publish_people(window, self._sources))
        self._note_avatar(window, frame_id)
        if window.avatar_version and frame_id:
            self._outputs.publish_pictures(
                window.track_id, frame_id, self._refiner.gaussians, self._refiner.render_view
            )

    def _note_avatar(self, window: RefinedWindow, frame_id: str) -> None:
        avatar, quality = self._avatar(window.track_id), window.quality
        if window.avatar_version == avatar.version:
            return
        avatar.version, avatar.gaussians, avatar.psnr_db = window.avatar_version, quality.gaussians, quality.psnr_db
        avatar.trained_frames += quality.frames
        if window.stamps_ns:
            avatar.stamp_ns, avatar.frame_id = window.stamps_ns[-1], frame_id
        self._tell(window.track_id)

    def _tell(self, track_id: int) -> None:
        avatar = self._avatar(track_id)
        self._outputs.avatar.publish(
            AvatarInfo(
                header=convert.header(avatar.stamp_ns, avatar.frame_id),
                id=body_id(track_id),
                track_id=track_id,
                version=avatar.version,
                path=avatar.path,
                gaussians=avatar.gaussians,
                sh_degree=0,
                trained_frames=avatar.trained_frames,
                psnr_db=avatar.psnr_db,
            )
        )

    def _avatar(self, track_id: int) -> Avatar:
        while track_id not in self._avatars and len(self._avatars) >= KEPT_AVATARS:
            del self._avatars[next(iter(self._avatars))]
        return self._avatars.setdefault(track_id, Avatar())

    def _who(self, track_id: int | None) -> int:
        track_id = self._pairing.primary if track_id is None else track_id
        if track_id is None:
            raise ConfigError("nobody has been seen yet")
        return track_id

    def _newest_stamp_ns(self) -> int:
        return self.newest.stamps_ns[-1] if self.newest and self.newest.stamps_ns else 0
