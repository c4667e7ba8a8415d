from __future__ import annotations

import os
import subprocess
import sys

import torch

from hsr_core.threads import few_torch_threads, network_threads, shared_by


def test_torch_leaves_half_of_the_cores_and_gets_them_back():
    before = torch.get_num_threads()
    with few_torch_threads() as count:
        assert count == torch.get_num_threads() == min(4, max(1, os.cpu_count() // 2))
    assert torch.get_num_threads() == before


def test_streams_that_have_no_two_cores_each_work_in_one_thread(monkeypatch):
    for cores, streams, threads in ((2, 1, 2), (2, 2, 1), (1, 1, 2), (4, 2, 2), (4, 3, 1)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        for name, value in shared_by(streams).items():
            monkeypatch.setenv(name, value)
        assert network_threads() == threads


ALONE = """
import sys
from hsr_core import threads
assert threads.network_threads() == 2
threads.one_per_process()
assert threads.network_threads() == 1
from hsr_core.config import Settings
from hsr_core.regress.landmarks import LandmarkRegressor
from hsr_core.body import load_body
from hsr_core.sources import open_source
regressor = LandmarkRegressor(Settings(), load_body())
with open_source("clip") as source:
    for frame, _ in zip(source, range(4)):
        person = regressor.regress(frame, frame.camera)[0]
print(person.params.body_pose.tobytes().hex())
"""


def test_a_process_with_one_thread_finds_the_same_people():
    both = [ALONE, ALONE.replace("threads.one_per_process()\nassert threads.network_threads() == 1\n", "")]
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ).stdout
        for code in both
    ]
    assert outputs[0] == outputs[1] != ""
