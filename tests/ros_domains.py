"""ROS domains of which each is used by one test, or by the tests of one module.

Those up to 101 have their ports below Linux' ephemeral ones. Workers of one run (pytest-xdist) share them out: worker k
of n takes k, k + n, ...
"""

from __future__ import annotations

import itertools
import os

_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_run = os.getppid() if _workers > 1 else os.getpid()
_domains = (1 + (_run * 7 + i) % (100 // _workers) * _workers + _worker for i in itertools.count())


def next_domain() -> int:
    """Return a domain that was not used for as long as possible."""
    return next(_domains)
