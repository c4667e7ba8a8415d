"""The scripted perception node, importing ahead what is not there and what never ends."""

import sys
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from threading import Event

from hsr.guarded_node import run
from scripted_node import ScriptedNode, ScriptedStream

ENDLESS = "endless"


class Endless(MetaPathFinder, Loader):
    def find_spec(self, name, path, target=None):
        return ModuleSpec(name, self) if name == ENDLESS else None

    def exec_module(self, module):
        print("importing endlessly", flush=True)
        Event().wait()


sys.meta_path.insert(0, Endless())

if __name__ == "__main__":
    run("perception", partial(ScriptedNode, ScriptedStream), ahead=("is_not_there", ENDLESS))
