"""How Gaussians are bound to the body: the rows of the paper's ablation, chosen by name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..errors import ConfigError


class Weights(Enum):
    """Where a free Gaussian's skinning weights come from."""

    FIXED = "nearest vertex, eq. (4)"
    ADDED = "nearest vertex + learnt offsets, eq. (5); rows need not sum to one"
    SOFTMAX = "softmax of the nearest vertex' log weights + learnt offsets"


@dataclass(frozen=True)
class Binding:
    """One binding.

    Attributes:
        name: As in the configuration.
        camel: The CAMEL terms (eq. 11) count.
        weights: Of free Gaussians.
        on_faces: One Gaussian lies on each face and moves with it; none is added or pruned.
        prune_far: Gaussians far from the skin are pruned.
    """

    name: str
    camel: bool
    weights: Weights = Weights.FIXED
    on_faces: bool = False
    prune_far: bool = True


BINDINGS: dict[str, Binding] = {
    binding.name: binding
    for binding in (
        Binding("camel", camel=True),
        Binding("none", camel=False, prune_far=False),
        Binding("lsw", camel=False, weights=Weights.ADDED),
        Binding("camel+lsw", camel=True, weights=Weights.ADDED),
        Binding("camel_renorm_lsw", camel=True, weights=Weights.SOFTMAX),
        Binding("gom", camel=False, on_faces=True),
    )
}


def binding_by_name(name: str) -> Binding:
    """Return a binding.

    Raises:
        ConfigError: There is none of that name; the message lists them.
    """
    if name not in BINDINGS:
        raise ConfigError(f"binding must be one of {', '.join(BINDINGS)}, not {name!r}")
    return BINDINGS[name]
