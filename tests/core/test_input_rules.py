"""Rules on stamps, clocks and mixed cameras; counters, rates and the worker. No ROS, no waiting."""

from __future__ import annotations

import threading

import pytest
from hsr.stats import Counters, Rate, RateLimit, Window
from hsr.worker import Worker, WorkerStopped

from hsr_core.input_rules import OneCamera, StampRules, Verdict

S = 1_000_000_000
FRAME_NS = S // 30


def feed(rules: StampRules, stamps, age_s=0.02):
    return [rules.judge(stamp, stamp + int(age_s * S))[0] for stamp in stamps]


def test_rising_stamps_are_taken_and_repeated_ones_are_stale():
    rules = StampRules()
    assert feed(rules, [100 * S, 100 * S, 101 * S]) == [Verdict.TAKE, Verdict.STALE, Verdict.TAKE]
    assert rules.gaps == 1


def test_ten_older_stamps_in_a_row_are_a_new_beginning():
    rules = StampRules()
    feed(rules, range(100 * S, 102 * S, FRAME_NS))
    verdicts = feed(rules, range(50 * S, 51 * S, FRAME_NS))
    assert verdicts[:9] == [Verdict.STALE] * 9
    assert verdicts[9] is Verdict.JUMP
    assert set(verdicts[10:]) == {Verdict.TAKE}


def test_one_late_image_is_no_jump():
    rules = StampRules()
    for stamp in range(100 * S, 104 * S, FRAME_NS):
        assert rules.judge(stamp, stamp)[0] is Verdict.TAKE
        assert rules.judge(stamp - S, stamp)[0] is Verdict.STALE


def test_a_stamp_of_zero_is_replaced_by_the_time_of_receipt():
    rules = StampRules()
    assert rules.judge(0, 5 * S) == (Verdict.TAKE, 5 * S)
    assert rules.no_stamps


def test_a_constant_large_age_is_another_clock_and_drops_nothing():
    rules = StampRules()
    verdicts = feed(rules, range(100 * S, 102 * S, FRAME_NS), age_s=3600)
    assert set(verdicts) == {Verdict.TAKE}
    assert rules.other_clock
    assert rules.clock_offset_s == pytest.approx(3600)
    assert not rules.too_old(100 * S, 5000 * S, 0.5)


def test_stamps_from_the_future_are_another_clock():
    rules = StampRules()
    feed(rules, range(100 * S, 101 * S, FRAME_NS), age_s=-2)
    assert rules.other_clock


def test_a_growing_age_is_lateness_and_not_another_clock():
    rules = StampRules()
    for i in range(30):
        rules.judge((100 + i) * S, (110 + 2 * i) * S)
    assert not rules.other_clock
    assert rules.too_old(129 * S, 168 * S, 0.5)
    assert not rules.too_old(129 * S, 168 * S, 0)


def test_the_first_camera_is_kept_until_it_is_silent_for_a_second():
    one = OneCamera()
    assert one.takes(("a",), 0.0)
    assert not one.takes(("b",), 0.5)
    assert one.takes(("a",), 0.9)
    assert not one.takes(("b",), 1.8)
    assert one.takes(("b",), 2.0)
    assert not one.takes(("a",), 2.1)


def test_a_rate_limit_passes_a_jittery_stream_of_the_same_rate_and_thins_a_faster_one():
    limit, jitter = RateLimit(30.0), (0.0, 0.004, -0.004)
    assert sum(limit.passes(i / 30 + jitter[i % 3]) for i in range(300)) >= 299
    limit = RateLimit(10.0)
    assert sum(limit.passes(i / 100) for i in range(1000)) == pytest.approx(100, abs=2)
    assert all(RateLimit(0.0).passes(0.0) for _ in range(5))


def test_rate_falls_when_the_stream_stops():
    rate = Rate(window_s=2.0)
    for i in range(61):
        rate.tick(i / 30)
    assert rate.hz(2.0) == pytest.approx(30, rel=0.05)
    assert rate.hz(3.0) < 20
    assert rate.hz(10.0) == 0


def test_percentiles_of_a_window():
    window = Window(100)
    assert all(value != value for value in window.percentiles(50, 99))
    for i in range(1000):
        window.add(i)
    assert window.percentiles(0, 100) == (900, 999)


def test_counters_start_at_zero_and_are_reset():
    counters = Counters()
    counters.add("received", 3)
    assert counters.snapshot()["received"] == 3
    counters.reset()
    assert counters.snapshot() == dict.fromkeys(Counters.FRAME, 0)


class Gate:
    """A handler that holds the worker until it is let go."""

    def __init__(self):
        self.entered, self.go, self.items = threading.Event(), threading.Event(), []

    def __call__(self, item):
        self.items.append(item)
        self.entered.set()
        assert self.go.wait(60)


def test_the_worker_takes_the_newest_and_says_what_was_overwritten():
    gate = Gate()
    worker = Worker(gate, pytest.fail, name="test")
    assert not worker.offer(1)
    assert gate.entered.wait(60)
    assert not worker.offer(2)
    assert worker.offer(3)
    assert worker.offer(4)
    gate.go.set()
    worker.call(lambda: None).result(10)
    while 4 not in gate.items:
        worker.call(lambda: None).result(10)
    worker.stop()
    assert gate.items == [1, 4]


def test_requests_run_between_items_and_exceptions_reach_who_asked():
    errors = []
    worker = Worker(lambda item: 1 / item, errors.append, name="test")
    worker.offer(0)
    while not errors:
        worker.call(lambda: None).result(10)
    assert isinstance(errors[0], ZeroDivisionError)
    assert worker.call(lambda: 7).result(10) == 7
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0).result(10)
    worker.stop()
    with pytest.raises(WorkerStopped):
        worker.call(lambda: 7).result(10)


def test_stopping_waits_for_the_item_in_work_and_fails_waiting_requests():
    gate = Gate()
    worker = Worker(gate, pytest.fail, name="test")
    worker.offer(1)
    assert gate.entered.wait(60)
    waiting = worker.call(lambda: 7)
    worker.offer(2)
    threading.Timer(0.05, gate.go.set).start()
    worker.stop()
    assert gate.items == [1]
    with pytest.raises(WorkerStopped):
        waiting.result(10)
