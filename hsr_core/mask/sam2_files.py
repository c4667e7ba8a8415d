"""SAM 2's files: what the user puts where. Apache-2.0, code and weights."""

from __future__ import annotations

from ..model_files import ModelFiles

CONFIGS = {
    "sam2.1_hiera_tiny.pt": "configs/sam2.1/sam2.1_hiera_t.yaml",
    "sam2.1_hiera_small.pt": "configs/sam2.1/sam2.1_hiera_s.yaml",
    "sam2.1_hiera_base_plus.pt": "configs/sam2.1/sam2.1_hiera_b+.yaml",
    "sam2.1_hiera_large.pt": "configs/sam2.1/sam2.1_hiera_l.yaml",
}
"""Checkpoints, smallest first, and the package's own configuration of each."""
_LICENCE = "Apache-2.0, code and weights"

CHECKPOINT = ModelFiles(
    provider="sam2_image",
    folder="sam2",
    choices=tuple((name,) for name in CONFIGS),
    licence=_LICENCE,
    source="https://github.com/facebookresearch/sam2#sam-21-checkpoints",
)
FOLDER = ModelFiles(
    provider="sam2_video",
    folder="sam2_hf",
    choices=(("config.json", "model.safetensors"),),
    licence=_LICENCE,
    source="https://huggingface.co/facebook/sam2.1-hiera-tiny (all its files)",
)
ONNX = ModelFiles(
    provider="sam2_onnx",
    folder="sam2",
    choices=(("encoder.onnx", "decoder.onnx"),),
    licence=_LICENCE,
    source="your own export of a checkpoint, e.g. with samexporter (docs/depth_and_masks.md)",
)
FILES = (CHECKPOINT, FOLDER, ONNX)
