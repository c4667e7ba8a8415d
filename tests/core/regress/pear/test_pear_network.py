"""PEAR's network: names, shapes and sizes of the published file, and arithmetic known without its weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hsr_core.errors import ShapeError
from hsr_core.regress.pear.checkpoint import load_network, make_test
from hsr_core.regress.pear.network import BUFFERS, SIZES, Backbone, PearNetwork


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("pear") / "tiny.pt"
    make_test(path, "tiny", seed=3)
    return load_network(path)


@pytest.fixture
def images():
    return torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))


def on_meta(size: str) -> PearNetwork:
    with torch.device("meta"):
        return PearNetwork(SIZES[size])


def published_backbone() -> dict[str, tuple[int, ...]]:
    names = {
        "pos_embed": (1, 193, 1280),
        "patch_embed.proj.weight": (1280, 3, 16, 16),
        "patch_embed.proj.bias": (1280,),
    }
    linear = {"attn.qkv": (3840, 1280), "attn.proj": (1280, 1280), "mlp.fc1": (5120, 1280), "mlp.fc2": (1280, 5120)}
    for i in range(32):
        for norm in ("norm1", "norm2"):
            names |= {f"blocks.{i}.{norm}.weight": (1280,), f"blocks.{i}.{norm}.bias": (1280,)}
        for name, shape in linear.items():
            names |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
    return names | {"last_norm.weight": (1280,), "last_norm.bias": (1280,)}


def published_head() -> dict[str, tuple[int, ...]]:
    names = {
        "transformer.pos_embedding": (1, 1, 1024),
        "transformer.to_token_embedding.weight": (1024, 1),
        "transformer.to_token_embedding.bias": (1024,),
    }
    for i in range(6):
        layer = f"transformer.transformer.layers.{i}"
        for part in range(3):
            names |= {f"{layer}.{part}.norm.weight": (1024,), f"{layer}.{part}.norm.bias": (1024,)}
        names |= {
            f"{layer}.0.fn.to_qkv.weight": (1536, 1024),
            f"{layer}.0.fn.to_out.0.weight": (1024, 512),
            f"{layer}.0.fn.to_out.0.bias": (1024,),
            f"{layer}.1.fn.to_kv.weight": (1024, 1280),
            f"{layer}.1.fn.to_q.weight": (512, 1024),
            f"{layer}.1.fn.to_out.0.weight": (1024, 512),
            f"{layer}.1.fn.to_out.0.bias": (1024,),
            f"{layer}.2.fn.net.0.weight": (1024, 1024),
            f"{layer}.2.fn.net.0.bias": (1024,),
            f"{layer}.2.fn.net.3.weight": (1024, 1024),
            f"{layer}.2.fn.net.3.bias": (1024,),
        }
    outputs = {
        "smplx_poses": 312, "smplx_scale": 6, "smplx_shape": 200, "smplx_expression": 50, "smplx_joint": 165,
        "flame_poses": 14, "flame_shape": 300, "flame_expression": 50, "cam": 3,
    }  # fmt: skip
    for name, k in outputs.items():
        names |= {f"{name}_decoder.weight": (k, 1024), f"{name}_decoder.bias": (k,)}
    lengths = {"init_body_pose": 318, "init_betas": 10, "init_betas_kid": 11, "init_cam": 3, "init_expression": 10}
    return names | {name: (1, length) for name, length in lengths.items()}


def test_state_dicts_are_the_published_ones():
    network = on_meta("vith")
    backbone, head = network.backbone.state_dict(), network.head.state_dict()
    assert {key: tuple(value.shape) for key, value in backbone.items()} == published_backbone()
    assert {key: tuple(value.shape) for key, value in head.items()} == published_head()
    assert len(backbone) == 389
    assert len(head) == 128
    assert sum(value.numel() for value in backbone.values()) == 630_912_000
    assert sum(value.numel() for value in network.head.parameters()) == 40_513_612
    assert sum(value.numel() for value in network.head.buffers()) == sum(BUFFERS.values()) == 352
    assert sum(4 * value.numel() for value in [*backbone.values(), *head.values()]) == 2_685_703_856
    assert all(value.dtype == torch.float32 for value in [*backbone.values(), *head.values()])


def test_a_vit_b_has_the_papers_size():
    network = on_meta("vitb")
    assert sum(value.numel() for value in network.backbone.parameters()) == 85_794_816
    assert sum(value.numel() for value in network.head.parameters()) == 37_367_884


def test_white_and_black_pixels_are_normalised_by_imagenet(network):
    white = network.normalise(torch.ones(1, 3, 256, 256))
    black = network.normalise(torch.zeros(1, 3, 256, 256))
    np.testing.assert_allclose(white[0, :, 0, 0], (2.2489, 2.4286, 2.6400), atol=1e-4)
    np.testing.assert_allclose(black[0, :, 0, 0], (-2.1179, -2.0357, -1.8044), atol=1e-4)
    assert white.shape == (1, 3, 256, 192)


def test_outer_columns_are_never_seen_and_inner_ones_are(network, images):
    before = network(images)
    changed = images.clone()
    changed[..., :32] = 1.0
    changed[..., 224:] = 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, network(changed), strict=True))
    changed[..., 128] = 1.0
    assert not torch.equal(before.camera, network(changed).camera)


def test_the_patch_grid_begins_two_pixels_outside(network, images):
    x = network.normalise(images)
    tokens = network.backbone.patch_embed(x)
    assert tokens.shape == (2, 16 * 12, 64)
    padded = F.pad(x, (2, 2, 2, 2))
    weight, bias = network.backbone.patch_embed.proj.weight, network.backbone.patch_embed.proj.bias
    by_hand = torch.einsum("bcij,ocij->bo", padded[:, :, 16 * 3 : 16 * 4, 16 * 5 : 16 * 6], weight) + bias
    np.testing.assert_allclose(tokens[:, 3 * 12 + 5], by_hand, atol=1e-5)
    beyond = x.clone()
    beyond[:, :, 14:], beyond[:, :, :, 14:] = 0, 0
    assert torch.equal(network.backbone.patch_embed(beyond)[:, 0], tokens[:, 0])
    unread = x.clone()
    unread[:, :, 254:] = 9.0
    assert torch.equal(network.backbone.patch_embed(unread), tokens)


def test_a_square_image_is_refused_by_the_backbone(network):
    with pytest.raises(ShapeError, match=r"3, 256, 192"):
        network.backbone(torch.zeros(1, 3, 256, 256))
    with pytest.raises(ShapeError, match=r"3, 256, 256"):
        network(torch.zeros(1, 3, 256, 192))


def test_the_class_tokens_position_counts_for_every_token(images):
    torch.manual_seed(0)
    a, b = Backbone(SIZES["tiny"]).eval(), Backbone(SIZES["tiny"]).eval()
    torch.nn.init.normal_(a.pos_embed)
    b.load_state_dict(a.state_dict())
    with torch.no_grad():
        a.pos_embed[:, 0] += 0.5
        b.pos_embed[:, 1:] += 0.5
        x = images[..., 32:224]
        np.testing.assert_allclose(a(x), b(x), atol=1e-5)


def test_epsilons_and_the_exact_gelu(network):
    assert all(block.norm1.eps == block.norm2.eps == 1e-6 for block in network.backbone.blocks)
    assert network.backbone.last_norm.eps == 1e-6
    layers = network.head.transformer.transformer.layers
    assert all(part.norm.eps == 1e-5 for layer in layers for part in layer)
    mlp = network.backbone.blocks[0].mlp
    x = torch.ones(1, 1, 64)
    hidden = mlp.fc1(x)
    gelu = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    np.testing.assert_allclose(mlp(x), mlp.fc2(gelu), atol=1e-6)
    assert float(layers[0][2].fn.net[1](torch.tensor(1.0))) == pytest.approx(0.841345, abs=1e-6)


def slow_attention(q, k, v, heads: int) -> np.ndarray:
    """Softmax attention head by head, in float64 numpy."""
    out = []
    for h in range(heads):
        c = q.shape[-1] // heads
        a, b, d = (part[:, h * c : (h + 1) * c] for part in (q, k, v))
        score = a @ b.T / math.sqrt(c)
        weight = np.exp(score - score.max(1, keepdims=True))
        out.append(weight / weight.sum(1, keepdims=True) @ d)
    return np.concatenate(out, 1)


def test_attention_splits_as_published():
    """q, k, v in this order, heads outermost; in the decoder k before v."""
    network = on_meta("vitb").to_empty(device="cpu")
    torch.manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    attention = network.backbone.blocks[0].attn
    x = torch.randn(1, 7, 768)
    qkv = (x[0] @ attention.qkv.weight.T + attention.qkv.bias).detach().double().numpy()
    mixed = slow_attention(*np.split(qkv, 3, axis=1), heads=12)
    expected = mixed @ attention.proj.weight.detach().double().numpy().T + attention.proj.bias.detach().numpy()
    np.testing.assert_allclose(attention(x)[0].detach(), expected, atol=1e-4)

    cross = network.head.transformer.transformer.layers[0][1].fn
    query, context = torch.randn(1, 1, 1024), torch.randn(1, 9, 768)
    k, v = np.split((context[0] @ cross.to_kv.weight.T).detach().double().numpy(), 2, axis=1)
    mixed = slow_attention((query[0] @ cross.to_q.weight.T).detach().double().numpy(), k, v, heads=8)
    expected = mixed @ cross.to_out[0].weight.detach().double().numpy().T + cross.to_out[0].bias.detach().numpy()
    np.testing.assert_allclose(cross(query, context)[0].detach(), expected, atol=1e-3)


def test_the_same_input_gives_the_same_bits_and_a_batch_is_its_singles(network, images):
    network.train()  # has no effect: a deployed network does not drop paths
    assert not any(module.training for module in network.modules())
    first, again = network(images), network(images)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for i in range(2):
        for a, b in zip(first, network(images[i : i + 1]), strict=True):
            np.testing.assert_allclose(a[i : i + 1], b, atol=1e-5)


def test_the_query_is_a_constant(network, images):
    before = network(images)
    decoder = network.head.transformer
    saved = decoder.to_token_embedding.weight.clone()
    decoder.to_token_embedding.weight.fill_(7.0)
    assert all(torch.equal(a, b) for a, b in zip(before, network(images), strict=True))
    decoder.to_token_embedding.weight.copy_(saved)


def test_a_decoder_without_weights_returns_its_query():
    decoder = PearNetwork(SIZES["tiny"]).head.transformer.requires_grad_(False)
    torch.nn.init.normal_(decoder.pos_embedding)
    for layer in decoder.transformer.layers:
        for linear in (layer[0].fn.to_out[0], layer[1].fn.to_out[0], layer[2].fn.net[3]):
            linear.weight.zero_()
            linear.bias.zero_()
    expected = decoder.to_token_embedding.bias + decoder.pos_embedding[0, 0]
    np.testing.assert_allclose(decoder(torch.randn(3, 192, 64)), expected.expand(3, -1), atol=1e-7)
