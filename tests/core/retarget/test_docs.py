"""docs/teleop.md names tests and settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

from hsr_core.config import describe
from hsr_core.retarget.command import State
from hsr_core.retarget.mapping import built_in
from hsr_core.retarget.settings import TeleopSettings

TEXT = (Path(__file__).parents[3] / "docs" / "teleop.md").read_text()


def test_the_tests_of_the_safety_table_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    here = Path(__file__).parent
    files = [*here.glob("test_*.py"), here.parents[1] / "ros" / "test_retarget_node.py"]
    source = "".join(file.read_text() for file in files)
    assert len(named) > 30
    assert not [name for name in named if f"def {name}(" not in source]


def test_every_rule_has_a_row() -> None:
    assert not [f"S{i}" for i in range(1, 14) if f"**S{i}**" not in TEXT]


def test_robots_states_and_settings_are_the_codes() -> None:
    assert not [name for name in built_in() if f"| `{name}` |" not in TEXT]
    assert not [state.name for state in State if f"| {state.name} |" not in TEXT]
    settings = {spec.name for spec in describe(TeleopSettings())}
    assert {"gate.joint_score", "mirror", "hands", "rate_hz", "allow_legs_and_base_on_hardware"} <= settings
