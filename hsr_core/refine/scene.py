"""What goes into a renderer and what comes out, the same for every backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class PosedGaussians:
    """Gaussians in the camera frame (x right, y down, z forward), one set for each pose.

    Attributes:
        means: Centres. Shape (B, N, 3), [m].
        covariances: Symmetric; of an asymmetric matrix the symmetric part is used. Shape (B, N, 3, 3), [m^2].
        opacities: Activated, in (0, 1). Shape (B, N).
        colors: Activated, not clamped by the renderer. Shape (B, N, 3).
    """

    means: Tensor
    covariances: Tensor
    opacities: Tensor
    colors: Tensor


@dataclass(frozen=True, eq=False)
class Rendered:
    """One picture for each pose.

    Attributes:
        color: Sum of weighted colours + (1 - alpha) * background. Shape (B, H, W, 3).
        alpha: 1 - remaining transmittance. Shape (B, H, W), [0, 1).
        depth: Expected z of the Gaussians' centres, sum(w z) / max(alpha, 1e-10), not ray length; 0 where alpha is 0.
            Shape (B, H, W), [m].
        radii: Half the longer side of the box outside which a Gaussian's alpha is below 1/255, rounded up; 0: not drawn
            (behind the near plane, outside the image, too transparent, or not finite). Shape (B, N), int32, [px].
        means2d: Projected centres; a pixel's centre is at +0.5. `means2d.retain_grad()` before `backward()` keeps the
            gradient in pixels; times (W / 2, H / 2) it is the one in normalised device coordinates that
            densification thresholds are given in. Values of Gaussians that are not drawn mean nothing.
            Shape (B, N, 2), [px].
        max_weight: Largest blending weight (alpha times transmittance in front) over all pixels, no gradient;
            None if it was not asked for. Shape (B, N).
    """

    color: Tensor
    alpha: Tensor
    depth: Tensor
    radii: Tensor
    means2d: Tensor
    max_weight: Tensor | None
