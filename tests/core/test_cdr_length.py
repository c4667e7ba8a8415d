"""Ends of messages: as rosbags serialises them, with and without bytes behind them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="pip install 'hsr-core[bag]'")
pytest.importorskip("mcap", reason="pip install 'hsr-core[bag]'")

from bags import BEGIN_NS, STORE, header, image, info, picture, transforms

from hsr_core.sources.cdr_length import Trimmer

TRIMMER = Trimmer(STORE)


def joint_state(n: int):
    names, numbers = ["elbow", "a", "wrist_1"][:n], np.arange(n, dtype=np.float64)
    return STORE.types["sensor_msgs/msg/JointState"](header(BEGIN_NS, "base"), names, numbers, numbers[:0], numbers)


def diagnostics():
    value = STORE.types["diagnostic_msgs/msg/KeyValue"]
    status = STORE.types["diagnostic_msgs/msg/DiagnosticStatus"]
    array = STORE.types["diagnostic_msgs/msg/DiagnosticArray"]
    every = [status(0, "a", "", "x", []), status(2, "camera", "lost", "", [value("k", "v"), value("", "long enough")])]
    return array(header(BEGIN_NS, ""), every)


MESSAGES = [
    joint_state(0), joint_state(1), joint_state(3), diagnostics(), info(BEGIN_NS), image(picture(1), BEGIN_NS),
    transforms(BEGIN_NS, ("map", "a"), ("a", "bcd")), STORE.types["std_msgs/msg/Empty"](),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__msgtype__.rpartition("/")[2])
def test_what_lies_behind_a_message_is_cut_off_and_nothing_else(message):
    kind = message.__msgtype__
    data = bytes(STORE.serialize_cdr(message, kind))
    assert TRIMMER.trimmed(kind, data) == data
    for more in (4, 8, 13):
        cut = TRIMMER.trimmed(kind, data + bytes(more))
        assert cut == data
    assert TRIMMER.trimmed(kind, data + b"\0\0\0") == data + b"\0\0\0"  # up to three are usual


def test_what_is_no_whole_message_stays_as_it_is():
    kind = "diagnostic_msgs/msg/DiagnosticArray"
    data = bytes(STORE.serialize_cdr(diagnostics(), kind))
    for wrong in (data[:20], data[:-6], b"\0\0" + data[2:], b"", b"\0\1\0\0" + b"\xff" * 40):
        assert TRIMMER.trimmed(kind, wrong) == wrong
    with pytest.raises(KeyError):
        TRIMMER.trimmed("odd_msgs/msg/Odd", data)
