"""The public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hsr_core


def test_every_public_name_is_there():
    assert all(getattr(hsr_core, name) is not None for name in hsr_core.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        hsr_core.no_such_name  # noqa: B018


def test_importing_the_package_brings_nothing_heavy():
    code = "import sys, hsr_core; print([m for m in ('torch', 'av', 'cv2', 'scipy', 'rclpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
