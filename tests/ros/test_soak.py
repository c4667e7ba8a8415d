"""The long run: its judgement on made-up results, and (slow) half a minute of it with the scripted stream."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from hsr.soak import broken, main, table
from hsr.soak_watch import Footprint, Growth, StampWatch, footprint
from hsr_msgs.msg import Human, HumanArray

HERE = Path(__file__).parent
GOOD = {
    "seconds": 1800, "rate_hz": 15.0, "failure": "", "images": 27000, "frames": 26000, "meshes": 25900,
    "latency_ms": {"p50": 50.0, "p99": 90.0}, "stamp_faults": [],
    "recovery_s": {"camera killed": {"times": 9, "median": 0.1, "max": 0.2}},
    "longest_life": {"seconds": 1200, "rss_first": 700.0, "rss_last": 703.0, "rss_growth_percent": 0.43,
                     "private_first": 500.0, "private_last": 500.0, "private_growth_percent": 0.0,
                     "threads_first": 20, "threads_last": 20, "handles_first": 30, "handles_last": 30},
}  # fmt: skip
BAD = [
    (("failure",), "it stopped\nlog", "it could not go on: it stopped"),
    (("longest_life", "rss_growth_percent"), 1.2, "memory grew by 1.20 %"),
    (("longest_life", "threads_last"), 21, "threads grew from 20 to 21"),
    (("longest_life", "handles_last"), 31, "handles grew from 30 to 31"),
    (("longest_life",), {}, "no process lived long enough"),
    (("recovery_s", "camera killed", "max"), 3.1, "camera killed: people came again after 3.1 s"),
    (("stamp_faults",), ["people: a stamp in the future"], "1 stamps were wrong"),
]


def test_a_run_that_keeps_to_all_bounds_is_good_and_shown_as_a_table():
    assert broken(GOOD) == []
    assert "| memory of the longest life (1200 s) | 700 to 703 MB (+0.43 %) |" in table(GOOD)


@pytest.mark.parametrize(("path", "value", "said"), BAD, ids=[said for *_, said in BAD])
def test_each_bound_that_is_not_kept_is_named(path, value, said):
    summary = copy.deepcopy(GOOD)
    inner = summary
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (text,) = broken(summary)
    assert text.startswith(said)


def test_a_trouble_that_is_not_known_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--kinds", "camera killed,nod killed"])
    assert "no such trouble: nod killed" in capsys.readouterr().err


def test_people_are_back_when_somebody_is_seen_and_stamps_are_judged_all_the_while():
    watch = StampWatch(mock.Mock(), "/human", "/camera/camera_info", 15.0)

    def hear(sec: int, *states: int) -> None:
        msg = HumanArray(humans=[Human(state=state) for state in states])
        msg.header.stamp.sec = sec
        watch._on_people(msg)

    hear(10, Human.NEW, Human.LOST)
    for sec, states in ((11, ()), (12, (Human.LOST,)), (13, (Human.PREDICTED,))):
        hear(sec, *states)
        assert watch.last_seen_ns == 10 * 10**9
    hear(14, Human.TRACKED)
    assert (watch.last_seen_ns, watch.faults) == (14 * 10**9, [])
    hear(14, Human.LOST)  # farewell
    assert watch.faults == []
    hear(13, Human.TRACKED)
    assert watch.faults == ["people: the stamp 13000000000 came after 14000000000"]


def test_growth_compares_the_end_with_the_begin_after_warming_up():
    growth = Growth(warm_up_s=10.0, began_s=0.0)
    for second in range(90):
        growth.add(Footprint(second, 900.0 if second < 10 else 500.0 + 0.1 * second, 300.0, 7, 11))
    summary = growth.summary()
    # Seconds 10 to 29 and 70 to 89; nine tenths of the way from their least to their largest.
    assert (summary["rss_first"], summary["rss_last"]) == (502.7, 508.7)
    assert summary["rss_growth_percent"] == pytest.approx(100 * (508.7 / 502.7 - 1), abs=0.02)
    assert (summary["private_growth_percent"], summary["threads_last"], summary["handles_last"]) == (0, 7, 11)
    assert Growth(10.0).summary() == {}


def test_two_levels_in_turn_are_no_growth():
    growth = Growth(warm_up_s=0.0, began_s=0.0)
    for second in range(0, 1000, 5):
        growth.add(Footprint(second, 704.0 if second // 80 % 2 else 738.0, 300.0, 7, 11))
    assert growth.summary()["rss_growth_percent"] == 0


def test_a_footprint_sees_what_a_process_opens(tmp_path):
    before = footprint(os.getpid())
    with (tmp_path / "file").open("w"):
        assert footprint(os.getpid()).handles == before.handles + 1
    assert before.private < before.rss
    assert footprint(2**22 + 1) is None


@pytest.mark.slow
def test_half_a_minute_of_trouble(ros_domain, tmp_path):
    path = tmp_path / "soak.json"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), os.environ.get("PYTHONPATH", "")))}
    command = [
        sys.executable, "-m", "hsr.soak", "--for", "40", "--every", "3", "--warm-up", "2", "--source", "synthetic",
        "--perception-module", "scripted_node", "--json", str(path), "--log-dir", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    summary = json.loads(path.read_text())
    assert summary["failure"] == "", done.stdout + done.stderr
    assert summary["stamp_faults"] == []
    assert set(summary["recovery_s"]) == {"camera restart", "camera killed", "lifecycle cycle", "node killed"}
    assert summary["frames"] > 100
    assert "| wrong stamps | 0 |" in done.stdout
