"""Constants of the splatting model: those built into gsplat 1.5.3's kernels, so that backends agree.

Kernels that numba keeps on disk hold copies: after a change here, touch `splat_kernels.py`.
"""

from __future__ import annotations

ALPHA_MAX = 0.999
"""Alpha of a Gaussian at a pixel is capped here; where it is capped no gradient passes through alpha."""
ALPHA_MIN = 1 / 255
"""A Gaussian whose alpha at a pixel is smaller is not drawn there."""
TRANSMITTANCE_MIN = 1e-4
"""A Gaussian that would leave this much light or less is not drawn, nor is anything behind it."""
BLUR_PX2 = 0.3
"""Added to both variances on the screen [px^2]: a Gaussian is never thinner than a pixel."""
EXTENT_MAX = 3.33
"""Radii are reported up to this many standard deviations; at opacity 1 alpha falls below 1/255 at 3.329."""
FOV_MARGIN = 0.3
"""The projection is linearised at most this part of half the field of view outside the image."""
FAR_M = 1e10
