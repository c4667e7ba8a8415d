from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_network import SPEC, TinyNetwork, make_tiny

from hsr_core.errors import BadFile
from hsr_core.runtime import Batch, TensorSpec
from hsr_core.runtime.module import build_network
from hsr_core.runtime.onnx_export import OPSET, export_onnx
from hsr_core.runtime.ort import OrtRuntime
from hsr_core.runtime.pytorch import TorchRuntime

onnx = pytest.importorskip("onnx", reason='pip install "hsr-core[onnx]"')
pytest.importorskip("onnxscript", reason='pip install "hsr-core[onnx]"')


def test_the_graph_has_the_documented_opset_and_names(tiny_onnx) -> None:
    model = onnx.load(str(tiny_onnx))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "image": ["batch", 32, 32, 3], "offset": ["batch", 2], "pose": ["batch", 6], "tokens": ["batch", 4, 16],
    }  # fmt: skip


def test_the_file_names_no_folder_of_this_machine(tiny_onnx) -> None:
    assert str(Path(__file__).parents[3]).encode() not in tiny_onnx.read_bytes()


def test_large_weights_go_into_one_file_beside_the_graph(tmp_path, inputs) -> None:
    spec = replace(SPEC, batch=Batch(2, 2, 2))
    files = export_onnx(build_network(make_tiny, spec, "fp32"), spec, tmp_path / "net.onnx", inline_bytes=0)
    assert sorted(path.name for path in files) == ["net.onnx", "net.onnx.data"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]  # nothing else is left
    given = inputs(2)
    with (
        OrtRuntime(tmp_path / "net.onnx", spec, device="cpu", precision="fp32") as found,
        TorchRuntime(make_tiny, spec, device="cpu", precision="fp32") as expected,
    ):
        np.testing.assert_allclose(found(given)["pose"], expected(given)["pose"], atol=1e-5)


def test_a_spec_whose_output_shapes_are_wrong_is_an_error(tmp_path) -> None:
    spec = replace(SPEC, outputs=(TensorSpec("pose", (None, 7)), SPEC.outputs[1]))
    with pytest.raises(BadFile, match=r"output pose has shape \(None, 6\)"):
        export_onnx(build_network(TinyNetwork, spec, "fp32"), spec, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
