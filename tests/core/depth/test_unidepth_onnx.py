"""UniDepthV2's ONNX route on a generated network of the same inputs and outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from analytic_scenes import camera, plane_depth, scene_depth, sphere_depth, view

from hsr_core.depth.base import DepthSettings
from hsr_core.depth.unidepth_onnx import UniDepthOnnx, create, open_network
from hsr_core.errors import BadFile, ConfigError, MissingFile
from hsr_core.geometry.regions import shrink
from hsr_core.model_files import NetworkPlace
from hsr_core.runtime import onnx_file
from hsr_core.types import MetricSource

from .unidepth_onnx_model import write_onnx

CPU = NetworkPlace(device="cpu", engine="onnxruntime")
COLOR = camera()


def place(folder) -> NetworkPlace:
    return replace(CPU, folder=folder)


@pytest.fixture
def provider(tmp_path):
    provider = UniDepthOnnx(open_network(write_onnx(tmp_path / "n.onnx"), CPU))
    yield provider
    provider.close()


def test_a_plane_and_a_sphere_come_back_in_the_images_grid(provider):
    frame = provider.depth_for(view(COLOR))
    ball = sphere_depth(COLOR) > 0
    wall = ~ball & shrink(~ball, 4)
    np.testing.assert_allclose(frame.depth_m[wall], plane_depth(COLOR)[wall], atol=2e-3)
    middle = shrink(ball, 20)
    np.testing.assert_allclose(frame.depth_m[middle], scene_depth(COLOR)[middle], atol=4e-3)
    assert frame.metric_source is MetricSource.MONO_DEPTH
    assert (frame.sigma_rel, frame.weight) == (0.05, pytest.approx(0.4))


def test_the_result_does_not_depend_on_the_shape_the_network_was_exported_for(provider, tmp_path):
    """The rays carry the focal length of each axis, so that squeezing the image changes nothing."""
    wide = UniDepthOnnx(open_network(write_onnx(tmp_path / "wide.onnx", (98, 252)), CPU))
    wall = shrink(sphere_depth(COLOR) == 0, 8)
    np.testing.assert_allclose(
        wide.depth_for(view(COLOR)).depth_m[wall], provider.depth_for(view(COLOR)).depth_m[wall], atol=4e-3
    )


def test_the_image_arrives_as_normalised_rgb(provider):
    image = np.zeros((*COLOR.image_hw, 3), np.uint8)
    image[:120] = (240, 60, 30)
    unsure = provider.depth_for(view(COLOR, image=image)).rank_unc
    np.testing.assert_allclose(unsure[:110], 110 / 255, atol=1e-4)
    np.testing.assert_allclose(unsure[130:], 0, atol=1e-4)


def test_another_camera_changes_the_rays(provider):
    first = provider.depth_for(view(COLOR)).depth_m
    other = camera(fx=420.0, fy=400.0)
    wall = shrink(sphere_depth(other) == 0, 4)
    np.testing.assert_allclose(provider.depth_for(view(other)).depth_m[wall], plane_depth(other)[wall], atol=2e-3)
    np.testing.assert_allclose(provider.depth_for(view(COLOR)).depth_m, first)


def test_the_plain_export_is_scaled_to_the_true_focal_length_and_trusted_less(tmp_path):
    plain = UniDepthOnnx(open_network(write_onnx(tmp_path / "p.onnx", with_camera=False, focal=400.0), CPU))
    frame = plain.depth_for(view(COLOR))
    # The network works at 168 x 126: the camera's focal lengths there are 300 * 168/320 and 310 * 126/240.
    expected = 2.0 * np.sqrt(157.5 * 162.75) / 400
    np.testing.assert_allclose(frame.depth_m, expected, rtol=1e-5)
    assert frame.sigma_rel == 0.1


def test_points_behind_the_camera_or_not_finite_are_invalid(provider, monkeypatch):
    out = {"pts_3d": np.full((1, 3, 126, 168), 2.0, np.float32), "confidence": np.ones((1, 1, 126, 168), np.float32)}
    out["pts_3d"][0, 2, :20] = -1
    out["pts_3d"][0, 2, 60, 80] = np.nan
    runtime = provider._runtime
    monkeypatch.setattr(provider, "_runtime", lambda inputs: out)
    frame = provider.depth_for(view(COLOR))
    monkeypatch.setattr(provider, "_runtime", runtime)
    assert not frame.valid[:36].any()
    assert frame.valid[44:100].all()
    assert not frame.valid[115, 153]
    np.testing.assert_allclose(frame.depth_m[frame.valid], 2.0, rtol=1e-4)


def test_distorted_images_are_refused(provider):
    assert provider.depth_for(view(replace(COLOR, dist=np.array([-0.1, 0, 0, 0, 0])))) is None
    assert "rectify" in provider.status


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hw": (126, 170)}, "multiples of 14"),
        ({"hw": ("h", "w")}, "fixed multiples of 14"),
        ({"outputs": {"pts_3d": [1, 3, 126, 168], "confidence": [1, 1, 126, 168]}}, r"expected pts_3d .*intrinsics"),
        (
            {"outputs": {"pts_3d": [1, 1, 126, 168], "confidence": [1, 1, 126, 168], "intrinsics": [1, 3, 3]}},
            r"pts_3d \[1, 1, 126, 168\]",
        ),
        (
            {"outputs": {"pts_3d": ["b", 3, "x", "y"], "confidence": ["b", 3, "h", "w"], "intrinsics": [1, 3, 3]}},
            "confidence",
        ),
    ],
)
def test_other_networks_are_refused_with_what_is_expected(tmp_path, change, said):
    if change.get("hw") == ("h", "w"):
        import onnx

        path = write_onnx(tmp_path / "n.onnx")
        model = onnx.load(path)
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"
        onnx.save(model, path)
    else:
        path = write_onnx(tmp_path / "n.onnx", **change)
    with pytest.raises(BadFile, match=said):
        open_network(path, CPU)


def test_files_that_are_no_networks_are_refused(tmp_path):
    path = tmp_path / "n.onnx"
    for content in (b"", b"not a network", write_onnx(tmp_path / "good.onnx").read_bytes()[:300]):
        path.write_bytes(content)
        with pytest.raises(BadFile, match="not an ONNX"):
            open_network(path, CPU)


def test_files_and_consent_are_both_needed(tmp_path):
    settings = DepthSettings()
    with pytest.raises(ConfigError, match=r"CC BY-NC 4\.0.*depth\.accept_noncommercial"):
        create(settings, place=place(tmp_path))
    accepted = replace(settings, accept_noncommercial=True)
    with pytest.raises(MissingFile, match=r"unidepth_v2\.onnx in .*unidepth_v2_s; get them from .*--with-camera"):
        create(accepted, place=place(tmp_path))
    write_onnx(tmp_path / "unidepth_v2_s" / "unidepth_v2.onnx")
    assert create(accepted, place=place(tmp_path)).depth_for(view(COLOR)).valid.all()


def test_an_engine_is_built_once_from_the_file_with_fixed_sizes(tmp_path, monkeypatch):
    """TensorRT itself is replaced: what it is given, and that the cache is used, is what counts here."""
    import onnx

    from hsr_core.runtime import trt, trt_run
    from hsr_core.runtime.select import Machine

    built, opened = [], []

    def build(path, spec, target, **facts):
        built.append([[d.dim_value for d in v.type.tensor_type.shape.dim] for v in onnx.load(path).graph.input])
        target.write_bytes(b"plan")

    class Runtime:
        name = precision = device = "fake"

        def __init__(self, plan, spec, **facts):
            opened.append((plan.read_bytes(), facts["engine"]))

        def warm_up(self):
            pass

    machine = Machine("GPU", "sm89", "2", {"tensorrt": "10", "tensorrt-rtx": "", "onnxruntime": ""})
    monkeypatch.setattr(onnx_file, "this_machine", lambda: machine)
    monkeypatch.setattr(trt, "build_engine", build)
    monkeypatch.setattr(trt, "load_api", lambda engine: type("Api", (), {"__version__": "10.0"}))
    monkeypatch.setattr(trt_run, "TrtRuntime", Runtime)
    monkeypatch.setenv("HSR_CACHE", str(tmp_path / "cache"))
    path = write_onnx(tmp_path / "n.onnx")
    for _ in range(2):
        open_network(path, NetworkPlace())
    assert built == [[[1, 3, 126, 168]] * 2]
    assert opened == [(b"plan", "tensorrt")] * 2
