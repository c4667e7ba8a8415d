"""PEAR's network: a ViTPose-style backbone and a one-query decoder, with the public checkpoint's names and arithmetic.

Every attribute name here is a part of a state-dict key; renaming one breaks every checkpoint.

Source:
    PEAR (backbone and decoder after HMR 2.0 / 4D-Humans, Goel et al., ICCV 2023; ViTPose, Xu et al., NeurIPS 2022).
    Differs from it in: dropouts and stochastic depth are left out, because they do nothing at inference; the read-out
    `smplx_joint_decoder`, which the forward pass never evaluates, has weights but no use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ShapeError

IMAGE_PX = 256
SEEN_COLUMNS = slice(32, 224)
"""The network looks at the middle 192 of 256 columns."""
PATCH_PX, PATCH_PADDING = 16, 2
GRID_HW = (16, 12)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HEAD_CHANNELS = 64
"""Channels of one attention head in the decoder."""
N_POSE = 312
READ_OUTS = {
    "smplx_poses_decoder": N_POSE,
    "smplx_scale_decoder": 6,
    "smplx_shape_decoder": 200,
    "smplx_expression_decoder": 50,
    "smplx_joint_decoder": 165,
    "flame_poses_decoder": 14,
    "flame_shape_decoder": 300,
    "flame_expression_decoder": 50,
    "cam_decoder": 3,
}
"""Linear read-outs of the decoder's token, and their widths."""
BUFFERS = {"init_body_pose": 318, "init_betas": 10, "init_betas_kid": 11, "init_cam": 3, "init_expression": 10}
N_MEAN_POSE = 132
"""Columns of `init_body_pose` that are added to the pose: root and body, not the hands."""


@dataclass(frozen=True)
class NetworkSize:
    """What can differ between checkpoints.

    Attributes:
        width, depth, heads, mlp_width: Backbone.
        decoder_width, decoder_depth, decoder_inner, decoder_mlp_width: Decoder; `decoder_inner` is 64 a head.
    """

    width: int = 1280
    depth: int = 32
    heads: int = 16
    mlp_width: int = 5120
    decoder_width: int = 1024
    decoder_depth: int = 6
    decoder_inner: int = 512
    decoder_mlp_width: int = 1024


SIZES = {
    "vith": NetworkSize(),
    "vitb": NetworkSize(width=768, depth=12, heads=12, mlp_width=3072),
    "tiny": NetworkSize(64, 2, 1, 256, 32, 2, 128, 32),
}


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (_split(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        return self.proj(_attend(q, k, v))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH_PX, PATCH_PX, PATCH_PADDING)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Backbone(nn.Module):
    """Normalised images (B, 3, 256, 192) to 192 tokens (B, 192, width).

    Raises:
        ShapeError: The image has another size: the table of positions is made for this one.
    """

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID_HW[0] * GRID_HW[1], size.width))
        self.patch_embed = PatchEmbed(size.width)
        self.blocks = nn.ModuleList(Block(size.width, size.heads, size.mlp_width) for _ in range(size.depth))
        self.last_norm = nn.LayerNorm(size.width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (3, IMAGE_PX, 192):
            raise ShapeError(f"the backbone takes (B, 3, 256, 192), not {tuple(x.shape)}")
        x = self.patch_embed(x)
        x = x + (self.pos_embed[:, 1:] + self.pos_embed[:, :1])  # the class token's row is added to every token
        for block in self.blocks:
            x = block(x)
        return self.last_norm(x)


class SelfAttention(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.heads = inner // HEAD_CHANNELS
        self.to_qkv = nn.Linear(width, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (_split(part, self.heads) for part in self.to_qkv(x).chunk(3, -1))
        return self.to_out(_attend(q, k, v))


class CrossAttention(nn.Module):
    def __init__(self, width: int, inner: int, context_width: int) -> None:
        super().__init__()
        self.heads = inner // HEAD_CHANNELS
        self.to_kv = nn.Linear(context_width, 2 * inner, bias=False)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        k, v = (_split(part, self.heads) for part in self.to_kv(context).chunk(2, -1))
        return self.to_out(_attend(_split(self.to_q(x), self.heads), k, v))


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # The place between the activation and the second layer was a dropout's: the key is `net.3`.
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.net(x)


class PreNorm(nn.Module):
    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.fn(self.norm(x), context)


class DecoderLayers(nn.Module):
    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        width, inner = size.decoder_width, size.decoder_inner
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PreNorm(width, SelfAttention(width, inner)),
                    PreNorm(width, CrossAttention(width, inner, size.width)),
                    PreNorm(width, FeedForward(width, size.decoder_mlp_width)),
                ]
            )
            for _ in range(size.decoder_depth)
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        for layer in self.layers:
            for part in layer:
                x = x + part(x, context)
        return x


class Decoder(nn.Module):
    """One learned query looks at the backbone's tokens: (B, 192, width) to (B, decoder_width)."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, 1, size.decoder_width))
        self.to_token_embedding = nn.Linear(1, size.decoder_width)
        self.transformer = DecoderLayers(size)

    def forward(self, context: Tensor) -> Tensor:
        # The query's content is the number 0, so that only the bias of its embedding is left.
        query = self.to_token_embedding.bias + self.pos_embedding
        return self.transformer(query.expand(context.shape[0], -1, -1), context)[:, 0]


class RawOutput(NamedTuple):
    """The read-outs of a batch, float32, before anything is made of them.

    Attributes:
        pose: (B, 312) 6D rotations of root, 21 body joints, 15 left and 15 right hand joints; the mean is added.
        scale: (B, 6) hand scale (unused), head scale.
        shape: (B, 200). expression: (B, 50) of SMPL-X.
        flame_pose: (B, 14) eyes (6), head (3, unused), jaw (3), lids (2).
        flame_shape: (B, 300). flame_expression: (B, 50).
        camera: (B, 3) tx, ty, s - 1.5.
    """

    pose: Tensor
    scale: Tensor
    shape: Tensor
    expression: Tensor
    flame_pose: Tensor
    flame_shape: Tensor
    flame_expression: Tensor
    camera: Tensor


class Head(nn.Module):
    """Tokens (B, 192, width) to the read-outs."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.transformer = Decoder(size)
        for name, outputs in READ_OUTS.items():
            setattr(self, name, nn.Linear(size.decoder_width, outputs))
        for name, length in BUFFERS.items():
            self.register_buffer(name, torch.zeros(1, length))

    def forward(self, tokens: Tensor) -> RawOutput:
        x = self.transformer(tokens)
        mean = F.pad(self.init_body_pose[:, :N_MEAN_POSE], (0, N_POSE - N_MEAN_POSE))
        return RawOutput(
            pose=self.smplx_poses_decoder(x) + mean,
            scale=self.smplx_scale_decoder(x),
            shape=self.smplx_shape_decoder(x),
            expression=self.smplx_expression_decoder(x),
            flame_pose=self.flame_poses_decoder(x),
            flame_shape=self.flame_shape_decoder(x),
            flame_expression=self.flame_expression_decoder(x),
            camera=self.cam_decoder(x),
        )


class PearNetwork(nn.Module):
    """RGB crops (B, 3, 256, 256) in [0, 1] to the read-outs. Always in eval mode."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.size = size
        self.backbone = Backbone(size)
        self.head = Head(size)
        # No file holds these: they have values also in a network that is made on no device, to be filled from a file.
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN, device="cpu").view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD, device="cpu").view(1, 3, 1, 1), persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> PearNetwork:
        """Stay in eval mode: a deployed network has no other."""
        return super().train(False)

    def normalise(self, images: Tensor) -> Tensor:
        """Return the normalised columns that the backbone sees, (B, 3, 256, 192)."""
        return (images[..., SEEN_COLUMNS] - self.mean) / self.std

    def forward(self, images: Tensor) -> RawOutput:
        if images.shape[1:] != (3, IMAGE_PX, IMAGE_PX):
            raise ShapeError(f"crops must have shape (B, 3, 256, 256), not {tuple(images.shape)}")
        return self.head(self.backbone(self.normalise(images)))


def _split(x: Tensor, heads: int) -> Tensor:
    """(B, N, heads * c) to (B, heads, N, c)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention, heads joined again: (B, N, heads * c)."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
