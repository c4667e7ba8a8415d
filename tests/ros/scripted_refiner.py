"""The refiner node with a refiner that does what the image says, for tests of everything around the library.

The red of an image's first pixel is a command (see `Command`). The body is a box; there is no network and no optimiser.
What the refiner is told is written to a file, a line of JSON each, that `HSR_TEST_REFINER` names.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from hsr import refine_node

from hsr_core.body.joints import N_JOINTS
from hsr_core.depth import DepthSelector
from hsr_core.depth.measured import MeasuredDepth
from hsr_core.errors import BadFile, DeviceError
from hsr_core.mask import MaskSelector
from hsr_core.mask.mesh import MeshMask
from hsr_core.mask.topic import TopicMask
from hsr_core.refine.window import AvatarView, RefinedWindow, WindowQuality

LOG, MODEL = "HSR_TEST_REFINER", "HSR_TEST_MODEL"
"""Environment variables: the file that is written, and whose parameters people carry."""
LONG_S = 2.0
FRAMES = 3
"""A window is made of so many frames, the newest ones."""
SHIFT_M = np.float32([0.25, 0, 0.5])
"""What the scripted refinement adds to a person's place."""
BACKGROUND = 200
"""Blue of the pictures that it renders."""


class Command(IntEnum):
    ACCEPT = 0
    REJECT = 40
    RAISE = 80
    LONG = 120  # until it is stopped, or `LONG_S` have passed
    NAN = 160
    LOST_GPU = 200


class BoxBody:
    """A closed box, 0.5 m wide, 1.2 m tall and 0.3 m deep, around the person's place; nothing bends."""

    n_betas = n_expression = n_head_betas = n_head_expression = 10
    family, model_id, licence_note = "OPEN", os.environ.get(MODEL, "box-0"), "made up"
    half_m = np.float32([0.25, 0.6, 0.15])
    # Corner c has coordinate i at +half when bit i of c is set; counter-clockwise from outside.
    faces = np.int32(
        [
            [0, 4, 6], [0, 6, 2], [1, 3, 7], [1, 7, 5], [0, 1, 5], [0, 5, 4],
            [2, 6, 7], [2, 7, 3], [0, 2, 3], [0, 3, 1], [4, 5, 7], [4, 7, 6],
        ]
    )  # fmt: skip

    def __init__(self) -> None:
        bits = (np.arange(8)[:, None] >> np.arange(3)) & 1
        self._vertices = np.float32(2 * bits - 1) * self.half_m
        self._joints = np.random.default_rng(0).uniform(-0.2, 0.2, (N_JOINTS, 3)).astype(np.float32)

    def pose_one(self, params, *, vertices=True):
        return SimpleNamespace(
            joints=self._joints + params.transl,
            joint_rotmats=np.tile(np.eye(3, dtype=np.float32), (N_JOINTS, 1, 1)),
            vertices=self._vertices + params.transl if vertices else None,
        )


class ScriptedRefiner:
    """Stands in for `hsr_core.refine.online.OnlineRefiner`."""

    def __init__(self) -> None:
        self._frames: dict[int, list] = {}
        self._estimates: dict[int, dict] = {}
        self._sources: dict[int, str] = {}
        self._versions: dict[int, int] = {}
        self._newest: dict[int, tuple] = {}
        self._spared = False

    def spare(self, on):
        if on != self._spared:
            note("spare", on=on)
        self._spared = on

    def add(self, track_id, frame, *, mask_quality, depth_source, depth_weight, metric):
        depth = None if frame.depth_m is None else float(np.median(frame.depth_m[frame.depth_m > 0]))
        note(
            "add", track_id=track_id, stamp_ns=frame.stamp_ns, quality=mask_quality, depth_source=depth_source,
            depth_weight=depth_weight, metric=metric, depth_m=depth, mask=float(frame.mask.mean()), K=frame.K.tolist(),
            transl=frame.params.transl.tolist(), first=frame.image[0, 0].tolist(),
        )  # fmt: skip
        self._frames.setdefault(track_id, []).append(frame)
        self._sources[track_id] = depth_source

    def add_estimate(self, track_id, stamp_ns, params):
        note("estimate", track_id=track_id, stamp_ns=stamp_ns)
        self._estimates.setdefault(track_id, {})[stamp_ns] = params

    def refine(self, should_stop):
        for track_id, frames in self._frames.items():
            if len(frames) >= FRAMES:
                self._frames[track_id] = []
                return self._window(track_id, frames[-FRAMES:], should_stop)
        return None

    def _window(self, track_id, frames, should_stop):
        command = round(float(frames[-1].image[0, 0, 0]) * 255)
        if command == Command.RAISE:
            raise RuntimeError("as the image asked for")
        if command == Command.LOST_GPU:
            raise DeviceError("the GPU was told to be lost")
        if command == Command.LONG:
            note("begin")
            deadline = time.monotonic() + LONG_S
            while not should_stop():
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.005)
            note("stopped")
            return None
        known = {frame.stamp_ns: frame.params for frame in frames}
        between = self._estimates.pop(track_id, {})
        known |= {stamp: p for stamp, p in between.items() if frames[0].stamp_ns < stamp < frames[-1].stamp_ns}
        stamps = tuple(sorted(known))
        source = self._sources[track_id]
        if command == Command.REJECT:
            quality = WindowQuality(False, "the image asked for it", "coast", len(frames), 7, depth_source=source)
            return RefinedWindow(track_id, stamps, (), quality, self._versions.get(track_id, 0))
        self._versions[track_id] = self._versions.get(track_id, 0) + 1
        people = tuple(replace(known[stamp], transl=known[stamp].transl + SHIFT_M) for stamp in stamps)
        if command == Command.NAN:
            people = (*people[:-1], replace(people[-1], transl=np.full(3, np.nan, np.float32)))
        quality = WindowQuality(
            True, "", "track", len(frames), 30, 0.125, 0.5, 0.25, 24.0, 0.875, source, gaussians=2
        )  # fmt: skip
        self._newest[track_id] = frames[-1], people[-1]
        return RefinedWindow(track_id, stamps, people, quality, self._versions[track_id])

    def lost(self, track_id):
        note("lost", track_id=track_id)
        self._frames.pop(track_id, None)

    def reset(self, track_id=None):
        note("reset")
        self._frames.clear()
        self._newest.clear()
        self._versions.clear()

    def save_avatar(self, path, track_id):
        note("save", path=str(path), track_id=track_id)
        np.savez(path, track_id=track_id)

    def load_avatar(self, path, track_id):
        try:
            np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BadFile(f"{path.name} is no avatar: {error}") from error
        note("load", path=str(path), track_id=track_id)

    def gaussians(self, track_id):
        import torch

        from hsr_core.refine.scene import PosedGaussians

        note("gaussians")
        if track_id not in self._newest:
            return None
        frame, params = self._newest[track_id]
        gaussians = PosedGaussians(
            means=torch.tensor([[[0.0, 0, 2], [0.1, -0.5, 2.25]]]),
            covariances=torch.diag_embed(torch.tensor([[[1e-4, 1e-4, 1e-4], [4e-4, 1e-4, 1e-6]]])),
            opacities=torch.tensor([[1.0, 0.5]]),
            colors=torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]),
        )
        return AvatarView(gaussians, params, frame.stamp_ns, frame.K, frame.image_hw, self._versions[track_id])

    def render_view(self, track_id):
        note("render")
        if track_id not in self._newest:
            return None
        picture = np.zeros((*self._newest[track_id][0].image_hw, 3), np.uint8)
        picture[..., 2] = BACKGROUND
        return picture

    def close(self):
        note("close")


def note(what: str, **values) -> None:
    """Write down what the refiner was told."""
    with open(os.environ[LOG], "a") as file:
        file.write(json.dumps({"what": what, **values}) + "\n")


def open_parts(settings) -> refine_node.Parts:
    masks = MaskSelector([TopicMask(settings.mask), MeshMask(settings.mask.cloth_m)], settings.mask)
    return refine_node.Parts(
        BoxBody(), ScriptedRefiner(), DepthSelector([MeasuredDepth(settings.depth)]), masks
    )  # fmt: skip


def told(path: Path, what: str) -> list[dict]:
    """Return what the refiner was told so far."""
    written = path.read_text() if path.exists() else ""
    lines = written.rpartition("\n")[0].splitlines()  # without one that is being written
    return [entry for entry in map(json.loads, lines) if entry["what"] == what]


if __name__ == "__main__":
    refine_node.main(open_parts)
