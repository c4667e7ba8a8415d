"""SAM 2 through its package, as a streaming session and as ONNX files: stand-ins of the same interfaces."""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from analytic_scenes import ball, camera, view
from onnx import TensorProto, helper, numpy_helper

from hsr_core.body.joints import N_JOINTS, J
from hsr_core.errors import BadFile, MissingPackage
from hsr_core.geometry.regions import iou
from hsr_core.mask import MaskSettings, open_masks
from hsr_core.mask.prompts import prompt_for
from hsr_core.mask.sam2_image import Sam2Image
from hsr_core.mask.sam2_image import create as create_image
from hsr_core.mask.sam2_onnx import DECODER_INPUTS, ENCODER_OUTPUTS, Sam2Onnx, open_networks
from hsr_core.mask.sam2_video import KEPT_FRAMES, Sam2Video
from hsr_core.mask.sam2_video import create as create_video
from hsr_core.model_files import NetworkPlace

CAM = camera()
CPU = NetworkPlace(device="cpu", engine="onnxruntime")


@cache
def someone(center, track_id: int, radius: float = 0.4):
    """A sphere with joints on its vertical axis."""
    joints = np.tile(np.asarray(center, np.float32), (N_JOINTS, 1))
    for name, up in (("head", 0.3), ("spine3", 0.15), ("left_knee", -0.25), ("right_knee", -0.3)):
        joints[J[name], 1] -= up
    return ball(CAM, center, radius, track_id=track_id, joints=joints)


def scene(stamp_ns: int = 0, *, image=None, ids=(1, 2)):
    people = {1: someone((-0.6, 0.0, 2.4), 1), 2: someone((0.6, 0.1, 2.6), 2)}
    return view(CAM, *(people[i] for i in ids), stamp_ns=stamp_ns, image=image)


def in_box(box, hw=CAM.image_hw) -> np.ndarray:
    """Logits of a segmenter that takes the box for the person."""
    y, x = np.mgrid[: hw[0], : hw[1]]
    inside = (x + 0.5 > box[0]) & (x + 0.5 < box[2]) & (y + 0.5 > box[1]) & (y + 0.5 < box[3])
    return np.where(inside, 5.0, -5.0).astype(np.float32)


# --- prompts --------------------------------------------------------------------------------------------------


def test_a_prompt_holds_the_body_its_visible_joints_and_the_others_chests():
    me, other = scene().bodies
    prompt = prompt_for(me, [other])
    x0, y0, x1, y1 = me.box_xyxy
    np.testing.assert_allclose(prompt.box_xyxy, [x0 - 0.05 * (x1 - x0), y0 - 0.05 * (y1 - y0),
                                                 x1 + 0.05 * (x1 - x0), y1 + 0.05 * (y1 - y0)], atol=0.01)  # fmt: skip
    assert prompt.labels.tolist() == [1, 1, 1, 1, 1, 0]
    for point, label in zip(prompt.points, prompt.labels, strict=True):
        owner = me if label else other
        assert owner.mask[round(float(point[1])), round(float(point[0]))]


def test_joints_behind_another_person_and_outside_the_image_are_not_prompted():
    me = someone((0.0, 0.0, 3.0), 1)
    before = someone((0.0, 0.0, 2.0), 2)
    prompt = prompt_for(me, [before])
    assert prompt.labels.tolist() == []  # hidden; and the other's chest lies on this person
    cut = someone((0.0, -0.95, 2.4), 1)
    prompt = prompt_for(cut, [])
    assert 0 < len(prompt.points) < 5
    assert prompt.box_xyxy[1] == 0
    assert prompt_for(someone((5.0, 0, 2), 1), []) is None


# --- the package ----------------------------------------------------------------------------------------------


class Predictor:
    """`SAM2ImagePredictor` as seen from outside."""

    def __init__(self, model=None) -> None:
        self.images, self.calls = [], []

    def set_image(self, image) -> None:
        assert image.dtype == np.uint8
        assert image.shape == (*CAM.image_hw, 3)
        self.images.append(image)

    def predict(self, point_coords, point_labels, box, multimask_output, return_logits):
        self.calls.append((point_coords, point_labels, box))
        assert not multimask_output
        assert return_logits
        return in_box(box)[None], np.array([0.9]), None


def test_an_image_is_encoded_once_for_all_people_and_prompted_for_each():
    predictor, frame = Predictor(), scene()
    provider = Sam2Image(predictor, "cpu")
    masks = [provider.prob_for(frame, body) for body in frame.bodies]
    assert len(predictor.images) == 1
    for body, mask, (points, labels, box) in zip(frame.bodies, masks, predictor.calls, strict=True):
        assert mask.dtype == np.float32
        assert mask[in_box(box) > 0] == pytest.approx(1 / (1 + np.exp(-5)))
        assert (len(points), labels.sum()) == (6, 5)
        assert iou(mask > 0.5, body.mask) > 0.6
    provider.prob_for(scene(1), frame.bodies[0])
    assert len(predictor.images) == 2


def test_the_package_is_loaded_by_the_file_that_is_there(tmp_path, monkeypatch):
    built = []
    modules = {name: ModuleType(name) for name in ("sam2", "sam2.build_sam", "sam2.sam2_image_predictor")}
    modules["sam2.build_sam"].build_sam2 = lambda config, path, device: built.append((config, Path(path).name, device))
    modules["sam2.sam2_image_predictor"].SAM2ImagePredictor = Predictor
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    (tmp_path / "sam2").mkdir()
    (tmp_path / "sam2" / "sam2.1_hiera_small.pt").touch()
    place = replace(CPU, folder=tmp_path)
    assert create_image(MaskSettings(), place=place).prob_for(scene(), scene().bodies[0]) is not None
    assert built == [("configs/sam2.1/sam2.1_hiera_s.yaml", "sam2.1_hiera_small.pt", "cpu")]
    auto = open_masks(MaskSettings(), place=place, topic=False, gpu=True)
    assert auto.name == "sam2_image, landmarks, mesh"
    assert open_masks(MaskSettings(), place=place, topic=False, gpu=False).name == "landmarks, mesh"


def test_a_missing_package_and_a_damaged_checkpoint_are_told(tmp_path, monkeypatch):
    (tmp_path / "sam2").mkdir()
    (tmp_path / "sam2" / "sam2.1_hiera_tiny.pt").write_bytes(b"damaged")
    place = replace(CPU, folder=tmp_path)
    monkeypatch.setitem(sys.modules, "sam2", None)
    with pytest.raises(MissingPackage, match="pip install sam2"):
        create_image(MaskSettings(), place=place)

    def refuse(config, path, device):
        raise EOFError("ran out of input")

    modules = {name: ModuleType(name) for name in ("sam2", "sam2.build_sam", "sam2.sam2_image_predictor")}
    modules["sam2.build_sam"].build_sam2 = refuse
    modules["sam2.sam2_image_predictor"].SAM2ImagePredictor = Predictor
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(BadFile, match="ran out of input"):
        create_image(MaskSettings(), place=place)


# --- streaming sessions ---------------------------------------------------------------------------------------


class Session:
    """`Sam2VideoInferenceSession`: every image and output is kept until somebody deletes it."""

    def __init__(self) -> None:
        self.processed_frames: dict[int, torch.Tensor] = {}
        self.output_dict_per_obj: dict[int, dict] = {}
        self.objects: OrderedDict[int, dict] = OrderedDict()
        self.obj_with_new_inputs: list[int] = []


class Processor:
    """`Sam2VideoProcessor`."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []

    def __call__(self, images, return_tensors):
        return {"pixel_values": torch.zeros(1, 3, 8, 8), "original_sizes": torch.tensor([images.shape[:2]])}

    def init_video_session(self, inference_device):
        self.sessions.append(Session())
        return self.sessions[-1]

    def add_inputs_to_inference_session(self, inference_session, frame_idx, obj_ids, original_size, **prompt):
        assert frame_idx == 0
        assert all(isinstance(side, int) for side in original_size)
        inference_session.objects[obj_ids] = prompt
        inference_session.obj_with_new_inputs = [obj_ids]  # the real one forgets the others too

    def post_process_masks(self, masks, original_sizes, binarize):
        assert not binarize
        return masks


class Model:
    """`Sam2VideoModel`: returns each object's prompt as its mask."""

    def __call__(self, inference_session, frame, frame_idx):
        s = inference_session
        s.processed_frames[frame_idx] = frame
        if frame_idx == 0 and s.obj_with_new_inputs != list(s.objects):
            raise ValueError("maskmem_features in conditioning outputs cannot be empty")
        for i in range(len(s.objects)):
            outputs = s.output_dict_per_obj.setdefault(i, {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}})
            outputs["non_cond_frame_outputs" if frame_idx else "cond_frame_outputs"][frame_idx] = torch.zeros(1)
        logits = [
            in_box(p["input_boxes"][0][0]) if "input_boxes" in p else np.where(p["input_masks"][0], 5.0, -5.0)
            for p in s.objects.values()
        ]
        return SimpleNamespace(
            object_ids=list(s.objects), pred_masks=torch.from_numpy(np.stack(logits)[:, None]).float()
        )


@pytest.fixture
def video():
    return Sam2Video(Model(), Processor(), "cpu", session_frames=30)


def test_each_person_gets_their_own_mask_and_the_model_runs_once_an_image(video):
    for i in range(3):
        frame = scene(i)
        for body in frame.bodies:
            assert iou(video.prob_for(frame, body) > 0.5, body.mask) > 0.6
    assert video.sessions == 1
    assert list(video._session.objects) == [1, 2]


def test_memory_does_not_grow_and_sessions_are_taken_up_from_the_last_mask(video):
    pictures, outputs = [], []
    for i in range(300):
        frame = scene(i)
        video.prob_for(frame, frame.bodies[0])
        session = video._session
        pictures.append(len(session.processed_frames))
        outputs.append(max(len(o["non_cond_frame_outputs"]) for o in session.output_dict_per_obj.values()))
    assert max(pictures) == 0
    assert max(outputs) <= KEPT_FRAMES
    assert video.sessions == 10
    assert "input_masks" in video._session.objects[1]


def test_a_lost_person_is_prompted_by_their_body_and_the_others_by_their_masks(video):
    for i in range(2):
        frame = scene(i)
        video.prob_for(frame, frame.bodies[0])
    video.lost(2)
    frame = scene(2)
    video.prob_for(frame, frame.bodies[0])
    assert video.sessions == 2
    assert "input_masks" in video._session.objects[1]
    assert "input_boxes" in video._session.objects[2]


def test_people_who_come_and_go_begin_a_new_session(video):
    for i, ids in enumerate([(1,), (1, 2), (2,)]):
        frame = scene(i, ids=ids)
        assert video.prob_for(frame, frame.bodies[0]) is not None
        assert tuple(video._session.objects) == ids
    assert video.sessions == 3
    empty = view(CAM, stamp_ns=3)
    assert video.prob_for(empty, frame.bodies[0]) is None
    video.reset()
    assert video._session is None


def test_a_folder_without_transformers_or_with_other_files_is_told(tmp_path, monkeypatch):
    (tmp_path / "sam2_hf").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "sam2_hf" / name).touch()
    place = replace(CPU, folder=tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackage, match="pip install"):
        create_video(MaskSettings(), place=place)

    class Loader:
        @staticmethod
        def from_pretrained(folder, local_files_only):
            assert local_files_only
            raise OSError("config.json is not valid JSON")

    module = ModuleType("transformers")
    module.Sam2VideoModel = module.Sam2VideoProcessor = Loader
    monkeypatch.setitem(sys.modules, "transformers", module)
    with pytest.raises(BadFile, match="not valid JSON"):
        create_video(MaskSettings(), place=place)


# --- ONNX -----------------------------------------------------------------------------------------------------


def write_encoder(path: Path, *, outputs=ENCODER_OUTPUTS) -> Path:
    """Brightness of the red channel, averaged to each output's resolution and repeated over its channels."""
    nodes, weights = [], [numpy_helper.from_array(np.array(v, np.int64), f"i{v[0]}") for v in ([0], [1])]
    for name, (_, channels, side, _) in outputs.items():
        factor = 1024 // side
        weights.append(numpy_helper.from_array(np.array([1, channels, 1, 1], np.int64), f"{name}_tile"))
        nodes += [
            helper.make_node(
                "AveragePool", ["image"], [f"{name}_all"], kernel_shape=[factor] * 2, strides=[factor] * 2
            ),
            helper.make_node("Slice", [f"{name}_all", "i0", "i1", "i1"], [f"{name}_red"]),
            helper.make_node("Tile", [f"{name}_red", f"{name}_tile"], [name]),
        ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "encoder", [value("image", TensorProto.FLOAT, [1, 3, 1024, 1024])],
        [value(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()], weights,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def write_decoder(path: Path, *, inputs=DECODER_INPUTS, masks="masks") -> Path:
    """The person is what is bright inside the box; the first of two masks is the opposite, with a lower score."""
    at = (np.arange(256) * 4 + 2).astype(np.float32)
    const = lambda name, values: numpy_helper.from_array(np.asarray(values), name)  # noqa: E731
    weights = [
        const("x", at.reshape(1, 1, 1, 256)), const("y", at.reshape(1, 1, 256, 1)),
        const("iou", np.float32([[0.1, 0.9]])), const("hundred", np.float32(100)),
        const("shape", np.array([1, 1, 1, 1], np.int64)),
        *(const(f"n{i}", np.array([i], np.int64)) for i in range(3)),
    ]  # fmt: skip
    node = helper.make_node
    nodes = []
    for corner in (0, 1):
        for axis, letter in enumerate("xy"):
            nodes += [
                node("Slice", ["point_coords", f"n{corner}", f"n{corner + 1}", "n1"], [f"p{corner}{letter}"]),
                node("Slice", [f"p{corner}{letter}", f"n{axis}", f"n{axis + 1}", "n2"], [f"s{corner}{letter}"]),
                node("Reshape", [f"s{corner}{letter}", "shape"], [f"{letter}{corner}"]),
            ]
    nodes += [
        node("Sub", ["x", "x0"], ["left"]), node("Sub", ["x1", "x"], ["right"]),
        node("Sub", ["y", "y0"], ["top"]), node("Sub", ["y1", "y"], ["bottom"]),
        node("Slice", ["high_res_feats_0", "n0", "n1", "n1"], ["red"]), node("Mul", ["red", "hundred"], ["bright"]),
        node("Min", ["left", "right", "top", "bottom", "bright"], ["mask"]), node("Neg", ["mask"], ["not_mask"]),
        node("Concat", ["not_mask", "mask"], [masks], axis=1), node("Identity", ["iou"], ["iou_predictions"]),
    ]  # fmt: skip
    value = helper.make_tensor_value_info
    open_ = {"point_coords": ["labels", "points", 2], "point_labels": ["labels", "points"]}
    graph = helper.make_graph(
        nodes, "decoder",
        [value(name, TensorProto.FLOAT, open_.get(name, shape)) for name, shape in inputs.items()],
        [value(masks, TensorProto.FLOAT, list("bnhw")), value("iou_predictions", TensorProto.FLOAT, [1, 2])],
        weights,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_onnx_files_give_the_bright_person_within_the_box(tmp_path):
    networks = open_networks(write_encoder(tmp_path / "encoder.onnx"), write_decoder(tmp_path / "decoder.onnx"), CPU)
    provider = Sam2Onnx(*networks)
    bodies = scene().bodies
    image = np.full((*CAM.image_hw, 3), 40, np.uint8)
    for body in bodies:
        image[body.mask] = 220
    frame = scene(image=image)
    for body in frame.bodies:
        mask = provider.prob_for(frame, body)
        assert mask.shape == CAM.image_hw
        assert iou(mask > 0.5, body.mask) > 0.97
    provider.close()


def test_other_onnx_networks_are_refused(tmp_path):
    good = write_encoder(tmp_path / "encoder.onnx"), write_decoder(tmp_path / "decoder.onnx")
    small = {**ENCODER_OUTPUTS, "image_embed": (1, 128, 64, 64)}
    with pytest.raises(BadFile, match=r"image_embed \[1, 128, 64, 64\].*expected"):
        open_networks(write_encoder(tmp_path / "small.onnx", outputs=small), good[1], CPU)
    with pytest.raises(BadFile, match="expected masks and iou_predictions"):
        open_networks(good[0], write_decoder(tmp_path / "odd.onnx", masks="logits"), CPU)
    fewer = {name: shape for name, shape in DECODER_INPUTS.items() if name != "has_mask_input"}
    with pytest.raises(BadFile, match="has_mask_input"):
        open_networks(good[0], write_decoder(tmp_path / "few.onnx", inputs=fewer), CPU)
