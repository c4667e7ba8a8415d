"""`regressor: pear`: boxes, one pass of the network over their crops, and the people in metres."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ... import progress
from ...body.joints import LEFT_HAND, N_JOINTS, RIGHT_HAND, J
from ...config import Settings
from ...errors import ConfigError, MissingFile
from ...geometry.camera import apply_affine
from ...runtime.base import Runtime
from ...runtime.exported import Exported
from ...runtime.select import open_runtime, this_machine
from ...types import Array, Camera, Frame, MetricSource, Part, Regression
from . import PUBLISHED, WEIGHTS_VARIABLE, weights_path
from .boxes import BoxFinder, FollowedBoxes, PersonBox, WholeFrame
from .camera import DISTANCE_LIMITS_M, N_FITTED, Crop, illegal, letterbox, person_crop
from .decode import Decoded
from .export import Networks, parameters_graph, people_graph
from .network import IMAGE_PX, SEEN_COLUMNS
from .params import ParamsMaker
from .placing import InGraph, OnHost, Placed, Placer

_SIGMA = {True: 0.06, False: 0.05}
"""Relative deviation of the distance: with the network's stature, with a given one (adults' own)."""

log = logging.getLogger("hsr")


class PearRegressor:
    """Up to `people.max` people by PEAR, in one batch. The protocol is `regress.base.Regressor`.

    Attributes:
        name, stage_ms: As the protocol says; stages: detect, crop, network, lift (to metres).
        engine_reason: What runs the network, and why.
    """

    name = "pear"

    def __init__(self, settings: Settings, body: Any) -> None:
        self.stage_ms: dict[str, float] = {}
        self._settings = settings
        self._maker = ParamsMaker(body, settings)
        self._placer = _open_placer(settings, body, self._maker, self._timed)
        self.engine_reason = self._placer.runtime.reason
        progress.report("warming up")
        self._placer.runtime.warm_up()
        self._boxes: BoxFinder = WholeFrame() if settings.pear.boxes == "whole_frame" else FollowedBoxes()
        self._said: set[str] = set()

    def configure(self, settings: Settings) -> None:
        """Take live settings."""
        self._settings = settings
        self._maker.configure(settings)
        self._placer.configure(settings)

    def reset(self) -> None:
        """Forget where people were; nothing else is remembered."""
        self._boxes.reset()

    def close(self) -> None:
        """Release the network's memory."""
        self._placer.runtime.close()

    def regress(self, frame: Frame, camera: Camera) -> list[Regression]:
        """Return the people in the frame, the largest first."""
        self.stage_ms = {}
        with self._timed("detect"):
            boxes = self._boxes.find(frame, self._settings.people)
        crops = [self._crop(box, frame.image_hw) for box in boxes]
        looked_at = [i for i, crop in enumerate(crops) if crop is not None]
        answers = self._placer.run(frame, camera, [crops[i] for i in looked_at]) if looked_at else []
        people: list[Regression] = []
        joints: list[Array | None] = [None] * len(boxes)
        for index, (i, out) in enumerate(zip(looked_at, answers, strict=True)):
            placed = self._placed(index, out, camera, crops[i])
            if placed is not None:
                joints[i] = placed.uv
                people.append(self._regression(frame, boxes[i], crops[i], placed))
        self._boxes.seen(joints, frame)
        return people

    def _crop(self, box: PersonBox, image_hw: tuple[int, int]) -> Crop | None:
        return letterbox(image_hw) if isinstance(self._boxes, WholeFrame) else person_crop(box.bbox_xyxy, image_hw)

    def _placed(self, index: int, out: Decoded, camera: Camera, crop: Crop) -> Placed | None:
        """Return the person of one of the answers; None where it is no person."""
        reason = illegal(out.rotmats, out.camera, *out[1:-1])
        if reason:
            return self._nobody(reason)
        placed = self._placer.place(index, out, camera, crop)
        if not DISTANCE_LIMITS_M[0] <= placed.distance_m <= DISTANCE_LIMITS_M[1]:
            return self._nobody(f"distance: {placed.distance_m:.3g} m")
        return placed

    def _regression(self, frame: Frame, box: PersonBox, crop: Crop, placed: Placed) -> Regression:
        uv_crop = apply_affine(crop.A_crop_img, placed.uv)
        score = self._joint_score(placed.uv, uv_crop, frame.image_hw, box.score)
        return Regression(
            params=placed.params,
            bbox_xyxy=box.bbox_xyxy,
            score=box.score,
            joint_score=score,
            part_score=np.array([score[part].mean() for part in _PARTS.values()], np.float32),
            parts=_parts(score),
            metric_source=MetricSource.ASSUMED_HEIGHT,
            depth_sigma_m=_SIGMA[self._maker.networks_stature] * placed.distance_m,
            vertices=placed.vertices,
        )

    @staticmethod
    def _joint_score(uv: Array, uv_crop: Array, image_hw: tuple[int, int], score: float) -> Array:
        """Return (55,): the person's score for joints in pixels that the network saw, else 0. PEAR has none itself."""
        height, width = image_hw
        inside = (uv >= -0.5).all(1) & (uv[:, 0] < width - 0.5) & (uv[:, 1] < height - 0.5)
        seen = (uv_crop[:, 0] >= SEEN_COLUMNS.start) & (uv_crop[:, 0] < SEEN_COLUMNS.stop)
        seen &= (uv_crop[:, 1] >= 0) & (uv_crop[:, 1] < IMAGE_PX)
        return np.where(inside & seen, score, 0.0).astype(np.float32)

    def _nobody(self, reason: str) -> None:
        kind = reason.partition(":")[0]
        if kind not in self._said:
            self._said.add(kind)
            log.warning("PEAR's answer is no person (%s); such answers count as nobody", reason)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + (time.perf_counter() - start) * 1e3


_PARTS: dict[Part, Any] = {
    Part.BODY: slice(0, N_FITTED),
    Part.LEFT_HAND: LEFT_HAND,
    Part.RIGHT_HAND: RIGHT_HAND,
    Part.FACE: [J["head"], J["jaw"], J["jaw"] + 1, J["jaw"] + 2],
}


def _parts(joint_score: Array) -> Part:
    """Return the parts of which at least half of the joints were in view."""
    assert len(joint_score) == N_JOINTS
    found = Part.NONE
    for part, joints in _PARTS.items():
        if (joint_score[joints] > 0).mean() >= 0.5:
            found |= part
    return found


def _given_weights(settings: Settings) -> str:
    path = weights_path(settings)
    if not path:
        raise MissingFile(
            f"the regressor `pear` needs its weights: set pear.weights or {WEIGHTS_VARIABLE} to {PUBLISHED}"
        )
    return path


def _open_placer(settings: Settings, body: Any, maker: ParamsMaker, timed: Any) -> Placer:
    """Open the network as the settings say."""
    pear = settings.pear
    weights = _given_weights(settings)
    progress.report("reading the weights")
    most = 1 if pear.boxes == "whole_frame" else settings.people.max
    networks = Networks(weights, heads=pear.heads, allow_extra=pear.allow_extra)
    if pear.graph == "people":
        if not (maker.given_shape or pear.stature):
            raise ConfigError("pear.graph people has the network's own stature: set pear.stature true, or parameters")
        return InGraph(_open_runtime(settings, people_graph(networks, body, max_people=most)), maker, settings, timed)
    return OnHost(_open_runtime(settings, parameters_graph(networks, max_people=most)), body, maker, settings, timed)


def _open_runtime(settings: Settings, graph: Exported) -> Runtime:
    """Open a graph; the choice and its reason are logged."""
    precision = settings.precision
    if precision == "auto":
        precision = "fp16" if settings.device != "cpu" and this_machine().gpu else "fp32"
    return open_runtime(
        graph.make,
        graph.spec,
        network_hash=graph.hash,
        engine=settings.engine,
        device=settings.device,
        precision=precision,
        parity=graph.parity(precision),
        log=log,
    )


def create(settings: Settings, body: Any) -> PearRegressor:
    """Factory for the registry."""
    return PearRegressor(settings, body)
