from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from types import ModuleType

import pytest
from tiny_network import HASH, SPEC, make_tiny, tiny_inputs

from hsr_core.errors import ConfigError, MissingFile, ParityError
from hsr_core.runtime import commands
from hsr_core.runtime.base import Batch
from hsr_core.runtime.exported import Exported
from hsr_core.runtime.select import Machine

pytest.importorskip("tensorrt_rtx", reason='pip install "hsr-core[rtx]"')
pytest.importorskip("onnxscript", reason='pip install "hsr-core[onnx]"')


@pytest.fixture
def weights(tmp_path, monkeypatch) -> str:
    """A weights file, and a loader that makes the tiny network of it."""
    file = tmp_path / "tiny.pt"
    file.write_bytes(b"weights")
    loader = ModuleType(commands.LOADER)
    tolerance = {"fp16": {"pose": 1e-2, "vertices": 1e-2}}

    def load(path, graph, *, body_models, max_people):
        spec = SPEC if max_people == 1 else replace(SPEC, batch=Batch(1, 1, max_people))
        return Exported(make_tiny, spec, HASH, lambda: (tiny_inputs(max_people),), tolerance)

    loader.load_for_export = load
    monkeypatch.setitem(sys.modules, commands.LOADER, loader)
    return str(file)


def engine(*arguments: str):
    parser = argparse.ArgumentParser()
    commands.add_parser(parser.add_subparsers())
    return commands.run(parser.parse_args(["engine", *arguments]))


def test_engines_are_built_listed_verified_and_pruned(weights, tiny_cache, capsys) -> None:
    cache = ("--cache", str(tiny_cache), "--json")
    answer = engine("build", "--weights", weights, "--arch", "sm89", "sm120", "--precision", "fp16", *cache)
    json.dumps(answer)
    assert [built["architecture"] for built in answer["engines"]] == ["sm89", "sm120"]
    assert all((tiny_cache / built["file"]).stat().st_size == built["bytes"] for built in answer["engines"])
    assert 0 < answer["onnx_against_torch_fp32"]["pose"] < 2e-2

    assert engine("list", *cache) == 0
    shown = {entry["file"]: entry for entry in json.loads(capsys.readouterr().out.splitlines()[-1])["engines"]}
    assert shown.keys() >= {built["file"] for built in answer["engines"]}
    assert engine("verify", *cache) == 0

    half_written = answer["engines"][0]["file"]
    os.truncate(tiny_cache / half_written, 1000)
    assert engine("verify", *cache) == 1
    assert "has 1000 bytes" in capsys.readouterr().out
    assert engine("prune", *cache)["removed"] == [f"{half_written}.json", half_written]
    assert engine("verify", *cache) == 0


def test_nothing_is_built_of_a_graph_that_is_not_the_network(weights, tmp_path) -> None:
    with pytest.raises(ParityError, match=r"pose .* \(allowed 1e-09\)"):
        engine("build", "--weights", weights, "--arch", "sm89", "--tolerance", "1e-9", "--cache", str(tmp_path))
    assert not list(tmp_path.glob("*.engine"))


def test_engines_of_another_version_are_named_and_pruned(weights, tmp_path, monkeypatch, capsys) -> None:
    cache = ("--cache", str(tmp_path / "cache"), "--json")
    built = engine("build", "--weights", weights, "--arch", "sm89", "--no-check", *cache)["engines"][0]["file"]
    monkeypatch.setattr(commands, "installed_version", lambda name: "99.0")
    assert engine("verify", *cache) == 1
    assert "99.0 is installed: it will be built again" in capsys.readouterr().out
    assert built in engine("prune", *cache)["removed"]


def test_the_batch_can_be_chosen(weights, tmp_path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr("hsr_core.runtime.build.engine_file", lambda *args, **_: seen.append(args[1]) or tmp_path)
    monkeypatch.setattr("hsr_core.runtime.build.onnx_file", lambda *args, **_: tmp_path)
    cache = ("--cache", str(tmp_path), "--no-check", "--max-people", "3")
    engine("build", "--weights", weights, "--arch", "sm89", *cache)
    assert seen[0].batch == Batch(1, 1, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "sm12"], "builds for sm75, sm80, sm86, sm89, sm120, not sm12"),
        (["--runtime", "onnxruntime", "--arch", "sm89"], "--arch is for TensorRT"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_loaded(tmp_path, arguments, message) -> None:
    with pytest.raises(ConfigError, match=message):
        engine("build", "--weights", "none.pt", *arguments, "--cache", str(tmp_path))


def test_missing_weights_are_named(tmp_path) -> None:
    with pytest.raises(MissingFile, match=r"no such file: none\.pt"):
        engine("build", "--weights", "none.pt", "--arch", "sm89", "--cache", str(tmp_path))


def test_an_empty_cache_is_no_error(tmp_path, capsys) -> None:
    assert engine("list", "--cache", str(tmp_path / "none")) == 0
    assert engine("verify", "--cache", str(tmp_path / "none")) == 0
    assert "no engines in" in capsys.readouterr().out
    assert engine("prune", "--cache", str(tmp_path / "none"))["removed"] == []


def test_engines_for_another_gpu_are_named_where_there_is_one(weights, tmp_path, monkeypatch, capsys) -> None:
    cache = ("--cache", str(tmp_path / "cache"))
    engine("build", "--weights", weights, "--arch", "sm89", "--no-check", *cache)
    for here, status in (("sm89", 0), ("sm86", 1), ("", 0)):
        machine = Machine("a GPU" if here else "", here, "2.13.0", {})
        monkeypatch.setattr(commands, "this_machine", lambda machine=machine: machine)
        assert engine("verify", *cache) == status
    assert "for sm89; the GPU here is sm86" in capsys.readouterr().out
    assert engine("prune", *cache)["removed"] == []  # it may be meant for a robot
