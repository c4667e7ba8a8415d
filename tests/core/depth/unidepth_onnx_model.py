"""An ONNX network with the inputs and outputs of UniDepthV2's export, whose depth is computable by hand.

With camera, each point is where the ray meets a plane or a sphere before it. The confidence is the mean of the image
brought back to [0, 1], so that a wrong normalisation shows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from analytic_scenes import CENTER, NORMAL, OFFSET, RADIUS
from onnx import TensorProto, helper, numpy_helper

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def write_onnx(path: Path, hw=(126, 168), *, with_camera=True, batch="batch", focal=400.0, outputs=None) -> Path:
    """Write the network; `focal` is what the plain variant believes, whose depth is then that of a wall at 2 m."""
    h, w = hw
    const = lambda name, values: numpy_helper.from_array(np.asarray(values, np.float32), name)  # noqa: E731
    weights = [
        const("mean", np.reshape(MEAN, (1, 3, 1, 1))), const("std", np.reshape(STD, (1, 3, 1, 1))),
        const("normal", np.reshape(NORMAL, (1, 3, 1, 1))), const("center", np.reshape(CENTER, (1, 3, 1, 1))),
        const("offset", OFFSET), const("c2", CENTER @ CENTER - RADIUS**2), const("zero", 0.0),
        const("focal_K", [[[focal, 0, w / 2], [0, focal, h / 2], [0, 0, 1]]]),
        const("wall", np.broadcast_to(np.reshape([0, 0, 2.0], (1, 3, 1, 1)), (1, 3, h, w))),
    ]  # fmt: skip
    axes = numpy_helper.from_array(np.array([1]), "axes")
    node = helper.make_node
    nodes = [
        node("Mul", ["rgbs", "std"], ["scaled"]), node("Add", ["scaled", "mean"], ["unit"]),
        node("ReduceMean", ["unit"], ["confidence"], axes=[1], keepdims=1),
        node("Identity", ["focal_K"], ["intrinsics"]),
    ]  # fmt: skip
    if with_camera:
        nodes += [
            node("Mul", ["rays", "normal"], ["rn"]), node("ReduceSum", ["rn", "axes"], ["r_n"], keepdims=1),
            node("Div", ["offset", "r_n"], ["t_plane"]),
            node("Mul", ["rays", "center"], ["rc"]), node("ReduceSum", ["rc", "axes"], ["r_c"], keepdims=1),
            node("Mul", ["r_c", "r_c"], ["r_c2"]), node("Sub", ["r_c2", "c2"], ["inside"]),
            node("Max", ["inside", "zero"], ["root2"]), node("Sqrt", ["root2"], ["root"]),
            node("Sub", ["r_c", "root"], ["t_ball"]), node("Greater", ["inside", "zero"], ["hit"]),
            node("Where", ["hit", "t_ball", "t_plane"], ["t"]), node("Mul", ["rays", "t"], ["pts_3d"]),
        ]  # fmt: skip
    else:
        nodes += [node("Mul", ["rgbs", "zero"], ["nothing"]), node("Add", ["nothing", "wall"], ["pts_3d"])]
    value = helper.make_tensor_value_info
    names = ["rgbs", "rays"] if with_camera else ["rgbs"]
    shapes = outputs or {"pts_3d": [batch, 3, h, w], "confidence": [batch, 1, h, w], "intrinsics": [1, 3, 3]}
    graph = helper.make_graph(
        nodes,
        "unidepth",
        [value(name, TensorProto.FLOAT, [batch, 3, h, w]) for name in names],
        [value(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [*weights, axes],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), path)
    return path
