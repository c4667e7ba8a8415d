"""Gain and bias of each frame: a camera that sets its own exposure changes the colours of a person who stays the same.

Source:
    A per-frame affine colour, as common in reconstructions from unconstrained photographs; the paper has none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RATE = 1e-2
WEIGHT = 0.01
"""Of the squared values in the objective: what gain and avatar could exchange stays with the avatar."""
SATURATED = 0.3
"""Beyond this it is no exposure but another light."""


class Exposure(nn.Module):
    """What is done to the rendered person's colours, nothing at the start.

    Attributes:
        values: Parameter (T, 2, 3): gain - 1, and bias, of red, green and blue.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(frames, 2, 3))

    def forward(self, frames: Tensor, color: Tensor, alpha: Tensor, background: Tensor) -> Tensor:
        """Return the picture as the frames' exposures show it; the background stays.

        Args:
            frames: (B,) their numbers. color: (B, H, W, 3) rendered on the background. alpha: (B, H, W).
            background: (B, 3).
        """
        return exposed(self.values[frames], color, alpha, background)

    def prior(self, frames: Tensor) -> Tensor:
        """Return the mean squared value."""
        return self.values[frames].square().mean()


def exposed(values: Tensor, color: Tensor, alpha: Tensor, background: Tensor) -> Tensor:
    """As `Exposure.forward`, with the values (B, 2, 3) given."""
    gain, bias = values[:, :1, None], values[:, 1:, None]
    behind = (1 - alpha)[..., None] * background[:, None, None]
    return (color - behind) * (1 + gain) + alpha[..., None] * bias + behind
