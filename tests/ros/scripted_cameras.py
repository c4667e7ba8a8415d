"""Several perception nodes in one process, each with the scripted stream."""

from hsr.camera_nodes import main
from scripted_node import ScriptedNode, ScriptedStream

if __name__ == "__main__":
    main(ScriptedStream, ScriptedNode)
