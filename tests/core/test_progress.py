"""Progress goes to whoever listens, from any thread, and a listener can stop the work."""

from __future__ import annotations

import threading

import pytest

from hsr_core import progress


def test_reports_reach_every_listener_of_the_process_and_none_after_its_block():
    outer, inner = [], []
    progress.report("before", 1, 2)
    with progress.listening(lambda *step: outer.append(step)):
        with progress.listening(lambda *step: inner.append(step)):
            thread = threading.Thread(target=progress.report, args=("building", 1, 3))
            thread.start()
            thread.join()
        progress.report("reading")
    progress.report("after", 2, 2)
    assert inner == [("building", 1, 3)]
    assert outer == [("building", 1, 3), ("reading", 0, 0)]


def test_a_listener_that_raises_stops_the_work_and_hears_no_more():
    heard = []

    def stop(phase: str, done: int, total: int) -> None:
        heard.append(done)
        if done == 2:
            raise KeyboardInterrupt

    def build() -> None:
        for step in range(10):
            progress.report("building", step, 10)

    with pytest.raises(KeyboardInterrupt), progress.listening(stop):
        build()
    assert heard == [0, 1, 2]
    progress.report("building", 3, 10)
    assert heard == [0, 1, 2]


def test_one_listener_given_twice_hears_twice_until_each_block_ends():
    heard = []

    def hear(phase: str, done: int, total: int) -> None:
        heard.append(phase)

    with progress.listening(hear):
        with progress.listening(hear):
            progress.report("a")
        progress.report("b")
    assert heard == ["a", "a", "b"]


def test_listeners_that_come_and_go_in_many_threads_miss_none_of_their_own():
    """Each thread reports to itself between joining and leaving; nobody is lost by another's leaving."""
    missed = []

    def run(name: str) -> None:
        for step in range(300):
            mine = []
            with progress.listening(lambda *report, mine=mine: mine.append(report)):
                progress.report(name, step, 300)
            if (name, step, 300) not in mine:
                missed.append((name, step))

    threads = [threading.Thread(target=run, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not missed


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (("reading", 0, 0), "reading"),
        (("building", 0, 7), "building: 0 %"),
        (("building", 3, 7), "building: 42 %"),  # 42.86: not done is not rounded up
        (("building", 6999, 7000), "building: 99 %"),
        (("building", 7, 7), "building: 100 %"),
        (("building", 9, 7), "building: 100 %"),  # a builder that finds more steps on the way
        (("building", -1, 7), "building: 0 %"),
    ],
)
def test_text_is_the_phase_and_whole_percent(step, text):
    assert progress.as_text(*step) == text
