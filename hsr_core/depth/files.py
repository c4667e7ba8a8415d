"""UniDepthV2's files: what the user puts where. Its licence forbids commercial use."""

from __future__ import annotations

from ..model_files import ModelFiles

LICENCE = "CC BY-NC 4.0, code and weights"
SOURCE = "https://huggingface.co/lpiccinelli"
SIZES = ("s", "b", "l")


def package_files(size: str) -> ModelFiles:
    """Return the files for the `unidepth` package: configuration and weights."""
    return ModelFiles(
        provider="unidepth_v2",
        folder=f"unidepth_v2_{size}",
        choices=(("config.json", "model.safetensors"), ("config.json", "pytorch_model.bin")),
        licence=LICENCE,
        source=f"{SOURCE}/unidepth-v2-vit{size}14",
        noncommercial=True,
    )


def onnx_files(size: str) -> ModelFiles:
    """Return the file for the ONNX route: exported by the user, never shipped."""
    return ModelFiles(
        provider="unidepth_v2_onnx",
        folder=f"unidepth_v2_{size}",
        choices=(("unidepth_v2.onnx",),),
        licence=LICENCE,
        source="your own export with the project's script and its option --with-camera (docs/depth_and_masks.md)",
        noncommercial=True,
    )
