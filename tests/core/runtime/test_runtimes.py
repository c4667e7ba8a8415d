"""PyTorch and ONNX Runtime behind the same call."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tiny_network import HASH, SPEC, make_tiny

from hsr_core.errors import BadFile, ConfigError, DeviceError, ShapeError
from hsr_core.runtime import Batch, NetworkSpec, Runtime, TensorSpec, open_runtime
from hsr_core.runtime.buffers import Buffers, device_errors
from hsr_core.runtime.module import build_network
from hsr_core.runtime.ort import OrtRuntime
from hsr_core.runtime.pytorch import TorchRuntime


@pytest.fixture(params=["torch", "onnxruntime"])
def runtime(request, tiny_cache) -> Iterator[Runtime]:
    if request.param == "onnxruntime":
        pytest.importorskip("onnxruntime", reason='pip install "hsr-core[onnx]"')
        request.getfixturevalue("tiny_onnx")
    with open_runtime(
        make_tiny, SPEC, network_hash=HASH, engine=request.param, device="cpu", cache=tiny_cache
    ) as opened:
        yield opened


def reference(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        outputs = make_tiny().eval()(*(torch.tensor(inputs[tensor.name]) for tensor in SPEC.inputs))
    return {name: value.numpy() for name, value in outputs.items()}


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_outputs_are_the_modules_for_every_batch_size(runtime, inputs, batch) -> None:
    given = inputs(batch, seed=batch)
    expected = reference(given)
    found = runtime(given)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], array, atol=1e-5)  # a block in float32, sums of 16 terms


def test_batch_sizes_may_alternate(runtime, inputs) -> None:
    for batch in (4, 1, 3, 1, 4):
        given = inputs(batch, seed=batch)
        np.testing.assert_allclose(runtime(given)["pose"], reference(given)["pose"], atol=1e-5)


def test_dropout_is_off_although_the_module_came_in_training_mode(runtime, inputs) -> None:
    first = runtime(inputs(2))["tokens"].copy()
    assert (runtime(inputs(2))["tokens"] == first).all()


def test_inputs_need_not_be_contiguous(runtime, inputs) -> None:
    given = inputs(2)
    flipped = {**given, "image": given["image"][:, ::-1]}
    expected = reference({**given, "image": flipped["image"].copy()})
    np.testing.assert_allclose(runtime(flipped)["pose"], expected["pose"], atol=1e-5)


def test_wrong_inputs_are_refused_before_the_network_sees_them(runtime) -> None:
    with pytest.raises(ShapeError):
        runtime({"image": np.zeros((1, 32, 32, 3), np.uint8)})


def test_a_steady_state_is_reached_in_which_calls_keep_no_memory(runtime, inputs) -> None:
    """What tracemalloc counts: Python's objects and numpy's arrays, not torch's tensors.

    The libraries fill pools of some kilobytes first. A leak of one object a call, 16 bytes or more, would never pass.
    """
    given = inputs(2)
    held = []
    tracemalloc.start()
    try:
        while len(held) < 20 and (len(held) < 2 or held[-1] > held[-2] + 99):
            for _ in range(100):
                runtime(given)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[-1] <= held[-2] + 99, held  # less than a byte a call
    assert max(held) < 100_000


def test_onnxruntime_writes_each_result_into_the_same_memory(tiny_onnx, inputs) -> None:
    with OrtRuntime(tiny_onnx, SPEC, device="cpu", precision="fp32") as runtime:
        addresses = {runtime(inputs(2, seed))["tokens"].ctypes.data for seed in range(5)}
    assert len(addresses) == 1


def test_a_closed_runtime_says_so(runtime, inputs) -> None:
    runtime.warm_up()
    runtime.close()
    runtime.close()
    with pytest.raises(RuntimeError, match="closed"):
        runtime(inputs(1))


@pytest.mark.parametrize(("precision", "bits"), [("fp16", 11), ("bf16", 8)])
def test_half_precision_touches_only_the_named_modules(inputs, precision, bits) -> None:
    network = build_network(make_tiny, SPEC, precision)
    assert network.module.head.weight.dtype == torch.float32
    assert network.module.backbone.qkv.weight.dtype in (torch.float16, torch.bfloat16)
    given = inputs(2)
    with TorchRuntime(make_tiny, SPEC, device="cpu", precision=precision) as runtime:
        found = runtime(given)["pose"]
    difference = np.abs(found - reference(given)["pose"]).max()
    assert 0 < difference < 10 * 2.0**-bits  # values of order one, a dozen roundings


def test_half_precision_of_a_module_that_is_not_there_is_an_error() -> None:
    spec = NetworkSpec(SPEC.inputs, SPEC.outputs, SPEC.batch, half_modules=("trunk",))
    with pytest.raises(ConfigError, match="'trunk'"):
        build_network(make_tiny, spec, "fp16")


def test_onnxruntime_runs_half_precision_and_refuses_what_it_has_no_kernels_for(tiny_cache, inputs) -> None:
    pytest.importorskip("onnxscript", reason='pip install "hsr-core[onnx]"')
    options = {"network_hash": HASH, "engine": "onnxruntime", "device": "cpu", "cache": tiny_cache}
    with open_runtime(make_tiny, SPEC, precision="fp16", **options) as runtime:
        given = inputs(3)
        found = runtime(given)
    np.testing.assert_allclose(found["pose"], reference(given)["pose"], atol=5e-3)
    with pytest.raises(ConfigError, match="engine torch does"):
        open_runtime(make_tiny, SPEC, precision="bf16", **options)


def test_int8_touches_only_the_named_modules(tiny_cache, inputs) -> None:
    onnx = pytest.importorskip("onnx", reason='pip install "hsr-core[onnx]"')
    options = {"network_hash": HASH, "engine": "onnxruntime", "device": "cpu", "cache": tiny_cache}
    with open_runtime(make_tiny, SPEC, precision="int8", **options) as runtime:
        given = inputs(3)
        difference = np.abs(runtime(given)["pose"] - reference(given)["pose"]).max()
    assert 0 < difference < 10 * 2.0**-7
    (path,) = tiny_cache.glob("*-int8-*.onnx")
    weights = {tensor.name: tensor.data_type for tensor in onnx.load(str(path)).graph.initializer}
    quantized = [name for name, kind in weights.items() if kind == onnx.TensorProto.INT8 and "zero_point" not in name]
    assert len(quantized) == 4  # qkv, out and two of the mlp; the head stays as it is


def test_a_shorter_input_leaves_no_trace_of_a_longer_one() -> None:
    """A prefix's end is old, not wrong: what the module is told not to read does not reach the result."""
    data, count = TensorSpec("data", (6,), prefix=True), TensorSpec("count", (1,), "int64")
    buffers = Buffers(NetworkSpec((data, count), (TensorSpec("y", (1,)),)), "cpu")
    for values in ([1, 2, 3, 4, 5, 6], [7, 8], [9, 9, 9]):
        buffers.upload({"data": np.array(values, np.float32), "count": np.array([len(values)])})
        n = int(buffers.device_view(count, 1)[0])
        assert buffers.device_view(data, 1)[:n].tolist() == values


def test_a_file_that_is_no_network_is_refused(tmp_path) -> None:
    pytest.importorskip("onnxruntime", reason='pip install "hsr-core[onnx]"')
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a graph")
    with pytest.raises(BadFile, match="cannot run"):
        OrtRuntime(bad, SPEC, device="cpu", precision="fp32")


def test_device_buffers_carry_inputs_and_outputs() -> None:
    """The GPU runtimes' buffers, with both sides in host memory."""
    x, scale, y = TensorSpec("x", (None, 2)), TensorSpec("scale", ()), TensorSpec("y", (None, 2))
    buffers = Buffers(NetworkSpec((x, scale), (y,), Batch(1, 1, 3)), "cpu")
    for batch in (3, 1, 2):
        values = np.arange(batch * 2, dtype=np.float32).reshape(batch, 2) + batch
        buffers.upload({"x": values, "scale": np.float32(2.0).reshape(())})
        result = buffers.device_view(x, batch) * buffers.device_view(scale, batch)
        buffers.device_view(y, batch).copy_(result)
        buffers.download(batch)
        assert (buffers.results(batch)["y"] == 2 * values).all()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "use a smaller batch"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "configure again"),
    ],
)
def test_a_full_or_lost_gpu_is_a_device_error(error, message) -> None:
    with pytest.raises(DeviceError, match=message), device_errors():
        raise error


def test_other_errors_are_not_blamed_on_the_gpu() -> None:
    with pytest.raises(RuntimeError, match="shapes"), device_errors():
        raise RuntimeError("shapes cannot be multiplied")
