"""From person crops to parameters: the graph for who cuts the crops, and poses a body or a robot, outside.

| tensor | shape | what |
|---|---|---|
| in `pixels` | uint8 (B, 256, 256, 3) | RGB person crops |
| out, by the names of `decode.Decoded` | float32 | rotation matrices, coefficients, camera |
"""

from __future__ import annotations

from torch import Tensor, nn

from ...runtime.base import Batch, NetworkSpec, TensorSpec
from .decode import N_ROTATIONS, Decoded, decode
from .network import IMAGE_PX, PearNetwork

OUTPUTS = (
    TensorSpec("rotmats", (None, N_ROTATIONS, 3, 3)),
    TensorSpec("head_scale", (None, 3)),
    TensorSpec("betas", (None, 200)),
    TensorSpec("expression", (None, 50)),
    TensorSpec("head_betas", (None, 300)),
    TensorSpec("head_expression", (None, 50)),
    TensorSpec("jaw_pose", (None, 3)),
    TensorSpec("eye_pose", (None, 2, 3)),
    TensorSpec("eyelids", (None, 2)),
    TensorSpec("camera", (None, 3)),
)


class ParametersGraph(nn.Module):
    """RGB crops (B, 256, 256, 3), 0..255, of any dtype, to `Decoded`."""

    def __init__(self, network: PearNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Decoded:
        return decode(self.network(pixels.permute(0, 3, 1, 2).float() / 255))


def parameters_spec(max_people: int = 1) -> NetworkSpec:
    """Return the graph's tensors for up to `max_people` crops at once."""
    return NetworkSpec(
        inputs=(TensorSpec("pixels", (None, IMAGE_PX, IMAGE_PX, 3), "uint8"),),
        outputs=OUTPUTS,
        batch=Batch(1, 1, max_people),
        half_modules=("network.backbone",),  # rotations, shapes and the camera need float32, and cost nothing
        turing_half_modules=("network",),  # TensorRT for RTX has no float32 matrix product there
    )
