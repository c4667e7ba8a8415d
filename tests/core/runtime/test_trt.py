"""Engines that TensorRT for RTX builds without a GPU. Running one needs a GPU and is not tested here."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_network import HASH, SPEC, make_tiny

from hsr_core.errors import BadFile, ConfigError, MissingPackage
from hsr_core.progress import listening
from hsr_core.runtime import trt, trt_run
from hsr_core.runtime.build import engine_file
from hsr_core.runtime.engine_cache import EngineCache

RTX = pytest.importorskip("tensorrt_rtx", reason='pip install "hsr-core[rtx]"')
PLAN = b"vtrt"
"""What every engine of TensorRT for RTX 1.x begins with, as observed."""


def build(cache, architecture="sm89", precision="fp16", spec=SPEC, progress=lambda *_: None):
    with listening(progress):
        return engine_file(
            make_tiny, spec, engine="tensorrt-rtx", architecture=architecture, precision=precision, network_hash=HASH,
            cache=EngineCache(cache),
        )  # fmt: skip


@pytest.mark.parametrize(("architecture", "precision"), [
    ("sm89", "fp16"), ("sm120", "fp16"), ("sm80", "fp32"), ("sm86", "bf16"), ("sm89", "tf32"),
])  # fmt: skip
def test_engines_are_built_for_gpus_that_are_not_here(tiny_cache, architecture, precision) -> None:
    EngineCache(tiny_cache).prune(lambda entry: entry.path.suffix == ".engine")  # of other tests
    phases: dict[str, list[int]] = {}

    def progress(phase: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        phases.setdefault(phase, []).append(done)

    path = build(tiny_cache, architecture, precision, progress=progress)
    content = path.read_bytes()
    assert content.startswith(PLAN)
    weights = sum(p.numel() for p in make_tiny().parameters())
    assert len(content) > weights * 2  # they are all in it, in half precision at least
    entry = EngineCache(tiny_cache).check(path)
    assert entry.problem == ""
    key = entry.facts["key"]
    assert (key["architecture"], key["precision"], key["version"]) == (architecture, precision, RTX.__version__)
    assert phases.keys() <= {"exporting the network", trt.PHASE}
    steps = phases[trt.PHASE]
    assert len(set(steps)) > 5
    assert steps == sorted(steps)
    assert steps[-1] == trt.STEPS


def test_engines_for_two_architectures_differ(tiny_cache) -> None:
    assert build(tiny_cache, "sm89").read_bytes() != build(tiny_cache, "sm120").read_bytes()


def test_an_engine_in_the_cache_is_not_built_again(tiny_cache) -> None:
    path = build(tiny_cache)
    before = path.stat().st_mtime_ns

    def fail(*_: object) -> None:
        raise AssertionError("built again")

    assert build(tiny_cache, progress=fail) == path
    assert path.stat().st_mtime_ns == before


def test_on_turing_products_in_fp16_can_be_built_and_in_float32_not(tiny_cache) -> None:
    all_products = replace(SPEC, turing_half_modules=("backbone", "head"))
    assert build(tiny_cache, "sm75", spec=all_products).read_bytes().startswith(PLAN)
    for precision in ("fp16", "fp32"):  # in fp16 the head is still float32
        with pytest.raises(BadFile, match="matrices in fp16 only"):
            build(tiny_cache, "sm75", precision)


def test_a_build_that_is_stopped_leaves_nothing(tiny_cache, tmp_path) -> None:
    def stop(phase: str, done: int, total: int) -> None:
        if phase == trt.PHASE:
            raise KeyboardInterrupt

    cache = EngineCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        build(cache.folder, progress=stop)
    assert [entry.path.suffix for entry in cache.entries()] == [".onnx"]  # that part was finished
    assert not list(tmp_path.glob(".*.part-*"))


def test_an_unknown_architecture_is_refused_with_those_there_are(tiny_cache) -> None:
    with pytest.raises(ConfigError, match="sm75, sm80, sm86, sm89, sm120, not sm12"):
        build(tiny_cache, "sm12")


def test_a_file_that_is_no_graph_is_refused_with_the_parsers_words(tmp_path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a graph")
    with pytest.raises(BadFile, match=r"cannot read bad\.onnx: .*parse"):
        trt.build_engine(
            bad, SPEC, tmp_path / "out", engine="tensorrt-rtx", architecture="sm89", precision="fp32",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_a_missing_package_names_the_command_that_installs_it() -> None:
    if trt.installed_version("tensorrt"):
        pytest.skip("tensorrt is installed here")
    with pytest.raises(MissingPackage, match="pip install tensorrt"):
        trt.load_api("tensorrt")


def test_all_that_the_gpu_code_calls_exists_in_the_package() -> None:
    """The least that can be said of code that needs a GPU to run."""
    source = Path(trt_run.__file__).read_text()
    owners = {
        "self._runtime": RTX.Runtime, "self._engine": RTX.ICudaEngine, "self._context": RTX.IExecutionContext,
        "self._jit_cache": RTX.IRuntimeCache, "config": RTX.IRuntimeConfig, "self._api": RTX,
    }  # fmt: skip
    calls = re.findall(r"(?<![\w.])((?:self\._)?\w+)\.(\w+)", source)
    used = {(owner, name) for owner, name in calls if owner in owners}
    assert {owner for owner, _ in used} == owners.keys()
    assert [f"{owner}.{name}" for owner, name in used if not hasattr(owners[owner], name)] == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_an_engine_gives_what_torch_gives(tiny_cache, inputs) -> None:
    from hsr_core.runtime import open_runtime
    from hsr_core.runtime.parity import ParityCheck

    check = ParityCheck((inputs(1), inputs(4), inputs(1, seed=1)))
    with open_runtime(
        make_tiny, SPEC, network_hash=HASH, engine="tensorrt-rtx", precision="fp16", cache=tiny_cache, parity=check
    ) as runtime:
        runtime.warm_up()
