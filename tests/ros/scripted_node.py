"""The perception node with a stream that does what the image says, for tests of everything around the library.

The first byte of an image is a command (see `Command`); there is no network and no real body.
"""

from __future__ import annotations

import dataclasses
import os
import time
import weakref
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from hsr import perception_node

from hsr_core import progress
from hsr_core.body.joints import N_JOINTS
from hsr_core.config import Settings
from hsr_core.errors import BadFrame, DeviceError
from hsr_core.regress.fake import FakeRegressor
from hsr_core.types import Camera, EstimateSource, Frame, FrameResult, HumanEstimate, MetricSource, TrackState

FAIL_DIR = "HSR_TEST_FAIL_DIR"
"""Environment variable: files in this folder make things go wrong.

One named like a transition makes that transition raise, once. `open`: opening the stream raises a DeviceError, once.
While there is `start-up`, opening lasts; its text "phase,done,total" is what is reported all the time ("stuck,0,0":
nothing more is reported). While there is `lost`, every frame raises a DeviceError; with the text "slow" after a while;
with "for good" closing fails, too. While there is `hold`, a frame with the command HELD is in work.
"""
VERTICES = 3000
"""Enough for a mesh message that is not mistaken for a deletion."""


class Command(IntEnum):
    PERSON = 0
    NOBODY = 1
    RAISE = 2
    NAN_PARAMS = 3
    BAD_FRAME = 4
    SLOW = 5  # 100 ms
    CUT = 6  # the person's box reaches out of the image
    NAN_MESH = 7
    HELD = 8
    TEN = 10


class TinyBody:
    """Joints and a strip of triangles at the person's place; nothing bends."""

    n_betas = n_expression = n_head_betas = n_head_expression = 10
    faces = np.stack([np.arange(VERTICES - 2) + i for i in range(3)], axis=1).astype(np.int32)
    family, model_id, licence_note = "OPEN", "tiny-0", "made up"

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._joints = rng.uniform(-0.8, 0.8, (N_JOINTS, 3)).astype(np.float32)
        self._vertices = rng.uniform(-0.9, 0.9, (VERTICES, 3)).astype(np.float32)

    def rest(self, params):
        return self._vertices, self._joints

    def pose_one(self, params, *, vertices=True):
        return SimpleNamespace(
            joints=self._joints + params.transl,
            joint_rotmats=np.tile(np.eye(3, dtype=np.float32), (N_JOINTS, 1, 1)),
            vertices=self._vertices + params.transl if vertices else None,
        )


class ScriptedStream:
    """Stands in for `hsr_core.stream.HumanStream`."""

    def __init__(self, settings: Settings) -> None:
        weakref.finalize(self, print, "stream freed")
        _start_slowly()
        if _take("open"):
            raise DeviceError("no GPU was told to be there")
        self.body = TinyBody()
        self._settings = settings
        self.regressor = FakeRegressor(settings, self.body, people=10)
        self.regressor.engine_reason = "auto: scripted"
        self._first_id, self._seq, self._last = 0, 0, ()
        self._nan_mesh = False
        self.primary: int | None = None

    def process(self, frame: Frame, depth_of=None) -> FrameResult:
        command = int(frame.image.reshape(-1)[0])
        self._nan_mesh = command == Command.NAN_MESH
        _lose_device()
        if command == Command.RAISE:
            raise RuntimeError("as the image asked for")
        if command == Command.BAD_FRAME:
            raise BadFrame("as the image asked for")
        if command == Command.SLOW:
            time.sleep(0.1)
        if command == Command.HELD:
            _hold()
        camera = frame.camera or Camera.from_hfov(self._settings.camera.assumed_hfov_deg, frame.image_hw, "")
        depth_m = depth_of(frame, camera) if depth_of is not None else None
        people = self._people(frame, camera, command, depth_m)
        self._seq += 1
        seen = {person.track_id for person in people}
        gone = [dataclasses.replace(p, state=TrackState.LOST) for p in self._last if p.track_id not in seen]
        self._last = people
        return FrameResult(
            self._seq, frame.stamp_ns, frame.frame_id, camera, (*people, *gone), {"regress": 1.0, "total": 2.0},
            EstimateSource.SMOOTHED,
        )  # fmt: skip

    def _people(self, frame: Frame, camera: Camera, command: int, depth_m) -> tuple[HumanEstimate, ...]:
        """With depth, people are as far away as its middle."""
        count = {Command.NOBODY: 0, Command.TEN: 10}.get(command, 1)
        people = []
        for i, regression in enumerate(self.regressor.regress(frame, camera)[:count]):
            params = regression.params
            if command == Command.NAN_PARAMS:
                params = dataclasses.replace(params, transl=np.full(3, np.nan, np.float32))
            if depth_m is not None:
                z = float(depth_m[depth_m.shape[0] // 2, depth_m.shape[1] // 2])
                params = dataclasses.replace(params, transl=np.float32([0, 0, z]))
                regression = dataclasses.replace(
                    regression, metric_source=MetricSource.DEPTH_CAMERA, depth_sigma_m=0.03
                )
            if command == Command.CUT:
                regression = dataclasses.replace(regression, bbox_xyxy=np.float32([-50, -20, 30, 5000]))
            posed = self.body.pose_one(params, vertices=False)
            keypoints2d = np.zeros((N_JOINTS, 3), np.float32)
            track_id = self._first_id + i
            primary = track_id == (self._first_id if self.primary is None else self.primary)
            people.append(
                HumanEstimate(
                    track_id, TrackState.TRACKED, primary, regression, params, posed.joints, posed.joint_rotmats,
                    keypoints2d,
                )
            )  # fmt: skip
        return tuple(people)

    def mesh(self, estimate: HumanEstimate) -> np.ndarray:
        vertices = self.body.pose_one(estimate.params).vertices
        if self._nan_mesh:
            vertices[5] = np.nan
        return vertices

    def set_primary(self, track_id: int | None) -> None:
        self.primary = track_id

    def lock_shape(self, track_id: int, locked: bool) -> None: ...

    def reset(self) -> None:
        self._first_id, self._last = self._first_id + 10, ()

    def configure(self, settings: Settings) -> None:
        self._settings = settings

    def close(self) -> None:
        if _read("lost") == "for good":
            raise RuntimeError("closing fails too on a GPU that is lost for good")


class ScriptedNode(perception_node.PerceptionNode):
    """Raises in the transitions for which there is a file in `FAIL_DIR`."""

    def do_configure(self) -> None:
        super().do_configure()
        _fail("configure")

    def do_activate(self) -> None:
        super().do_activate()
        _fail("activate")

    def do_deactivate(self) -> None:
        super().do_deactivate()
        _fail("deactivate")

    def free(self) -> None:
        super().free()
        _fail("cleanup")


def _fail(transition: str) -> None:
    if _take(transition):
        raise RuntimeError(f"{transition} was told to fail")


def _start_slowly() -> None:
    reports = 0
    while (text := _read("start-up")) is not None:
        phase, done, total = text.split(",")
        for _ in range(0 if reports and phase == "stuck" else 1000):
            progress.report(phase, int(done), int(total))
            reports += 1
        time.sleep(0.005)
    if reports:
        print(f"{reports} reports")


def _hold() -> None:
    print("held", flush=True)
    while _read("hold") is not None:
        time.sleep(0.005)


def _lose_device() -> None:
    text = _read("lost")
    if text is not None:
        print("device lost", flush=True)
        if text == "slow":
            time.sleep(0.5)
        raise DeviceError("the GPU was told to be lost")


def _read(name: str) -> str | None:
    """Return the text of a file in FAIL_DIR; None when there is none."""
    folder = os.environ.get(FAIL_DIR)
    try:
        return (Path(folder) / name).read_text() if folder else None
    except FileNotFoundError:
        return None


def _take(name: str) -> bool:
    """Remove a file in FAIL_DIR; False when there is none."""
    found = _read(name) is not None
    if found:
        (Path(os.environ[FAIL_DIR]) / name).unlink()
    return found


if __name__ == "__main__":
    perception_node.main(ScriptedStream, ScriptedNode)
