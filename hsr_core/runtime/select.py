"""Choose a runtime and open it. What was asked for is opened or refused, never replaced by another."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DeviceError, MissingPackage
from .base import ENGINES, PRECISIONS, NetworkSpec, Runtime
from .engine_cache import EngineCache
from .ort import INSTALL
from .trt import PACKAGES, RTX_ARCHITECTURES, installed_version

if TYPE_CHECKING:
    from .module import ModuleFactory
    from .parity import ParityCheck

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Choice:
    """An engine and a device, with the reason."""

    engine: str
    device: str
    reason: str


@dataclass(frozen=True)
class Machine:
    """What the choice depends on.

    Attributes:
        gpu: Name of the GPU torch sees; "" = none.
        architecture: Of that GPU, "sm89".
        torch: Version, with its build label.
        packages: Versions by engine name; "" = not installed.
    """

    gpu: str
    architecture: str
    torch: str
    packages: dict[str, str]


def this_machine() -> Machine:
    """Ask torch for the GPU and the installed packages for their versions."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    architecture = "sm{}{}".format(*torch.cuda.get_device_capability()) if gpu else ""
    packages = {name: installed_version(name) for name in PACKAGES}
    onnx = [installed_version(name) for name in ("onnx", "onnxscript")]
    runtime = installed_version("onnxruntime") or installed_version("onnxruntime-gpu")
    packages["onnxruntime"] = runtime if all(onnx) else ""
    return Machine(gpu, architecture, torch.__version__, packages)


def choose(engine: str, device: str, precision: str, machine: Machine) -> Choice:
    """Return what to open.

    Raises:
        ConfigError: A name is unknown, or the combination cannot exist.
        DeviceError: A GPU is needed and there is none; the message says what to do.
    """
    for value, allowed, what in (
        (engine, ("auto", *ENGINES), "engine"),
        (device, DEVICES, "device"),
        (precision, PRECISIONS, "precision"),
    ):
        if value not in allowed:
            raise ConfigError(f"{what} must be one of {', '.join(allowed)}, not {value!r}")
    needs_gpu = engine in PACKAGES
    if device == "cpu" and needs_gpu:
        raise ConfigError(f"engine {engine} runs on a GPU only; choose device auto or cuda, or engine onnxruntime")
    if (device == "cuda" or needs_gpu) and not machine.gpu:
        raise DeviceError(_no_gpu(engine, machine))
    device = device if device != "auto" else ("cuda" if machine.gpu else "cpu")
    if device == "cpu" and precision == "tf32":
        raise ConfigError("tf32 is a mode of the GPU's matrix units; on the CPU choose fp32")
    if precision == "int8" and (device == "cuda" or engine == "torch"):
        raise ConfigError("int8 is for engine onnxruntime on the CPU; on a GPU choose fp16")
    if engine != "auto":
        return Choice(engine, device, f"{engine} in {precision} on {machine.gpu or 'the CPU'}, as asked for")
    return _choose_on_gpu(precision, machine) if device == "cuda" else _choose_on_cpu(precision, machine)


def _choose_on_gpu(precision: str, machine: Machine) -> Choice:
    where = f"{precision} on {machine.gpu} ({machine.architecture})"
    rtx = machine.packages["tensorrt-rtx"]
    # Not on Turing: a network with one float32 matrix product cannot be built for it.
    if rtx and machine.architecture in RTX_ARCHITECTURES and machine.architecture != "sm75":
        return Choice("tensorrt-rtx", "cuda", f"auto: tensorrt-rtx {rtx} in {where}: installed and knows this GPU")
    if found := machine.packages["tensorrt"]:
        return Choice("tensorrt", "cuda", f"auto: tensorrt {found} in {where}: installed")
    return Choice("torch", "cuda", f"auto: torch with CUDA graphs in {where}: no TensorRT for it is installed")


def _choose_on_cpu(precision: str, machine: Machine) -> Choice:
    no_gpu = f"torch {machine.torch} sees no GPU" if not machine.gpu else "the CPU was asked for"
    found = machine.packages["onnxruntime"]
    if found and precision in ("fp32", "int8"):
        return Choice("onnxruntime", "cpu", f"auto: onnxruntime {found} in {precision} on the CPU: {no_gpu}")
    if precision == "int8":
        raise MissingPackage(f"int8 needs onnxruntime: {INSTALL}")
    why = f"onnxruntime has no {precision} on the CPU" if found else "onnxruntime, onnx or onnxscript is not installed"
    return Choice("torch", "cpu", f"auto: torch in {precision} on the CPU: {no_gpu}, and {why}")


def _no_gpu(engine: str, machine: Machine) -> str:
    what = f"engine {engine}" if engine in PACKAGES else "device cuda"
    message = (
        f"{what} needs an NVIDIA GPU, and torch {machine.torch} sees none: check nvidia-smi, install the driver and "
        "torch's CUDA build, or choose engine onnxruntime or torch with device cpu"
    )
    if engine == "tensorrt-rtx":
        message += "; to build an engine here for another machine: hsr engine build --runtime tensorrt-rtx --arch sm89"
    return message


def open_runtime(
    module_factory: ModuleFactory,
    spec: NetworkSpec,
    *,
    network_hash: str,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    cache: Path | None = None,
    parity: ParityCheck | None = None,
    log: logging.Logger | None = None,
) -> Runtime:
    """Build or load what is needed and return a runtime; call `warm_up` before the first real input.

    Args:
        module_factory: Returns a new module, with its weights; called only when nothing in the cache will do.
        network_hash: Hexadecimal; must change whenever the weights or the module's arithmetic do.
        cache: Folder of the engines; None = `engines` in the user's cache folder.
        parity: Compare with torch fp32 first; a result within tolerance is remembered beside the engine.
        log: Gets the reason of the choice, and one line when something slow starts.

    Raises:
        ConfigError, DeviceError, MissingPackage: It cannot run here; the message says what would.
        BadFile: The cache folder cannot be written, or a library refuses the network.
        ParityError: The outputs differ from torch fp32 by more than the tolerance.
    """
    from .parity import gate

    machine = this_machine()
    choice = choose(engine, device, precision, machine)
    (log or logging.getLogger(__name__)).info("network: %s", choice.reason)
    store = EngineCache(cache)
    runtime, path = _open(module_factory, spec, choice, precision, network_hash, store, machine)
    if parity is not None and (choice.engine, precision) != ("torch", "fp32"):
        try:
            gate(runtime, module_factory, choice.device, parity, store if path else None, path)
        except BaseException:
            runtime.close()
            raise
    return runtime


def _open(
    module_factory: ModuleFactory,
    spec: NetworkSpec,
    choice: Choice,
    precision: str,
    network_hash: str,
    store: EngineCache,
    machine: Machine,
) -> tuple[Runtime, Path | None]:
    facts = {"precision": precision, "reason": choice.reason}
    if choice.engine == "torch":
        from .pytorch import TorchRuntime

        return TorchRuntime(module_factory, spec, device=choice.device, **facts), None
    from .build import engine_file, onnx_file

    if choice.engine == "onnxruntime":
        from .ort import OrtRuntime, check_precision

        check_precision(choice.device, precision)
        path = onnx_file(module_factory, spec, precision, network_hash, store)
        return OrtRuntime(path, spec, device=choice.device, **facts), path
    from .trt_run import TrtRuntime

    path = engine_file(
        module_factory,
        spec,
        engine=choice.engine,
        architecture=machine.architecture,
        precision=precision,
        network_hash=network_hash,
        cache=store,
    )
    return TrtRuntime(path, spec, engine=choice.engine, **facts), path
