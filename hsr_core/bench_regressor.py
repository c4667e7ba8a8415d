"""`hsr bench regressor`: PEAR on every runtime of this machine, on real frames, and the stages around it."""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from .body import load_body
from .config import GRAPHS, Settings
from .errors import HsrError
from .regress.pear.checkpoint import make_test
from .regress.pear.export import load_for_export
from .regress.pear.network import SIZES
from .run import Timing
from .runtime.base import Runtime, Tensors
from .runtime.exported import Exported
from .runtime.module import build_network
from .runtime.parity import measure_parity
from .runtime.pytorch import TorchRuntime
from .runtime.select import open_runtime, this_machine
from .sources import clip_camera, open_source
from .stream import HumanStream

EAGER = "torch eager"
"""Not an engine: the module called as one writes it, inputs copied to the device and outputs back in each call."""
CASES = {
    "cpu": (("torch", "fp32"), ("torch", "bf16"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")),
    "cuda": (
        (EAGER, "fp32"),
        ("torch", "fp32"),
        ("torch", "tf32"),
        ("torch", "fp16"),
        ("onnxruntime", "fp32"),
        ("tensorrt", "fp16"),
        ("tensorrt-rtx", "fp16"),
    ),
}
"""Engines and precisions by device."""
WARM_UP_CALLS = 5
STEADY_CALLS = 50
_WIDTH = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("regressor", help="PEAR's network on every runtime of this machine")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a checkpoint; default: random weights of --size")
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny", help="of random weights (default tiny)")
    parser.add_argument("--body-models", default="", metavar="DIR", help="SMPL-X and FLAME files; default: open body")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--frames", type=int, default=50, metavar="N", help="timed calls (default 50)")
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and return what there is to show."""
    machine = this_machine()
    device = ("cuda" if machine.gpu else "cpu") if args.device == "auto" else args.device
    with tempfile.TemporaryDirectory() as folder:
        weights = args.weights
        if weights is None:
            weights = Path(folder) / f"{args.size}.pt"
            make_test(weights, args.size)
        graphs = {
            name: measure(
                load_for_export(weights, name, body_models=args.body_models),
                device=device, frames=args.frames, cache=Path(folder) / "engines",
            )
            for name in GRAPHS
        }  # fmt: skip
        facts: dict[str, Any] = {"device": machine.gpu if device == "cuda" else "cpu"}
        facts |= {"threads": torch.get_num_threads(), "parameters": graphs["parameters"].pop("parameters")}
        facts |= {"weight_bytes": 4 * facts["parameters"], "graphs": graphs}
        facts["stages"] = measure_stages(weights, args.body_models, device=device, frames=args.frames)
    return facts


def measure(network: Exported, *, device: str, frames: int, cache: Path) -> dict[str, Any]:
    """Time one graph in each runtime that this machine has: inputs on the host -> outputs on the host.

    Args:
        network: The graph.
        device: cpu or cuda.
        frames: Timed calls, after a warm-up.
        cache: Folder for the engines.

    Returns:
        `parameters`; `cases`: by "engine precision" `ms` {p50, p99, max}, `open_s`, the largest `difference` from torch
        fp32 by output; after a warm-up, in each call: `held_bytes` that Python holds more, `peak_bytes` that it takes
        in between, `device_bytes` that torch allocates on the GPU; `gb_per_s` (weights read per second at p50, to
        compare with the memory's bandwidth); or `error`: why it does not run here.
    """
    samples = network.samples()
    module = network.make()
    values = sum(value.numel() for value in module.parameters())
    reference = TorchRuntime(lambda: module, network.spec, device=device, precision="fp32")
    cases: dict[str, Any] = {}
    for engine, precision in CASES[device]:
        start = time.perf_counter()
        try:
            runtime = _open(network, engine, precision, device, cache)
            runtime.warm_up()
        except HsrError as error:
            cases[f"{engine} {precision}"] = {"error": str(error)}
            continue
        with runtime:
            opened = round(time.perf_counter() - start, 2)
            parity = measure_parity(runtime, reference, network.parity(precision)).largest
            case = {"open_s": opened, **_time(runtime, samples, frames)}
        case["difference"] = {name: float(f"{value:.2g}") for name, value in parity.items()}
        case["gb_per_s"] = round(_WIDTH[precision] * values / case["ms"]["p50"] / 1e6, 1)
        cases[f"{engine} {precision}"] = case
    return {"parameters": values, "cases": cases}


def _open(network: Exported, engine: str, precision: str, device: str, cache: Path) -> Runtime:
    if engine == EAGER:
        return _Eager(network, device)
    return open_runtime(
        network.make, network.spec, network_hash=network.hash, engine=engine, device=device, precision=precision,
        cache=cache,
    )  # fmt: skip


class _Eager(TorchRuntime):
    """What a script does: no graph, no buffers."""

    def __init__(self, network: Exported, device: str) -> None:
        super().__init__(network.make, network.spec, device="cpu", precision="fp32")
        self._device = device
        self._eager = build_network(network.make, network.spec, "fp32").to(device)

    def __call__(self, inputs: Tensors) -> dict[str, Any]:
        with torch.inference_mode():
            outputs = self._eager(*(torch.from_numpy(inputs[t.name]).to(self._device) for t in self.spec.inputs))
            return {t.name: out.cpu().numpy() for t, out in zip(self.spec.outputs, outputs, strict=True)}


def _time(runtime: Runtime, samples: tuple[Tensors, ...], frames: int) -> dict[str, Any]:
    timing = Timing()
    for n, sample in enumerate(islice(cycle(samples), WARM_UP_CALLS + frames)):
        start = time.perf_counter()
        runtime(sample)
        if n >= WARM_UP_CALLS:
            timing.add("call", (time.perf_counter() - start) * 1e3)
    tracemalloc.start()
    for _ in range(WARM_UP_CALLS):
        runtime(samples[0])
    before = tracemalloc.get_traced_memory()[0]
    on_device = _device_bytes()
    tracemalloc.reset_peak()
    for _ in range(STEADY_CALLS):
        runtime(samples[0])
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "ms": timing.percentiles()["call"],
        "held_bytes": round((after - before) / STEADY_CALLS),
        "peak_bytes": peak - before,
        "device_bytes": (_device_bytes() - on_device) // STEADY_CALLS,
    }


def _device_bytes() -> int:
    """Return all bytes that torch has ever taken from its GPU pool."""
    if not torch.cuda.is_available():
        return 0
    return torch.cuda.memory_stats().get("allocated_bytes.all.allocated", 0)


def measure_stages(weights: Path, body_models: str, *, device: str, frames: int) -> dict[str, Any]:
    """Run the whole recipe on the bundled clip: `ms` (p50) and `share` of the time of each stage, and `mesh` after it.

    `regress` holds detect, crop, network and lift; `total` is regress, place, smooth and body without the mesh.
    """
    settings = Settings().with_values(
        {"regressor": "pear", "pear.weights": str(weights), "device": device, "body_model.path": body_models}
    )
    timing = Timing()
    with HumanStream(settings, load_body(body_models)) as stream, open_source("clip", camera=clip_camera()) as source:
        for n, frame in enumerate(islice(source, WARM_UP_CALLS + frames)):
            result = stream.process(frame)
            start = time.perf_counter()
            for person in result.people:
                stream.mesh(person)
            if n >= WARM_UP_CALLS:
                for stage, ms in {**result.stage_ms, "mesh": (time.perf_counter() - start) * 1e3}.items():
                    timing.add(stage, ms)
    whole = sum(timing.stages["total"]) + sum(timing.stages["mesh"])
    return {
        stage: {"ms": timing.percentiles()[stage]["p50"], "share": round(sum(values) / whole, 3)}
        for stage, values in timing.stages.items()
    }
