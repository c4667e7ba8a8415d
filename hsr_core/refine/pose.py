"""Corrections of a regressor's poses: what is optimised, and an optimiser that leaves unseen frames alone."""

from __future__ import annotations

from collections.abc import Sequence

import roma
import torch
from torch import Tensor, nn

from ..body.joints import J
from ..types import HumanParams
from .skin import local_rotmats

N_REFINED = 22
"""Root and the 21 body joints; hands, jaw and eyes stay the regressor's."""
_STILL = ("left_foot", "right_foot")
_WRISTS = ("left_wrist", "right_wrist")
_SLOW = ("left_collar", "right_collar")
BETAS = (0.9, 0.99)
EPS = 1e-8
CLIP = 10.0
"""A gradient longer than this times its running median is shortened to it."""
MEDIAN_STEP = 0.02
"""By this part of itself the running median moves towards each new value."""


def joint_rates(*, large_hands: tuple[bool, bool] = (False, False)) -> Tensor:
    """Return (22,) factors of the learning rate: 0 for what too few pixels show, 0.3 for the collars, else 1.

    Args:
        large_hands: Left and right hand is large enough in the picture for its wrist to be refined.
    """
    rates = torch.ones(N_REFINED)
    rates[[J[name] for name in _SLOW]] = 0.3
    rates[[J[name] for name in _STILL]] = 0.0
    for name, large in zip(_WRISTS, large_hands, strict=True):
        rates[J[name]] = float(large)
    return rates


class PoseCorrections(nn.Module):
    """Increments on the poses of T frames, all zero at the start.

    A person who faces the camera has a root rotation near pi, where rotation vectors wrap; increments stay near zero,
    where they are well conditioned. The root turns about the pelvis.

    Attributes:
        rotvecs: Parameter (T, 22, 3) [rad]; the root's is applied in camera axes, the others' in the joint's own.
        shifts: Parameter (T, 3) [m].
        rotmats: Buffer (T, 55, 3, 3), the regressor's rotations relative to the parents. transl: Buffer (T, 3) [m].
    """

    rotmats: Tensor
    transl: Tensor

    def __init__(self, people: Sequence[HumanParams]) -> None:
        super().__init__()
        self.register_buffer("rotmats", torch.stack([local_rotmats(person) for person in people]))
        self.register_buffer("transl", torch.stack([torch.as_tensor(p.transl, dtype=torch.float32) for p in people]))
        self.rotvecs = nn.Parameter(torch.zeros(len(people), N_REFINED, 3))
        self.shifts = nn.Parameter(torch.zeros(len(people), 3))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return corrected rotations (B, 55, 3, 3) and translations (B, 3) of frames (B,)."""
        base = self.rotmats[frames]
        turn = roma.rotvec_to_rotmat(self.rotvecs[frames])
        root = turn[:, :1] @ base[:, :1]
        body = base[:, 1:N_REFINED] @ turn[:, 1:]
        return torch.cat([root, body, base[:, N_REFINED:]], dim=1), self.transl[frames] + self.shifts[frames]


class LazyAdam:
    """Adam with moments and a step count of its own for each frame; only frames of the batch move.

    One dense Adam over all frames would average a frame's gradient with the zeros of the steps in which it was not
    seen: with one frame a step, poses would hardly move at all.

    Args:
        parameters: Each with the frames as first axis.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._steps = torch.zeros(len(self._parameters[0]), device=self._parameters[0].device)
        self._usual = [0.0] * len(self._parameters)

    def row(self, frame: int) -> tuple[list[Tensor], float]:
        """Return a frame's moments and its count of steps, for `set_row` of another one."""
        moments = [part[frame].clone() for part in (*self._first, *self._second)]
        return moments, float(self._steps[frame])

    def set_row(self, frame: int, row: tuple[list[Tensor], float]) -> None:
        """Go on with a frame where another optimiser left it."""
        for part, value in zip((*self._first, *self._second), row[0], strict=True):
            part[frame] = value
        self._steps[frame] = row[1]

    @torch.no_grad()
    def step(self, frames: Tensor, rates: Sequence[float | Tensor]) -> bool:
        """Move the frames (B,) along their gradients and clear these; False, and nothing moves, if one is not finite.

        Args:
            frames: Distinct indices.
            rates: Learning rate of each parameter; a tensor is broadcast over the rows (B, ...).
        """
        grads = [p.grad[frames] for p in self._parameters]
        for p in self._parameters:
            p.grad = None
        if not all(bool(grad.isfinite().all()) for grad in grads):
            return False
        self._steps[frames] += 1
        count = self._steps[frames]
        for i, (p, grad, rate) in enumerate(zip(self._parameters, grads, rates, strict=True)):
            grad = self._clipped(i, grad)
            tail = (1,) * (p.ndim - 1)
            first = self._first[i][frames].lerp_(grad, 1 - BETAS[0])
            second = self._second[i][frames].lerp_(grad.square(), 1 - BETAS[1])
            self._first[i][frames], self._second[i][frames] = first, second
            first = first / (1 - BETAS[0] ** count).view(-1, *tail)
            second = second / (1 - BETAS[1] ** count).view(-1, *tail)
            p[frames] -= rate * first / (second.sqrt() + EPS)
        return True

    def _clipped(self, i: int, grad: Tensor) -> Tensor:
        length = float(grad.norm())
        usual = self._usual[i]
        if usual and length > CLIP * usual:
            grad = grad * (CLIP * usual / length)
        self._usual[i] = usual * (1 + MEDIAN_STEP if length > usual else 1 - MEDIAN_STEP) if usual else length
        return grad
