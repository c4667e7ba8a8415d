"""`hsr bench regressor`: PEAR's network on every runtime of this machine, on real crops."""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
import tracemalloc
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from .errors import HsrError
from .regress.pear.checkpoint import load_network, make_test
from .regress.pear.export import SPEC, PearGraph, graph_hash, sample_crops
from .regress.pear.network import SIZES, PearNetwork
from .run import Timing
from .runtime.base import Runtime, Tensors
from .runtime.parity import ParityCheck, measure_parity
from .runtime.pytorch import TorchRuntime
from .runtime.select import open_runtime, this_machine

CASES = {
    "cpu": (("torch", "fp32"), ("torch", "bf16"), ("onnxruntime", "fp32")),
    "cuda": (
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


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("regressor", help="PEAR's network on every runtime of this machine")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a checkpoint; default: random weights of --size")
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny", help="of random weights (default tiny)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--frames", type=int, default=50, metavar="N", help="timed calls (default 50)")
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and return what there is to show."""
    with tempfile.TemporaryDirectory() as folder:
        weights = args.weights
        if weights is None:
            weights = Path(folder) / f"{args.size}.pt"
            make_test(weights, args.size)
        return measure(load_network(weights), device=args.device, frames=args.frames, cache=Path(folder) / "engines")


def measure(network: PearNetwork, *, device: str, frames: int, cache: Path) -> dict[str, Any]:
    """Time one crop on the host -> parameters on the host, in each runtime that this machine has.

    Args:
        network: With its weights.
        device: auto, cpu or cuda.
        frames: Timed calls, after a warm-up.
        cache: Folder for the engines.

    Returns:
        `parameters`, `weight_bytes` (fp32); `cases`: by "engine precision" `ms` {p50, p99, max}, `open_s`, the largest
        `difference` from torch fp32, `bytes_per_call` (what Python holds more after a steady call), `gb_per_s` (weights
        read per second at p50, to compare with the memory's bandwidth), or `error`: why it does not run here.
    """
    machine = this_machine()
    device = ("cuda" if machine.gpu else "cpu") if device == "auto" else device
    samples = sample_crops()
    key = graph_hash(network)

    def graph() -> PearGraph:
        return PearGraph(copy.deepcopy(network))

    reference = TorchRuntime(graph, SPEC, device=device, precision="fp32")
    values = sum(value.numel() for value in network.parameters())
    cases: dict[str, Any] = {}
    for engine, precision in CASES[device]:
        start = time.perf_counter()
        try:
            runtime = open_runtime(
                graph, SPEC, network_hash=key, engine=engine, device=device, precision=precision, cache=cache
            )
        except HsrError as error:
            cases[f"{engine} {precision}"] = {"error": str(error)}
            continue
        with runtime:
            runtime.warm_up()
            case = {"open_s": round(time.perf_counter() - start, 2), **_measure(runtime, samples, reference, frames)}
        width = 4 if precision in ("fp32", "tf32") else 2
        case["gb_per_s"] = round(width * values / case["ms"]["p50"] / 1e6, 1)
        cases[f"{engine} {precision}"] = case
    return {
        "device": machine.gpu if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "parameters": values,
        "weight_bytes": 4 * values,
        "cases": cases,
    }


def _measure(runtime: Runtime, samples: tuple[Tensors, ...], reference: Runtime, frames: int) -> dict[str, Any]:
    difference = max(measure_parity(runtime, reference, ParityCheck(samples)).largest.values())
    timing = Timing()
    for n, sample in enumerate(islice(cycle(samples), WARM_UP_CALLS + frames)):
        start = time.perf_counter()
        runtime(sample)
        if n >= WARM_UP_CALLS:
            timing.add("call", (time.perf_counter() - start) * 1e3)
    tracemalloc.start()
    runtime(samples[0])
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(10):
        runtime(samples[0])
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return {
        "ms": timing.percentiles()["call"],
        "difference": float(f"{difference:.2g}"),
        "bytes_per_call": round(held / 10),
    }
