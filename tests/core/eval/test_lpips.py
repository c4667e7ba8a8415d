"""LPIPS against its formula in plain numpy, on a random network of the true shapes."""

import hashlib

import numpy as np
import pytest
import torch

from hsr_core.errors import BadFile, MissingFile, ShapeError
from hsr_core.eval import lpips as module
from hsr_core.eval.lpips import Lpips, installed_heads, open_lpips

SHAPES = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A state dict with the names and shapes of torchvision's AlexNet and random weights."""
    rng = np.random.default_rng(0)
    state = {}
    for layer, (n_out, n_in, side) in SHAPES.items():
        spread = np.sqrt(2 / (n_in * side * side))
        state[f"features.{layer}.weight"] = torch.from_numpy(rng.normal(0, spread, (n_out, n_in, side, side))).float()
        state[f"features.{layer}.bias"] = torch.from_numpy(rng.normal(0, 0.1, n_out)).float()
    path = tmp_path_factory.mktemp("lpips") / "alexnet.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def heads():
    path = installed_heads()
    assert path is not None, "the test extra has torchmetrics, whose wheel has the heads"
    return path


@pytest.fixture(scope="module")
def lpips(backbone, heads):
    return Lpips(backbone, heads, sha256=(digest(backbone),))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def slow_conv(x, w, b, stride, pad):
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    side = w.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("ihwab,oiab->ohw", windows, w, optimize=True) + b[:, None, None]


def slow_pool(x):
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max((-1, -2))


def slow_lpips(picture, other, state, linear):
    """Zhang et al. 2018, eq. 1, in float64."""
    features = []
    for p in (picture, other):
        x = ((2 * p - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]).transpose(2, 0, 1)
        layers = []
        for layer in SHAPES:
            x = slow_pool(x) if layer in (3, 6) else x
            stride, pad = {0: (4, 2), 3: (1, 2)}.get(layer, (1, 1))
            w, b = (state[f"features.{layer}.{part}"].double().numpy() for part in ("weight", "bias"))
            x = np.maximum(slow_conv(x, w, b, stride, pad), 0)
            layers.append(x / (np.linalg.norm(x, axis=0) + 1e-10))
        features.append(layers)
    total = 0
    for i, (x, y) in enumerate(zip(*features, strict=True)):
        head = linear[f"lin{i}.model.1.weight"].double().numpy()[0, :, 0, 0]
        total += np.einsum("c,chw->hw", head, (x - y) ** 2).mean()
    return total


@pytest.mark.parametrize("hw", [(64, 64), (50, 71)])
def test_equals_the_formula(lpips, backbone, heads, hw):
    """float32 against float64: six digits."""
    rng = np.random.default_rng(1)
    x = rng.random((*hw, 3))
    y = np.clip(x + rng.normal(0, 0.2, x.shape), 0, 1)
    state, linear = (torch.load(path, map_location="cpu", weights_only=True) for path in (backbone, heads))
    expected = slow_lpips(x, y, state, linear)
    assert expected > 1e-3
    assert lpips(x, y) == pytest.approx(expected, rel=1e-5)
    assert lpips(x, y) == pytest.approx(lpips(y, x), rel=1e-5)
    assert lpips(x, x) == 0


def test_the_box_of_the_mask_is_cropped(lpips):
    rng = np.random.default_rng(2)
    x, y = rng.random((2, 90, 80, 3))
    mask = np.zeros((90, 80))
    mask[10:60, 20:70] = 1
    assert lpips.box(x, y, mask) == lpips(x[10:60, 20:70], y[10:60, 20:70])
    assert np.isnan(lpips.box(x, y, np.zeros((90, 80))))
    mask[:, 50:] = 0
    assert np.isnan(lpips.box(x, y, mask))  # 30 pixels wide


def test_the_record_names_both_files(lpips, backbone, heads):
    assert lpips.facts() == {
        "network": "alexnet", "version": "0.1", "backbone": digest(backbone), "heads": digest(heads)
    }  # fmt: skip


def test_absent_with_the_reason(monkeypatch, backbone):
    found, reason = open_lpips(None)
    assert found is None
    assert "no AlexNet weights" in reason
    monkeypatch.setattr(module, "installed_heads", lambda: None)
    found, reason = open_lpips(backbone)
    assert found is None
    assert "no linear heads" in reason


def test_a_network_that_is_not_the_trained_one_is_refused(backbone, heads):
    with pytest.raises(BadFile, match=r"expected 7be5be79 or 4df8aa71"):
        open_lpips(backbone, heads)


def test_bad_files_are_refused(tmp_path, backbone, heads):
    with pytest.raises(MissingFile):
        Lpips(tmp_path / "none.pth", heads)
    text = tmp_path / "text.pth"
    text.write_text("no network")
    with pytest.raises(BadFile, match="not a state dict"):
        Lpips(text, heads, sha256=("",))
    torch.save([1, 2], text)
    with pytest.raises(BadFile, match="a list"):
        Lpips(text, heads, sha256=("",))
    with pytest.raises(BadFile, match=r"lin0.model.1.weight must have shape \(1, 64, 1, 1\), found nothing"):
        Lpips(backbone, backbone, sha256=("",))


def test_small_or_unequal_pictures_are_refused(lpips):
    with pytest.raises(ShapeError, match="35 px"):
        lpips(np.zeros((34, 60, 3)), np.zeros((34, 60, 3)))
    with pytest.raises(ShapeError):
        lpips(np.zeros((60, 60, 3)), np.zeros((60, 61, 3)))
