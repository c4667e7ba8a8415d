"""The open body's cache: built once, whole or not at all, whoever is killed and however many build at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hsr_core.body import EhmBody, open_cache
from hsr_core.errors import BadFile

TRIANGLE_TREE = np.array([-1, 0, 1, 1, 1])


def small_model(n: int = 60) -> tuple[dict, dict]:
    """Arrays of the right form, made in no time."""
    from hsr_core.body.joints import PARENTS

    rng = np.random.default_rng(0)
    weights, head_weights = (np.eye(j, dtype=np.float32)[rng.integers(j, size=m)] for j, m in ((55, n), (5, 20)))
    ids = np.arange(20)

    def regressor(j: int, m: int) -> np.ndarray:
        return np.full((j, m), 1 / m, np.float32)

    body = {
        "v_template": rng.normal(size=(n, 3)).astype(np.float32),
        "f": np.array([[0, 1, 2]]),
        "shapedirs": np.zeros((n, 3, 20), np.float32),
        "posedirs": np.zeros((n, 3, 0), np.float32),
        "J_regressor": regressor(55, n),
        "kintree_table": np.array([PARENTS, range(55)]),
        "weights": weights,
        "n_shape": np.array(10),
        "surface_names": np.array(["nose"]),
        "surface_ids": np.array([3]),
    }
    head = {
        "vertex_ids": ids,
        "v_template": body["v_template"][ids],
        "shapedirs": np.zeros((20, 3, 20), np.float32),
        "posedirs": np.zeros((20, 3, 0), np.float32),
        "J_regressor": regressor(5, 20),
        "kintree_table": np.array([TRIANGLE_TREE, range(5)]),
        "weights": head_weights,
        "neck": ids[:4],
        "boundary": ids[2:6],
        "l_eyelid": np.zeros((20, 3), np.float32),
        "r_eyelid": np.zeros((20, 3), np.float32),
    }
    return body, head


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HSR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> tuple[dict, dict]:
        self.calls += 1
        return small_model()


def files_in(cache: Path, suffix: str) -> list[Path]:
    return sorted(p for p in cache.iterdir() if p.name.endswith(suffix))


def test_the_second_load_does_not_build(cache):
    build = Counted()
    first, second = (open_cache.open_body_files(build=build) for _ in range(2))
    assert build.calls == 1
    assert first.model_id == second.model_id
    np.testing.assert_array_equal(first.body.v_template, second.body.v_template)
    assert first.surface_points == {"nose": 3}


@pytest.mark.parametrize("spoil", ["truncate", "empty", "foreign", "flip"])
def test_a_spoiled_cache_is_built_again(cache, spoil):
    build = Counted()
    good = open_cache.open_body_files(build=build).model_id
    (path,) = files_in(cache, ".npz")
    data = bytearray(path.read_bytes())
    if spoil == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif spoil == "empty":
        path.write_bytes(b"")
    elif spoil == "foreign":
        np.savez(path, a=np.zeros(3))
    else:
        with np.load(path) as arrays:
            changed = dict(arrays)
        changed["v_template"] = changed["v_template"] + 1
        np.savez(path, **changed)
    assert open_cache.open_body_files(build=build).model_id == good
    assert build.calls == 2


def test_a_build_that_fails_leaves_nothing(cache, monkeypatch):
    def fails():
        raise MemoryError

    with pytest.raises(MemoryError):
        open_cache.open_body_files(build=fails)
    assert files_in(cache, ".npz") == files_in(cache, ".part") == []

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space"):
            open_cache.open_body_files(build=small_model)
    assert files_in(cache, ".npz") == files_in(cache, ".part") == []
    open_cache.open_body_files(build=small_model)


RACER = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import test_body_cache as t
from hsr_core.body import open_cache
def build():
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    return t.small_model()
print("ready", flush=True)
sys.stdin.readline()
print(open_cache.open_body_files(build=build).model_id)
"""


def test_two_builders_at_once_build_once(tmp_path):
    log = tmp_path / "log"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(Path(__file__).parent), str(log)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        ids = {racer.communicate()[0].strip() for racer in racers}
    finally:
        for racer in racers:
            racer.kill()
    assert len(ids) == 1
    assert log.read_text() == "built\n"


VICTIM = """
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np
import test_body_cache as t
from hsr_core.body import open_cache
def torn(file, **arrays):
    file.write(b"half a file"); file.flush()
    print("writing", flush=True)
    time.sleep(600)
np.savez = torn
open_cache.open_body_files(build=t.small_model)
"""


def test_a_killed_builder_leaves_no_lock_and_no_litter(cache):
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert victim.stdout.readline() == "writing\n"
    finally:
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
    assert len(files_in(cache, ".part")) == 1
    assert files_in(cache, ".npz") == []
    open_cache.open_body_files(build=small_model)
    assert files_in(cache, ".part") == []
    assert len(files_in(cache, ".npz")) == 1


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert open_cache.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("HSR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert open_cache.cache_dir() == tmp_path / "xdg" / "hsr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_cache.cache_dir() == tmp_path / ".cache" / "hsr"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HSR_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(BadFile, match="HSR_CACHE"):
        open_cache.open_body_files(build=small_model)


def test_the_content_hash_sees_names_shapes_types_and_values():
    a = {"x": np.zeros((2, 3), np.float32), "y": np.arange(3)}
    different = [
        {"z": a["x"], "y": a["y"]},
        {"x": a["x"].reshape(3, 2), "y": a["y"]},
        {"x": a["x"].astype(np.float64), "y": a["y"]},
        {"x": a["x"] + 1e-7, "y": a["y"]},
    ]
    hashes = [open_cache.content_hash(arrays) for arrays in (a, *different)]
    assert len(set(hashes)) == 5
    assert open_cache.content_hash(dict(reversed(a.items()))) == hashes[0]


def test_the_build_repeats_to_the_last_bit(open_body, make_params):
    """From anny to the arrays, twice: one content hash. The cached body may be of another Python with another torch,
    which rounds differently: it is the same body to a hundredth of a millimetre."""
    from hsr_core.body.anny_body import STEPS, build

    steps: list[str] = []
    body, head = build(steps.append)
    assert open_cache.content_hash(body, head) == open_cache.content_hash(*build())
    assert tuple(steps) == STEPS
    fresh = EhmBody(open_cache.open_body_files(build=lambda: (body, head)))
    person = make_params(open_body, np.random.default_rng(0))
    for built, cached in zip(fresh.rest(person), open_body.rest(person), strict=True):
        np.testing.assert_allclose(built, cached, atol=1e-5)


@pytest.mark.slow
def test_a_torn_cache_of_annys_own_is_survived(tmp_path, monkeypatch, open_body):
    """Its builder writes in place; a torn file there must not stop ours."""
    from anny import paths

    usual = paths.get_anny_cache_path()
    for path in usual.rglob("*.safetensors"):
        copy = tmp_path / "anny" / path.relative_to(usual)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes()[:1000])
    monkeypatch.setattr(paths, "_ANNY_CACHE_DIR", [tmp_path / "anny"])
    from hsr_core.body.anny_body import build

    assert f"open-{open_cache.content_hash(*build())}" == open_body.model_id
