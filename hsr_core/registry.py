"""Names to factories: the module behind a name is imported only when it is chosen.

A package outside this one adds a regressor, depth or mask provider, a data set or an export format by an entry point in
the group `hsr.<kind>`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from .errors import ConfigError

BUILT_IN: dict[str, dict[str, str]] = {
    "regressor": {
        "landmarks": "hsr_core.regress.landmarks:create",
        "pear": "hsr_core.regress.pear.regressor:create",
        "fake": "hsr_core.regress.fake:create",
    },
    "depth": {
        "topic": "hsr_core.depth.measured:create",
        "unidepth_v2": "hsr_core.depth.unidepth:create",
        "unidepth_v2_onnx": "hsr_core.depth.unidepth_onnx:create",
        "body_height": "hsr_core.depth.body_height:create",
        "none": "hsr_core.depth.none:create",
    },
    "mask": {
        "topic": "hsr_core.mask.topic:create",
        "sam2_image": "hsr_core.mask.sam2_image:create",
        "sam2_video": "hsr_core.mask.sam2_video:create",
        "sam2_onnx": "hsr_core.mask.sam2_onnx:create",
        "landmarks": "hsr_core.mask.landmarks:create",
        "mesh": "hsr_core.mask.mesh:create",
    },
    "dataset": {
        "3dpw": "hsr_core.datasets.threedpw:create",
        "emdb": "hsr_core.datasets.emdb:create",
        "agora": "hsr_core.datasets.agora:create",
        "ehf": "hsr_core.datasets.ehf:create",
        "h36m": "hsr_core.datasets.h36m:create",
        "neuman": "hsr_core.datasets.neuman:create",
        "synthetic": "hsr_core.datasets.synthetic:create",
        "clip": "hsr_core.datasets.clip:create",
    },
    "exporter": {
        "npz": "hsr_core.export.native:create",
        "amass": "hsr_core.export.amass:create",
        "gmr": "hsr_core.export.gmr:create",
        "lerobot": "hsr_core.export.lerobot:create",
        "mcap": "hsr_core.export.mcap:create",
        "bvh": "hsr_core.export.bvh:create",
        "glb": "hsr_core.export.gltf:create",
        "csv": "hsr_core.export.robot_csv:create",
        "pose_stream": "hsr_core.export.pose_stream:create",
    },
}


def names(kind: str) -> list[str]:
    """Return the names that `create(kind, name)` accepts."""
    return sorted({*BUILT_IN.get(kind, {}), *(point.name for point in entry_points(group=f"hsr.{kind}"))})


def create(kind: str, name: str, *args: Any, **kwargs: Any) -> Any:
    """Import the factory registered under `kind` and `name` and call it.

    Raises:
        ConfigError: No such name; the message lists those that exist.
    """
    target = BUILT_IN.get(kind, {}).get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        factory: Callable[..., Any] = getattr(import_module(module), attribute)
        return factory(*args, **kwargs)
    for point in entry_points(group=f"hsr.{kind}"):
        if point.name == name:
            return point.load()(*args, **kwargs)
    raise ConfigError(f"no {kind} named {name!r}; there are: {', '.join(names(kind))}")
