"""UniDepthV2 through its package, on a stand-in module of the same interface."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from analytic_scenes import camera, plane_depth, scene_depth, sphere_depth, view

from hsr_core.depth.base import DepthSettings
from hsr_core.depth.grid import ASPECT, PATCH, depth_to_image, working_size
from hsr_core.depth.unidepth import create
from hsr_core.errors import BadFile, ConfigError, DeviceError, MissingFile, MissingPackage
from hsr_core.model_files import NetworkPlace
from hsr_core.types import Camera

COLOR = camera(width=640, height=360, fx=600.0, fy=600.0, cx=320.4, cy=175.0)
SETTINGS = DepthSettings(accept_noncommercial=True)
CONFIG = {"model": {"pixel_encoder": {"name": "dinov2_vits14", "pretrained": None}}}


class StandIn(torch.nn.Module):
    """`UniDepthV2` as seen from outside: it answers with the analytic scene of the camera it is given."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        assert config["model"]["pixel_encoder"]["pretrained"] is None
        self.layer = torch.nn.Linear(2, 2)
        self.shape_constraints = {"pixels_min": 200_000, "pixels_max": 600_000, "ratio_bounds": (0.5, 2.5)}
        self.seen: list = []

    def infer(self, rgb: torch.Tensor, camera: torch.Tensor, normalize: bool = True) -> dict:
        assert not self.training
        assert normalize
        assert rgb.dtype == torch.uint8
        hw = tuple(rgb.shape[-2:])
        self.seen.append((hw, rgb.float().mean((1, 2)).numpy(), camera.clone().numpy()))
        K = camera.double().numpy().copy()
        K[:2, 2] -= 0.5  # this network counts pixel centres at +0.5
        depth = scene_depth(Camera(K, hw))
        camera.zero_()  # the real one writes into it too
        out = torch.from_numpy(depth)[None, None]
        return {"depth": out, "confidence": out * 0.1, "intrinsics": torch.eye(3)[None]}


@pytest.fixture
def package(monkeypatch):
    module, models = ModuleType("unidepth"), ModuleType("unidepth.models")
    models.UniDepthV2 = StandIn
    monkeypatch.setitem(sys.modules, "unidepth", module)
    monkeypatch.setitem(sys.modules, "unidepth.models", models)


def put_files(root, *, config=CONFIG, state=None, size="s") -> NetworkPlace:
    folder = root / f"unidepth_v2_{size}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    state = {f"module.{k}": v for k, v in StandIn(CONFIG).state_dict().items()} if state is None else state
    torch.save({"model": state}, folder / "pytorch_model.bin")
    return NetworkPlace(root, device="cpu")


def test_a_plane_and_a_sphere_come_back_and_again_in_the_next_frame(package, tmp_path):
    provider = create(SETTINGS, place=put_files(tmp_path))
    for _ in range(2):
        frame = provider.depth_for(view(COLOR))
        far = sphere_depth(COLOR) == 0
        close = np.abs(frame.depth_m - scene_depth(COLOR))
        assert np.median(close[far]) < 1e-4
        assert np.median(close[~far]) < 1e-3
        assert (close < 0.02).mean() > 0.99
    np.testing.assert_allclose(frame.rank_unc[0, 0], plane_depth(COLOR)[0, 0] * 0.1, rtol=1e-3)


def test_the_network_gets_rgb_and_a_size_it_does_not_change(package, tmp_path):
    provider = create(SETTINGS, place=put_files(tmp_path))
    image = np.zeros((*COLOR.image_hw, 3), np.uint8)
    image[:] = (200, 100, 50)
    provider.depth_for(view(COLOR, image=image))
    (hw, mean, K), network = provider._network.seen[0], provider._network
    assert hw[0] % PATCH == 0
    assert hw[1] % PATCH == 0
    assert 0.4e6 < hw[0] * hw[1] < 0.44e6  # level 5 of 0.2 to 0.6 Mpx
    np.testing.assert_allclose(mean, [200, 100, 50], atol=0.01)
    assert K[0, 0] == pytest.approx(600 * hw[1] / 640)
    assert K[1, 1] == pytest.approx(600 * hw[0] / 360)
    assert network.resolution_level == 5


@pytest.mark.parametrize("image_hw", [(480, 640), (720, 1280), (1920, 1080), (300, 2000), (64, 64)])
@pytest.mark.parametrize("level", [0, 5, 9])
def test_working_sizes_lie_within_their_tenth_of_the_range(image_hw, level):
    h, w = working_size(image_hw, level)
    assert h % PATCH == w % PATCH == 0
    assert 0.2e6 + 0.04e6 * level < h * w < 0.24e6 + 0.04e6 * level
    aspect = np.clip(image_hw[1] / image_hw[0], *ASPECT)
    assert w / h == pytest.approx(aspect, rel=0.05)


def test_invalid_pixels_of_the_network_spread_to_what_is_mixed_from_them():
    depth = np.full((20, 20), 3.0)
    depth[10, 10] = np.inf
    out = depth_to_image(depth, (40, 40))
    assert (out[:18] == 3).all()
    assert (out[20:22, 20:22] == 0).all()
    assert set(np.unique(out)) == {0, 3}


def test_consent_files_and_package_are_asked_for_in_this_order(tmp_path, monkeypatch):
    place = NetworkPlace(tmp_path, device="cpu")
    with pytest.raises(ConfigError, match=r"depth\.accept_noncommercial"):
        create(DepthSettings(), place=place)
    with pytest.raises(MissingFile, match=r"config\.json with model\.safetensors, or .*unidepth-v2-vits14 \(CC BY-NC"):
        create(SETTINGS, place=place)
    monkeypatch.setitem(sys.modules, "unidepth", None)
    with pytest.raises(MissingPackage, match=r"github\.com/lpiccinelli-eth/UniDepth"):
        create(SETTINGS, place=put_files(tmp_path))


def test_weights_that_do_not_fill_the_network_are_refused(package, tmp_path):
    state = {"layer.weight": torch.zeros(2, 2), "other": torch.zeros(1)}
    with pytest.raises(BadFile, match=r"lacks 1 of the network's tensors \(layer\.bias"):
        create(SETTINGS, place=put_files(tmp_path, state=state))


def test_a_configuration_that_would_download_is_refused(package, tmp_path):
    config = {"model": {"pixel_encoder": {"name": "dinov2_vits14", "pretrained": ""}}}
    with pytest.raises(BadFile, match="must be null"):
        create(SETTINGS, place=put_files(tmp_path, config=config))
    (tmp_path / "unidepth_v2_s" / "config.json").write_text("[]")
    with pytest.raises(BadFile, match="not UniDepthV2's configuration"):
        create(SETTINGS, place=NetworkPlace(tmp_path, device="cpu"))


def test_damaged_weights_and_pickles_with_code_are_refused(package, tmp_path):
    place = put_files(tmp_path)
    weights = tmp_path / "unidepth_v2_s" / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(BadFile, match="cannot be read as weights"):
        create(SETTINGS, place=place)
    torch.save({"model": print}, weights)
    with pytest.raises(BadFile, match="cannot be read as weights"):
        create(SETTINGS, place=place)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(package, tmp_path):
    with pytest.raises(DeviceError, match="sees none"):
        create(SETTINGS, place=replace(put_files(tmp_path), device="cuda"))
