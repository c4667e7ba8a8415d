"""TensorRT 10 and 11, and TensorRT for RTX: one set of classes under two package names.

Both read the ONNX file with strong typing: a layer runs in the type the graph gives it, so half precision is exported,
not asked for by a flag. TF32 is a flag in both. TensorRT for RTX builds without a GPU for a named architecture and
compiles the kernels on the robot when they first run; TensorRT builds on, and for, the GPU it finds.

Source:
    NVIDIA TensorRT 10 and TensorRT for RTX 1.x, Python API reference: IBuilderConfig, IProgressMonitor, IRuntimeConfig.
"""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import BadFile, ConfigError, DeviceError, MissingPackage
from ..progress import report
from .base import NetworkSpec

log = logging.getLogger(__name__)

PACKAGES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
INSTALL = {
    "tensorrt": "pip install tensorrt (on a Jetson it is part of JetPack)",
    "tensorrt-rtx": 'pip install "hsr-core[rtx]"',
}
RTX_ARCHITECTURES = ("sm75", "sm80", "sm86", "sm89", "sm120")
TURING = " (on Turing it multiplies matrices in fp16 only: precision fp16 and turing_half_modules, or engine tensorrt)"
PHASE = "building the engine"
STEPS = 1000
"""A build's progress is reported in thousandths."""


def load_api(engine: str) -> ModuleType:
    """Import the package behind an engine's name.

    Raises:
        MissingPackage: It is not installed, or its libraries do not load; the message names the command.
    """
    try:
        return import_module(PACKAGES[engine])
    except (ImportError, OSError) as error:
        raise MissingPackage(f"{engine} cannot be imported ({error}): {INSTALL[engine]}") from error


def installed_version(name: str) -> str:
    """Return the version of an engine's or other package without importing it; "" when it is not installed."""
    try:
        return version(PACKAGES.get(name, name))
    except PackageNotFoundError:
        return ""


def build_engine(onnx: Path, spec: NetworkSpec, path: Path, *, engine: str, architecture: str, precision: str) -> None:
    """Build the ONNX file into an engine and write it to `path`; the progress is reported (see `hsr_core.progress`).

    Args:
        architecture: One of `RTX_ARCHITECTURES` for tensorrt-rtx. TensorRT builds for the GPU it runs on.

    Raises:
        BadFile: The parser refuses the graph, or the builder fails; the message has the library's own.
        KeyboardInterrupt: And whatever else a listener to the progress raises; it stops the build.
        ConfigError: The architecture is not one the package knows.
    """
    api = load_api(engine)
    logger = make_logger(api)
    builder = api.Builder(logger)
    if builder is None:
        raise DeviceError(f"{engine} cannot make a builder: {logger.errors()}")
    network = builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = api.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BadFile(f"{engine} cannot read {onnx.name}: {reasons}")
    config = builder.create_builder_config()
    monitor = _make_monitor(api)
    config.progress_monitor = monitor
    (config.set_flag if precision == "tf32" else config.clear_flag)(api.BuilderFlag.TF32)
    if engine == "tensorrt-rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(_capability(api, architecture), 0)
    if spec.batch.dynamic:
        config.add_optimization_profile(_profile(builder, spec))
    plan = builder.build_serialized_network(network, config)
    if monitor.stopped_by is not None:
        raise monitor.stopped_by
    if plan is None:
        hint = TURING if architecture == "sm75" and engine == "tensorrt-rtx" else ""
        raise BadFile(
            f"{engine} {api.__version__} cannot build {onnx.name} for {architecture}{hint}: {logger.errors()}"
        )
    with open(path, "wb") as file:
        file.write(plan)


def _capability(api: ModuleType, architecture: str) -> Any:
    known = [name for name in RTX_ARCHITECTURES if hasattr(api.ComputeCapability, name.upper())]
    if architecture not in known:
        raise ConfigError(f"tensorrt-rtx builds for {', '.join(known)}, not {architecture}")
    return getattr(api.ComputeCapability, architecture.upper())


def _profile(builder: Any, spec: NetworkSpec) -> Any:
    profile = builder.create_optimization_profile()
    for tensor in spec.inputs:
        if tensor.batched:
            profile.set_shape(tensor.name, *(tensor.at(n) for n in (spec.batch.min, spec.batch.opt, spec.batch.max)))
    return profile


def make_logger(api: ModuleType) -> Any:
    """Return a logger of the package that passes messages on to `logging` and keeps the errors' texts."""

    class Log(api.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= api.ILogger.Severity.ERROR:
                self._errors = [*self._errors[-4:], message]
                log.debug("%s", message)  # the exception has it too
            elif severity == api.ILogger.Severity.WARNING:
                log.debug("%s", message)

        def errors(self) -> str:
            return "; ".join(self._errors) or "no reason given"

    return Log()


def _make_monitor(api: ModuleType) -> Any:
    class Monitor(api.IProgressMonitor):
        """An exception must not cross the library: it stops the build and is kept.

        Phases nest: what is done of an inner one is a part of a step of the outer one.
        """

        def __init__(self) -> None:
            super().__init__()
            self.stopped_by: BaseException | None = None
            self._open: list[list[Any]] = []  # [name, steps done, steps] of the phases within each other
            self._told = 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            while self._open and self._open[-1][0] != parent_phase:
                self._open.pop()
            self._open.append([phase_name, 0, max(num_steps, 1)])
            self._tell()

        def step_complete(self, phase_name: str, step: int) -> bool:
            for phase in self._open:
                if phase[0] == phase_name:
                    phase[1] = step + 1
            self._tell()
            return self.stopped_by is None

        def phase_finish(self, phase_name: str) -> None:
            while any(phase[0] == phase_name for phase in self._open):
                self._open.pop()
            if not self._open:
                self._told = STEPS
            self._tell()

        def _tell(self) -> None:
            fraction = 0.0
            for _, done, steps in reversed(self._open):
                fraction = min((done + fraction) / steps, 1.0)
            self._told = max(self._told, int(STEPS * fraction))
            try:
                report(PHASE, self._told, STEPS)
            except BaseException as error:
                self.stopped_by = error

    return Monitor()
