"""`hsr engine build | list | verify | prune`: the cache of engines, from the command line."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import GRAPHS, PeopleSettings
from ..errors import ConfigError, MissingFile, MissingPackage
from ..progress import listening
from .base import PRECISIONS
from .engine_cache import EngineCache, Entry
from .select import choose, this_machine
from .trt import PACKAGES, RTX_ARCHITECTURES, installed_version

if TYPE_CHECKING:
    from .exported import Exported

LOADER = "hsr_core.regress.pear.export"
"""Its `load_for_export(weights, graph, body_models=, max_people=)` returns an `Exported`."""


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
    build.add_argument(
        "--graph", choices=GRAPHS, default=GRAPHS[0],
        help="person crops to parameters (default), or a frame to people in metres with their vertices",
    )  # fmt: skip
    build.add_argument("--body-models", default="", metavar="DIR", help="SMPL-X and FLAME files for --graph people")
    most = PeopleSettings().max
    build.add_argument(
        "--max-people", type=int, default=most, metavar="N", help=f"at once, as people.max (default {most})"
    )
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
    network = _load(args)
    onnx = onnx_file(network.make, network.spec, args.precision, network.hash, cache)
    answer: dict[str, Any] = {"cache": str(cache.folder), "network_hash": network.hash, "precision": args.precision}
    answer |= {"graph": args.graph, "max_people": args.max_people}
    answer["onnx"] = {"file": onnx.name, "bytes": onnx.stat().st_size}
    answer["onnx_against_torch_fp32"] = _compare(args, onnx, network)
    answer["engines"] = []
    for architecture in architectures:
        start = time.monotonic()
        with _bar(f"{architecture} {args.precision}"):
            path = engine_file(
                network.make, network.spec, engine=args.runtime, architecture=architecture, precision=args.precision,
                network_hash=network.hash, cache=cache,
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
    if args.precision == "int8":
        raise ConfigError("int8 is for --runtime onnxruntime, on the CPU; for a GPU choose fp16")
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


def _load(args: argparse.Namespace) -> Exported:
    if not args.weights.is_file():
        raise MissingFile(f"no such file: {args.weights}")
    if args.max_people < 1:
        raise ConfigError(f"--max-people must be at least 1, not {args.max_people}")
    try:
        loader = import_module(LOADER)
    except ImportError as error:
        raise MissingPackage(f"the network cannot be loaded: {error}") from error
    return loader.load_for_export(args.weights, args.graph, body_models=args.body_models, max_people=args.max_people)


def _compare(args: argparse.Namespace, onnx: Path, network: Exported) -> Any:
    """Run the ONNX file with onnxruntime on real inputs; return the largest difference of each output."""
    if args.no_check:
        return "not measured: --no-check"
    if args.precision == "bf16":
        return "not measured: onnxruntime has no bf16 on the CPU"
    from .ort import OrtRuntime
    from .parity import gate

    precision = "fp32" if args.precision == "tf32" else args.precision
    with OrtRuntime(onnx, network.spec, device="cpu", precision=precision) as runtime:
        parity = gate(runtime, network.make, "cpu", network.parity(precision, args.tolerance))
    return parity.largest if parity else {}


@contextmanager
def _bar(title: str) -> Iterator[None]:
    """A progress bar for what is reported within; nothing when the output is not a terminal."""
    from tqdm import tqdm

    with tqdm(total=1, disable=None, leave=False, bar_format="{desc} {percentage:3.0f}% {bar} {elapsed}") as bar:

        def show(phase: str, done: int, total: int) -> None:
            description = f"{title}: {phase}"
            if bar.total != max(total, 1) or bar.desc != description:
                bar.total = max(total, 1)
                bar.set_description_str(description, refresh=False)
            bar.update(done - bar.n)

        with listening(show):
            yield


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
