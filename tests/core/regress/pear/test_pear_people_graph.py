"""The graph from a frame to people: each step against another library or the host's own arithmetic, then the whole."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from pear_answers import perfect_answer, person_at
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hsr_core.body import load_body
from hsr_core.config import Settings
from hsr_core.errors import ConfigError
from hsr_core.geometry.camera import fit_translation, invert_affine, undistort_points
from hsr_core.regress.crop import cut_rgb
from hsr_core.regress.pear import people_graph as graph
from hsr_core.regress.pear.camera import Crop, letterbox, pelvis_translation, person_crop
from hsr_core.regress.pear.checkpoint import make_test
from hsr_core.regress.pear.decode import Decoded
from hsr_core.regress.pear.export import Networks, frame_samples, load_for_export, people_graph
from hsr_core.regress.pear.params import ParamsMaker
from hsr_core.regress.pear.placing import OnHost
from hsr_core.regress.pear.regressor import PearRegressor
from hsr_core.runtime.base import Batch
from hsr_core.runtime.build import engine_file
from hsr_core.runtime.engine_cache import EngineCache
from hsr_core.runtime.module import Network
from hsr_core.runtime.pytorch import TorchRuntime
from hsr_core.runtime.select import open_runtime
from hsr_core.sources import clip_camera, open_source
from hsr_core.stream import HumanStream
from hsr_core.types import Camera, Frame

HW = (240, 320)
LENSES = {
    "plumb_bob": [-0.2, 0.05, 1e-3, -2e-3, -0.02],
    "rational_polynomial": [0.4, 0.1, 1e-4, 2e-4, 0.01, 0.7, 0.2, 0.02],
    "equidistant": [0.02, -0.01, 3e-3, -1e-3],
}


def camera(model: str = "plumb_bob", dist=(0.0,) * 5, hw=(720, 1280)) -> Camera:
    return replace(Camera.from_hfov(75, hw), dist=np.array(dist), model=model)


@pytest.fixture(scope="module")
def body():
    return load_body("")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("people") / "tiny.pt"
    make_test(path, "tiny", seed=3)
    return path


@pytest.fixture(scope="module")
def clip():
    with open_source("clip", camera=clip_camera()) as source:
        return [replace(frame, image=frame.image.copy()) for frame, _ in zip(source, range(6), strict=False)]


# --- the crop


def noise(channels: int = 3) -> np.ndarray:
    shape = HW if channels == 1 else (*HW, channels)
    return np.random.default_rng(channels).integers(0, 256, shape, np.uint8)


def grid_of(crop: Crop, side: int = 256) -> torch.Tensor:
    """Image pixels of the crop's pixels, (1, side^2, 2)."""
    uv = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    A = invert_affine(crop.A_crop_img)
    return torch.from_numpy(uv @ A[:, :2].T + A[:, 2]).float()[None]


def cut(frame: Frame, crop: Crop) -> torch.Tensor:
    inputs = graph.people_inputs(frame, camera(hw=HW), np.zeros((1, 2, 3)), np.zeros(0))
    return graph.cut_frame(torch.from_numpy(inputs["frame"]), torch.from_numpy(inputs["layout"]), grid_of(crop))[0]


CROPS = {
    "inside": (100, 60, 200, 180),
    "over the edge": (-40, 150, 90, 400),
    "one pixel": (50, 60, 52, 62),
    "huge": (-900, -900, 1300, 1200),
    "outside": (900, 900, 1000, 1000),
}


@pytest.mark.parametrize("place", CROPS)
def test_the_crop_is_torchs_bilinear_sampling(place):
    x0, y0, x1, _ = CROPS[place]
    scale = 256 / (x1 - x0)
    crop = Crop(np.array([[scale, 0, -scale * x0], [0, scale, -scale * y0]]), scale)
    frame = Frame(noise(), 0, "rgb")
    image = torch.from_numpy(frame.image).permute(2, 0, 1)[None].float()
    grid = grid_of(crop).reshape(1, 256, 256, 2) / (torch.tensor(HW[::-1]) - 1) * 2 - 1
    expected = F.grid_sample(image, grid, align_corners=True)[0].permute(1, 2, 0).reshape(-1, 3)
    assert (cut(frame, crop) - expected).abs().max() < 0.05


@pytest.mark.parametrize(("order", "channels"), [("rgb", 3), ("bgr", 3), ("bgr", 4), ("rgb", 4), ("mono", 1)])
def test_any_channel_order_is_cut_as_opencv_does(order, channels):
    frame = Frame(cv2.GaussianBlur(noise(channels), (0, 0), 3), 0, order)
    crop = person_crop(np.array([80.0, 40, 240, 200]), HW)
    expected = cut_rgb(frame, crop.A_crop_img, 256).reshape(-1, 3)
    assert np.abs(cut(frame, crop).numpy() - expected).max() < 1.5  # OpenCV has 5 bits of a pixel, and rounds


def test_a_strided_image_is_read_in_its_own_order():
    whole = noise()
    crop = person_crop(np.array([10.0, 10, 90, 90]), (120, 160))
    view, copy = Frame(whole[::2, ::2], 0, "rgb"), Frame(whole[::2, ::2].copy(), 0, "rgb")
    assert torch.equal(cut(view, crop), cut(copy, crop))


# --- the lens and the place


def rays_at(body, lens: Camera, uv: np.ndarray) -> np.ndarray:
    module = graph.PeopleGraph(torch.nn.Identity(), body.layer, given_shape=True)
    layout, focal = torch.tensor(lens.image_hw, dtype=torch.int32), torch.tensor([lens.K[0, 0], lens.K[1, 1]])
    return module._rays_at(torch.from_numpy(uv)[None], torch.from_numpy(graph.lens_grid(lens)), layout, focal)[
        0
    ].numpy()


@pytest.mark.parametrize("model", LENSES)
def test_rays_are_those_of_opencv(body, model):
    lens = camera(model, LENSES[model])
    uv = np.random.default_rng(0).uniform((0, 0), (1279, 719), (500, 2))
    found = rays_at(body, lens, uv)
    straight = found * lens.K[[0, 1], [0, 1]] + lens.K[:2, 2]
    assert np.abs(straight - undistort_points(uv, lens)).max() < 0.1


def test_without_distortion_rays_are_exact_also_beyond_the_image(body):
    lens = camera()
    uv = np.array([[-500.0, 300], [1500, 900], [640, 360], [0, 0], [1279, 719]])
    found = rays_at(body, lens, uv)
    np.testing.assert_allclose(found, (uv - lens.K[:2, 2]) / lens.K[[0, 1], [0, 1]], atol=2e-6)


def test_the_translation_is_the_least_squares_one():
    rng = np.random.default_rng(1)
    K = np.array([[900.0, 0, 640], [0, 1000, 360], [0, 0, 1]])
    points = rng.normal(scale=(0.3, 0.5, 0.2), size=(4, 22, 3))
    truth = np.array([[0.3, 0.2, 2.0], [-1, 0, 5], [2, 1, 12], [0, 0, 30]])
    placed = points + truth[:, None]
    uv = placed[..., :2] / placed[..., 2:] * K[[0, 1], [0, 1]] + K[:2, 2] + rng.normal(scale=2, size=(4, 22, 2))
    rays = (uv - K[:2, 2]) / K[[0, 1], [0, 1]]
    found = graph._translation(*map(torch.from_numpy, (points, rays, K[[0, 1], [0, 1]], np.ones(4)))).numpy()
    np.testing.assert_allclose(found, [fit_translation(p, w, K) for p, w in zip(points, uv, strict=True)], rtol=1e-9)
    single = graph._translation(*(torch.from_numpy(a).float() for a in (points, rays, K[[0, 1], [0, 1]], np.ones(4))))
    np.testing.assert_allclose(single, found, rtol=2e-4, atol=2e-4)


def test_where_the_joints_do_not_tell_the_distance_the_pelvis_does():
    rng = np.random.default_rng(2)
    K, points = camera().K, rng.normal(size=(22, 3))
    uv = np.tile([[700.0, 300]], (22, 1))  # all on one pixel: no fit puts them in front of the camera
    rays = (uv - K[:2, 2]) / K[[0, 1], [0, 1]]
    args = (points[None], rays[None], K[[0, 1], [0, 1]], np.array([3.0]))
    found = graph._translation(*map(torch.from_numpy, args))[0].numpy()
    scale = 3.0 / K[0, 0] * 3072 / 20  # crop pixels per image pixel that give 3 m at 20 m of virtual depth
    expected = pelvis_translation(points[0], uv[0], np.array([0, 0, 20 - points[0, 2]]), scale, K)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# --- the whole graph


class Told(torch.nn.Module):
    """In place of the network: gives the same answers whatever it sees."""

    def __init__(self, answers: list[Decoded]) -> None:
        super().__init__()
        self.answers = Decoded(*(torch.from_numpy(np.stack(values)) for values in zip(*answers, strict=True)))

    def forward(self, pixels: torch.Tensor) -> Decoded:
        assert pixels.shape[1:] == (256, 256, 3)
        return self.answers


def told_graph(body, answers: list[Decoded]) -> TorchRuntime:
    given_shape = body.family != "EHMS"
    module = graph.PeopleGraph(Told(answers), body.layer, given_shape=given_shape)
    spec = replace(graph.people_spec(body.layer, given_shape=given_shape), batch=Batch(1, 1, 4))
    return TorchRuntime(lambda: module, spec, device="cpu", precision="fp32")


@pytest.mark.parametrize("ray_rotation", [True, False])
@pytest.mark.parametrize("model", LENSES)
def test_the_graph_places_people_as_the_host_does(body, ray_rotation, model):
    lens = camera(model, np.array(LENSES[model]) / 4)
    people = [person_at(body, transl) for transl in ((0.0, 0.2, 5.0), (1.8, 0.3, 4.0), (-2.5, 0.6, 6.0))]
    answers, boxes = zip(*(perfect_answer(person, body, lens) for person in people), strict=True)
    crops = [person_crop(box.bbox_xyxy, lens.image_hw) for box in boxes]
    frame = Frame(np.zeros((720, 1280, 3), np.uint8), 0)
    A = np.stack([invert_affine(crop.A_crop_img) for crop in crops])
    settings = Settings().with_values({"pear.ray_rotation": ray_rotation})
    maker = ParamsMaker(body, settings)
    inputs = graph.people_inputs(frame, lens, A, graph.lens_grid(lens), ray_rotation=ray_rotation)
    inputs |= {"own_betas": maker.own_betas, "own_head_betas": maker.own_head_betas}
    out = told_graph(body, list(answers))(inputs)
    host = OnHost(None, body, maker, settings, None)
    for i, (answer, crop) in enumerate(zip(answers, crops, strict=True)):
        expected = host._place(answer, lens, crop)
        posed = body.pose_one(expected.params)
        np.testing.assert_allclose(out["uv"][i], expected.uv, atol=0.02)
        np.testing.assert_allclose(out["transl"][i], expected.params.transl, atol=5e-4)
        np.testing.assert_allclose(out["joints"][i], posed.joints, atol=5e-4)
        np.testing.assert_allclose(out["vertices"][i], posed.vertices, atol=5e-4)
        shape = out["vertices"][i] - out["joints"][i, 0], posed.vertices - posed.joints[0]
        np.testing.assert_allclose(*shape, atol=2e-4)


def settings_for(weights, **values) -> Settings:
    base = {"regressor": "pear", "pear.weights": str(weights), "device": "cpu", "engine": "torch", "people.max": 1}
    return Settings().with_values({**base, **values})


def test_the_node_may_use_either_graph(weights, body, clip):
    """Both see nearly the same pixels (OpenCV rounds to a 32nd of one), so people differ by little."""
    found = {}
    for name in ("parameters", "people"):
        settings = settings_for(weights, **{"pear.graph": name, "smoothing.enabled": False})
        with HumanStream(settings, body) as stream:
            for frame in clip:
                (person,) = stream.process(frame).people
            found[name] = person, stream.mesh(person)
    (a, mesh_a), (b, mesh_b) = found["parameters"], found["people"]
    assert a.regression.vertices is None
    assert mesh_b is b.regression.vertices
    np.testing.assert_allclose(mesh_b, body.pose_one(b.params).vertices, atol=2e-5)
    np.testing.assert_allclose(mesh_b - b.joints[0], mesh_a - a.joints[0], atol=5e-3)
    np.testing.assert_allclose(b.joints[0], a.joints[0], rtol=5e-3)


def test_a_smoothed_persons_mesh_is_of_the_smoothed_parameters(weights, body, clip):
    with HumanStream(settings_for(weights, **{"pear.graph": "people"}), body) as stream:
        for frame in clip:
            (person,) = stream.process(frame).people
        np.testing.assert_array_equal(stream.mesh(person), body.pose_one(person.params).vertices)


def test_a_frame_with_more_pixels_than_there_is_room_for_is_shrunk(weights, body, clip):
    regressor = PearRegressor(settings_for(weights, **{"pear.graph": "people", "pear.boxes": "whole_frame"}), body)
    small = replace(clip[0], image=cv2.resize(clip[0].image, (1280, 720), interpolation=cv2.INTER_AREA))
    large = replace(small, image=cv2.resize(small.image, (3840, 2160), interpolation=cv2.INTER_CUBIC))
    found = [regressor.regress(f, clip[0].camera.scaled(f.image_hw))[0] for f in (small, large)]
    assert large.image.nbytes > graph.MAX_FRAME_BYTES
    np.testing.assert_allclose(*(person.params.transl for person in found), rtol=2e-2)
    np.testing.assert_allclose(*(person.params.body_pose for person in found), atol=2e-2)


def test_several_people_at_once_are_each_as_alone(weights, body):
    exported = people_graph(Networks(weights), body, max_people=3)
    runtime = TorchRuntime(exported.make, exported.spec, device="cpu", precision="fp32")
    samples = exported.samples()
    several = {**samples[0], "A_img_crop": np.concatenate([sample["A_img_crop"] for sample in samples[:3]])}
    together = {name: value.copy() for name, value in runtime(several).items()}
    for i in range(3):
        alone = runtime({**several, "A_img_crop": several["A_img_crop"][i : i + 1]})
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][i], value[0], atol=1e-3 if name == "uv" else 3e-5, err_msg=name)


def test_a_synthetic_body_takes_the_networks_shape_and_stature(weights, synthetic_body):
    exported = people_graph(Networks(weights), synthetic_body)
    assert [tensor.name for tensor in exported.spec.inputs][-1] == "ray_rotation"
    runtime = TorchRuntime(exported.make, exported.spec, device="cpu", precision="fp32")
    out = {name: value[0] for name, value in runtime(exported.samples()[0]).items()}
    maker = ParamsMaker(synthetic_body, settings_for(weights))
    params = replace(maker.make(Decoded(**{name: out[name] for name in Decoded._fields})), transl=out["transl"])
    np.testing.assert_allclose(out["vertices"], synthetic_body.pose_one(params).vertices, atol=5e-5)
    with pytest.raises(ConfigError, match=r"pear\.stature"):
        PearRegressor(settings_for(weights, **{"pear.graph": "people", "pear.stature": False}), synthetic_body)


# --- other runtimes


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """A cache: one export of the graph serves all runtimes that take it in the same precision."""
    return tmp_path_factory.mktemp("engines")


def test_onnxruntime_gives_torchs_people(weights, body, engines):
    """Rotations within 1e-4, vertices within 0.1 mm, on real frames; also of a shorter frame after a longer one."""
    pytest.importorskip("onnxruntime", reason="pip install 'hsr-core[onnx]'")
    exported = people_graph(Networks(weights), body, max_people=2)
    reference = TorchRuntime(exported.make, exported.spec, device="cpu", precision="fp32")
    options = {"network_hash": exported.hash, "engine": "onnxruntime", "device": "cpu", "cache": engines}
    with open_runtime(exported.make, exported.spec, **options) as ort:
        assert len(exported.samples()) == 5
        small = {**exported.samples()[0], "frame": noise().reshape(-1), "layout": np.array([*HW, 3, 2, 1, 0], np.int32)}
        for inputs in (*exported.samples(), small):
            expected = reference(inputs)
            out = ort(inputs)
            np.testing.assert_allclose(out["rotmats"], expected["rotmats"], atol=1e-4)
            error = np.linalg.norm(out["vertices"] - expected["vertices"], axis=-1)
            assert error.max() < 1e-4


@pytest.mark.parametrize("precision", ["tf32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_an_engine_is_built_of_the_whole_graph(weights, body, engines, precision):
    pytest.importorskip("tensorrt_rtx", reason="pip install 'hsr-core[rtx]'")
    exported = people_graph(Networks(weights), body, max_people=2)
    path = engine_file(
        exported.make, exported.spec, engine="tensorrt-rtx", architecture="sm89", precision=precision,
        network_hash=exported.hash, cache=EngineCache(engines),
    )  # fmt: skip
    layer_bytes = sum(value.nbytes for value in body.layer.full.state_dict().values())
    assert path.stat().st_size > layer_bytes  # the body is inside


class HostTraffic(TorchDispatchMode):
    """Notes what a CUDA graph cannot hold: tensors made from Python numbers, values read back, sizes made of values."""

    FORBIDDEN = ("lift_fresh", "_local_scalar_dense", "nonzero", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").split(".")[0]
        masked = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.found += ["nonzero"] if masked else [name] if name in self.FORBIDDEN else []
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["parameters", "people"])
def test_a_cuda_graph_could_hold_it(weights, name):
    exported = load_for_export(weights, name)
    module = exported.make().eval()
    inputs = [torch.from_numpy(exported.samples()[0][tensor.name]) for tensor in exported.spec.inputs]
    with torch.inference_mode(), HostTraffic() as traffic:
        module(*inputs)
    assert traffic.found == []
    with torch.inference_mode(), HostTraffic() as traffic:
        torch.zeros(3)[[0, 1]] + torch.tensor([1.0, 2.0])
        torch.ones(3)[torch.ones(3) > 0]
    assert {"lift_fresh", "nonzero"} <= set(traffic.found)  # the net has no holes


def test_samples_have_room_and_their_own_size():
    for sample in frame_samples():
        height, width, stride, *_ = sample["layout"]
        assert sample["frame"].nbytes == height * width * stride <= graph.MAX_FRAME_BYTES


def test_the_network_class_keeps_names_and_order(body):
    """What a spec names is what the module returns, in that order."""
    spec = graph.people_spec(body.layer, given_shape=True)
    assert tuple(tensor.name for tensor in spec.outputs) == graph.People._fields
    assert Network(torch.nn.Identity(), spec)._names == list(graph.People._fields)
    assert letterbox((720, 1280)).scale == pytest.approx(0.2)
