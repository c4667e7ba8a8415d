"""Run named tensors through a network: PyTorch, ONNX Runtime, TensorRT and TensorRT for RTX behind one call."""

from .base import Batch, NetworkSpec, Runtime, TensorSpec
from .select import open_runtime

__all__ = ["Batch", "NetworkSpec", "Runtime", "TensorSpec", "open_runtime"]
