"""A transformer block and a linear head: every operation of a large one, small enough to export in seconds."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hsr_core.runtime import Batch, NetworkSpec, TensorSpec
from hsr_core.types import Array

HASH = "0123456789abcdef"
SPEC = NetworkSpec(
    inputs=(TensorSpec("image", (None, 32, 32, 3), "uint8"), TensorSpec("offset", (None, 2))),
    outputs=(TensorSpec("pose", (None, 6)), TensorSpec("tokens", (None, 4, 16))),
    batch=Batch(1, 2, 4),
    half_modules=("backbone",),
)


class Backbone(nn.Module):
    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.patch = nn.Conv2d(3, width, 16, 16)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        x = x + self.dropout(self.out(attended))
        return x + self.mlp(x)


class TinyNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(18, 6)

    def forward(self, image: torch.Tensor, offset: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = self.backbone(image.permute(0, 3, 1, 2).float() / 255)
        return {"pose": self.head(torch.cat([tokens.mean(1), offset], dim=1)), "tokens": tokens}


def make_tiny() -> TinyNetwork:
    """Return the network with the same random weights each time, in training mode as a loader may leave it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyNetwork()


def tiny_inputs(batch: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (batch, 32, 32, 3), np.uint8),
        "offset": rng.standard_normal((batch, 2)).astype(np.float32),
    }
