"""A person's one shape: the median of their estimates, frozen, because one person has one body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..body.ehm import EhmBody
from ..types import Array, HumanParams
from .skin import SHAPE_FIELDS, CanonicalBody

SHAPE_FRAMES = 15
"""Estimates that the median is taken of."""
CHANGE = 0.5
"""Betas whose median has moved by more belong to another shape."""
OWN_SHAPE = ("betas", "head_betas", "head_scale")
"""What a person keeps; the other fields of the rest mesh are the face's motion, which is given out as it came."""


class OneShape:
    """See the module.

    Attributes:
        fields: All of `SHAPE_FIELDS`. pelvis: (3,) [m], where it lies at rest.
    """

    def __init__(self, body: EhmBody, fields: dict[str, Array]) -> None:
        self._body, self.fields = body, fields
        self.pelvis = body.rest(replace(HumanParams(), **fields))[1][0]

    @classmethod
    def of(cls, body: EhmBody, people: Sequence[HumanParams]) -> OneShape | None:
        """Return the median shape of estimates; None when none is finite."""
        people = [person for person in people if person.finite()]
        return cls(body, median_shape(people)) if people else None

    def on(self, params: HumanParams) -> HumanParams:
        """Return parameters with this shape; the pelvis stays where it was."""
        if not params.finite():
            return params
        known = np.array_equal(params.betas, self.fields["betas"])
        pelvis = self.pelvis if known else self._body.rest(replace(HumanParams(), betas=params.betas))[1][0]
        return self._with(params, pelvis)

    def instead_of(self, old: OneShape, params: HumanParams) -> HumanParams:
        """Return parameters that had another one's shape with this one's."""
        return self._with(params, old.pelvis)

    def canonical(self) -> CanonicalBody:
        """Return the body with this shape."""
        return CanonicalBody.from_body(self._body, replace(HumanParams(), **self.fields))

    def moved(self, people: Sequence[HumanParams]) -> OneShape | None:
        """Return the shape of the newest estimates if it has moved away from this one."""
        people = [p for p in people if p.finite() and p.betas.shape == self.fields["betas"].shape][-SHAPE_FRAMES:]
        if len(people) < SHAPE_FRAMES:
            return None
        betas = np.median([p.betas for p in people], axis=0)
        if np.abs(betas - self.fields["betas"]).max() <= CHANGE:
            return None
        return OneShape(self._body, median_shape(people))

    def _with(self, params: HumanParams, pelvis: Array) -> HumanParams:
        return replace(params, **self.fields, transl=params.transl + (pelvis - self.pelvis).astype(np.float32))


def median_shape(people: Sequence[HumanParams]) -> dict[str, Array]:
    """Return the medians of `SHAPE_FIELDS` over people."""
    return {
        name: np.median([getattr(person, name) for person in people], axis=0).astype(np.float32)
        for name in SHAPE_FIELDS
    }


def with_own_face(person: HumanParams, estimate: HumanParams) -> HumanParams:
    """Return the person with the face's motion of an estimate."""
    return replace(person, **{name: getattr(estimate, name) for name in SHAPE_FIELDS if name not in OWN_SHAPE})
