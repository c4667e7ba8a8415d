"""Fixtures of the node tests: one DDS domain a module."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    from harness import Rig

    rig = Rig(tmp_path_factory.mktemp("nodes"))
    yield rig
    rig.close()
