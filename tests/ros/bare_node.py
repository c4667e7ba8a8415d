"""The scripted perception node as it starts where no optional package is installed."""

from importlib.machinery import PathFinder

MISSING = {"hri_msgs", "tf2_msgs", "tf2_ros", "cv_bridge", "diagnostic_updater"}
_find = PathFinder.find_spec


def find_what_is_left(name, path=None, target=None):
    return None if name.partition(".")[0] in MISSING else _find(name, path, target)


PathFinder.find_spec = staticmethod(find_what_is_left)

from hsr import perception_node  # noqa: E402
from scripted_node import ScriptedNode, ScriptedStream  # noqa: E402

if __name__ == "__main__":
    perception_node.main(ScriptedStream, ScriptedNode)
