"""The exported graph: its tensors, and that another runtime gives torch's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hsr_core.body import load_body
from hsr_core.body.base import EhmParams
from hsr_core.geometry.rotations import rotmat_to_rotvec
from hsr_core.regress.pear.checkpoint import load_network, make_test
from hsr_core.regress.pear.decode import Decoded, decode
from hsr_core.regress.pear.export import PARITY_TOLERANCE, crop_samples, load_for_export
from hsr_core.regress.person_detector import PersonDetector
from hsr_core.runtime.select import open_runtime
from hsr_core.types import Frame, HumanParams


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("pear") / "tiny.pt"
    make_test(path, "tiny", seed=5)
    return path


def random_crops(n: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"pixels": rng.integers(0, 256, (1, 256, 256, 3), np.uint8)} for _ in range(n)]


def test_the_outputs_are_what_is_decoded(tiny):
    exported = load_for_export(tiny)
    module, spec = exported.make(), exported.spec
    (sample,) = random_crops(1)
    out = module(torch.from_numpy(sample["pixels"]))
    assert tuple(tensor.name for tensor in spec.outputs) == Decoded._fields
    assert [tuple(value.shape) for value in out] == [tensor.at(1) for tensor in spec.outputs]
    image = torch.from_numpy(sample["pixels"]).permute(0, 3, 1, 2) / 255
    expected = decode(load_network(tiny)(image))
    for name, a, b in zip(Decoded._fields, out, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, err_msg=name)


def test_other_weights_have_another_hash(tiny, tmp_path):
    make_test(tmp_path / "other.pt", "tiny", seed=6)
    names = [load_for_export(path).hash for path in (tiny, tiny, tmp_path / "other.pt")]
    assert names[0] == names[1] != names[2]
    assert load_for_export(tiny, "people").hash not in names


def test_each_module_has_its_own_weights(tiny):
    exported = load_for_export(tiny)
    first, second = exported.make(), exported.make()
    first.network.half()
    assert {value.dtype for value in second.network.parameters()} == {torch.float32}


def test_samples_are_crops_of_a_person():
    detector, samples = PersonDetector(), crop_samples()
    assert len(samples) == 5
    for sample in samples:
        (person,) = detector.detect(Frame(sample["pixels"][0], 0, "rgb"))
        assert np.hypot(*(np.array(person.roi.center) - 128)) < 30


def vertices_of(out: dict[str, np.ndarray], body) -> np.ndarray:
    rotvecs = rotmat_to_rotvec(out["rotmats"][0].astype(np.float64)).astype(np.float32)
    params = HumanParams(
        global_orient=rotvecs[0], body_pose=rotvecs[1:22], left_hand_pose=rotvecs[22:37],
        right_hand_pose=rotvecs[37:], jaw_pose=out["jaw_pose"][0], eyelids=out["eyelids"][0],
        betas=out["betas"][0, :10], expression=out["expression"][0, :10],
    )  # fmt: skip
    return body(EhmParams.from_human([params])).vertices[0].numpy()


def compare(weights, cache, n_random: int) -> None:
    """Rotations within 1e-4 and vertices within 0.1 mm, on random and on real crops."""
    pytest.importorskip("onnxruntime", reason="pip install 'hsr-core[onnx]'")
    exported, body = load_for_export(weights), load_body("")
    graph = exported.make()
    options = {"network_hash": exported.hash, "engine": "onnxruntime", "device": "cpu", "cache": cache}
    with open_runtime(exported.make, exported.spec, **options) as ort:
        for inputs in [*random_crops(n_random), *crop_samples()]:
            with torch.inference_mode():
                expected = graph(torch.from_numpy(inputs["pixels"]))
            expected = {name: value.numpy() for name, value in expected._asdict().items()}
            out = ort(inputs)
            np.testing.assert_allclose(out["rotmats"], expected["rotmats"], atol=1e-4)
            for name in Decoded._fields:
                np.testing.assert_allclose(out[name], expected[name], atol=PARITY_TOLERANCE["fp32"], err_msg=name)
            error = np.linalg.norm(vertices_of(out, body) - vertices_of(expected, body), axis=1)
            assert error.max() < 1e-4


def test_onnxruntime_gives_torchs_numbers(tiny, tmp_path):
    compare(tiny, tmp_path, n_random=5)


@pytest.mark.slow
def test_onnxruntime_gives_torchs_numbers_for_a_vit_b(tmp_path):
    make_test(tmp_path / "vitb.pt", "vitb")
    compare(tmp_path / "vitb.pt", tmp_path / "cache", n_random=20)
