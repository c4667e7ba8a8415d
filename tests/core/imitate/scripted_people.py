"""A regressor without a network: the fake one's two people, of whom a script says who is seen, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hsr_core.config import Settings
from hsr_core.regress.fake import FakeRegressor
from hsr_core.types import Camera, Frame, Regression

STEP_NS = round(1e9 / 30)

Script = Callable[[int, list[Regression]], list[Regression]]
script: Script = lambda number, people: people  # noqa: E731


class ScriptedRegressor(FakeRegressor):
    name = "scripted"

    def regress(self, frame: Frame, camera: Camera) -> list[Regression]:
        return script(round(frame.stamp_ns / STEP_NS), super().regress(frame, camera))

    def _person(self, frame: Frame, i: int) -> Regression:
        person = super()._person(frame, i)
        return replace(person, bbox_xyxy=person.bbox_xyxy + np.float32([1, 0, 1, 0]) * 0.4 * i * frame.image_hw[1])


def create(settings: Settings, body: Any) -> ScriptedRegressor:
    return ScriptedRegressor(settings, body, people=2)
