"""`hsr engine build | list | verify | prune`: the cache of engines, from the command line."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, MissingFile, MissingPackage
from .base import PRECISIONS, Batch, NetworkSpec
from .engine_cache import EngineCache, Entry
from .select import choose, this_machine
from .trt import PACKAGES, RTX_ARCHITECTURES, installed_version

if TYPE_CHECKING:
    from torch import nn

LOADER = "hsr_core.regress.pear.export"
"""Its `load_for_export(weights)` returns a module, its NetworkSpec and the network hash; `sample_crops()` real inputs
to compare on; `PARITY_TOLERANCE` is the largest difference allowed, by precision."""

REDRAW_S = 0.1


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser = subparsers.add_parser("engine", help="build, list, check and delete the engines that run the networks")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="make engines beforehand; TensorRT for RTX needs no GPU for it")
    build.add_argument("--weights", type=Path, required=True, metavar="FILE", help="the network's checkpoint")
    build.add_argument("--runtime", choices=(*PACKAGES, "onnxruntime"), default="tensorrt-rtx")
    build.add_argument(
        "--arch", nargs="+", default=[], metavar="SM",
        help=f"GPU architectures: {', '.join(RTX_ARCHITECTURES)}; default: the GPU of this machine",
    )  # fmt: skip
    build.add_argument("--precision", choices=PRECISIONS, default="fp16")
    build.add_argument("--max-batch", type=int, metavar="N", help="people at once; default: the network's own")
    build.add_argument("--no-check", action="store_true", help="do not compare the ONNX file with torch fp32 first")
    build.add_argument("--tolerance", type=float, metavar="X", help="largest absolute difference allowed in that check")
    for name, text in (
        ("list", "show the engines in the cache"),
        ("verify", "check every file against its sidecar and this machine; exit status 1 if one cannot be used"),
        ("prune", "delete engines that cannot be used or are of another version, and what stopped builds left"),
    ):
        actions.add_parser(name, help=text)
    for action in actions.choices.values():
        action.add_argument("--cache", type=Path, metavar="DIR", help="default: the user's cache folder")
        action.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser


def run(args: argparse.Namespace) -> dict[str, Any] | int:
    """Do what `args.action` says; the exit status of `verify` is 1 when an entry cannot be used."""
    cache = EngineCache(args.cache)
    if args.action == "build":
        return _build(args, cache)
    if args.action == "prune":
        removed = cache.prune(lambda entry: bool(entry.problem or _other_version(entry)))
        return {"cache": str(cache.folder), "removed": [path.name for path in removed]}
    return _show(args, cache)


# build


def _build(args: argparse.Namespace, cache: EngineCache) -> dict[str, Any]:
    from .build import engine_file, onnx_file

    architectures = _architectures(args)
    factory, spec, network_hash = _load(args.weights)
    if args.max_batch is not None:
        spec = replace(spec, batch=Batch(1, 1, args.max_batch))
    onnx = onnx_file(factory, spec, args.precision, network_hash, cache)
    answer: dict[str, Any] = {"cache": str(cache.folder), "network_hash": network_hash, "precision": args.precision}
    answer["onnx"] = {"file": onnx.name, "bytes": onnx.stat().st_size}
    answer["onnx_against_torch_fp32"] = _compare(args, onnx, spec, factory)
    answer["engines"] = []
    for architecture in architectures:
        start = time.monotonic()
        with _Bar(f"{architecture} {args.precision}") as progress:
            path = engine_file(
                factory, spec, engine=args.runtime, architecture=architecture, precision=args.precision,
                network_hash=network_hash, cache=cache, progress=progress,
            )  # fmt: skip
        seconds = round(time.monotonic() - start, 1)
        answer["engines"].append(
            {"file": path.name, "architecture": architecture, "bytes": path.stat().st_size, "seconds": seconds}
        )
    return answer


def _architectures(args: argparse.Namespace) -> list[str]:
    """Refuse what cannot be built here before anything slow starts."""
    if args.runtime == "onnxruntime":
        if args.arch:
            raise ConfigError("--arch is for TensorRT; an ONNX file is the same for every architecture")
        return []
    if not installed_version(args.runtime):
        from .trt import load_api

        load_api(args.runtime)  # raises with the command that installs it
    machine = this_machine()
    if args.runtime == "tensorrt":
        choose("tensorrt", "cuda", args.precision, machine)
        if any(name != machine.architecture for name in args.arch):
            raise ConfigError(f"tensorrt builds for the GPU of this machine, which is {machine.architecture}")
    if not (args.arch or machine.architecture):
        raise ConfigError(f"no GPU is seen here: name what to build for, --arch {' '.join(RTX_ARCHITECTURES)}")
    unknown = [name for name in args.arch if name not in RTX_ARCHITECTURES]
    if args.runtime == "tensorrt-rtx" and unknown:
        raise ConfigError(f"tensorrt-rtx builds for {', '.join(RTX_ARCHITECTURES)}, not {', '.join(unknown)}")
    return args.arch or [machine.architecture]


def _load(weights: Path) -> tuple[Callable[[], nn.Module], NetworkSpec, str]:
    """Return a factory that reads the checkpoint once for each module it makes, but not twice for the first."""
    if not weights.is_file():
        raise MissingFile(f"no such file: {weights}")
    load = _loader().load_for_export
    module, spec, network_hash = load(weights)
    first = [module]
    return (lambda: first.pop() if first else load(weights)[0]), spec, network_hash


def _loader() -> ModuleType:
    try:
        return import_module(LOADER)
    except ImportError as error:
        raise MissingPackage(f"the network cannot be loaded: {error}") from error


def _compare(args: argparse.Namespace, onnx: Path, spec: NetworkSpec, factory: Callable[[], nn.Module]) -> Any:
    """Run the ONNX file with onnxruntime on real inputs; return the largest difference of each output."""
    if args.no_check:
        return "not measured: --no-check"
    if args.precision == "bf16":
        return "not measured: onnxruntime has no bf16 on the CPU"
    from .ort import OrtRuntime
    from .parity import ParityCheck, gate

    precision = "fp32" if args.precision == "tf32" else args.precision
    tolerance = _loader().PARITY_TOLERANCE[precision] if args.tolerance is None else args.tolerance
    with OrtRuntime(onnx, spec, device="cpu", precision=precision) as runtime:
        parity = gate(runtime, factory, "cpu", ParityCheck(_loader().sample_crops(), tolerance))
    return parity.largest if parity else {}


class _Bar:
    """A progress bar for the phases of one build; nothing when the output is not a terminal."""

    def __init__(self, title: str) -> None:
        from tqdm import tqdm

        self._title = title
        self._drawn = 0.0
        self._bar = tqdm(total=1, disable=None, leave=False, bar_format="{desc} {percentage:3.0f}% {bar} {elapsed}")

    def __enter__(self) -> Callable[[str, int, int], None]:
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def _tell(self, phase: str, done: int, total: int) -> None:
        self._bar.total = max(total, 1)
        self._bar.n = done
        now = time.monotonic()
        if done == total or now - self._drawn > REDRAW_S:  # a phase can have thousands of steps
            self._drawn = now
            self._bar.set_description_str(f"{self._title}: {phase}")


# list and verify


def _show(args: argparse.Namespace, cache: EngineCache) -> int:
    entries = cache.entries()
    here = this_machine().architecture if args.action == "verify" else ""
    problems = {entry.path: entry.problem or _other_version(entry) or _other_gpu(entry, here) for entry in entries}
    for entry in entries:
        size = entry.path.stat().st_size / 1e6
        print(f"{'ok' if not problems[entry.path] else 'bad':>4}  {size:9.1f} MB  {entry.path.name}")
        if problems[entry.path]:
            print(f"{'':>4}  {problems[entry.path]}")
    if not entries:
        print(f"no engines in {cache.folder}")
    if args.json:
        found = [{**entry.as_dict(), "problem": problems[entry.path]} for entry in entries]
        print(json.dumps({"cache": str(cache.folder), "engines": found}))
    return int(args.action == "verify" and any(problems.values()))


def _other_version(entry: Entry) -> str:
    key = entry.facts.get("key", {})
    installed = installed_version(key.get("runtime", "")) if key.get("runtime") in PACKAGES else ""
    if not installed or installed == key["version"]:
        return ""
    return f"built by {key['runtime']} {key['version']}, {installed} is installed: it will be built again"


def _other_gpu(entry: Entry, here: str) -> str:
    architecture = entry.facts.get("key", {}).get("architecture", "any")
    return "" if not here or architecture in ("any", here) else f"for {architecture}; the GPU here is {here}"
