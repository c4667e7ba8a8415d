"""The cache without any engine library: the builder writes what it is told to."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hsr_core.errors import BadFile, ConfigError
from hsr_core.runtime.engine_cache import EngineCache, EngineKey

KEY = EngineKey("0123456789abcdef", "fp16", "in:x:float32:bx3 b=1-1-4", "sm89", "tensorrt-rtx", "1.7")

# Says "building", waits for a line, writes; a second process logs that it waits.
BUILDER = """
import logging, sys
from pathlib import Path
from hsr_core.runtime.engine_cache import EngineCache, EngineKey
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
def build(path):
    path.write_bytes(b"half")
    print("building", flush=True)
    sys.stdin.readline()
    path.write_bytes(b"whole")
print(EngineCache(Path(sys.argv[1])).get(EngineKey(*sys.argv[2:]), build).name, flush=True)
"""


def builder(folder: Path) -> subprocess.Popen[str]:
    key = [KEY.network_hash, KEY.precision, KEY.shapes, KEY.architecture, KEY.runtime, KEY.version]
    command = [sys.executable, "-u", "-c", BUILDER, str(folder), *key]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def write(content: bytes) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        path.write_bytes(content)

    return build


def must_not_build(path: Path) -> None:
    raise AssertionError("built although the cache has it")


@pytest.fixture
def cache(tmp_path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that other users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_an_engine_is_built_once_and_found_again(cache) -> None:
    path = cache.get(KEY, write(b"engine"))
    assert path.read_bytes() == b"engine"
    assert cache.get(KEY, must_not_build) == path
    assert EngineCache(cache.folder).get(KEY, must_not_build) == path


def test_the_name_tells_what_it_is_and_the_sidecar_all_of_it(cache) -> None:
    path = cache.get(KEY, write(b"engine"))
    assert path.name.startswith("0123456789abcdef-tensorrt-rtx1.7-sm89-fp16-")
    facts = json.loads(path.with_name(path.name + ".json").read_text())
    assert facts["key"] == {**vars(KEY)}
    assert facts["files"] == {path.name: {"bytes": 6, "sha256": hashlib.sha256(b"engine").hexdigest()}}


@pytest.mark.parametrize("name", ["network_hash", "precision", "shapes", "architecture", "runtime", "version"])
def test_each_fact_of_the_key_makes_another_file(cache, name) -> None:
    other = replace(KEY, **{name: {"network_hash": "f" * 16}.get(name, "other")})
    assert cache.get(KEY, write(b"one")) != cache.get(other, write(b"two"))
    assert [entry.problem for entry in cache.entries()] == ["", ""]


def test_two_builders_at_once_build_once(tmp_path) -> None:
    with builder(tmp_path) as first, builder(tmp_path) as second:
        streams = {first: first.stdout, second: second.stdout}
        lines = {process: streams[process].readline() for process in streams}  # one builds, the other waits
        assert sorted(line.split()[0] for line in lines.values()) == ["building", "waiting"]
        builds = next(process for process in streams if lines[process].startswith("building"))
        builds.communicate("go\n")
        waited = next(process for process in streams if lines[process].startswith("waiting"))
        output, _ = waited.communicate("")
    assert output.strip() == KEY.file_name  # and no "building"
    assert (tmp_path / KEY.file_name).read_bytes() == b"whole"


def test_a_killed_builder_leaves_nothing_that_is_taken_for_an_engine(tmp_path) -> None:
    cache = EngineCache(tmp_path)
    with builder(tmp_path) as process:
        assert process.stdout.readline() == "building\n"
        assert [path.read_bytes() for path in tmp_path.glob(".*/*.engine")] == [b"half"]
        process.send_signal(signal.SIGKILL)
    assert cache.entries() == []
    assert cache.get(KEY, write(b"whole")).read_bytes() == b"whole"
    assert not list(tmp_path.glob(".*.part-*"))


def test_prune_removes_what_a_killed_builder_left_but_not_what_is_being_built(tmp_path) -> None:
    with builder(tmp_path) as process:
        process.stdout.readline()
        assert EngineCache(tmp_path).prune() == []
        process.send_signal(signal.SIGKILL)
    assert len(EngineCache(tmp_path).prune()) == 1
    assert not list(tmp_path.glob(".*.part-*"))


def damage_half_written(path: Path) -> None:
    os.truncate(path, 3)


def damage_one_byte(path: Path) -> None:
    path.write_bytes(b"engin3")


def damage_no_sidecar(path: Path) -> None:
    path.with_name(path.name + ".json").unlink()


def damage_sidecar_cut_short(path: Path) -> None:
    os.truncate(path.with_name(path.name + ".json"), 20)


def damage_sidecar_of_another_kind(path: Path) -> None:
    path.with_name(path.name + ".json").write_text('{"key": [1], "files": 3}')


def damage_sidecar_of_another_version(path: Path) -> None:
    sidecar = path.with_name(path.name + ".json")
    sidecar.write_text(sidecar.read_text().replace('"1.7"', '"1.6"'))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (damage_half_written, "has 3 bytes, 6 were written"),
        (damage_one_byte, "SHA-256 differs"),
        (damage_no_sidecar, "no sidecar"),
        (damage_sidecar_cut_short, "cannot be read"),
        (damage_sidecar_of_another_kind, "cannot be read"),
        (damage_sidecar_of_another_version, "belongs to another file"),
    ],
)
def test_damage_is_named_and_the_engine_built_again(cache, damage, problem) -> None:
    path = cache.get(KEY, write(b"engine"))
    damage(path)
    (entry,) = cache.entries()
    assert problem in entry.problem
    assert cache.get(KEY, write(b"again!")).read_bytes() == b"again!"
    assert cache.check(path, KEY).problem == ""


def test_prune_removes_only_what_cannot_be_used(cache) -> None:
    good = cache.get(KEY, write(b"good"))
    bad = cache.get(replace(KEY, architecture="sm75"), write(b"bad"))
    os.truncate(bad, 1)
    removed = cache.prune()
    assert {path.name for path in removed} == {bad.name, bad.name + ".json"}
    assert [entry.path for entry in cache.entries()] == [good]


def test_a_failed_build_leaves_nothing_and_its_error_passes_through(cache) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise ConfigError("cannot")

    with pytest.raises(ConfigError, match="cannot"):
        cache.get(KEY, fail)
    assert cache.entries() == []
    assert not list(cache.folder.glob(".*.part-*"))


def test_facts_can_be_added_without_harm(cache) -> None:
    path = cache.get(KEY, write(b"engine"))
    cache.annotate(path, "parity", {"pose": 1e-5})
    entry = cache.check(path, KEY)
    assert (entry.problem, entry.facts["parity"]) == ("", {"pose": 1e-5})


def test_a_full_disk_is_said(cache) -> None:
    def build(path: Path) -> None:
        with open("/dev/full", "wb") as file:  # Linux' own full device
            file.write(b"engine")

    with pytest.raises(BadFile, match="No space left on device; free some space"):
        cache.get(KEY, build)
    assert cache.entries() == []


def test_a_folder_that_cannot_be_written_is_said_but_its_engines_are_used(shared_folder) -> None:
    cache = EngineCache(shared_folder)
    path = cache.get(KEY, write(b"engine"))
    shared_folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:  # who may write everywhere
        os.seteuid(65534)
    try:
        assert cache.get(KEY, must_not_build) == path
        with pytest.raises(BadFile, match=r"cannot be written: Permission denied; name a folder this user may write"):
            cache.get(replace(KEY, precision="fp32"), write(b"engine"))
    finally:
        if root:
            os.seteuid(0)


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadFile, match="name another folder"):
        EngineCache(tmp_path / "file").get(KEY, write(b"engine"))


def test_a_hash_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="hexadecimal"):
        replace(KEY, network_hash="../../etc")
