"""EHM-s: a SMPL-X body whose head is a scaled FLAME head: the batch path in torch and the per-frame path in numpy."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ShapeError
from ..types import Array, HumanParams
from .base import COEFFICIENTS, BodyOutput, EhmParams, PosedBody, check_lengths
from .fast import FramePath
from .files import EhmFiles

if TYPE_CHECKING:
    import torch

    from .ehm_layer import EhmLayer


class EhmBody:
    """EHM-s parameters to vertices and joints in the camera frame. See `BodyModel` for the attributes.

    Called with a batch, it is the differentiable path in torch; `pose_one` is the per-frame path in numpy, equal to it
    within rounding. `transl` is added after skinning; rotation is about the pelvis joint.

    Args:
        files: A checked model.
        device: Where the torch module lives.
    """

    def __init__(self, files: EhmFiles, device: str | torch.device = "cpu") -> None:
        self._files, self._device = files, device
        self.faces = files.faces
        self.family = files.family
        self.model_id = files.model_id
        self.licence_note = files.licence_note
        self.surface_points = files.surface_points
        self.key_point_files = files.key_points
        self.n_betas, self.n_expression, self.n_head_betas, self.n_head_expression = files.lengths
        self.n_vertices = len(files.body.v_template)
        self.action_names = files.head.action_names
        self._from_actions = files.head.from_actions
        self._frame = FramePath(files)

    @cached_property
    def layer(self) -> EhmLayer:
        """The torch module. Made when first used: torch takes longer to import than all else that a frame needs."""
        from .ehm_layer import EhmLayer

        return EhmLayer(self._files).to(self._device)

    def __call__(self, params: EhmParams, *, rotmats: torch.Tensor | None = None, vertices: bool = True) -> BodyOutput:
        """Pose a batch: see `EhmLayer.forward`."""
        return self.layer(params, rotmats=rotmats, vertices=vertices)

    def pose_one(self, params: HumanParams, *, vertices: bool = True) -> PosedBody:
        """Pose one person quickly on the CPU; call it from one thread.

        What depends on shape, expression and head parameters alone is kept from call to call and made again only
        when one of these differs in any bit.

        Raises:
            ShapeError: More coefficients than the model has.
        """
        check_lengths(self, {name: len(getattr(params, name)) for name in COEFFICIENTS})
        return self._frame.pose(params, vertices=vertices)

    def rest(self, params: HumanParams) -> tuple[Array, Array]:
        """Return the shaped, grafted template (V, 3) and its joints (55, 3) [m], before the body is posed."""
        check_lengths(self, {name: len(getattr(params, name)) for name in COEFFICIENTS})
        return self._frame.rest(params)

    def stature(self, betas: Array) -> float:
        """Return the standing height [m] of a shape: soles to top of the head of its template."""
        return self._frame.stature(betas)[0]

    def betas_for_height(self, height_m: float, betas: Array | None = None) -> Array:
        """Return the betas nearest to `betas` (default: zero) whose stature is `height_m`.

        Changes shape along the gradient of stature, which for the open body is nearly its first component alone.

        Raises:
            ShapeError: More betas than the model has.
            ConfigError: The height is not positive, or no shape near enough has it.
        """
        start = np.zeros(self.n_betas) if betas is None else np.asarray(betas, np.float64)
        check_lengths(self, {"betas": len(start)})
        return self._frame.betas_for_height(height_m, start)

    def head_betas_for(self, betas: Array) -> Array:
        """Return the head part's betas (n_head_betas,) that go with a body's: the open head's components are the body's
        own, those of a licensed head are not, and stay zero."""
        out = np.zeros(self.n_head_betas, np.float32)
        if self.family == "OPEN":
            n = min(len(betas), len(out))
            out[:n] = betas[:n]
        return out

    def expression_from_actions(self, strengths: dict[str, float]) -> Array:
        """Return the expression (n_expression,) nearest to facial actions (ARKit's 52 names), each 0 to 1.

        Actions of jaw, lids and gaze count for nothing here: these have parameters of their own.

        Raises:
            ShapeError: The model has no such table (licensed heads), or an action is unknown.
        """
        if self._from_actions is None:
            raise ShapeError(f"the {self.family} body has no table of facial actions")
        unknown = set(strengths) - set(self.action_names)
        if unknown:
            raise ShapeError(f"unknown facial actions {sorted(unknown)}; known: {', '.join(self.action_names)}")
        vector = np.array([strengths.get(name, 0.0) for name in self.action_names], np.float32)
        return self._from_actions @ vector

    def __deepcopy__(self, memo: dict[int, Any]) -> EhmBody:
        raise TypeError("load a second body instead of copying one")
