"""The scripted perception node where hri_msgs is not installed."""

from __future__ import annotations

import sys

sys.modules["hri_msgs"] = None  # an import of it fails as if it were not there

from hsr import perception_node  # noqa: E402
from scripted_node import ScriptedNode, ScriptedStream  # noqa: E402

if __name__ == "__main__":
    perception_node.main(ScriptedStream, ScriptedNode)
