from __future__ import annotations

import logging

import pytest
import torch
from tiny_network import HASH, SPEC, make_tiny

from hsr_core.errors import ConfigError, DeviceError, MissingPackage
from hsr_core.runtime import open_runtime
from hsr_core.runtime.select import Machine, choose

ALL = {"tensorrt": "10.9", "tensorrt-rtx": "1.7", "onnxruntime": "1.31"}
NONE = dict.fromkeys(ALL, "")
LAPTOP = Machine("", "", "2.13.0+cpu", ALL)
ROBOT = Machine("NVIDIA RTX 4000 Ada", "sm89", "2.13.0+cu130", ALL)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
@pytest.mark.parametrize("engine", ["tensorrt", "tensorrt-rtx"])
def test_tensorrt_without_a_gpu_is_an_error_that_says_what_to_do(tmp_path, engine) -> None:
    with pytest.raises(DeviceError) as error:
        open_runtime(make_tiny, SPEC, network_hash=HASH, engine=engine, cache=tmp_path)
    assert f"engine {engine} needs an NVIDIA GPU" in str(error.value)
    assert "choose engine onnxruntime or torch" in str(error.value)
    assert ("hsr engine build" in str(error.value)) == (engine == "tensorrt-rtx")
    assert not list(tmp_path.iterdir())


def test_auto_on_the_cpu_says_what_it_chose_and_why(tiny_cache, caplog) -> None:
    with (
        caplog.at_level(logging.INFO),
        open_runtime(make_tiny, SPEC, network_hash=HASH, device="cpu", cache=tiny_cache) as runtime,
    ):
        assert runtime.reason.startswith(f"auto: {runtime.name}")
        assert "on the CPU" in runtime.reason
        assert runtime.reason in caplog.text
        assert (runtime.device, runtime.precision) == ("cpu", "fp32")


@pytest.mark.parametrize(
    ("machine", "precision", "engine", "why"),
    [
        (LAPTOP, "fp32", "onnxruntime", "torch 2.13.0+cpu sees no GPU"),
        (LAPTOP, "bf16", "torch", "onnxruntime has no bf16 on the CPU"),
        (Machine("", "", "2.13.0", NONE), "fp32", "torch", "is not installed"),
        (ROBOT, "fp16", "tensorrt-rtx", "installed and knows this GPU"),
        (Machine("Orin", "sm87", "2.13.0", ALL), "fp16", "tensorrt", "tensorrt 10.9"),
        (Machine("Titan RTX", "sm75", "2.13.0", ALL), "fp16", "tensorrt", "tensorrt 10.9"),
        (Machine("H100", "sm90", "2.13.0", NONE), "fp16", "torch", "no TensorRT for it"),
    ],
)
def test_auto_takes_the_quickest_that_is_there(machine, precision, engine, why) -> None:
    choice = choose("auto", "auto", precision, machine)
    assert choice.engine == engine
    assert choice.device == ("cuda" if machine.gpu else "cpu")
    assert why in choice.reason


def test_what_is_asked_for_is_not_replaced() -> None:
    assert choose("torch", "cpu", "fp32", ROBOT).device == "cpu"
    assert choose("onnxruntime", "auto", "fp32", ROBOT).engine == "onnxruntime"
    with pytest.raises(DeviceError, match="device cuda needs an NVIDIA GPU"):
        choose("torch", "cuda", "fp16", LAPTOP)
    with pytest.raises(ConfigError, match="runs on a GPU only"):
        choose("tensorrt", "cpu", "fp16", ROBOT)
    with pytest.raises(ConfigError, match="on the CPU choose fp32"):
        choose("torch", "cpu", "tf32", ROBOT)
    with pytest.raises(ConfigError, match="engine must be one of auto, tensorrt"):
        choose("openvino", "auto", "fp32", ROBOT)
    with pytest.raises(ConfigError, match="precision must be one of fp32"):
        choose("torch", "auto", "int4", ROBOT)


def test_int8_is_for_onnxruntime_on_the_cpu() -> None:
    for machine, device in ((LAPTOP, "auto"), (ROBOT, "cpu")):
        assert choose("auto", device, "int8", machine).engine == "onnxruntime"
    for engine, device in (("torch", "cpu"), ("auto", "cuda"), ("tensorrt", "auto")):
        with pytest.raises(ConfigError, match="int8 is for engine onnxruntime"):
            choose(engine, device, "int8", ROBOT)
    with pytest.raises(MissingPackage, match="int8 needs onnxruntime"):
        choose("auto", "cpu", "int8", Machine("", "", "2.13.0+cpu", NONE))
