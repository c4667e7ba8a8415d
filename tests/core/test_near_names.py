"""Near names: what a person who mistyped is told."""

from __future__ import annotations

from hsr_core.near_names import did_you_mean, near_names

ROBOTS = ("g1", "talos", "jvrc1", "g1_hands")


def test_the_nearest_name_ends_the_message() -> None:
    assert did_you_mean("tallos", ROBOTS) == "; did you mean talos?"
    assert did_you_mean("peopel.max", iter(["people.max"]), show=repr) == "; did you mean 'people.max'?"
    assert did_you_mean("zzz", ROBOTS) == did_you_mean("g1", ()) == ""


def test_several_come_nearest_first() -> None:
    assert near_names("g1_hand", ROBOTS, 2, 0.3) == ["g1_hands", "g1"]
