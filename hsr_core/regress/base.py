"""The regressor protocol: one image in, EHM-s parameters of the people in it out."""

from __future__ import annotations

from typing import Protocol

from ..config import Settings
from ..types import Camera, Frame, Regression


class Regressor(Protocol):
    """Image -> EHM-s parameters, confidence per part, metric translation.

    A factory registered under the kind `regressor` is called as `create(settings, body)`, where `body` is the
    `hsr_core.body.EhmBody` whose coefficients the parameters are for. Called from one thread at a time.

    A regressor of several people may have two methods more, which are called after each frame where they are there:
    `attend(person: Regression | None)`, who of its last answer is the primary person and deserves the most work, and
    `set_height(person: Regression, height_m: float)`, whose stature was measured. Without the latter a measured height
    comes as `subject.height_m` of `configure`, for everybody.

    Attributes:
        name: The registry name.
        stage_ms: Duration of each stage of the last call [ms].
    """

    name: str
    stage_ms: dict[str, float]

    def regress(self, frame: Frame, camera: Camera) -> list[Regression]:
        """Return the people in the frame, best first; empty when there is nobody.

        Raises:
            BadFrame: This image cannot be used; the next one may be.
        """
        ...

    def configure(self, settings: Settings) -> None:
        """Take live settings between two frames."""
        ...

    def reset(self) -> None:
        """Forget everything remembered from earlier frames (tracks, warm starts, shape)."""
        ...

    def close(self) -> None:
        """Release networks and threads. The object cannot be used afterwards."""
        ...
