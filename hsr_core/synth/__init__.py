"""Synthetic people with exact truth: clothed, textured, moving, in front of a camera.

from hsr_core.synth import benchmark_sequence
sequence = benchmark_sequence(seed=0)
sequence.train_frames[0].truth
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .benchmark import BenchmarkSequence, NovelView, benchmark_sequence
    from .noise import DepthNoise, PoseNoise

_LAZY = {
    **dict.fromkeys(("BenchmarkSequence", "NovelView", "benchmark_sequence"), "benchmark"),
    **dict.fromkeys(("DepthNoise", "PoseNoise"), "noise"),
}

__all__ = ["BenchmarkSequence", "DepthNoise", "NovelView", "PoseNoise", "benchmark_sequence"]


def __getattr__(name: str) -> Any:
    """Import torch only when a name that needs it is used."""
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
